-- Switches the user's triggers on a partition off, and returns the statements that switch each on again as it was. Foreign keys go on being checked.
CREATE OR REPLACE FUNCTION atlas_ops.silence_triggers(silent regclass) RETURNS text[] LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    again text[] := coalesce((
        SELECT pg_catalog.array_agg(format('ALTER TABLE %s ENABLE %sTRIGGER %I', silent,
                                           CASE g.tgenabled WHEN 'A' THEN 'ALWAYS ' WHEN 'R' THEN 'REPLICA ' ELSE '' END, g.tgname) ORDER BY g.tgname)
        FROM pg_catalog.pg_trigger g WHERE g.tgrelid = silent AND NOT g.tgisinternal AND g.tgenabled <> 'D'), '{}');
BEGIN
    IF again <> '{}' THEN
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', silent);
    END IF;
    RETURN again;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.silence_triggers(regclass)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.silence_triggers(regclass) FROM ' || grantee;
    END LOOP;
END $$;
