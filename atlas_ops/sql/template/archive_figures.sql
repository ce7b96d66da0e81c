-- Rows of a table, a digest of their content, the ends of their key, the columns with a time that Parquet cannot hold, and how many rows are not of the
-- table's bound; in one read.
SELECT count(*) AS rows,
       coalesce(sum({content_hash}), 0) AS content,
       min({key})::text AS lowest,
       max({key})::text AS highest,
       {beyond} AS beyond,
       count(*) FILTER (WHERE ({inside}) IS NOT TRUE) AS outside
FROM {table} AS r
