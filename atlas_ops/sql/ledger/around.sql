-- What hangs on the table from outside: publications, sequences, foreign keys of others, what reads it. Default privileges that would open a new table.
SELECT 'publication' AS kind, p.pubname::text AS name, f.aspect AS aspect, f.value AS value
FROM pg_publication p
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(oid)s
CROSS JOIN LATERAL (VALUES
    ('carries it', CASE WHEN r.prrelid IS NOT NULL THEN 'by name' WHEN p.puballtables THEN 'with all tables' ELSE 'with its schema' END),
    ('columns', (SELECT string_agg(a.attname::text, ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))),
    ('row filter', pg_get_expr(r.prqual, r.prrelid))
) AS f(aspect, value)
WHERE f.value IS NOT NULL
  AND (r.prrelid IS NOT NULL OR p.puballtables
       OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_class c ON c.relnamespace = s.pnnspid WHERE s.pnpubid = p.oid AND c.oid = %(oid)s))
UNION ALL
SELECT 'sequence', a.attname::text, f.aspect, f.value
FROM pg_depend d
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL (VALUES
    ('name', quote_ident(n.nspname) || '.' || quote_ident(s.relname)),
    ('options', concat(format_type(q.seqtypid, NULL), ' INCREMENT BY ', q.seqincrement, ' MINVALUE ', q.seqmin, ' MAXVALUE ', q.seqmax, ' START WITH ', q.seqstart,
                       ' CACHE ', q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END)),
    ('owner', pg_get_userbyid(s.relowner)::text),
    ('privileges', (SELECT string_agg(concat(CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END, ': ', x.privilege_type, CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END), ', '
                                      ORDER BY x.grantee, x.privilege_type) FROM aclexplode(s.relacl) x WHERE x.grantee <> s.relowner)),
    ('comment', obj_description(s.oid, 'pg_class'))
) AS f(aspect, value)
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND d.refobjsubid > 0
  AND d.deptype IN ('a', 'i') AND f.value IS NOT NULL
UNION ALL
SELECT 'foreign key of another table', quote_ident(c.conname) || ' of ' || quote_ident(n.nspname) || '.' || quote_ident(t.relname), f.aspect, f.value
FROM pg_constraint c
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (VALUES
    ('definition', regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '')),
    ('validated', CASE WHEN c.convalidated THEN 'yes' ELSE 'no' END),
    ('comment', obj_description(c.oid, 'pg_constraint'))
) AS f(aspect, value)
WHERE c.confrelid = %(oid)s AND c.contype = 'f' AND c.conparentid = 0 AND f.value IS NOT NULL
UNION ALL
SELECT DISTINCT CASE v.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'rule of another table' END,
       quote_ident(n.nspname) || '.' || quote_ident(v.relname), f.aspect, f.value
FROM pg_depend d
JOIN pg_rewrite w ON w.oid = d.objid
JOIN pg_class v ON v.oid = w.ev_class
JOIN pg_namespace n ON n.oid = v.relnamespace
CROSS JOIN LATERAL (VALUES
    ('reads it', 'yes'),
    ('options', array_to_string(v.reloptions, ', ')),
    ('owner', pg_get_userbyid(v.relowner)::text),
    ('privileges', (SELECT string_agg(concat(CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END, ': ', x.privilege_type, CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END), ', '
                                      ORDER BY x.grantee, x.privilege_type) FROM aclexplode(v.relacl) x WHERE x.grantee <> v.relowner)),
    ('comment', obj_description(v.oid, 'pg_class'))
) AS f(aspect, value)
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND w.ev_class <> %(oid)s AND f.value IS NOT NULL
UNION ALL
SELECT DISTINCT 'policy of another table', quote_ident(p.polname) || ' on ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'reads it', 'yes'
FROM pg_depend d
JOIN pg_policy p ON p.oid = d.objid
JOIN pg_class c ON c.oid = p.polrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND p.polrelid <> %(oid)s
UNION ALL
SELECT DISTINCT 'function', f.oid::regprocedure::text, 'is bound to it', 'yes'
FROM pg_depend d JOIN pg_proc f ON f.oid = d.objid
WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s
ORDER BY 1, 2, 3
