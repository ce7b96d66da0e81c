-- Makes what ahead demands for every table under care: what atlas_ops.missing_partitions() lists. Idempotent, one row a partition made. What cannot be
-- made does not stop the rest: it is told in a WARNING; where nothing could be made it is an ERROR, so that a scheduler's job fails, now or at its next
-- call. A lock that is not free in time (lock_timeout of the specification) is asked for again, up to twenty times, while no other is held: nobody waits
-- behind a pause of ours. Everything is one transaction: call it outside of one of your own.
CREATE OR REPLACE FUNCTION public.create_future_partitions(as_of timestamptz DEFAULT now())
RETURNS TABLE (partitioned_table text, partition_name text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET lock_timeout = '60s' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
#variable_conflict use_variable
DECLARE
    attempts CONSTANT integer := 20;
    need record;
    attempt integer := 1;
    made integer := 0;
    failed text[] := '{}';
    state text;
    hint text;
    said text;
BEGIN
    -- two schedulers at once: the second waits for the first, and finds nothing left to do
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('atlas_ops'), pg_catalog.hashtext('create_future_partitions'));
    FOR need IN SELECT * FROM atlas_ops.missing_partitions(as_of) LOOP
        LOOP
            BEGIN
                partition_name := atlas_ops.create_partition(need.schema_name, need.table_name, need.lower_bound);
                partitioned_table := format('%I.%I', need.schema_name, need.table_name);
                lower_bound := need.lower_bound;
                upper_bound := need.upper_bound;
                made := made + 1;
                RETURN NEXT;
                EXIT;
            EXCEPTION
                WHEN OTHERS THEN
                    IF SQLSTATE IN ('55P03', '40P01') AND made = 0 AND attempt < attempts THEN
                        -- nothing is held here: what was locked is free again with the savepoint
                        PERFORM pg_catalog.pg_sleep(least(0.05 * 2 ^ attempt, 1) * (0.5 + pg_catalog.random()));
                        attempt := attempt + 1;
                    ELSE
                        GET STACKED DIAGNOSTICS said = PG_EXCEPTION_HINT;
                        state := coalesce(state, SQLSTATE);
                        hint := coalesce(hint, nullif(said, ''));
                        failed := failed || SQLERRM;
                        RAISE WARNING '%.% from % on: % (SQLSTATE %)', need.schema_name, need.table_name, need.lower_bound, SQLERRM, SQLSTATE;
                        EXIT;
                    END IF;
            END;
        END LOOP;
    END LOOP;
    IF failed <> '{}' AND made = 0 THEN
        RAISE EXCEPTION 'create_future_partitions() could make none of % missing partitions: %', cardinality(failed), failed[1]
            USING ERRCODE = state, HINT = coalesce(hint, 'Call it again; 07 Maintain partitions tells what is in the way.');
    END IF;
    UPDATE atlas_ops.partitioned_table t
    SET whole_at = pg_catalog.clock_timestamp(), whole_by = atlas_ops.caller()
    WHERE t.ready AND NOT EXISTS (SELECT FROM atlas_ops.missing_partitions(as_of) m WHERE m.schema_name = t.schema_name AND m.table_name = t.table_name);
END $$;
COMMENT ON FUNCTION public.create_future_partitions(timestamptz) IS 'Makes the partitions that the tables under the care of atlas_ops will need; safe to call at any time.';
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'public.create_future_partitions(timestamptz)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION public.create_future_partitions(timestamptz) FROM ' || grantee;
    END LOOP;
END $$;
