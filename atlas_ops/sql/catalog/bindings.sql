-- What is bound to a table by OID and would stay with it when another table takes its name over. Every text is as PostgreSQL prints
-- it under search_path '': it calls the table by its name, and so binds to whichever table has that name when it is run.
WITH own AS (
    SELECT c.oid AS oid, c.reltype AS type, t.typarray AS array_type
    FROM pg_class c JOIN pg_type t ON t.oid = c.reltype
    WHERE c.oid = %(oid)s
), me AS (
    SELECT r.oid AS oid, r.rolsuper AS super FROM pg_roles r WHERE r.rolname = current_user
), given AS (  -- whom ALTER DEFAULT PRIVILEGES gives rights on what this role makes
    SELECT p.defaclobjtype AS kind, p.defaclnamespace AS namespace, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END AS role
    FROM me JOIN pg_default_acl p ON p.defaclrole = me.oid CROSS JOIN LATERAL aclexplode(p.defaclacl) x
    WHERE x.grantee <> me.oid
), sequences AS (
    SELECT s.oid AS oid, s.relname AS relname, s.relowner AS relowner, s.relacl AS relacl, n.nspname AS nspname, a.attname AS attname,
           d.deptype = 'i' AS is_identity, quote_ident(n.nspname) || '.' || quote_ident(s.relname) AS called
    FROM own
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = own.oid AND d.refobjsubid > 0
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_namespace n ON n.oid = s.relnamespace
    JOIN pg_attribute a ON a.attrelid = own.oid AND a.attnum = d.refobjsubid
), targets AS (
    SELECT 'pg_class'::regclass AS classid, own.oid AS objid FROM own
    UNION ALL SELECT 'pg_class'::regclass, s.oid FROM sequences s WHERE s.is_identity
    UNION ALL SELECT 'pg_type'::regclass, unnest(ARRAY[own.type, own.array_type]) FROM own
    UNION ALL SELECT 'pg_constraint'::regclass, k.oid FROM own JOIN pg_constraint k ON k.conrelid = own.oid AND k.contype = 'p'
), links AS (  -- what is bound to the table, to the sequence of an identity, to its row type or to its primary key
    SELECT d.classid AS classid, d.objid AS objid, d.objsubid AS objsubid,
           bool_or(t.classid = 'pg_type'::regclass) AS row_type, bool_or(t.classid = 'pg_constraint'::regclass) AS rests_on_key
    FROM targets t JOIN pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.objid AND d.deptype = 'n'
    GROUP BY d.classid, d.objid, d.objsubid
), views AS (
    SELECT v.oid AS oid, v.relname AS relname, v.relkind AS relkind, v.relowner AS relowner, v.reloptions AS reloptions,
           v.relispopulated AS relispopulated, n.oid AS namespace, n.nspname AS nspname, l.rests_on_key AS rests_on_key,
           EXISTS (SELECT FROM links t WHERE t.classid = 'pg_class'::regclass AND t.objid = v.oid AND t.row_type) AS row_type
    FROM own, links l JOIN pg_rewrite w ON w.oid = l.objid JOIN pg_class v ON v.oid = w.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
    WHERE l.classid = 'pg_rewrite'::regclass AND w.ev_type = '1' AND v.relpersistence <> 't'
      AND v.oid <> own.oid  -- before PostgreSQL 16 a view's rule is bound to the view itself
), routines AS (
    SELECT f.oid AS oid, f.proname AS proname, f.proowner AS proowner, f.proacl AS proacl, f.prosqlbody IS NULL AS is_text,
           n.oid AS namespace, n.nspname AS nspname, l.row_type AS row_type, l.rests_on_key AS rests_on_key,
           has_language_privilege(g.oid, 'USAGE') AND g.lanpltrusted AND NOT f.proleakproof AS may_use,
           quote_ident(n.nspname) || '.' || quote_ident(f.proname) || '(' || pg_get_function_identity_arguments(f.oid) || ')' AS called
    FROM links l JOIN pg_proc f ON f.oid = l.objid JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language g ON g.oid = f.prolang
    WHERE l.classid = 'pg_proc'::regclass AND f.prokind <> 'a' AND n.nspname !~ '^pg_temp_'
), tables AS NOT MATERIALIZED (  -- those that rules, policies, defaults and columns are of
    SELECT c.oid AS oid, c.relname AS relname, c.relkind AS relkind, n.nspname AS nspname, c.relowner AS relowner,
           pg_has_role(c.relowner, 'USAGE') AS may_own
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't'
), found AS (
    SELECT 1 AS rank, v.oid AS position, CASE v.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END AS kind,
           v.nspname::text AS schema, v.relname::text AS name, ''::text AS member,
           btrim(pg_get_viewdef(v.oid), ' ;') || CASE WHEN v.relispopulated THEN '' ELSE ' WITH NO DATA' END AS definition,
           coalesce((SELECT array_agg(quote_ident(o.option_name) || '=' || quote_literal(o.option_value) ORDER BY o.ordinality)
                     FROM pg_options_to_table(v.reloptions) WITH ORDINALITY o), '{}') AS options,
           v.relowner AS owner,
           pg_has_role(v.relowner, 'USAGE') AND has_schema_privilege(v.namespace, 'CREATE')
             AND (v.relkind = 'v' OR me.super OR has_schema_privilege(v.relowner, v.namespace, 'CREATE')) AS may_make,
           v.row_type AS row_type, v.rests_on_key AS rests_on_key,
           CASE v.relkind WHEN 'm' THEN ARRAY(
               SELECT pg_describe_object('pg_statistic_ext'::regclass, x.oid, 0) FROM pg_statistic_ext x WHERE x.stxrelid = v.oid
               UNION ALL
               SELECT 'options of ' || pg_describe_object('pg_class'::regclass, v.oid, a.attnum)
               FROM pg_attribute a
               WHERE a.attrelid = v.oid AND a.attnum > 0
                 AND (a.attstattarget >= 0 OR EXISTS (SELECT FROM pg_options_to_table(a.attoptions) o WHERE starts_with(o.option_name, 'n_distinct')))) ELSE '{}' END AS dependents,
           '' AS closing,
           CASE v.relkind WHEN 'm' THEN ARRAY(
               SELECT 'REVOKE ALL ON TABLE ' || quote_ident(v.nspname) || '.' || quote_ident(v.relname) || ' FROM ' || string_agg(DISTINCT g.role, ', ')
               FROM given g WHERE g.kind = 'r' HAVING count(*) > 0) ELSE '{}' END AS completion
    FROM views v CROSS JOIN me
    UNION ALL
    SELECT 2, w.oid, CASE c.oid WHEN own.oid THEN 'own rule' ELSE 'rule' END, c.nspname, c.relname, w.rulename, rtrim(pg_get_ruledef(w.oid), ';'),
           '{}', c.relowner, c.may_own, l.row_type, l.rests_on_key, '{}', '', '{}'
    FROM own, links l JOIN pg_rewrite w ON w.oid = l.objid JOIN tables c ON c.oid = w.ev_class
    WHERE l.classid = 'pg_rewrite'::regclass AND w.ev_type <> '1'
    UNION ALL
    SELECT 3, p.oid, 'policy', c.nspname, c.relname, p.polname,
           concat_ws(' ', 'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
           '{}', c.relowner, c.may_own, l.row_type, l.rests_on_key, '{}', '', '{}'
    FROM own, links l JOIN pg_policy p ON p.oid = l.objid JOIN tables c ON c.oid = p.polrelid
    WHERE l.classid = 'pg_policy'::regclass AND c.oid <> own.oid
    UNION ALL
    -- texts first, then bodies of SQL that may call them, each in the order they were made in
    SELECT CASE WHEN f.row_type AND f.is_text THEN 4 WHEN f.row_type THEN 5 ELSE 6 END, f.oid, 'function', f.nspname, f.proname,
           pg_get_function_identity_arguments(f.oid), rtrim(pg_get_functiondef(f.oid), E'\n'), '{}', f.proowner,
           pg_has_role(f.proowner, 'USAGE') AND has_schema_privilege(f.namespace, 'CREATE')
             AND (me.super OR f.may_use AND (NOT f.row_type OR has_schema_privilege(f.proowner, f.namespace, 'CREATE'))),
           f.row_type, f.rests_on_key,
           CASE WHEN f.row_type THEN ARRAY(
               SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
               FROM pg_depend d LEFT JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
               WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid AND d.deptype = 'n'
                 AND NOT (d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass) AND p.polrelid IS DISTINCT FROM own.oid
                          AND EXISTS (SELECT FROM links l WHERE l.classid = d.classid AND l.objid = d.objid))) ELSE '{}' END,
           '',
           CASE WHEN f.row_type THEN array_remove(
               CASE WHEN f.proacl IS NOT NULL OR rights.roles IS NOT NULL
                    THEN ARRAY['REVOKE ALL ON ROUTINE ' || f.called || ' FROM ' || concat_ws(', ', 'PUBLIC', rights.roles)] END
               || CASE WHEN f.proowner <> me.oid THEN ARRAY['ALTER ROUTINE ' || f.called || ' OWNER TO ' || f.proowner::regrole] END
               || CASE WHEN f.proacl IS NOT NULL OR rights.roles IS NOT NULL THEN (
                   SELECT array_agg('GRANT EXECUTE ON ROUTINE ' || f.called || ' TO ' || CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END
                            || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END ORDER BY x.ordinality)
                   FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) WITH ORDINALITY x WHERE x.grantee <> f.proowner) END
               || ('COMMENT ON ROUTINE ' || f.called || ' IS ' || quote_literal(obj_description(f.oid, 'pg_proc'))), NULL) ELSE '{}' END
    FROM own, me, routines f
    CROSS JOIN LATERAL (SELECT string_agg(DISTINCT g.role, ', ') AS roles FROM given g
                        WHERE g.kind = 'f' AND g.namespace IN (0, f.namespace) AND g.role <> 'PUBLIC') rights
    UNION ALL
    SELECT 7, e.oid, 'default', c.nspname, c.relname, a.attname, pg_get_expr(e.adbin, e.adrelid),
           '{}', c.relowner, c.may_own, l.row_type, false, '{}', '', '{}'
    FROM own, links l JOIN pg_attrdef e ON e.oid = l.objid JOIN tables c ON c.oid = e.adrelid
    JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
    WHERE l.classid = 'pg_attrdef'::regclass AND c.oid <> own.oid AND a.attgenerated = ''
    UNION ALL
    SELECT 8, c.oid, 'column', c.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
           '{}', c.relowner, c.may_own, true, false, '{}', '', '{}'
    FROM links l JOIN tables c ON c.oid = l.objid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = l.objsubid
    WHERE l.classid = 'pg_class'::regclass AND c.relkind NOT IN ('v', 'm')
    UNION ALL
    SELECT 9, s.oid, CASE WHEN s.is_identity THEN 'identity' ELSE 'sequence' END, s.nspname, s.relname, s.attname, '',
           '{}', s.relowner, pg_has_role(s.relowner, 'USAGE'), false, false, '{}',
           coalesce((SELECT 'REVOKE ALL ON SEQUENCE ' || s.called || ' FROM '
                              || string_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, ', ')
                     FROM aclexplode(s.relacl) x WHERE x.grantee <> s.relowner), ''),
           array_remove((
               SELECT array_agg('GRANT ' || x.privileges || ' ON SEQUENCE ' || s.called || ' TO ' || x.role ORDER BY x.first)
               FROM (SELECT string_agg(x.privilege_type, ', ' ORDER BY x.ordinality) AS privileges, min(x.ordinality) AS first,
                            CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END
                              || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS role
                     FROM aclexplode(s.relacl) WITH ORDINALITY x WHERE x.grantee <> s.relowner
                     GROUP BY x.grantee, x.is_grantable) x)
               || ('COMMENT ON SEQUENCE ' || s.called || ' IS ' || quote_literal(obj_description(s.oid, 'pg_class'))), NULL)
    FROM sequences s
    UNION ALL
    SELECT 10, l.objid, CASE WHEN t.temporary THEN 'temporary' ELSE 'other' END, '', pg_describe_object(l.classid, l.objid, l.objsubid), '', '',
           '{}', NULL, false, l.row_type, l.rests_on_key, '{}', '', '{}'
    FROM own, links l
    LEFT JOIN pg_rewrite w ON l.classid = 'pg_rewrite'::regclass AND w.oid = l.objid
    LEFT JOIN pg_proc f ON l.classid = 'pg_proc'::regclass AND f.oid = l.objid
    LEFT JOIN pg_attrdef e ON l.classid = 'pg_attrdef'::regclass AND e.oid = l.objid
    LEFT JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
    LEFT JOIN pg_constraint k ON l.classid = 'pg_constraint'::regclass AND k.oid = l.objid
    LEFT JOIN pg_trigger g ON l.classid = 'pg_trigger'::regclass AND g.oid = l.objid
    LEFT JOIN pg_statistic_ext x ON l.classid = 'pg_statistic_ext'::regclass AND x.oid = l.objid
    LEFT JOIN pg_index i ON l.classid = 'pg_class'::regclass AND i.indexrelid = l.objid
    LEFT JOIN pg_class c ON c.oid = coalesce(w.ev_class, e.adrelid, k.conrelid, g.tgrelid, CASE l.classid WHEN 'pg_class'::regclass THEN l.objid END)
    CROSS JOIN LATERAL (SELECT coalesce(c.relpersistence = 't', f.pronamespace::regnamespace::text ~ '^pg_temp_', false) AS temporary) t
    WHERE CASE WHEN l.classid = 'pg_class'::regclass AND c.relkind IN ('v', 'm') THEN false  -- by its rule it is in the list already
               WHEN t.temporary THEN true
               WHEN l.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass) THEN false
               WHEN l.classid = 'pg_proc'::regclass THEN f.prokind = 'a'
               WHEN l.classid = 'pg_attrdef'::regclass THEN e.adrelid <> own.oid AND a.attgenerated <> ''
               WHEN l.classid = 'pg_constraint'::regclass THEN k.contype <> 'f' AND k.conrelid <> own.oid
               WHEN l.classid = 'pg_class'::regclass THEN l.objsubid = 0 AND i.indrelid IS DISTINCT FROM own.oid
               ELSE coalesce(g.tgrelid, x.stxrelid, 0) <> own.oid END
)
SELECT b.kind AS kind, b.schema AS schema, b.name AS name, b.member AS member, b.definition AS definition, b.options AS options,
       coalesce(pg_get_userbyid(b.owner)::text, '') AS owner, b.may_make AS may_make, b.row_type AS row_type, b.rests_on_key AS rests_on_key,
       b.dependents AS dependents, b.closing AS closing, b.completion AS completion
FROM found b
ORDER BY b.rank, b.position
