-- One part of one side: its rows, a digest of their keys and a digest of their whole content, in one read.
SELECT count(*) AS rows,
       coalesce(sum({key_hash}), 0) AS keys,
       coalesce(sum({content_hash}), 0) AS content
FROM {rows} AS r
