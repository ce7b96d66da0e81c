-- Since when the statistics of this database count, and when the partitioned table was last analyzed: autovacuum analyzes partitions only.
SELECT (SELECT d.stats_reset FROM pg_stat_database d WHERE d.datname = current_database()) AS statistics_since,
       pg_postmaster_start_time() AS server_started,
       (SELECT greatest(st.last_analyze, st.last_autoanalyze) FROM pg_stat_all_tables st WHERE st.relid = %(oid)s) AS whole_table_analyzed
