-- Whether pg_partman has the table in its part_config: then it is left to it. Believed is a part_config of an extension, or one that a superuser, the
-- table's owner or the caller owns: not everybody's, since any role could keep months from being made with one.
CREATE OR REPLACE FUNCTION atlas_ops.managed_elsewhere(schema_name text, table_name text)
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    config text;
    found boolean;
BEGIN
    FOR config IN
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
        WHERE c.relname = 'part_config' AND c.relkind = 'r'
          AND (r.rolsuper OR r.rolname = current_user
               OR r.oid = (SELECT p.relowner FROM pg_catalog.pg_class p
                           WHERE p.oid = pg_catalog.to_regclass(format('%I.%I', managed_elsewhere.schema_name, managed_elsewhere.table_name)))
               OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
          AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
          AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'parent_table' AND NOT a.attisdropped)
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE parent_table = %L)', config, schema_name || '.' || table_name) INTO found;
        IF found THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.managed_elsewhere(text,text)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.managed_elsewhere(text,text) FROM ' || grantee;
    END LOOP;
END $$;
