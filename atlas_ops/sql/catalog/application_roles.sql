-- The roles to keep out of the schema of the partitions: everyone who holds a privilege on the original table, who is let in by
-- default privileges, or through whom Supabase serves requests; never the owner or a role that owns him.
SELECT DISTINCT r.rolname::text AS role
FROM pg_roles r
WHERE NOT r.rolsuper AND r.rolname <> current_user
  AND r.oid <> coalesce((SELECT c.relowner FROM pg_class c WHERE c.oid = %(oid)s), 0)
  AND (r.rolname IN ('anon', 'authenticated', 'service_role', 'authenticator')
       OR EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = %(oid)s AND a.grantee = r.oid)
       OR EXISTS (SELECT FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE a.grantee = r.oid))
ORDER BY 1
