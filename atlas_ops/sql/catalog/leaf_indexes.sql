-- The leaf partitions of a table (%(table)s, qualified and quoted) with their valid indexes, a row an index (and one for a partition that
-- has none), and the index of the partitioned table that each is part of. The tail of a definition starts at USING: what stands before
-- it names the partition.
SELECT c.relname::text AS leaf, x.relname::text AS name, parent.relname::text AS parent,
       substr(pg_get_indexdef(i.indexrelid), length('CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'INDEX '
           || quote_ident(x.relname) || ' ON ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' ') + 1) AS tail
FROM pg_partition_tree(to_regclass(%(table)s)) AS t
JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid
LEFT JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
LEFT JOIN pg_class parent ON parent.oid = h.inhparent
WHERE t.isleaf AND t.level > 0
ORDER BY c.relname, x.relname
