-- Everything of a rehearsal goes: the schemas that carry its mark, and what our registry says of them.
DO $do$
DECLARE schema_of_ours text;
BEGIN
    FOR schema_of_ours IN SELECT nspname FROM pg_namespace
                          WHERE nspname IN ({schema}, {partitions}) AND obj_description(oid, 'pg_namespace') = {mark} LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema_of_ours);
    END LOOP;
    IF to_regclass('atlas_ops.online_copy') IS NOT NULL THEN
        DELETE FROM atlas_ops.copy_progress WHERE schema_name = {partitions};
        DELETE FROM atlas_ops.partitioned_table WHERE schema_name = {schema};
        DELETE FROM atlas_ops.online_copy WHERE schema_name = {schema};
    END IF;
END $do$
