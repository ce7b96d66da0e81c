-- Which of the wanted names are taken, in the wanted schema or in another one.
SELECT n.nspname::text AS schema, c.relname::text AS name,
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                      WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' WHEN 'I' THEN 'partitioned index' WHEN 'f' THEN 'foreign table'
                      ELSE 'type' END AS kind,
       obj_description(c.oid, 'pg_class') AS comment,
       (SELECT quote_ident(pn.nspname) || '.' || quote_ident(p.relname)
        FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE i.inhrelid = c.oid LIMIT 1) AS partition_of,
       (SELECT t.relname::text FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid WHERE x.indexrelid = c.oid) AS index_of
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY (%(names)s) AND n.nspname !~ '^pg_'
UNION ALL
SELECT n.nspname::text, f.proname::text, 'function', obj_description(f.oid, 'pg_proc'), NULL, NULL
FROM pg_proc f
JOIN pg_namespace n ON n.oid = f.pronamespace
WHERE f.proname = ANY (%(functions)s) AND n.nspname = 'public'
ORDER BY 1, 2
