-- What ahead demands on a day and is not there, by the calendar in UTC: from the first bound there is (or keep periods back, if that is later) to ahead
-- periods after the one that holds as_of (or to the last bound there is, if that is later). A period that any partition reaches into is passed over: it
-- stays as it is, and nothing could be attached beside it. So is one whose name an archived table has. Tables that are being copied, or are managed by
-- pg_partman, miss nothing.
CREATE OR REPLACE FUNCTION atlas_ops.missing_partitions(as_of timestamptz)
RETURNS TABLE (schema_name text, table_name text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
DECLARE
    most_apart CONSTANT integer := 1000;  -- periods
    care record;
    parent regclass;
    step interval;
    current_lower timestamptz;
    first_lower timestamptz;
    last_lower timestamptz;
BEGIN
    FOR care IN SELECT * FROM atlas_ops.partitioned_table t WHERE t.ready ORDER BY t.schema_name, t.table_name LOOP
        parent := pg_catalog.to_regclass(format('%I.%I', care.schema_name, care.table_name));
        CONTINUE WHEN parent IS NULL OR atlas_ops.managed_elsewhere(care.schema_name, care.table_name);
        step := atlas_ops.period_step(care.every);
        current_lower := pg_catalog.date_trunc(care.every, as_of, 'UTC');
        SELECT least(current_lower, pg_catalog.date_trunc(care.every, min(r.lower_bound), 'UTC')) INTO first_lower
        FROM atlas_ops.ranges(parent) r WHERE r.lower_bound > '-infinity';
        first_lower := greatest(coalesce(first_lower, current_lower), current_lower - step * least(care.keep, most_apart), current_lower - step * most_apart);
        SELECT pg_catalog.date_trunc(care.every, max(r.upper_bound) - interval '1 microsecond', 'UTC') INTO last_lower
        FROM atlas_ops.ranges(parent) r WHERE r.upper_bound < 'infinity';
        last_lower := greatest(current_lower + step * care.ahead, least(last_lower, current_lower + step * most_apart));
        RETURN QUERY
        WITH there AS MATERIALIZED (SELECT r.lower_bound, r.upper_bound FROM atlas_ops.ranges(parent) r),
        free AS MATERIALIZED (
            SELECT edge FROM pg_catalog.generate_series(pg_catalog.date_trunc(care.every, first_lower, 'UTC'), last_lower, step) AS p (edge)
            WHERE NOT EXISTS (SELECT FROM there WHERE there.lower_bound < edge + step AND there.upper_bound > edge)
        )
        SELECT care.schema_name, care.table_name, f.edge, f.edge + step
        FROM free f
        CROSS JOIN LATERAL (SELECT pg_catalog.obj_description(pg_catalog.to_regclass(format('%I.%I', care.partition_schema,
            atlas_ops.period_name(care.partition_prefix, care.every, care.name_form, f.edge))), 'pg_class') AS mark) AS named
        WHERE NOT coalesce(pg_catalog.starts_with(named.mark, 'atlas_ops: archived rows of '), false)
        ORDER BY f.edge;
    END LOOP;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.missing_partitions(timestamptz)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.missing_partitions(timestamptz) FROM ' || grantee;
    END LOOP;
END $$;
