-- How many rows a table holds, and the digest of their content.
SELECT count(*) AS rows, coalesce(sum({content_hash}), 0) AS content FROM {table} AS r
