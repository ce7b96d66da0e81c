-- Tables that were detached to be archived: their comment begins with %(mark)s.
SELECT n.nspname::text AS schema, c.relname::text AS name, obj_description(c.oid, 'pg_class') AS comment
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND starts_with(obj_description(c.oid, 'pg_class'), %(mark)s)
ORDER BY 1, 2
