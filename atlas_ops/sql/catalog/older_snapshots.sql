-- Who stands in the way of an exchange: transactions older than %(since)s that hold a snapshot, or a lock on one of the tables. No query text: it
-- may hold values. A worker of autovacuum gives way only after deadlock_timeout, which is longer than we wait.
SELECT a.pid AS pid, coalesce(a.usename::text, a.backend_type) AS role, coalesce(a.application_name, '') AS application,
       coalesce(a.state, '') AS state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds,
       (SELECT max(l.mode) FROM pg_locks l WHERE l.pid = a.pid AND l.relation = ANY (%(oids)s) AND l.granted) AS holds
FROM pg_stat_activity a
WHERE a.datname = current_database() AND NOT a.pid = ANY (%(ours)s)
  AND a.backend_type IN ('client backend', 'autovacuum worker') AND a.xact_start < %(since)s
  AND (a.backend_type = 'client backend' AND a.backend_xmin IS NOT NULL
       OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.relation = ANY (%(oids)s) AND l.granted
                    AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')))
ORDER BY a.xact_start
