-- Which of our objects were installed from which text, so that a second run knows what is up to date.
CREATE TABLE IF NOT EXISTS atlas_ops.installed_object (
    name text PRIMARY KEY,
    digest text NOT NULL
);
ALTER TABLE atlas_ops.installed_object ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_class c, aclexplode(c.relacl) a
                   WHERE c.oid = 'atlas_ops.installed_object'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE 'REVOKE ALL ON TABLE atlas_ops.installed_object FROM ' || grantee;
    END LOOP;
END $$;
