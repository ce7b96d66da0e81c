-- The partitions of a table and what stands beside it with our mark, as `partitions.sql` gives them, by catalog rows and statistics alone: a bound
-- is printed without its relation (0), which PostgreSQL would open, and sizes are pages as of the last VACUUM or ANALYZE.
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name,
       CASE WHEN i.inhparent IS NOT NULL THEN pg_get_expr(c.relpartbound, 0) END AS bound,
       coalesce(i.inhdetachpending, false) AS detach_pending,
       c.relkind::text AS kind,
       obj_description(c.oid, 'pg_class') AS comment,
       pg_get_userbyid(c.relowner)::text AS owner,
       c.relrowsecurity AS row_security,
       coalesce((SELECT array_agg(DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(acl.grantee)::text END)
                 FROM aclexplode(c.relacl) acl WHERE acl.grantee <> c.relowner), '{}') AS open_to,
       c.reltuples::bigint AS estimated_rows,
       coalesce(st.n_live_tup, 0) AS live_rows, coalesce(st.n_dead_tup, 0) AS dead_rows,
       greatest(c.relpages, 0)::bigint * page.bytes AS heap_bytes,
       coalesce(x.pages, 0) * page.bytes AS index_bytes,
       coalesce((SELECT greatest(t.relpages, 0) FROM pg_class t WHERE t.oid = c.reltoastrelid), 0)::bigint * page.bytes AS toast_bytes,
       coalesce(x.valid, 0)::int AS indexes, coalesce(x.invalid, 0)::int AS invalid_indexes,
       '{}'::text[] AS foreign_keys, '{}'::text[] AS unvalidated, '{}'::text[] AS checks,
       0::bigint AS bloat_bytes,
       coalesce(st.seq_scan, 0) AS seq_scans, coalesce(st.idx_scan, 0) AS index_scans,
       greatest(st.last_vacuum, st.last_autovacuum) AS last_vacuum,
       greatest(st.last_analyze, st.last_autoanalyze) AS last_analyze
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN (SELECT current_setting('block_size')::bigint AS bytes) page
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = %(oid)s
LEFT JOIN pg_stat_all_tables st ON st.relid = c.oid
LEFT JOIN LATERAL (SELECT sum(greatest(o.relpages, 0))::bigint AS pages,
                          count(*) FILTER (WHERE k.indisvalid) AS valid, count(*) FILTER (WHERE NOT k.indisvalid) AS invalid
                   FROM pg_index k JOIN pg_class o ON o.oid = k.indexrelid WHERE k.indrelid = c.oid) x ON true
WHERE c.relkind IN ('r', 'p', 'f')
  AND (i.inhparent = %(oid)s
       OR (NOT c.relispartition AND starts_with(obj_description(c.oid, 'pg_class'), %(mark)s)))
ORDER BY c.relname
