-- The schema of pg_buffercache where the current role may empty shared buffers with it: pg_buffercache_evict is there since
-- PostgreSQL 17, for superusers and whom they grant it to.
SELECT n.nspname::text AS schema
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_buffercache'
  AND to_regprocedure(quote_ident(n.nspname) || '.pg_buffercache_evict(integer)') IS NOT NULL
  AND has_function_privilege(to_regprocedure(quote_ident(n.nspname) || '.pg_buffercache_evict(integer)'), 'EXECUTE')
