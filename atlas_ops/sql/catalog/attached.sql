-- The partitions of a table (%(oid)s) by their bounds. One whose detach is pending is left out: no query reads it any more.
SELECT c.relname::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bound
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = %(oid)s AND NOT i.inhdetachpending
ORDER BY c.relname
