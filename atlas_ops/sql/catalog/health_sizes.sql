-- Bytes on disk of the tables %(oids)s. Each of these functions opens its table: one that somebody holds, or waits for, with ACCESS EXCLUSIVE is left
-- out, and lock_timeout ends the wait for one that is locked in between.
SELECT c.oid::bigint AS oid, pg_relation_size(c.oid) AS heap_bytes, pg_indexes_size(c.oid) AS index_bytes,
       pg_table_size(c.oid) - pg_relation_size(c.oid) AS toast_bytes
FROM pg_class c
WHERE c.oid = ANY (%(oids)s)
  AND NOT EXISTS (SELECT FROM pg_locks l
                  WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                    AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                    AND (l.relation = c.oid OR l.relation IN (SELECT k.indexrelid FROM pg_index k WHERE k.indrelid = c.oid)))
