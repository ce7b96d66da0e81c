-- Refuses a statement whose snapshot is older than the last drain before the cut-over: it would not see rows that were copied since, and
-- an UPDATE would silently change none. Only REPEATABLE READ and SERIALIZABLE transactions that began before it can have one; 40001 asks them to begin again.
CREATE OR REPLACE FUNCTION atlas_ops.refuse_old_snapshot() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF NOT pg_catalog.pg_visible_in_snapshot(TG_ARGV[0]::pg_catalog.xid8, pg_catalog.pg_current_snapshot()) THEN
        RAISE EXCEPTION 'could not serialize access: %.% was exchanged after this transaction began', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'serialization_failure', HINT = 'The transaction might succeed if retried.';
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.refuse_old_snapshot()'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.refuse_old_snapshot() FROM ' || grantee;
    END LOOP;
END $$;
