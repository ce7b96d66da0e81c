-- Takes every privilege on a table or function from everybody but its owner: default privileges have given some, and to whom is only known now.
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM {catalog} o, aclexplode(coalesce(o.{acl}, acldefault({kind}, o.{owner}))) a
                   WHERE o.oid = {oid} AND a.grantee <> o.{owner} LOOP
        EXECUTE {revoke} || grantee;
    END LOOP;
END
