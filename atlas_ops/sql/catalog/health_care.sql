-- The tables under care of create_future_partitions().
SELECT t.schema_name AS schema, t.table_name AS name, t.every AS every, t.ahead AS ahead, t.ready AS ready
FROM atlas_ops.partitioned_table t
ORDER BY t.schema_name, t.table_name
