-- How many others hold a lock on a table or one of its partitions; SERIALIZABLE's predicate locks block nobody.
SELECT count(*) AS holders
FROM pg_locks l
WHERE l.granted AND l.locktype = 'relation' AND l.mode <> 'SIReadLock' AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.relation = to_regclass(%(table)s) OR l.relation IN (SELECT t.relid FROM pg_partition_tree(to_regclass(%(table)s)) t))
