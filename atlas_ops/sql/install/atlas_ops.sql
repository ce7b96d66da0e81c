-- The schema of our own objects: closed to everyone but its owner.
CREATE SCHEMA IF NOT EXISTS atlas_ops;
COMMENT ON SCHEMA atlas_ops IS 'What atlas_ops remembers about partitioned tables. No role of an application needs it.';
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'atlas_ops' AND a.grantee <> n.nspowner LOOP
        EXECUTE 'REVOKE ALL ON SCHEMA atlas_ops FROM ' || grantee;
    END LOOP;
END $$;
