-- Who may do what, on the table and on each column, beside the owner. Default privileges are no property of it, but would open any table that is made
-- beside it.
SELECT 'privilege' AS kind,
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END || coalesce(' on column ' || quote_ident(x.attname), '') AS name,
       x.privilege_type AS aspect,
       CASE WHEN bool_or(x.is_grantable) THEN 'with grant option' ELSE 'granted' END AS value
FROM (SELECT acl.grantee, acl.privilege_type, acl.is_grantable, NULL::name AS attname
      FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) acl WHERE c.oid = %(oid)s AND acl.grantee <> c.relowner
      UNION ALL
      SELECT acl.grantee, acl.privilege_type, acl.is_grantable, a.attname
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) acl
      WHERE a.attrelid = %(oid)s AND NOT a.attisdropped AND acl.grantee <> c.relowner) x
GROUP BY x.grantee, x.attname, x.privilege_type
UNION ALL
SELECT 'default privilege',
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END || ' on tables that ' || pg_get_userbyid(p.defaclrole)::text || ' makes'
         || CASE p.defaclnamespace WHEN 0 THEN '' ELSE ' in this schema' END,
       x.privilege_type, CASE WHEN x.is_grantable THEN 'with grant option' ELSE 'granted' END
FROM pg_class c JOIN pg_default_acl p ON p.defaclobjtype = 'r' AND p.defaclnamespace IN (0, c.relnamespace), aclexplode(p.defaclacl) x
WHERE c.oid = %(oid)s AND x.grantee <> p.defaclrole
ORDER BY 2, 3
