-- The schema of pg_buffercache where the current role may empty shared buffers with it: pg_buffercache_evict is there since PostgreSQL 17,
-- and serves superusers alone, whatever was granted.
SELECT n.nspname::text AS schema
FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace
JOIN pg_proc f ON f.pronamespace = n.oid AND f.proname = 'pg_buffercache_evict' AND f.pronargs = 1
WHERE e.extname = 'pg_buffercache' AND (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user)
