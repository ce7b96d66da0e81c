-- How the copy of one table is kept in step. The keys in its log are counted apart: the log's name is the specification's.
SELECT o.authority AS authority, o.exchanged AS exchanged, o.in_step AS in_step,
       extract(epoch FROM clock_timestamp() - o.drained_at)::float8 AS behind_s,
       o.turned_at AS turned_at, o.kept AS kept,
       (SELECT count(*) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE g.tgname IN ('atlas_ops_capture', 'atlas_ops_no_truncate') AND g.tgenabled = 'A'
          AND n.nspname = CASE o.authority WHEN 'original' THEN %(original_schema)s ELSE %(partitioned_schema)s END
          AND c.relname = CASE o.authority WHEN 'original' THEN %(original_name)s ELSE %(partitioned_name)s END) = 2 AS captured,
       0::bigint AS log_rows,
       coalesce(pg_total_relation_size(to_regclass(quote_ident(%(log_schema)s) || '.' || quote_ident(%(log_name)s))), 0) AS log_bytes
FROM atlas_ops.online_copy o
WHERE o.schema_name = %(schema)s AND o.table_name = %(name)s
