-- What happens at a statement: triggers, rules, policies. Definitions without the table's own name: what stands before and after it.
SELECT 'trigger' AS kind, g.tgname::text AS name, f.aspect AS aspect, f.value AS value
FROM pg_trigger g
JOIN pg_class t ON t.oid = g.tgrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (VALUES
    ('definition', replace(pg_get_triggerdef(g.oid), ' ON ' || quote_ident(n.nspname) || '.' || quote_ident(t.relname) || ' ', ' ON table ')),
    ('enabled', CASE g.tgenabled WHEN 'O' THEN 'origin' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' ELSE 'always' END),
    ('comment', obj_description(g.oid, 'pg_trigger'))
) AS f(aspect, value)
WHERE g.tgrelid = %(oid)s AND NOT g.tgisinternal AND f.value IS NOT NULL
UNION ALL
SELECT 'rule', w.rulename::text, f.aspect, f.value
FROM pg_rewrite w
JOIN pg_class t ON t.oid = w.ev_class
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (VALUES
    ('definition', replace(pg_get_ruledef(w.oid), ' ON ' || CASE w.ev_type WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' WHEN '4' THEN 'DELETE' ELSE 'SELECT' END
                             || ' TO ' || quote_ident(n.nspname) || '.' || quote_ident(t.relname), ' TO table')),
    ('event', CASE w.ev_type WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' WHEN '4' THEN 'DELETE' ELSE 'SELECT' END),
    ('enabled', CASE w.ev_enabled WHEN 'O' THEN 'origin' WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' ELSE 'always' END),
    ('comment', obj_description(w.oid, 'pg_rewrite'))
) AS f(aspect, value)
WHERE w.ev_class = %(oid)s AND f.value IS NOT NULL
UNION ALL
SELECT 'policy', p.polname::text, f.aspect, f.value
FROM pg_policy p
CROSS JOIN LATERAL (VALUES
    ('command', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END),
    ('kind', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END),
    ('roles', coalesce((SELECT string_agg(r.rolname::text, ', ' ORDER BY r.rolname) FROM pg_roles r WHERE r.oid = ANY (p.polroles)), 'PUBLIC')),
    ('USING', pg_get_expr(p.polqual, p.polrelid)),
    ('WITH CHECK', pg_get_expr(p.polwithcheck, p.polrelid)),
    ('comment', obj_description(p.oid, 'pg_policy'))
) AS f(aspect, value)
WHERE p.polrelid = %(oid)s AND f.value IS NOT NULL
ORDER BY 1, 2, 3
