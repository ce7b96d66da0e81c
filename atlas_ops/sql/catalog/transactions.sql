-- Transactions older than %(seconds)s seconds, and whoever holds a lock on the table; no query text, it may hold values.
SELECT a.pid AS pid, coalesce(a.usename::text, a.backend_type) AS role, a.application_name AS application,
       coalesce(a.state, '') AS state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8 AS seconds,
       (SELECT l.mode FROM pg_locks l WHERE l.pid = a.pid AND l.relation = %(oid)s AND l.granted
        ORDER BY array_position(ARRAY['AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock',
                                      'ShareUpdateExclusiveLock', 'RowExclusiveLock', 'RowShareLock', 'AccessShareLock'], l.mode)
        LIMIT 1) AS holds
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
  AND clock_timestamp() - a.xact_start > make_interval(secs => %(seconds)s)
ORDER BY a.xact_start
