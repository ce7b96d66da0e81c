-- Refuses TRUNCATE of a table that is copied or kept in step: no key could be logged for the rows that it takes. With an argument, the reason: of a
-- copy, as on the table that it was copied from.
CREATE OR REPLACE FUNCTION atlas_ops.refuse_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF TG_NARGS > 0 THEN
        RAISE EXCEPTION 'TRUNCATE of %.% is refused: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]
            USING ERRCODE = 'object_in_use', HINT = 'Use DELETE, or detach a partition.';
    END IF;
    RAISE EXCEPTION 'TRUNCATE of %.% is refused while its partitioned copy is kept in step', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_in_use', HINT = 'Use DELETE, or switch the copy off first (10 Roll back).';
    RETURN NULL;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.refuse_truncate()'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.refuse_truncate() FROM ' || grantee;
    END LOOP;
END $$;
