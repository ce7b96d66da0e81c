-- Foreign keys of other tables that refer to this one.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS "table",
       f.conname::text AS "constraint", pg_get_constraintdef(f.oid) AS definition, f.confdeltype::text AS on_delete
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.confrelid = %(oid)s AND f.contype = 'f' AND f.conparentid = 0
ORDER BY 1, 2
