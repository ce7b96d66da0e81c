-- Moves rows of one period from the default partition into a partition of that period, at most so many a call (0: all), and tells whether there are more.
-- One call is one transaction's work: its rows are in the one partition before it and in the other after it, for every snapshot. What it takes, it takes
-- from the end of the period: a partition of the time from there on, which each further call attaches again with a wider bound, until it is the period.
-- So nothing that is written meanwhile is added to the rows that are still to be moved.
-- No trigger of a user fires, and nothing cascades: where a row of another table refers to one of them, it is refused (23503).
CREATE OR REPLACE FUNCTION atlas_ops.move_rows(schema_name text, table_name text, lower_bound timestamptz, most integer)
RETURNS boolean LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
#variable_conflict use_column
DECLARE
    care record;
    parent regclass := pg_catalog.to_regclass(format('%I.%I', move_rows.schema_name, move_rows.table_name));
    from_edge CONSTANT text := move_rows.lower_bound::text;
    to_edge text;
    until_edge text;  -- what lies from here on is moved already
    cut text;  -- and from here on, after this call
    rest regclass;
    key text;
    columns text;
    called text;
    fresh text;
    begun record;
    silenced text[];
    found boolean;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('atlas_ops'), pg_catalog.hashtext('create_future_partitions'));
    SELECT t.* INTO care FROM atlas_ops.partitioned_table t WHERE t.schema_name = move_rows.schema_name AND t.table_name = move_rows.table_name;
    IF parent IS NULL OR NOT FOUND OR NOT care.ready THEN
        RAISE EXCEPTION 'no table %.% is under care, with all of its rows', move_rows.schema_name, move_rows.table_name
            USING ERRCODE = 'undefined_table', HINT = 'Run 02 Apply migration to its end, or 07 Maintain partitions with what = "register".';
    END IF;
    SELECT nullif(p.partdefid, 0), quote_ident(a.attname) INTO rest, key
    FROM pg_catalog.pg_partitioned_table p LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid = parent AND p.partstrat = 'r' AND p.partnatts = 1;
    IF rest IS NULL THEN
        RETURN false;
    ELSIF (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = rest) <> 'r' THEN
        RAISE EXCEPTION 'the default partition % is no plain table', rest USING ERRCODE = 'feature_not_supported';
    END IF;
    to_edge := (move_rows.lower_bound + atlas_ops.period_step(care.every))::text;
    until_edge := to_edge;

    -- into which table: one that was begun, or one to be made, whose name may be an archived table's
    called := atlas_ops.period_name(care.partition_prefix, care.every, care.name_form, move_rows.lower_bound);
    FOR number IN 0 .. 9 LOOP
        fresh := format('%I.%I', care.partition_schema, called);
        EXIT WHEN NOT coalesce(pg_catalog.starts_with(pg_catalog.obj_description(pg_catalog.to_regclass(fresh), 'pg_class'),
                                                      'atlas_ops: archived rows of '), false);
        called := atlas_ops.period_name(care.partition_prefix, care.every, care.name_form, move_rows.lower_bound) || '_late'
                  || CASE number WHEN 0 THEN '' ELSE (number + 1)::text END;
        IF octet_length(called) > 63 THEN
            RAISE EXCEPTION 'the name % is over 63 bytes long', called USING ERRCODE = 'name_too_long', HINT = 'Rename the archived table, then run again.';
        END IF;
    END LOOP;
    SELECT r.* INTO begun FROM atlas_ops.ranges(parent) r
    WHERE r.partition = pg_catalog.to_regclass(fresh) AND r.lower_bound > move_rows.lower_bound AND r.upper_bound = to_edge::timestamptz;
    IF begun.partition IS NOT NULL THEN
        until_edge := begun.lower_bound::text;
    ELSIF pg_catalog.to_regclass(fresh) IS NOT NULL AND NOT EXISTS (SELECT FROM atlas_ops.ranges(parent) r WHERE r.partition = pg_catalog.to_regclass(fresh)) THEN
        RAISE EXCEPTION 'the name % is taken by a relation that is no partition of %', fresh, parent
            USING ERRCODE = 'duplicate_table', HINT = 'Rename or attach that relation, then run again.';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s >= %L AND %s < %L)', rest, key, from_edge, key, until_edge) INTO found;
    IF NOT found AND begun.partition IS NULL THEN
        RETURN false;
    ELSIF EXISTS (SELECT FROM atlas_ops.ranges(parent) r WHERE r.lower_bound < until_edge::timestamptz AND r.upper_bound > from_edge::timestamptz) THEN
        RAISE EXCEPTION 'another partition of % reaches into the time from % to %', parent, from_edge, until_edge
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = '04 Inspect partitions lists the bounds.';
    END IF;

    -- from where on, to a whole second: all of it where another table refers to this one, since what is referred to cannot be detached again
    IF most > 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.confrelid = parent AND f.contype = 'f') THEN
        EXECUTE format('SELECT pg_catalog.date_trunc(''second'', d.k)::text FROM (SELECT %s AS k FROM %s WHERE %s >= %L AND %s < %L) d '
                       'ORDER BY d.k DESC OFFSET %s LIMIT 1', key, rest, key, from_edge, key, until_edge, most) INTO cut;
    END IF;
    IF cut IS NULL OR cut::timestamptz < from_edge::timestamptz THEN
        cut := from_edge;
    END IF;
    PERFORM atlas_ops.refuse_referenced(parent, rest, key, cut, until_edge);
    IF begun.partition IS NULL THEN
        PERFORM atlas_ops.make_closed_table(parent, fresh, care.storage_parameters);
    END IF;
    SELECT pg_catalog.string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = parent AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    EXECUTE format('CREATE TEMPORARY TABLE atlas_ops_moving ON COMMIT DROP AS SELECT %s FROM %s LIMIT 0', columns, rest);

    -- From here on others wait, readers too, and at the table itself: one who waits at the default partition has read already which partitions there are,
    -- and would look for the rows where they are no more.
    PERFORM pg_catalog.set_config('lock_timeout', care.lock_timeout_ms || 'ms', true),
            pg_catalog.set_config('atlas_ops.locks_until', (pg_catalog.clock_timestamp() + care.lock_timeout_ms * interval '1 millisecond')::text, true);
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', parent);
    PERFORM atlas_ops.take_locks(parent, CASE WHEN begun.partition IS NULL THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END, care.lock_timeout_ms);
    PERFORM atlas_ops.refuse_referenced(parent, rest, key, cut, until_edge);
    SET CONSTRAINTS ALL IMMEDIATE;  -- a check that waits for the end would not let the tables be altered
    silenced := atlas_ops.silence_triggers(rest);
    EXECUTE format('WITH gone AS (DELETE FROM %s WHERE %s >= %L AND %s < %L RETURNING %s) INSERT INTO pg_temp.atlas_ops_moving SELECT * FROM gone',
                   rest, key, cut, key, until_edge, columns);
    IF begun.partition IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, fresh);
    END IF;
    PERFORM atlas_ops.attach_partition(parent, fresh, cut, to_edge);
    -- attached first: a publication carries what goes in, as it carries what went out
    silenced := silenced || atlas_ops.silence_triggers(pg_catalog.to_regclass(fresh));
    EXECUTE format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp.atlas_ops_moving', fresh, columns, columns);
    FOR number IN 1 .. cardinality(silenced) LOOP
        EXECUTE silenced[number];
    END LOOP;
    DROP TABLE pg_temp.atlas_ops_moving;
    UPDATE atlas_ops.partitioned_table t
    SET made = called, made_at = pg_catalog.clock_timestamp(), made_by = atlas_ops.caller()
    WHERE t.schema_name = care.schema_name AND t.table_name = care.table_name;
    RETURN cut <> from_edge;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.move_rows(text,text,timestamptz,integer)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.move_rows(text,text,timestamptz,integer) FROM ' || grantee;
    END LOOP;
END $$;
