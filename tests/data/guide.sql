-- The SQL blocks of the guide, as they stand there.
-- block 1
-- Check partitions were created
SELECT schemaname, tablename 
FROM pg_tables 
WHERE tablename LIKE 'messages_%' OR tablename LIKE 'usage_logs_%'
ORDER BY tablename;

-- Check partition sizes
SELECT * FROM get_partition_sizes();
-- block 2
-- Check partition performance
SELECT * FROM partition_performance;

-- Get partition sizes
SELECT * FROM get_partition_sizes();

-- Check query performance
EXPLAIN (ANALYZE, BUFFERS) 
SELECT * FROM messages_partitioned 
WHERE created_at >= '2024-01-01' 
AND created_at < '2024-02-01';
-- block 3
-- Rollback: Switch back to original tables
-- (Application code change required)

-- Check data integrity
SELECT COUNT(*) FROM messages;
SELECT COUNT(*) FROM messages_partitioned;

-- Verify data matches
SELECT COUNT(*) FROM messages m
LEFT JOIN messages_partitioned mp ON m.id = mp.id
WHERE mp.id IS NULL;
