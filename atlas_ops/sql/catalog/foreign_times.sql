-- Foreign keys of one column out of a table, each with every column of the referenced table that says when its row came to be, or may: of a type of time.
SELECT a.attname::text AS "column", n.nspname::text AS "schema", r.relname::text AS "table", k.attname::text AS referenced,
       t.attname::text AS "time", format_type(t.atttypid, t.atttypmod) AS "type"
FROM pg_constraint c
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
JOIN pg_class r ON r.oid = c.confrelid
JOIN pg_namespace n ON n.oid = r.relnamespace
JOIN pg_attribute k ON k.attrelid = c.confrelid AND k.attnum = c.confkey[1]
LEFT JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attnum > 0 AND NOT t.attisdropped
                        AND t.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
WHERE c.conrelid = %(oid)s AND c.contype = 'f' AND cardinality(c.conkey) = 1
ORDER BY c.conname, t.attnum
