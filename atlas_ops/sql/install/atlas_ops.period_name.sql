-- What the partition of a period is called: the prefix and the period as ours are written, or as form says to to_char(). Refused over 63 bytes.
CREATE OR REPLACE FUNCTION atlas_ops.period_name(prefix text, every text, form text, lower_bound timestamptz)
RETURNS text LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' AS $$
DECLARE
    called text := prefix || pg_catalog.to_char(lower_bound, coalesce(form,
        CASE every WHEN 'day' THEN '_YYYY_MM_DD' WHEN 'week' THEN '_IYYY"w"IW' WHEN 'month' THEN '_YYYY_MM' WHEN 'quarter' THEN '_YYYY"q"Q' ELSE '_YYYY' END));
BEGIN
    IF octet_length(called) > 63 THEN
        RAISE EXCEPTION 'the name % is over 63 bytes long', called USING ERRCODE = 'name_too_long', HINT = 'Register the table with a shorter prefix.';
    END IF;
    RETURN called;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.period_name(text,text,text,timestamptz)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.period_name(text,text,text,timestamptz) FROM ' || grantee;
    END LOOP;
END $$;
