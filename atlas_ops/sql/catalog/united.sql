-- The views with our mark (%(mark)s) that read a table (%(oid)s; 0: whatever they read).
SELECT DISTINCT n.nspname::text AS schema, v.relname::text AS name
FROM pg_class v
JOIN pg_namespace n ON n.oid = v.relnamespace
JOIN pg_rewrite w ON w.ev_class = v.oid
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
WHERE v.relkind = 'v' AND obj_description(v.oid, 'pg_class') = %(mark)s AND (%(oid)s = 0 OR d.refobjid = %(oid)s)
ORDER BY 1, 2
