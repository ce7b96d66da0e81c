-- Says which rows are in a new partition's way, and who moves them.
CREATE OR REPLACE FUNCTION atlas_ops.refuse_rows(parent regclass, rest regclass, partition text)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION '% of % cannot be made: rows of its time lie in the default partition %', quote_ident(partition), parent, rest
        USING ERRCODE = 'check_violation', HINT = 'Nothing is lost. 07 Maintain partitions moves them: what = "move".';
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.refuse_rows(regclass,regclass,text)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.refuse_rows(regclass,regclass,text) FROM ' || grantee;
    END LOOP;
END $$;
