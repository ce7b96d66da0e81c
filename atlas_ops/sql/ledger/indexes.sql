-- Indexes, those of constraints included; the definition from USING on, since what stands before it are names. Of a partitioned index the tablespace
-- and validity are those of its parts.
SELECT 'index' AS kind, x.relname::text AS name, f.aspect AS aspect, f.value AS value
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_get_indexdef(i.indexrelid) AS full_text,
           'CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'INDEX ' || quote_ident(x.relname) || ' ON '
             || CASE WHEN t.relkind = 'p' THEN 'ONLY ' ELSE '' END
             || quote_ident(n.nspname) || '.' || quote_ident(t.relname) || ' ' AS prefix
) def
CROSS JOIN LATERAL (VALUES
    ('definition', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || substr(def.full_text, length(def.prefix) + 1)),
    ('valid', CASE WHEN i.indisvalid THEN 'yes' ELSE 'no' END),
    ('clustered', CASE WHEN i.indisclustered THEN 'yes' END),
    ('replica identity', CASE WHEN i.indisreplident THEN 'yes' END),
    ('tablespace', coalesce((SELECT string_agg(DISTINCT coalesce(s.spcname::text, 'default'), '; ')
                             FROM pg_partition_tree(x.oid) p JOIN pg_class l ON l.oid = p.relid LEFT JOIN pg_tablespace s ON s.oid = l.reltablespace
                             WHERE p.isleaf), (SELECT s.spcname::text FROM pg_tablespace s WHERE s.oid = x.reltablespace), 'default')),
    ('statistics targets', (SELECT string_agg('column ' || a.attnum || ': ' || a.attstattarget, ', ' ORDER BY a.attnum)
                            FROM pg_attribute a WHERE a.attrelid = x.oid AND a.attstattarget >= 0)),
    ('comment', obj_description(x.oid, 'pg_class'))
) AS f(aspect, value)
WHERE i.indrelid = %(oid)s AND f.value IS NOT NULL
UNION ALL
SELECT 'statistics', s.stxname::text, f.aspect, f.value
FROM pg_statistic_ext s
CROSS JOIN LATERAL (VALUES
    ('definition', pg_get_statisticsobjdef_columns(s.oid)),
    ('kinds', array_to_string(ARRAY(SELECT k FROM unnest(s.stxkind) k ORDER BY k), ', ')),
    ('target', CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget::text END),
    ('owner', pg_get_userbyid(s.stxowner)::text),
    ('comment', obj_description(s.oid, 'pg_statistic_ext'))
) AS f(aspect, value)
WHERE s.stxrelid = %(oid)s AND f.value IS NOT NULL
ORDER BY 1, 2, 3
