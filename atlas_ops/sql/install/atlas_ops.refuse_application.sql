-- Refuses a statement of the application on a copy that it does not use yet: nothing brings the two tables together again. The owner may write:
-- as him 03 repairs, and foreign keys act on what refers to a row that goes. The setting is our own measurement's, from a session of the owner.
CREATE OR REPLACE FUNCTION atlas_ops.refuse_application() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    holder oid := (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = TG_RELID);
BEGIN
    IF NOT pg_catalog.pg_has_role(current_user, holder, 'USAGE')
       AND (coalesce(pg_catalog.current_setting('atlas_ops.writes', true), '') <> 'allowed'
            OR NOT pg_catalog.pg_has_role(session_user, holder, 'USAGE')) THEN
        RAISE EXCEPTION '%.% is a copy that is not in use yet: it is not to be written', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Write to the table that the application uses; 06 Cut over opens this one.';
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.refuse_application()'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.refuse_application() FROM ' || grantee;
    END LOOP;
END $$;
