-- Which of our database objects are there, with the digest of the text they were made from; a lost one has no row here.
SELECT o.name AS name, o.digest AS digest
FROM atlas_ops.installed_object o
WHERE CASE WHEN strpos(o.name, '.') > 0 THEN to_regclass(o.name) IS NOT NULL OR to_regproc(o.name) IS NOT NULL
           ELSE to_regnamespace(o.name) IS NOT NULL END  -- before PostgreSQL 16 a dot is an error to to_regnamespace
ORDER BY o.name
