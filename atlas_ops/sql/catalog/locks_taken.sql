-- How many locks this session holds on a table (%(table)s, qualified and quoted), its partitions and their indexes.
-- Up to 16 of a session's weak locks cost it alone (fast path; as many as max_locks_per_transaction since 18); every further one
-- is taken in the table of locks that all sessions share. Source: src/backend/storage/lmgr/README, "Fast Path Locking".
WITH set AS (
    SELECT to_regclass(%(table)s)::oid AS oid
    UNION
    SELECT relid FROM pg_partition_tree(to_regclass(%(table)s))
), whole AS (
    SELECT oid FROM set
    UNION
    SELECT i.indexrelid FROM pg_index i JOIN set ON set.oid = i.indrelid
)
SELECT count(DISTINCT l.relation)::int AS locks
FROM pg_locks l
JOIN whole ON whole.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
