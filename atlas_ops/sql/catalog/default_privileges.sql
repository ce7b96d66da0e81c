-- Who is let in by default privileges to a table that the current role makes in this schema (the schema's own and the global ones).
SELECT DISTINCT CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee)::text END AS grantee
FROM pg_default_acl d, aclexplode(d.defaclacl) a
WHERE d.defaclobjtype = 'r' AND pg_get_userbyid(d.defaclrole) = current_user AND a.grantee <> d.defaclrole
  AND (d.defaclnamespace = 0 OR d.defaclnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %(schema)s))
ORDER BY 1
