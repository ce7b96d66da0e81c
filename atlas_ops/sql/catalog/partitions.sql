-- The partitions of a table (%(oid)s; 0 for none yet) and the tables that stand beside it with our mark in their comment.
-- Bloat: what the heap holds beyond its live rows at their average width (pg_stats.avg_width, 24 + 4 bytes of header a row), a
-- rough figure that needs statistics; dead rows are pg_stat's own count.
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name,
       CASE WHEN i.inhparent IS NOT NULL THEN pg_get_expr(c.relpartbound, c.oid) END AS bound,
       coalesce(i.inhdetachpending, false) AS detach_pending,
       c.relkind::text AS kind,
       obj_description(c.oid, 'pg_class') AS comment,
       pg_get_userbyid(c.relowner)::text AS owner,
       c.relrowsecurity AS row_security,
       coalesce((SELECT array_agg(DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(acl.grantee)::text END)
                 FROM aclexplode(c.relacl) acl WHERE acl.grantee <> c.relowner), '{}') AS open_to,
       c.reltuples::bigint AS estimated_rows,
       coalesce(st.n_live_tup, 0) AS live_rows, coalesce(st.n_dead_tup, 0) AS dead_rows,
       pg_relation_size(c.oid) AS heap_bytes, pg_indexes_size(c.oid) AS index_bytes,
       pg_table_size(c.oid) - pg_relation_size(c.oid) AS toast_bytes,
       (SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid)::int AS indexes,
       (SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid AND NOT x.indisvalid)::int AS invalid_indexes,
       coalesce((SELECT array_agg(k.conname::text ORDER BY k.conname) FROM pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype = 'f'), '{}') AS foreign_keys,
       coalesce((SELECT array_agg(k.conname::text ORDER BY k.conname) FROM pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype = 'f' AND NOT k.convalidated), '{}') AS unvalidated,
       coalesce((SELECT array_agg(k.conname::text ORDER BY k.conname) FROM pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype = 'c'), '{}') AS checks,
       CASE WHEN w.width IS NULL OR c.reltuples < 1000 THEN 0
            ELSE greatest(0, pg_relation_size(c.oid) - (c.reltuples * (w.width + 28) * 1.02)::bigint) END AS bloat_bytes,
       coalesce(st.seq_scan, 0) AS seq_scans, coalesce(st.idx_scan, 0) AS index_scans,
       greatest(st.last_vacuum, st.last_autovacuum) AS last_vacuum,
       greatest(st.last_analyze, st.last_autoanalyze) AS last_analyze
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = %(oid)s
LEFT JOIN pg_stat_all_tables st ON st.relid = c.oid
LEFT JOIN LATERAL (SELECT sum(s.avg_width)::float8 AS width FROM pg_stats s
                   WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited) w ON true
WHERE c.relkind IN ('r', 'p', 'f')
  AND (i.inhparent = %(oid)s
       OR (NOT c.relispartition AND starts_with(obj_description(c.oid, 'pg_class'), %(mark)s)))
ORDER BY c.relname
