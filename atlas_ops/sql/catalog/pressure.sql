-- What a batch must not make worse: the lag of the replicas, WAL written so far, size of the database, age of the oldest snapshot.
-- NULL: there is none, or the role may not see it (pg_read_all_stats). Ours are told by their name.
SELECT (SELECT 1000 * extract(epoch FROM max(r.replay_lag)) FROM pg_stat_replication r)::float8 AS replica_lag_ms,
       (pg_current_wal_insert_lsn() - '0/0')::float8 AS wal_bytes,
       pg_database_size(current_database())::float8 AS database_bytes,
       (SELECT 1000 * extract(epoch FROM clock_timestamp() - min(a.xact_start)) FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.backend_xmin IS NOT NULL AND a.backend_type = 'client backend'
          AND NOT starts_with(a.application_name, 'atlas_ops'))::float8 AS snapshot_age_ms,
       extract(epoch FROM clock_timestamp())::float8 AS at
