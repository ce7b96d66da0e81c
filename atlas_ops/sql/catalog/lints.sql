-- What the lints of Supabase's advisor (github.com/supabase/splinter; same names) find on the tables under care (%(oids)s) with their views and
-- trigger functions, and on what is ours: marked relations of the schema %(schema)s, its functions, the schema atlas_ops, what is installed in public.
-- Two are not asked of what is ours: a key log has no primary key, and whatever is closed no policy, on purpose. A schema is exposed where a role of the application (%(roles)s) has USAGE on it. `signature` tells a finding without the names of its object.
WITH exposed AS (
    SELECT n.oid FROM pg_namespace n
    WHERE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = ANY (%(roles)s) AND has_schema_privilege(r.oid, n.oid, 'USAGE'))
), care AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, c.reloptions, e.oid IS NOT NULL AS exposed,
           coalesce(starts_with(obj_description(c.oid, 'pg_class'), 'atlas_ops: '), false) OR n.nspname = 'atlas_ops' AS ours
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN exposed e ON e.oid = n.oid
    WHERE c.relkind IN ('r', 'p', 'v')
      AND (c.oid = ANY (%(oids)s) OR n.nspname = 'atlas_ops' OR n.nspname = 'public' AND c.relname = ANY (%(installed)s)
           OR n.nspname = %(schema)s AND starts_with(obj_description(c.oid, 'pg_class'), 'atlas_ops: ')
           OR c.relkind = 'v' AND EXISTS (SELECT FROM pg_rewrite w JOIN pg_depend d ON d.objid = w.oid AND d.classid = 'pg_rewrite'::regclass
                                          WHERE w.ev_class = c.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (%(oids)s)))
), routine AS (
    SELECT p.oid, n.nspname, p.oid::regprocedure::text AS spoken, p.proname, p.prosecdef, p.proconfig
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('atlas_ops', %(schema)s) OR n.nspname = 'public' AND p.proname = ANY (%(installed)s)
       OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid AND t.tgrelid = ANY (%(oids)s) AND NOT t.tgisinternal)
), permissive AS (
    SELECT p.polrelid, r.rolname, action
    FROM pg_policy p JOIN pg_roles r ON r.rolname = ANY (%(roles)s) AND NOT r.rolbypassrls AND (r.oid = ANY (p.polroles) OR 0 = ANY (p.polroles)),
         unnest(CASE p.polcmd WHEN 'r' THEN ARRAY['SELECT'] WHEN 'a' THEN ARRAY['INSERT'] WHEN 'w' THEN ARRAY['UPDATE']
                              WHEN 'd' THEN ARRAY['DELETE'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) action
    WHERE p.polpermissive
), shape AS (
    SELECT i.indrelid, x.relname, x.relam::text || i.indisunique::text || coalesce(pg_get_expr(i.indpred, i.indrelid), '')
           || array_to_string(ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, false) || coalesce(i.indclass[n - 1]::text, '') || '.'
                                           || coalesce(i.indoption[n - 1]::text, '') || '.' || coalesce(i.indcollation[n - 1]::text, '')
                                    FROM generate_series(1, i.indnatts::int) n), ', ') AS columns
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE NOT i.indisexclusion
)
SELECT '0001_unindexed_foreign_keys' AS lint, c.nspname::text AS schema, c.relname::text AS name, k.conname::text AS member,
       array_to_string(ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey) ORDER BY 1), ', ') AS signature
FROM care c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'
WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts >= cardinality(k.conkey)
                  AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)
UNION ALL
SELECT '0004_no_primary_key', nspname, relname, '', '' FROM care c
WHERE exposed AND NOT ours AND relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p')
UNION ALL
SELECT '0006_multiple_permissive_policies', c.nspname, c.relname, count(*)::text,
       p.action || ' for ' || p.rolname
FROM care c JOIN permissive p ON p.polrelid = c.oid GROUP BY c.nspname, c.relname, p.rolname, p.action HAVING count(*) > 1
UNION ALL
SELECT '0007_policy_exists_rls_disabled', nspname, relname, '', '' FROM care c
WHERE relkind IN ('r', 'p') AND NOT relrowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
UNION ALL
SELECT '0008_rls_enabled_no_policy', nspname, relname, '', '' FROM care c
WHERE exposed AND NOT ours AND relkind IN ('r', 'p') AND relrowsecurity AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
UNION ALL
SELECT '0009_duplicate_index', c.nspname, c.relname, string_agg(s.relname, ', ' ORDER BY s.relname), s.columns
FROM care c JOIN shape s ON s.indrelid = c.oid GROUP BY c.nspname, c.relname, s.columns HAVING count(*) > 1
UNION ALL
SELECT '0010_security_definer_view', nspname, relname, '', '' FROM care
WHERE exposed AND relkind = 'v' AND NOT coalesce((SELECT bool_or(lower(o.option_value) IN ('true', 'on', 'yes', '1'))
                                                  FROM pg_options_to_table(reloptions) o WHERE o.option_name = 'security_invoker'), false)
UNION ALL
SELECT '0011_function_search_path_mutable', nspname, proname, spoken, '' FROM routine
WHERE NOT EXISTS (SELECT FROM unnest(coalesce(proconfig, '{}')) AS setting WHERE starts_with(setting, 'search_path='))
UNION ALL
SELECT '0013_rls_disabled_in_public', nspname, relname, '', '' FROM care WHERE exposed AND relkind IN ('r', 'p') AND NOT relrowsecurity
UNION ALL
SELECT CASE r.rolname WHEN 'anon' THEN '0028_anon_security_definer_function_executable'
                      ELSE '0029_authenticated_security_definer_function_executable' END, f.nspname, f.proname, f.spoken, ''
FROM routine f JOIN pg_roles r ON r.rolname IN ('anon', 'authenticated')
WHERE f.prosecdef AND has_function_privilege(r.oid, f.oid, 'EXECUTE')
ORDER BY 1, 2, 3, 4, 5
