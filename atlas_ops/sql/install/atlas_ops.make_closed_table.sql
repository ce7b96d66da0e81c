-- Makes the table of a partition to come, beside the partitioned table: columns, defaults and checks of the partitioned table; storage parameters, replica
-- identity and statistics targets of its youngest partition (of the table itself, where there is none); row security on. No privilege that default
-- privileges give stays on it; those of the youngest partition go along, as far as row security stands before them: named roles, SELECT, INSERT, UPDATE
-- and DELETE, never PUBLIC, never TRUNCATE.
CREATE OR REPLACE FUNCTION atlas_ops.make_closed_table(parent regclass, fresh text, storage text[])
RETURNS void LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
DECLARE
    sibling oid := (SELECT r.partition FROM atlas_ops.ranges(parent) r WHERE r.kind = 'r' ORDER BY r.upper_bound DESC LIMIT 1);
    model oid := coalesce(sibling, parent);
    holder text := (SELECT quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) FROM pg_catalog.pg_class c WHERE c.oid = parent);
    grantee text;
    setting text;
BEGIN
    IF sibling IS NOT NULL THEN
        SELECT coalesce(c.reloptions, '{}') || coalesce((SELECT array_agg('toast.' || o) FROM pg_catalog.pg_class t, unnest(t.reloptions) AS o
                                                         WHERE t.oid = c.reltoastrelid), '{}')
        INTO storage FROM pg_catalog.pg_class c WHERE c.oid = sibling;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE '
                   'INCLUDING COMPRESSION INCLUDING STATISTICS)%s', fresh, parent,
                   CASE WHEN storage = '{}' THEN '' ELSE ' WITH (' || pg_catalog.array_to_string(storage, ', ') || ')' END
                   || coalesce((SELECT format(' TABLESPACE %I', s.spcname) FROM pg_catalog.pg_class c
                                JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = parent), ''));
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
                   FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
                   WHERE c.oid = pg_catalog.to_regclass(fresh) AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', fresh, grantee);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', fresh);
    FOR setting IN
        SELECT format('ALTER COLUMN %I SET STATISTICS %s', a.attname, a.attstattarget)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = model AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
        UNION ALL
        SELECT format('ALTER COLUMN %I SET (%I = %L)', a.attname, o.option_name, o.option_value)
        FROM pg_catalog.pg_attribute a, pg_catalog.pg_options_to_table(a.attoptions) o
        WHERE a.attrelid = model AND a.attnum > 0 AND NOT a.attisdropped AND o.option_name IN ('n_distinct', 'n_distinct_inherited')
        UNION ALL
        SELECT 'REPLICA IDENTITY ' || CASE c.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END
        FROM pg_catalog.pg_class c WHERE c.oid = model AND c.relreplident IN ('f', 'n')
        UNION ALL
        SELECT 'OWNER TO ' || holder
    LOOP
        EXECUTE format('ALTER TABLE %s %s', fresh, setting);
    END LOOP;
    FOR setting IN
        SELECT format('GRANT %s ON TABLE %s TO %I%s', a.privilege_type, fresh, pg_catalog.pg_get_userbyid(a.grantee),
                      CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
        WHERE c.oid = sibling AND a.grantee NOT IN (0, c.relowner) AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE setting;
    END LOOP;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.make_closed_table(regclass,text,text[])'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.make_closed_table(regclass,text,text[]) FROM ' || grantee;
    END LOOP;
END $$;
