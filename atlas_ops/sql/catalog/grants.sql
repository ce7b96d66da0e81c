-- Privileges of roles other than the owner, on the table and on its columns. No ACL at all means the owner alone.
SELECT CASE x.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(x.grantee)::text END AS grantee,
       x.privilege_type AS privilege, x.is_grantable AS grantable, x.attname AS "column"
FROM (SELECT acl.grantee, acl.privilege_type, acl.is_grantable, NULL::text AS attname
      FROM pg_class c, aclexplode(c.relacl) acl
      WHERE c.oid = %(oid)s AND acl.grantee <> c.relowner
      UNION ALL
      SELECT acl.grantee, acl.privilege_type, acl.is_grantable, a.attname::text
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped, aclexplode(a.attacl) acl
      WHERE c.oid = %(oid)s AND acl.grantee <> c.relowner) x
ORDER BY x.attname NULLS FIRST, 1 NULLS FIRST, x.privilege_type
