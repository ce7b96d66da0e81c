-- Per partition: size, rows, dead rows, scans, last vacuum and analyze, cache hits. Statistics only, never a value of a column.
CREATE OR REPLACE VIEW public.partition_performance WITH (security_invoker = true) AS
SELECT format('%I.%I', t.schema_name, t.table_name) AS partitioned_table,
       c.relname::text AS partition_name,
       pg_total_relation_size(c.oid) AS total_bytes,
       pg_size_pretty(pg_total_relation_size(c.oid)) AS size,
       s.n_live_tup AS live_rows,
       s.n_dead_tup AS dead_rows,
       s.seq_scan AS sequential_scans,
       s.idx_scan AS index_scans,
       greatest(s.last_vacuum, s.last_autovacuum) AS last_vacuum,
       greatest(s.last_analyze, s.last_autoanalyze) AS last_analyze,
       round(100.0 * (io.heap_blks_hit + coalesce(io.idx_blks_hit, 0))
             / nullif(io.heap_blks_hit + io.heap_blks_read + coalesce(io.idx_blks_hit + io.idx_blks_read, 0), 0), 1) AS cache_hit_percent
FROM atlas_ops.partitioned_table t
CROSS JOIN LATERAL pg_partition_tree(to_regclass(format('%I.%I', t.schema_name, t.table_name))) tree
JOIN pg_class c ON c.oid = tree.relid
JOIN pg_stat_all_tables s ON s.relid = c.oid
JOIN pg_statio_all_tables io ON io.relid = c.oid
WHERE tree.isleaf AND c.relkind = 'r'
ORDER BY 1, 2;
COMMENT ON VIEW public.partition_performance IS 'Size, rows, scans, vacuum and cache hits of every partition under the care of atlas_ops.';
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_class c, aclexplode(c.relacl) a
                   WHERE c.oid = 'public.partition_performance'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE 'REVOKE ALL ON TABLE public.partition_performance FROM ' || grantee;
    END LOOP;
END $$;
