-- Indexes of a table. The tail of a definition starts at USING: what stands before it is rebuilt here from the names, letter by
-- letter as pg_get_indexdef writes it, so that its length is known and nothing is searched for in the text.
SELECT x.relname::text AS name,
       CASE WHEN starts_with(def.full_text, def.prefix) THEN substr(def.full_text, length(def.prefix) + 1) END AS tail,
       coalesce((SELECT array_agg(coalesce(a.attname::text, 'expr') ORDER BY k.position)
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
                 LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
                 WHERE k.position <= i.indnkeyatts), '{}') AS columns,
       i.indisunique AS "unique", i.indisprimary AS "primary", i.indisvalid AS valid,
       i.indisreplident AS replica_identity, i.indisclustered AS clustered,
       con.conname::text AS "constraint", s.spcname::text AS tablespace,
       coalesce((SELECT array_agg(a.attnum || ' SET STATISTICS ' || a.attstattarget ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = x.oid AND a.attstattarget >= 0), '{}') AS column_settings,
       coalesce((SELECT sum(pg_relation_size(leaf.relid)) FROM pg_partition_tree(x.oid) leaf WHERE leaf.isleaf),
                pg_relation_size(x.oid))::bigint AS bytes,
       coalesce((SELECT sum(st.idx_scan) FROM pg_stat_all_indexes st WHERE st.indexrelid = x.oid), 0)::bigint AS scans
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_tablespace s ON s.oid = x.reltablespace
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('p', 'u', 'x')
CROSS JOIN LATERAL (
    SELECT pg_get_indexdef(i.indexrelid) AS full_text,
           'CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'INDEX ' || quote_ident(x.relname) || ' ON '
             || CASE WHEN t.relkind = 'p' THEN 'ONLY ' ELSE '' END
             || quote_ident(n.nspname) || '.' || quote_ident(t.relname) || ' ' AS prefix
) def
WHERE i.indrelid = %(oid)s
ORDER BY i.indisprimary DESC, x.relname
