-- Who holds the advisory lock of a run on this database.
SELECT l.pid AS pid, coalesce(a.usename::text, '?') AS role, coalesce(a.application_name, '?') AS application,
       coalesce(extract(epoch FROM clock_timestamp() - a.backend_start), 0)::float8 AS seconds
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.classid = (%(class)s::bigint & 4294967295)::oid AND l.objid = (%(object)s::bigint & 4294967295)::oid
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
