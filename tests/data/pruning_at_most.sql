-- Statements of which less is read than is foreseen: a join's plan, a function's body or a constant condition decides. One a line.
SELECT * FROM {table} WHERE at >= mine()
SELECT * FROM {table} WHERE at IN (SELECT since FROM other WHERE other.id = 10)
SELECT * FROM {table} AS e JOIN other ON e.at >= other.since AND other.id = 10
SELECT * FROM {table} AS e JOIN other USING (at) WHERE other.id = 3
WITH l AS (SELECT timestamptz '2025-05-01 00:00+00' AS t) SELECT * FROM {table} WHERE at > (SELECT t FROM l)
SELECT * FROM other c WHERE EXISTS (SELECT FROM {table} e WHERE e.part = c.id AND e.at > '2025-05-01 00:00+00')
SELECT * FROM other c, LATERAL (SELECT * FROM {table} e WHERE e.part = c.id AND e.at >= c.since ORDER BY e.at DESC LIMIT 1) x
SELECT * FROM other c, LATERAL (SELECT * FROM {table} e WHERE e.part = c.id AND e.at >= '2025-05-01 00:00+00' ORDER BY e.at DESC LIMIT 1) x
SELECT * FROM {table} AS x(a, b, kk) WHERE kk > '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at = ANY('{}'::timestamptz[])
SELECT * FROM {table} WHERE at IN (VALUES (timestamptz '2025-05-01 00:00+00'))
SELECT * FROM {table} WHERE row(at) > row('2025-05-01 00:00+00'::timestamptz)
SELECT * FROM {table} e, other o WHERE e.at > (SELECT o2.since FROM other o2 WHERE o2.id = o.id) AND o.id = 4
SELECT * FROM {table} e JOIN (SELECT max(since) AS m FROM other) x ON e.at >= x.m
WITH p AS MATERIALIZED (SELECT %(t)s::timestamptz AS lo) SELECT count(*) FROM {table} e, p WHERE e.at >= p.lo
SELECT * FROM {table} WHERE at >= %(t)s AND (at < %(u)s OR %(n)s = 3)
SELECT * FROM {table} WHERE CASE WHEN %(n)s = 5 THEN at >= %(t)s ELSE true END
SELECT * FROM {table} WHERE at >= %(t)s LIMIT 0
SELECT * FROM (SELECT at FROM {table} UNION ALL SELECT at FROM {table} LIMIT 3) j WHERE j.at > %(t)s
SELECT * FROM other c LEFT JOIN {table} e USING (at) WHERE c.at = %(t)s
SELECT * FROM {table} WHERE at = '2025-05-01 00:00+00' AND at = %(d)s
SELECT * FROM {table} WHERE at = '2025-07-01 00:00+00' AND at = date '2025-05-01'
SELECT * FROM {table} WHERE at = '2025-07-01 00:00+00' AND at = now() - interval '500 days'
SELECT * FROM {table} WHERE at = '2025-07-01 00:00+00' AND at = (SELECT since FROM other WHERE id = 10)
SELECT * FROM {table} WHERE at = date '2025-05-01' AND at = now() - interval '500 days'
SELECT * FROM {table} WHERE at = date '2025-05-01' AND at = (SELECT since FROM other WHERE id = 10)
SELECT * FROM {table} WHERE at = '2025-07-01 00:00+00' AND at = %(t)s
