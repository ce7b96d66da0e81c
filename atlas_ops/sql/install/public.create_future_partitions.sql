-- Makes what `ahead` demands for every table under care: the period that holds as_of and `ahead` more, counted by the calendar in UTC.
-- Idempotent. A partition is made beside the table and attached, so that the table itself is locked with SHARE UPDATE EXCLUSIVE only
-- (its default partition, which is scanned, with ACCESS EXCLUSIVE); row security on, no privilege for anybody, indexes, foreign keys,
-- triggers, tablespace and statistics targets from the partitioned table, storage parameters from the registry. A period that another
-- partition reaches into, whatever its name, is passed over: made by others, it stays as it is, and nothing could be attached beside it.
CREATE OR REPLACE FUNCTION public.create_future_partitions(as_of timestamptz DEFAULT now())
RETURNS TABLE (partitioned_table text, partition_name text, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET lock_timeout = '2s' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
DECLARE
    care record;
    step interval;
    parent regclass;
    fresh text;
    identity_of_rows "char";
    holder text;
    grantee text;
    setting text;
BEGIN
    -- two schedulers at once: the second waits for the first, and finds nothing left to do
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('atlas_ops'), pg_catalog.hashtext('create_future_partitions'));
    FOR care IN SELECT * FROM atlas_ops.partitioned_table WHERE ready ORDER BY schema_name, table_name LOOP
        partitioned_table := format('%I.%I', care.schema_name, care.table_name);
        parent := pg_catalog.to_regclass(partitioned_table);
        CONTINUE WHEN parent IS NULL;
        SELECT c.relreplident, quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) INTO identity_of_rows, holder
        FROM pg_catalog.pg_class c WHERE c.oid = parent;
        step := CASE care.every WHEN 'day' THEN interval '1 day' WHEN 'week' THEN interval '7 days' WHEN 'month' THEN interval '1 month'
                                WHEN 'quarter' THEN interval '3 months' ELSE interval '1 year' END;
        lower_bound := pg_catalog.date_trunc(care.every, as_of, 'UTC');
        FOR period IN 0 .. care.ahead LOOP
            upper_bound := lower_bound + step;
            partition_name := care.partition_prefix || '_' || pg_catalog.to_char(lower_bound,
                CASE care.every WHEN 'day' THEN 'YYYY_MM_DD' WHEN 'week' THEN 'IYYY"w"IW' WHEN 'month' THEN 'YYYY_MM'
                                WHEN 'quarter' THEN 'YYYY"q"Q' ELSE 'YYYY' END);
            fresh := format('%I.%I', care.partition_schema, partition_name);
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = parent AND i.inhrelid = pg_catalog.to_regclass(fresh))
               AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
                   CROSS JOIN LATERAL pg_catalog.regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid),
                       '^FOR VALUES FROM \((?:MINVALUE|''([^'']*)'')\) TO \((?:MAXVALUE|''([^'']*)'')\)$') AS b (edges)
                   WHERE i.inhparent = parent AND b.edges IS NOT NULL
                     AND coalesce(b.edges[1]::timestamptz, '-infinity') < upper_bound AND coalesce(b.edges[2]::timestamptz, 'infinity') > lower_bound) THEN
                IF pg_catalog.to_regclass(fresh) IS NOT NULL THEN
                    RAISE EXCEPTION 'the name % is taken by a relation that is no partition of %', fresh, partitioned_table
                        USING ERRCODE = 'duplicate_table', HINT = 'Rename or attach that relation, then call the function again.';
                END IF;
                EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE '
                               'INCLUDING COMPRESSION INCLUDING STATISTICS)%s', fresh, partitioned_table,
                               CASE WHEN care.storage_parameters = '{}' THEN ''
                                    ELSE ' WITH (' || pg_catalog.array_to_string(care.storage_parameters, ', ') || ')' END
                               || coalesce((SELECT format(' TABLESPACE %I', s.spcname) FROM pg_catalog.pg_class c
                                            JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = parent), ''));
                FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
                               FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
                               WHERE c.oid = pg_catalog.to_regclass(fresh) AND a.grantee <> c.relowner LOOP
                    EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', fresh, grantee);
                END LOOP;
                EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', fresh);
                FOR setting IN SELECT format('ALTER COLUMN %I SET STATISTICS %s', a.attname, a.attstattarget)
                               FROM pg_catalog.pg_attribute a WHERE a.attrelid = parent AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
                               UNION ALL
                               SELECT format('ALTER COLUMN %I SET (%I = %L)', a.attname, o.option_name, o.option_value)
                               FROM pg_catalog.pg_attribute a, pg_catalog.pg_options_to_table(a.attoptions) o
                               WHERE a.attrelid = parent AND a.attnum > 0 AND NOT a.attisdropped AND o.option_name IN ('n_distinct', 'n_distinct_inherited') LOOP
                    EXECUTE format('ALTER TABLE %s %s', fresh, setting);
                END LOOP;
                IF identity_of_rows IN ('f', 'n') THEN
                    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', fresh, CASE identity_of_rows WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END);
                END IF;
                EXECUTE format('ALTER TABLE %s OWNER TO %s', fresh, holder);
                EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
                               partitioned_table, fresh, lower_bound, upper_bound);
                IF identity_of_rows = 'i' THEN
                    EXECUTE (SELECT format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', fresh, x.relname)
                             FROM pg_catalog.pg_index whole
                             JOIN pg_catalog.pg_inherits h ON h.inhparent = whole.indexrelid
                             JOIN pg_catalog.pg_index own ON own.indexrelid = h.inhrelid AND own.indrelid = pg_catalog.to_regclass(fresh)
                             JOIN pg_catalog.pg_class x ON x.oid = own.indexrelid
                             WHERE whole.indrelid = parent AND whole.indisreplident);
                END IF;
                RETURN NEXT;
            END IF;
            lower_bound := upper_bound;
        END LOOP;
    END LOOP;
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
