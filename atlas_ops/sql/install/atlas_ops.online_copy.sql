-- The tables whose partitioned copy is kept in step: one row an original, under the names of its specification. A drain holds the row FOR UPDATE:
-- at any moment one session writes to the copy.
CREATE TABLE IF NOT EXISTS atlas_ops.online_copy (
    schema_name text NOT NULL,
    table_name text NOT NULL,
    authority text NOT NULL DEFAULT 'original' CHECK (authority IN ('original', 'partitioned')),  -- the table that the application writes
    exchanged boolean NOT NULL DEFAULT false,  -- the partitioned table has the original's name
    in_step boolean NOT NULL DEFAULT false,  -- every row was copied once: what differs is in the key log
    drained_at timestamptz,  -- when the key log was last seen empty: nothing in it is older
    drained_xid xid8,  -- of the last drain: a snapshot that sees it sees both tables alike
    turned_at timestamptz,  -- of the last cut-over or roll-back
    kept jsonb NOT NULL DEFAULT '{}',  -- what the way back needs of the original: its foreign keys
    PRIMARY KEY (schema_name, table_name)
);
ALTER TABLE atlas_ops.online_copy ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_class c, aclexplode(c.relacl) a
                   WHERE c.oid = 'atlas_ops.online_copy'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE 'REVOKE ALL ON TABLE atlas_ops.online_copy FROM ' || grantee;
    END LOOP;
END $$;
