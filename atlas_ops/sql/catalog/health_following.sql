-- How the copy of one table is kept in step, without its key log, which is opened apart.
SELECT o.authority AS authority, o.exchanged AS exchanged, o.in_step AS in_step,
       extract(epoch FROM clock_timestamp() - o.drained_at)::float8 AS behind_s,
       (SELECT count(*) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE g.tgname IN ('atlas_ops_capture', 'atlas_ops_no_truncate') AND g.tgenabled = 'A' AND g.tgparentid = 0
          AND n.nspname = CASE WHEN (o.authority = 'original') = o.exchanged THEN %(partitioned_schema)s ELSE %(schema)s END
          AND c.relname = CASE WHEN (o.authority = 'original') = o.exchanged THEN %(partitioned_name)s ELSE %(name)s END) = 2 AS captured
FROM atlas_ops.online_copy o
WHERE o.schema_name = %(schema)s AND o.table_name = %(name)s
