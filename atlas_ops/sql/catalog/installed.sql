-- Which of our database objects are there, with the digest of the text they were made from; a lost one has no row here.
SELECT o.name AS name, o.digest AS digest
FROM atlas_ops.installed_object o
WHERE to_regclass(o.name) IS NOT NULL OR to_regproc(o.name) IS NOT NULL OR to_regnamespace(o.name) IS NOT NULL
ORDER BY o.name
