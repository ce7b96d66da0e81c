-- Empties the shared buffers of a table, its partitions and their indexes (TOAST too); the operating system's cache stays as it is.
WITH relations AS (
    SELECT {table}::regclass::oid AS oid UNION SELECT relid FROM pg_partition_tree({table}::regclass)
), whole AS (
    SELECT oid FROM relations
    UNION SELECT c.reltoastrelid FROM pg_class c JOIN relations r ON r.oid = c.oid WHERE c.reltoastrelid <> 0
), filenodes AS (
    SELECT pg_relation_filenode(oid) AS filenode FROM whole
    UNION SELECT pg_relation_filenode(i.indexrelid) FROM pg_index i JOIN whole w ON w.oid = i.indrelid
)
SELECT count({schema}.pg_buffercache_evict(b.bufferid))
FROM {schema}.pg_buffercache AS b
JOIN filenodes f ON f.filenode = b.relfilenode
WHERE b.reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
