-- Where pg_stat_statements is in this database, what its version has, what the role may see there, and which other relations bear the name %(name)s.
SELECT n.nspname::text AS schema,
       e.extversion AS version,
       EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = 'pg_stat_statements') AS available,
       EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
               WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements' AND a.attname = 'total_exec_time') AS has_exec_time,
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements_info') AS has_info,
       pg_has_role('pg_read_all_stats', 'USAGE') AS reads_all,
       current_user::text AS role,
       coalesce((SELECT array_agg(o.nspname::text ORDER BY o.nspname)
                 FROM pg_class c JOIN pg_namespace o ON o.oid = c.relnamespace
                 WHERE c.relname = %(name)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND o.nspname <> %(schema)s), '{}') AS namesakes
FROM (SELECT) AS one
LEFT JOIN pg_extension e ON e.extname = 'pg_stat_statements'
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
