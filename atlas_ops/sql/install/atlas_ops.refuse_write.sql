-- Refuses a statement that writes to the table that only follows: what it wrote would be undone. Our own drain says that it is one, from a
-- session of the table's owner: the setting alone is anybody's to make, and the application's roles have their rights on the table.
CREATE OR REPLACE FUNCTION atlas_ops.refuse_write() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF coalesce(pg_catalog.current_setting('atlas_ops.writes', true), '') <> 'allowed'
       OR NOT pg_catalog.pg_has_role(session_user, (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION '%.% follows another table, row by row: it is not to be written', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Write to the table that the application uses; 06 Cut over exchanges the two.';
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.refuse_write()'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.refuse_write() FROM ' || grantee;
    END LOOP;
END $$;
