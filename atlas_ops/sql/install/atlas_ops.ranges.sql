-- The attached ranges of a partitioned table in UTC, a pending detach among them; unbounded ends are infinite. Bounds that are no range of time are left out.
CREATE OR REPLACE FUNCTION atlas_ops.ranges(parent regclass)
RETURNS TABLE (partition regclass, kind "char", lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
BEGIN
    RETURN QUERY
    SELECT c.oid::regclass, c.relkind, coalesce(b.edges[1]::timestamptz, '-infinity'), coalesce(b.edges[2]::timestamptz, 'infinity')
    FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL pg_catalog.regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid),
        '^FOR VALUES FROM \((?:MINVALUE|''([^'']*)'')\) TO \((?:MAXVALUE|''([^'']*)'')\)$') AS b (edges)
    WHERE i.inhparent = parent AND b.edges IS NOT NULL;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.ranges(regclass)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.ranges(regclass) FROM ' || grantee;
    END LOOP;
END $$;
