-- Makes the partition of one period of a table under care, if it is not there: beside the table, then attached, so that the table itself is locked with
-- SHARE UPDATE EXCLUSIVE only (SHARE ROW EXCLUSIVE for a period that has begun, see take_locks), its default partition, which is scanned, with ACCESS
-- EXCLUSIVE. Returns its name; null where it was there already.
-- Raises 55P03 where the locks are not to be had in time, 23514 where the default partition holds rows of the period, 42P07 where the name is taken,
-- 55000 where another partition reaches into the period.
CREATE OR REPLACE FUNCTION atlas_ops.create_partition(schema_name text, table_name text, lower_bound timestamptz)
RETURNS text LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
#variable_conflict use_column
DECLARE
    care record;
    parent regclass := pg_catalog.to_regclass(format('%I.%I', create_partition.schema_name, create_partition.table_name));
    from_edge CONSTANT timestamptz := create_partition.lower_bound;
    to_edge timestamptz;
    rest regclass;
    key text;
    called text;
    fresh text;
    found boolean;
BEGIN
    -- two at once: the second waits for the first, and finds nothing left to do
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('atlas_ops'), pg_catalog.hashtext('create_future_partitions'));
    SELECT t.* INTO care FROM atlas_ops.partitioned_table t
    WHERE t.schema_name = create_partition.schema_name AND t.table_name = create_partition.table_name;
    IF parent IS NULL OR NOT FOUND OR NOT care.ready THEN
        RAISE EXCEPTION 'no table %.% is under care, with all of its rows', create_partition.schema_name, create_partition.table_name
            USING ERRCODE = 'undefined_table', HINT = 'Run 02 Apply migration to its end, or 07 Maintain partitions with what = "register".';
    END IF;
    SELECT nullif(p.partdefid, 0), quote_ident(a.attname) INTO rest, key
    FROM pg_catalog.pg_partitioned_table p LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid = parent AND p.partstrat = 'r' AND p.partnatts = 1;
    IF key IS NULL THEN
        RAISE EXCEPTION '% is not partitioned by the range of one column', parent USING ERRCODE = 'feature_not_supported';
    END IF;
    to_edge := from_edge + atlas_ops.period_step(care.every);
    IF from_edge <> pg_catalog.date_trunc(care.every, from_edge, 'UTC') THEN
        RAISE EXCEPTION 'no % begins at %', care.every, from_edge USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM atlas_ops.ranges(parent) r WHERE r.lower_bound = from_edge AND r.upper_bound = to_edge) THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM atlas_ops.ranges(parent) r WHERE r.lower_bound < to_edge AND r.upper_bound > from_edge) THEN
        RAISE EXCEPTION 'another partition of % reaches into the time from % to %', parent, from_edge, to_edge
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = '04 Inspect partitions lists the bounds.';
    END IF;
    called := atlas_ops.period_name(care.partition_prefix, care.every, care.name_form, from_edge);
    fresh := format('%I.%I', care.partition_schema, called);
    IF pg_catalog.to_regclass(fresh) IS NOT NULL THEN
        RAISE EXCEPTION 'the name % is taken by a relation that is no partition of %', fresh, parent
            USING ERRCODE = 'duplicate_table', HINT = 'Rename or attach that relation, then call the function again.';
    END IF;
    IF rest IS NOT NULL THEN
        -- asked before any lock: else everybody would wait for a scan that ends in a refusal
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s >= %L AND %s < %L)', rest, key, from_edge, key, to_edge) INTO found;
        IF found THEN
            PERFORM atlas_ops.refuse_rows(parent, rest, called);
        END IF;
    END IF;
    PERFORM atlas_ops.make_closed_table(parent, fresh, care.storage_parameters);
    PERFORM atlas_ops.take_locks(parent, CASE WHEN rest IS NULL OR from_edge > pg_catalog.now() THEN 'SHARE UPDATE EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END,
                                 care.lock_timeout_ms);
    BEGIN
        PERFORM atlas_ops.attach_partition(parent, fresh, from_edge::text, to_edge::text);
    EXCEPTION WHEN check_violation THEN
        PERFORM atlas_ops.refuse_rows(parent, rest, called);
    END;
    UPDATE atlas_ops.partitioned_table t
    SET made = called, made_at = pg_catalog.clock_timestamp(), made_by = atlas_ops.caller()
    WHERE t.schema_name = care.schema_name AND t.table_name = care.table_name;
    RETURN called;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.create_partition(text,text,timestamptz)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.create_partition(text,text,timestamptz) FROM ' || grantee;
    END LOOP;
END $$;
