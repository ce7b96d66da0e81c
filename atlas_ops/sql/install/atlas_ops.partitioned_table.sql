-- The tables under the care of create_future_partitions(): one row a partitioned table.
CREATE TABLE IF NOT EXISTS atlas_ops.partitioned_table (
    schema_name text NOT NULL,
    table_name text NOT NULL,
    every text NOT NULL CHECK (every IN ('day', 'week', 'month', 'quarter', 'year')),
    ahead integer NOT NULL CHECK (ahead >= 1),
    partition_schema text NOT NULL,
    partition_prefix text NOT NULL,
    storage_parameters text[] NOT NULL DEFAULT '{}',
    ready boolean NOT NULL,  -- false while its rows are being copied: no partition may be made in a month that is still to come
    covers_from date,  -- where its first and its last partition were to begin and end when it was built; null: where the specification says
    covers_until date,
    keep integer CHECK (keep >= 1),  -- whole past periods kept: gaps further back stay, they may be archived months; null: all are filled
    lock_timeout_ms integer NOT NULL DEFAULT 100 CHECK (lock_timeout_ms >= 1),  -- for all locks of one transaction together
    name_form text,  -- of a set that others made: how to_char() writes what follows the prefix; null: as ours, _2024_01
    made text,  -- the partition made last, when, and by whom (application_name, or the kind of process)
    made_at timestamptz,
    made_by text,
    whole_at timestamptz,  -- when everything that ahead asks for was last found there, by create_future_partitions() or 07, and who called
    whole_by text,
    PRIMARY KEY (schema_name, table_name)
);
ALTER TABLE atlas_ops.partitioned_table
    ADD COLUMN IF NOT EXISTS covers_from date, ADD COLUMN IF NOT EXISTS covers_until date, ADD COLUMN IF NOT EXISTS keep integer CHECK (keep >= 1),
    ADD COLUMN IF NOT EXISTS lock_timeout_ms integer NOT NULL DEFAULT 100 CHECK (lock_timeout_ms >= 1), ADD COLUMN IF NOT EXISTS name_form text,
    ADD COLUMN IF NOT EXISTS made text, ADD COLUMN IF NOT EXISTS made_at timestamptz, ADD COLUMN IF NOT EXISTS made_by text,
    ADD COLUMN IF NOT EXISTS whole_at timestamptz, ADD COLUMN IF NOT EXISTS whole_by text;
ALTER TABLE atlas_ops.partitioned_table ENABLE ROW LEVEL SECURITY;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_class c, aclexplode(c.relacl) a
                   WHERE c.oid = 'atlas_ops.partitioned_table'::regclass AND a.grantee <> c.relowner LOOP
        EXECUTE 'REVOKE ALL ON TABLE atlas_ops.partitioned_table FROM ' || grantee;
    END LOOP;
END $$;
