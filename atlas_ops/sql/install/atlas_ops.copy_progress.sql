-- How far the copy of a large partition has come, so that a killed run goes on inside of it: written in the transaction of each batch.
CREATE TABLE IF NOT EXISTS atlas_ops.copy_progress (
    schema_name text NOT NULL,
    table_name text NOT NULL,
    reached text,  -- every row up to this partition key is copied; NULL: none yet
    next text,  -- the last partition key of the batch that is being copied
    PRIMARY KEY (schema_name, table_name)
);
ALTER TABLE atlas_ops.copy_progress ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_class c, aclexplode(c.relacl) a
                   WHERE c.oid = 'atlas_ops.copy_progress'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE 'REVOKE ALL ON TABLE atlas_ops.copy_progress FROM ' || grantee;
    END LOOP;
END $$;
