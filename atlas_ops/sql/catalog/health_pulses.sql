-- Of each partition what its siblings and the clock are compared with: privileges, missing indexes, counters since the statistics were reset, ages.
-- Catalog rows and statistics alone. A statistic that only newer servers have is taken out of the row by its name. Everything is looked up from the
-- partition (OFFSET 0 keeps it so): at 1,000 partitions other ways took 10 s.
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
           WHERE w.indrelid = %(oid)s AND NOT w.indexrelid = ANY (own.partners)), '{}') END AS missing_indexes,
       coalesce((st.counters ->> 'n_mod_since_analyze')::bigint, 0) AS mods_since_analyze,
       coalesce((st.counters ->> 'n_ins_since_vacuum')::bigint, 0) AS inserts_since_vacuum,
       coalesce((st.counters ->> 'n_tup_ins')::bigint, 0) AS inserted,
       coalesce((st.counters ->> 'n_tup_upd')::bigint, 0) AS updated,
       coalesce((st.counters ->> 'n_tup_del')::bigint, 0) AS deleted,
       greatest((st.counters ->> 'last_seq_scan')::timestamptz, (st.counters ->> 'last_idx_scan')::timestamptz) AS last_scan,
       coalesce(greatest(age(nullif(c.relfrozenxid::text, '0')::xid), age(nullif(t.relfrozenxid::text, '0')::xid)), 0) AS transaction_age,
       coalesce(greatest(mxid_age(nullif(c.relminmxid::text, '0')::xid), mxid_age(nullif(t.relminmxid::text, '0')::xid)), 0) AS multixact_age
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN LATERAL (SELECT to_jsonb(s) AS counters FROM pg_stat_all_tables s WHERE s.relid = c.oid OFFSET 0) st ON true
CROSS JOIN LATERAL (SELECT coalesce((SELECT array_agg(h.inhparent)
                                     FROM (SELECT k.indexrelid FROM pg_index k WHERE k.indrelid = c.oid OFFSET 0) mine
                                     JOIN pg_inherits h ON h.inhrelid = mine.indexrelid), '{}') AS partners OFFSET 0) own
WHERE i.inhparent = %(oid)s
ORDER BY c.relname
