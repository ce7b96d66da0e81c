-- Our own objects go with the last table under care, with the jobs of pg_cron that call them, and the schema of the partitions if we made it and it is empty.
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM atlas_ops.partitioned_table) AND NOT EXISTS (SELECT FROM atlas_ops.online_copy) THEN
        IF to_regclass('cron.job') IS NOT NULL THEN
            EXECUTE 'SELECT cron.unschedule(jobid) FROM cron.job '
                    'WHERE starts_with(jobname::text, ''atlas_ops '') AND username = current_user AND database = current_database()';
        END IF;
        DROP VIEW IF EXISTS public.partition_performance;
        DROP FUNCTION IF EXISTS public.create_future_partitions(timestamptz), public.get_partition_sizes(boolean);
        DROP SCHEMA atlas_ops CASCADE;
    END IF;
    IF obj_description(to_regnamespace({schema_text}), 'pg_namespace') = {mark}
       AND NOT EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace({schema_text})) THEN
        DROP SCHEMA {schema};
    END IF;
END $do$
