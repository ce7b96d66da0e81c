-- Of each partition what its siblings and the clock are compared with: privileges, missing indexes, counters since the statistics were reset, ages.
-- Catalog rows and statistics alone. A statistic that only newer servers have is taken out of the row by its name.
SELECT c.oid::bigint AS oid,
       coalesce((SELECT array_agg(concat(g.role, '=', g.privilege, g.attname) ORDER BY g.role, g.privilege, g.attname)
                 FROM (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END AS role,
                              a.privilege_type AS privilege, '' AS attname
                       FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner
                       UNION ALL
                       SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END,
                              a.privilege_type, ' of ' || t.attname
                       FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a
                       WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped AND a.grantee <> c.relowner) g), '{}') AS privileges,
       CASE c.relkind WHEN 'f' THEN '{}' ELSE coalesce((
           SELECT array_agg(x.relname::text ORDER BY x.relname)
           FROM pg_index w JOIN pg_class x ON x.oid = w.indexrelid
           WHERE w.indrelid = %(oid)s
             AND NOT EXISTS (SELECT FROM pg_index k JOIN pg_inherits h ON h.inhrelid = k.indexrelid
                             WHERE k.indrelid = c.oid AND h.inhparent = w.indexrelid)), '{}') END AS missing_indexes,
       coalesce(st.n_mod_since_analyze, 0) AS mods_since_analyze, coalesce(st.n_ins_since_vacuum, 0) AS inserts_since_vacuum,
       coalesce(st.n_tup_ins, 0) AS inserted, coalesce(st.n_tup_upd, 0) AS updated, coalesce(st.n_tup_del, 0) AS deleted,
       greatest((to_jsonb(st) ->> 'last_seq_scan')::timestamptz, (to_jsonb(st) ->> 'last_idx_scan')::timestamptz) AS last_scan,
       coalesce(greatest(age(nullif(c.relfrozenxid::text, '0')::xid), age(nullif(t.relfrozenxid::text, '0')::xid)), 0) AS transaction_age,
       coalesce(greatest(mxid_age(nullif(c.relminmxid::text, '0')::xid), mxid_age(nullif(t.relminmxid::text, '0')::xid)), 0) AS multixact_age
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_stat_all_tables st ON st.relid = c.oid
WHERE i.inhparent = %(oid)s
ORDER BY c.relname
