-- Refuses to move rows that rows of another table refer to: a DELETE would cascade to those, or fail. What refers to a registry of keys is not concerned.
CREATE OR REPLACE FUNCTION atlas_ops.refuse_referenced(parent regclass, rest regclass, key text, from_edge text, to_edge text)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
DECLARE
    reference record;
    found boolean;
BEGIN
    FOR reference IN
        SELECT f.conname, f.conrelid::regclass AS referring,
               (SELECT pg_catalog.string_agg(format('o.%I = d.%I', a.attname, b.attname), ' AND ')
                FROM unnest(f.conkey, f.confkey) AS k (referring, referenced)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.referring
                JOIN pg_catalog.pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.referenced) AS condition
        FROM pg_catalog.pg_constraint f
        WHERE f.contype = 'f' AND f.confrelid IN (parent, rest) AND f.conparentid = 0
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s AS d WHERE d.%s >= %L AND d.%s < %L AND EXISTS (SELECT FROM %s AS o WHERE %s))',
                       rest, key, from_edge, key, to_edge, reference.referring, reference.condition) INTO found;
        IF found THEN
            RAISE EXCEPTION 'rows of % from % on cannot leave the default partition %: % of % refers to them',
                parent, from_edge, rest, quote_ident(reference.conname), reference.referring
                USING ERRCODE = 'foreign_key_violation',
                      HINT = 'Moving is a DELETE and an INSERT: the foreign key would act on the rows that refer to them. Drop it, move, and add it again.';
        END IF;
    END LOOP;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.refuse_referenced(regclass,regclass,text,text,text)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.refuse_referenced(regclass,regclass,text,text,text) FROM ' || grantee;
    END LOOP;
END $$;
