-- What would stay with the old table at a rename (binds by OID), and functions whose text names it (they follow the name).
SELECT DISTINCT CASE v.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'rule' END AS kind,
       quote_ident(n.nspname) || '.' || quote_ident(v.relname) AS name, 'oid' AS binds,
       CASE WHEN v.relkind = 'v' AND NOT coalesce((SELECT o.option_value::bool FROM pg_options_to_table(v.reloptions) o
                                                   WHERE o.option_name = 'security_invoker'), false)
            THEN 'runs with its owner''s rights' END AS detail
FROM pg_depend d
JOIN pg_rewrite w ON w.oid = d.objid
JOIN pg_class v ON v.oid = w.ev_class
JOIN pg_namespace n ON n.oid = v.relnamespace
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND w.ev_class <> %(oid)s
UNION ALL
SELECT DISTINCT 'policy', p.polname::text || ' on ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'oid', NULL
FROM pg_depend d
JOIN pg_policy p ON p.oid = d.objid
JOIN pg_class c ON c.oid = p.polrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND p.polrelid <> %(oid)s
UNION ALL
SELECT 'function', f.oid::regprocedure::text, CASE WHEN f.prosqlbody IS NULL THEN 'name' ELSE 'oid' END,
       CASE WHEN f.prosecdef THEN 'SECURITY DEFINER' END
FROM pg_proc f
JOIN pg_namespace n ON n.oid = f.pronamespace
JOIN pg_class c ON c.oid = %(oid)s
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                 AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
       OR f.prosrc ~ ('\m' || regexp_replace(c.relname, '([^[:alnum:]_])', '\\\1', 'g') || '\M'))
ORDER BY 1, 2
