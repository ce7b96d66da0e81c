-- Rows and bytes of every partition under care. `exact` counts the rows; without it the planner's estimate is given at once.
CREATE OR REPLACE FUNCTION public.get_partition_sizes(exact boolean DEFAULT true)
RETURNS TABLE (partitioned_table text, partition_name text, row_count bigint, total_bytes bigint, size text)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    leaf record;
BEGIN
    FOR leaf IN
        SELECT format('%I.%I', t.schema_name, t.table_name) AS parent, n.nspname, c.relname, c.oid, c.reltuples
        FROM atlas_ops.partitioned_table t
        CROSS JOIN LATERAL pg_catalog.pg_partition_tree(pg_catalog.to_regclass(format('%I.%I', t.schema_name, t.table_name))) tree
        JOIN pg_catalog.pg_class c ON c.oid = tree.relid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE tree.isleaf AND c.relkind = 'r'
        ORDER BY 1, c.relname
    LOOP
        partitioned_table := leaf.parent;
        partition_name := leaf.relname;
        total_bytes := pg_catalog.pg_total_relation_size(leaf.oid);
        size := pg_catalog.pg_size_pretty(total_bytes);
        IF exact THEN
            EXECUTE format('SELECT count(*) FROM %I.%I', leaf.nspname, leaf.relname) INTO row_count;
        ELSE
            row_count := greatest(leaf.reltuples, 0)::bigint;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION public.get_partition_sizes(boolean) IS 'Rows and bytes of every partition under the care of atlas_ops; exact := false gives estimates at once.';
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'public.get_partition_sizes(boolean)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION public.get_partition_sizes(boolean) FROM ' || grantee;
    END LOOP;
END $$;
