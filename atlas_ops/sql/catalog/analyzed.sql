-- When a table was last analyzed; of a partitioned one that is its own ANALYZE, which autovacuum never does.
SELECT greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at FROM pg_stat_all_tables s WHERE s.relid = %(oid)s
