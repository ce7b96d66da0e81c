-- The statements of this database whose text says the name, those that took most time first, each beside what all of them took. A role that is not a
-- member of pg_read_all_stats sees the texts of its own only. Before version 1.8 of the extension total_exec_time was called total_time.
WITH seen AS MATERIALIZED (
    SELECT s.query, s.calls, s.rows, s.{total} AS total_ms FROM {view} AS s
    WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
), named AS (
    SELECT query, calls, rows, total_ms FROM seen
    WHERE strpos(lower(query), lower({needle})) > 0 AND length(query) <= {longest}
    ORDER BY total_ms DESC LIMIT {most}
)
SELECT t.statements, t.hidden, t.too_long, t.all_ms, {since} AS since, n.query, n.calls, n.rows, n.total_ms
FROM (SELECT count(*) AS statements, count(*) FILTER (WHERE query = '<insufficient privilege>') AS hidden, coalesce(sum(total_ms), 0) AS all_ms,
             count(*) FILTER (WHERE strpos(lower(query), lower({needle})) > 0 AND length(query) > {longest}) AS too_long
      FROM seen) AS t
LEFT JOIN named AS n ON true
ORDER BY n.total_ms DESC
