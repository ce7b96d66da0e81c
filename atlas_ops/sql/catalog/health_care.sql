-- The tables under care of create_future_partitions(). Columns that a registry of an older version lacks are NULL.
SELECT t.schema_name AS schema, t.table_name AS name, t.every AS every, t.ahead AS ahead, t.ready AS ready,
       (to_jsonb(t) ->> 'whole_at')::timestamptz AS whole_at, to_jsonb(t) ->> 'whole_by' AS whole_by
FROM atlas_ops.partitioned_table t
ORDER BY t.schema_name, t.table_name
