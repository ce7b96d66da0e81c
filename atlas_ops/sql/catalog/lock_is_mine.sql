-- Whether this very connection holds the advisory lock of a run on this database.
SELECT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid = pg_backend_pid()
      AND l.classid = (%(class)s::bigint & 4294967295)::oid AND l.objid = (%(object)s::bigint & 4294967295)::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS mine
