-- Where pg_partman keeps its settings: a part_config of an extension, or one that a superuser, the owner of the table %(oid)s or the caller owns. As
-- atlas_ops.managed_elsewhere() looks for it; with those that this role may not read.
SELECT n.nspname::text AS schema, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_roles r ON r.oid = c.relowner
WHERE c.relname = 'part_config' AND c.relkind = 'r'
  AND (r.rolsuper OR r.rolname = current_user OR r.oid = (SELECT p.relowner FROM pg_class p WHERE p.oid = %(oid)s)
       OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'parent_table' AND NOT a.attisdropped)
ORDER BY 1
