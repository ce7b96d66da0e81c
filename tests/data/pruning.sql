-- Statements on the tables of tests/database/prune.py: what is foreseen is what the server does. One a line.
SELECT * FROM {table} WHERE at >= '2024-05-01 00:00+00' AND at < '2024-06-01 00:00+00'
SELECT * FROM {table} WHERE at >= %(t)s AND at < %(u)s
SELECT * FROM {table} WHERE at >= date '2024-05-01'
SELECT * FROM {table} WHERE at >= %(d)s
SELECT * FROM {table} WHERE at >= %(l)s
SELECT * FROM {table} WHERE at >= timestamp '2024-05-01'
SELECT * FROM {table} WHERE at = ANY(ARRAY[timestamptz '2024-05-01 00:00+00', '2025-05-01 00:00+00'])
SELECT * FROM {table} WHERE at = ANY(ARRAY[date '2024-05-01', '2025-05-01'])
SELECT * FROM {table} WHERE at = ANY(%(ts)s)
SELECT * FROM {table} WHERE at = ANY(%(ds)s)
SELECT * FROM {table} WHERE at > ANY(%(ts)s)
SELECT * FROM {table} WHERE at > ALL(%(ts)s)
SELECT * FROM {table} WHERE at <= ALL(%(ts)s)
SELECT * FROM {table} WHERE at IN ('2024-05-01 00:00+00', '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at IN (%(t)s, %(u)s)
SELECT * FROM {table} WHERE at IN (date '2024-05-01', timestamptz '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at IN (now() - interval '900 days', '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at <> '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE NOT at > '2024-05-01 00:00+00'
SELECT * FROM {table} WHERE NOT (at > '2024-05-01 00:00+00' AND at < '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at NOT BETWEEN '2024-05-01 00:00+00' AND '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at BETWEEN SYMMETRIC '2024-05-01 00:00+00' AND '2024-03-01 00:00+00'
SELECT * FROM {table} WHERE at IS NULL
SELECT * FROM {table} WHERE at IS NOT NULL
SELECT * FROM {table} WHERE at IS NOT DISTINCT FROM '2024-05-01 00:00+00'
SELECT * FROM {table} WHERE (at > '2025-05-01 00:00+00') IS TRUE
SELECT * FROM {table} WHERE (at > '2025-05-01 00:00+00') = true
SELECT * FROM {table} WHERE (at, id) > ('2025-05-01 00:00+00', 5)
SELECT * FROM {table} WHERE (at, id) = ('2025-05-01 00:00+00', 5)
SELECT * FROM {table} WHERE (at, id) IN (('2025-05-01 00:00+00', 5), ('2024-05-01 00:00+00', 5))
SELECT * FROM {table} WHERE at <@ tstzrange('2025-05-01 00:00+00','2025-06-01 00:00+00')
SELECT * FROM {table} WHERE at <@ tstzrange(%(t)s, %(u)s)
SELECT * FROM {table} WHERE at <@ tstzrange(%(t)s, NULL)
SELECT * FROM {table} WHERE at <@ tstzrange(now() - interval '500 days', NULL)
SELECT * FROM {table} WHERE tstzrange('2025-05-01 00:00+00','2025-06-01 00:00+00') @> at
SELECT * FROM {table} WHERE (at, at) OVERLAPS (timestamptz '2025-05-01 00:00+00', timestamptz '2025-06-01 00:00+00')
SELECT * FROM {table} WHERE at > '2024-05-10 00:00+00' AND at < '2024-05-05 00:00+00'
SELECT * FROM {table} WHERE at > '2024-05-10 00:00+00' AND at < '2024-03-05 00:00+00'
SELECT * FROM {table} WHERE at > NULL
SELECT * FROM {table} WHERE at > %(nul)s
SELECT * FROM {table} WHERE at > %(nul)s OR at > '2025-10-01 00:00+00'
SELECT * FROM {table} WHERE at > NULL::timestamptz OR at > '2025-10-01 00:00+00'
SELECT * FROM {table} WHERE false
SELECT * FROM {table} WHERE at = '2024-05-10 00:00+00' OR id = 5
SELECT * FROM {table} WHERE at = '2024-05-10 00:00+00' OR at = '2025-05-10 00:00+00' AND id = 5
SELECT * FROM {table} WHERE at = '2024-05-10 00:00+00' OR at > now()
SELECT * FROM {table} WHERE at >= now() - interval '500 days'
SELECT * FROM {table} WHERE at >= current_date - 600
SELECT * FROM {table} WHERE at >= date_trunc('month', timestamptz '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at >= date_trunc('month', %(u)s)
SELECT * FROM {table} WHERE at >= date_trunc('month', timestamptz '2025-05-01 00:00+00', 'UTC')
SELECT * FROM {table} WHERE at >= timestamptz '2025-05-01 00:00+00' - interval '1 day'
SELECT * FROM {table} WHERE at >= %(t)s - %(i)s
SELECT * FROM {table} WHERE at >= (timestamp '2025-05-01 00:00' AT TIME ZONE 'UTC')
SELECT * FROM {table} WHERE at >= to_timestamp(1746057600)
SELECT * FROM {table} WHERE at >= make_timestamptz(2025,5,1,0,0,0)
SELECT * FROM {table} WHERE at >= make_timestamptz(2025,5,1,0,0,0,'UTC')
SELECT * FROM {table} WHERE at >= '2025-05-01'::text::timestamptz
SELECT * FROM {table} WHERE at >= clock_timestamp() - interval '500 days'
SELECT * FROM {table} WHERE at >= (SELECT clock_timestamp() - interval '600 days')
SELECT * FROM {table} WHERE at >= (SELECT max(since) FROM other WHERE since < '2025-02-01')
SELECT * FROM {table} WHERE at >= (SELECT since FROM other WHERE other.id = {table}.part)
SELECT * FROM {table} AS e WHERE at >= (SELECT since FROM other WHERE other.id = e.part)
SELECT * FROM {table} WHERE at >= coalesce((SELECT since FROM other WHERE other.id = 10), '-infinity')
SELECT * FROM {table} WHERE at = ANY(ARRAY(SELECT since FROM other WHERE other.id = 10))
SELECT * FROM {table} WHERE at = ANY(ARRAY[(SELECT since FROM other WHERE other.id = 10)])
SELECT * FROM {table} WHERE at::timestamptz >= '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at::timestamptz(3) >= '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at::date = '2025-05-01'
SELECT * FROM {table} WHERE at::date = %(d)s
SELECT * FROM {table} WHERE date_trunc('month',at) = '2025-05-01'
SELECT * FROM {table} WHERE at AT TIME ZONE 'UTC' >= '2025-05-01'
SELECT * FROM {table} WHERE at + interval '1 day' >= '2025-05-01'
SELECT * FROM {table} WHERE coalesce(at, now()) >= '2025-05-01'
SELECT * FROM {table} WHERE at >= greatest(timestamptz '2025-05-01', '2025-07-01')
SELECT * FROM {table} WHERE at >= 'now'
SELECT * FROM {table} WHERE at >= '-infinity'
SELECT * FROM {table} WHERE at >= 'infinity'
SELECT * FROM ONLY {table} WHERE at >= '2025-05-01'
SELECT at FROM {table} GROUP BY at HAVING at > '2025-05-01 00:00+00'
SELECT part FROM {table} GROUP BY part HAVING max(at) > '2025-05-01 00:00+00'
SELECT at FROM {table} GROUP BY at HAVING at > '2025-05-01 00:00+00' AND count(*) > 0
SELECT at FROM {table} GROUP BY at HAVING at > '2025-05-01 00:00+00' OR count(*) > 0
SELECT at FROM {table} GROUP BY ROLLUP (at) HAVING at > '2025-05-01 00:00+00'
SELECT * FROM {table} AS e JOIN other USING (at) WHERE at = '2025-05-01 00:00+00'
SELECT * FROM other JOIN {table} USING (at) WHERE at > '2025-05-01 00:00+00'
SELECT * FROM {table} AS e JOIN other USING (at) WHERE at > '2025-05-01 00:00+00'
SELECT * FROM {table} NATURAL JOIN other
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id AND e.at > '2025-05-01 00:00+00'
SELECT * FROM {table} e LEFT JOIN other c ON e.part=c.id AND e.at > '2025-05-01 00:00+00'
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id WHERE e.at > '2025-05-01 00:00+00'
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id WHERE e.at > '2025-05-01 00:00+00' OR e.at < '2024-02-01 00:00+00'
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id WHERE e.at > '2025-05-01 00:00+00' OR e.at IS NULL
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id WHERE e.at IS NULL
SELECT * FROM other c FULL JOIN {table} e ON e.part=c.id WHERE e.at > '2025-05-01 00:00+00'
SELECT * FROM other c FULL JOIN {table} e ON e.part=c.id AND e.at > '2025-05-01 00:00+00'
SELECT * FROM other c RIGHT JOIN {table} e ON e.part=c.id AND e.at > '2025-05-01 00:00+00'
SELECT * FROM {table} e RIGHT JOIN other c ON e.part=c.id AND e.at > '2025-05-01 00:00+00'
SELECT * FROM other c JOIN (other c2 LEFT JOIN {table} e ON e.part=c2.id AND e.at > '2025-05-01 00:00+00') ON c.id = c2.id
SELECT * FROM (other c JOIN {table} e ON e.part=c.id) WHERE e.at > '2025-05-01 00:00+00'
SELECT * FROM (({table} e JOIN other c ON e.part=c.id) LEFT JOIN other d ON d.id = c.id) WHERE e.at > '2025-05-01 00:00+00'
SELECT * FROM (other c JOIN {table} e ON e.part=c.id) AS j WHERE j.note = 'x'
SELECT * FROM (SELECT * FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM ((SELECT * FROM {table})) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at AS t FROM {table}) s WHERE t > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at AS t FROM {table}) s(u) WHERE u > '2025-05-01 00:00+00'
SELECT * FROM (SELECT * FROM (SELECT at AS t FROM {table}) q) s WHERE t > '2025-05-01 00:00+00'
SELECT * FROM (SELECT * FROM {table} LIMIT 100000) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT * FROM {table} OFFSET 0) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT * FROM {table} ORDER BY id) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT DISTINCT at, id FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT DISTINCT ON (part) * FROM {table} ORDER BY part, at) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT DISTINCT ON (at) * FROM {table} ORDER BY at) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at, count(*) n FROM {table} GROUP BY at) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at, count(*) n FROM {table} GROUP BY 1) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT max(at) at, count(*) n FROM {table} GROUP BY part) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at, row_number() OVER (ORDER BY at) FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at, row_number() OVER (PARTITION BY at) FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at, row_number() OVER (PARTITION BY part ORDER BY at) FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at, random() r FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at FROM {table} UNION ALL SELECT since FROM other) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at FROM {table} UNION SELECT since FROM other) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at FROM {table} EXCEPT SELECT since FROM other) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT since AS at FROM other EXCEPT SELECT at FROM {table}) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT at FROM {table} INTERSECT SELECT since FROM other) s WHERE at > '2025-05-01 00:00+00'
SELECT * FROM (SELECT since AS q FROM other UNION ALL SELECT at FROM {table}) s WHERE q > '2025-05-01 00:00+00'
SELECT * FROM (SELECT * FROM {table} FOR UPDATE) s WHERE at > '2025-05-01 00:00+00'
WITH x AS (SELECT * FROM {table}) SELECT * FROM x WHERE at > '2025-05-01 00:00+00'
WITH x AS MATERIALIZED (SELECT * FROM {table}) SELECT * FROM x WHERE at > '2025-05-01 00:00+00'
WITH x AS (SELECT * FROM {table}) SELECT * FROM x, x y WHERE x.at > '2025-05-01 00:00+00' AND y.at > '2025-05-01 00:00+00' AND x.id=y.id
WITH x AS (SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00') SELECT * FROM x, x y WHERE x.id=y.id
WITH x AS (SELECT * FROM {table}), y AS (SELECT * FROM x) SELECT * FROM y WHERE at > '2025-05-01 00:00+00'
WITH x AS (SELECT *, random() FROM {table}) SELECT * FROM x WHERE at > '2025-05-01 00:00+00'
WITH RECURSIVE x AS (SELECT * FROM {table}) SELECT * FROM x WHERE at > '2025-05-01 00:00+00'
WITH x AS (SELECT * FROM {table}) SELECT 1
WITH l AS (SELECT timestamptz '2025-05-01 00:00+00' AS t) SELECT * FROM {table}, l WHERE at > l.t
SELECT * FROM {table}, (VALUES (timestamptz '2025-05-01 00:00+00')) v(t) WHERE at > t
SELECT * FROM {table}, (SELECT now() - interval '500 days' AS t) v WHERE at > t
SELECT * FROM {table} e WHERE EXISTS (SELECT FROM other c WHERE e.part = c.id AND e.at > '2025-05-01 00:00+00')
SELECT * FROM {table} e WHERE EXISTS (SELECT FROM other c WHERE e.part = c.id OR e.at > '2025-05-01 00:00+00')
SELECT * FROM {table} e WHERE NOT EXISTS (SELECT FROM other c WHERE e.part = c.id AND e.at > '2025-05-01 00:00+00')
SELECT (SELECT count(*) FROM {table} e WHERE e.part = c.id AND e.at > '2025-05-01 00:00+00') FROM other c
SELECT (SELECT count(*) FROM {table} e WHERE e.part = c.id AND e.at > c.since) FROM other c
SELECT * FROM other c JOIN LATERAL (SELECT * FROM {table} e WHERE e.part = c.id) x ON x.at > '2025-05-01 00:00+00'
SELECT * FROM {table} a JOIN {table} b ON a.at = b.at WHERE a.at = '2025-05-01 00:00+00'
SELECT * FROM {table} a JOIN {table} b ON a.at = b.at WHERE a.at > '2025-05-01 00:00+00'
SELECT * FROM {table} a JOIN {table} b ON a.id = b.id WHERE a.at > '2025-05-01 00:00+00'
SELECT * FROM {table} e JOIN other c ON e.at = c.since WHERE c.since = '2025-05-01 00:00+00'
UPDATE {table} SET note = 'y' WHERE at > '2025-05-01 00:00+00'
UPDATE {table} AS e SET note = 'y' FROM other c WHERE c.id = e.part AND e.at > '2025-05-01 00:00+00'
UPDATE {table} SET note = 'y' WHERE at > now() - interval '500 days'
UPDATE {table} SET note = 'y' WHERE at = (SELECT since FROM other WHERE id = 10)
UPDATE {table} SET at = at + interval '1 month' WHERE at = '2025-05-01 00:00+00'
UPDATE {table} AS e SET note = 'y' FROM other b LEFT JOIN other c ON true WHERE c.id = e.part AND e.at > %(t)s
DELETE FROM {table} AS e USING other c WHERE c.id = e.part AND e.at > '2025-05-01 00:00+00'
DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE at > '2025-11-01 00:00+00')
INSERT INTO {table} (id, at) VALUES (1, '2025-05-01 00:20+00')
INSERT INTO {table} (id, at) SELECT id + 100000, at FROM {table} WHERE at > '2025-05-01 00:00+00'
INSERT INTO other SELECT id + 100000, at FROM {table} WHERE at > '2025-05-01 00:00+00'
MERGE INTO {table} AS e USING other AS c ON e.id = c.id AND e.at > '2025-05-01 00:00+00' WHEN MATCHED THEN UPDATE SET note='z'
MERGE INTO {table} AS e USING other AS c ON e.id = c.id AND e.at > '2025-05-01 00:00+00' WHEN MATCHED THEN UPDATE SET note='z' WHEN NOT MATCHED THEN INSERT (id, at) VALUES (c.id, '2025-05-01 00:20+00')
MERGE INTO other AS c USING {table} AS e ON e.id = c.id AND e.at > '2025-05-01 00:00+00' WHEN MATCHED THEN UPDATE SET x=1
MERGE INTO other AS c USING {table} AS e ON e.id = c.id AND e.at > '2025-05-01 00:00+00' WHEN NOT MATCHED THEN DO NOTHING
SELECT * FROM {table} WHERE (id = 3 AND at > '2025-05-01 00:00+00') OR (id = 4 AND at > '2025-10-01 00:00+00')
SELECT * FROM {table} WHERE (id = 3 OR at > '2025-05-01 00:00+00') AND (id = 3 OR at < '2025-07-01 00:00+00')
SELECT * FROM {table} WHERE at BETWEEN (SELECT min(since) FROM other) AND (SELECT since FROM other WHERE id=3)
SELECT * FROM {table} WHERE at > (SELECT since FROM other WHERE id=20) OR at < now() - interval '1060 days'
SELECT * FROM {table} WHERE at > '2025-10-01 00:00+00' OR at < now() - interval '1060 days'
SELECT * FROM {table} WHERE at > '2025-10-01 00:00+00' AND at < now() - interval '400 days'
SELECT * FROM {table} WHERE at IN ('2025-05-01 00:00+00', NULL)
SELECT * FROM {table} WHERE at NOT IN ('2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at > ALL(SELECT since FROM other WHERE id < 20)
SELECT * FROM {table} WHERE at > ANY(SELECT since FROM other WHERE id > 20)
SELECT * FROM {table} WHERE (at > '2025-05-01 00:00+00') IS NOT FALSE
SELECT * FROM {table} WHERE true AND at > '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE false OR at > '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE NULL OR at > '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE ('2025-05-01 00:00+00' < at)
SELECT * FROM {table} WHERE at OPERATOR(pg_catalog.>=) '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at > CASE WHEN id > 3 THEN timestamptz '2025-05-01 00:00+00' ELSE '2025-06-01' END
SELECT * FROM {table} WHERE at > CASE WHEN now() > '2000-01-01' THEN timestamptz '2025-05-01 00:00+00' ELSE '2025-06-01' END
SELECT * FROM {table} WHERE at > CASE WHEN 1 > 2 THEN timestamptz '2025-05-01 00:00+00' ELSE '2025-06-01' END
SELECT * FROM {table} WHERE at > $$2025-05-01 00:00+00$$
SELECT * FROM {table} WHERE at > E'2025-05-01 00:00+00'
SELECT * FROM {table} WHERE {table}.at > '2025-05-01 00:00+00'
SELECT * FROM {table} AS "E" WHERE "E".at > '2025-05-01 00:00+00'
SELECT * FROM {table} AS e WHERE E.AT > '2025-05-01 00:00+00'
SELECT e.at FROM {table} e WHERE "at" > '2025-05-01 00:00+00' AND AT < '2025-07-01'
SELECT * FROM {table} x WHERE (x).at > '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00' AND id = 3 UNION ALL SELECT * FROM {table} WHERE at < '2024-03-01 00:00+00'
SELECT * FROM {table} WHERE at >= now() AND false
SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00' AND random() < 0.5
SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00' AND at IS NOT NULL
SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00' AND at = at
SELECT * FROM {table} WHERE at = at
SELECT * FROM {table} WHERE NOT (id = 3 OR at <= '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE NOT (at = '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE NOT (at <> '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE NOT (at NOT IN ('2025-05-01 00:00+00'))
SELECT * FROM {table} WHERE NOT (at <> ALL(ARRAY[timestamptz '2025-05-01 00:00+00']))
SELECT * FROM {table} WHERE NOT (at > ANY(ARRAY[timestamptz '2025-05-01 00:00+00', '2025-08-01 00:00+00']))
SELECT * FROM {table} WHERE NOT (at NOT BETWEEN '2025-05-01 00:00+00' AND '2025-06-01 00:00+00')
SELECT * FROM {table} WHERE NOT NOT at > '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE (at > '2025-05-01 00:00+00') = false
SELECT * FROM {table} WHERE (at > '2025-05-01 00:00+00') <> true
SELECT * FROM {table} WHERE at = ANY('{{2025-05-01 00:00+00,2024-05-01 00:00+00}}')
SELECT * FROM {table} WHERE at = ANY('{2025-05-01 00:00+00,2024-05-01 00:00+00}')
SELECT * FROM {table} WHERE at = ANY('{2025-05-01 00:00+00,2024-05-01 00:00+00}'::timestamptz[])
SELECT * FROM {table} WHERE at = ANY('{2025-05-01 00:00+00,2024-05-01 00:00+00}'::date[])
SELECT * FROM {table} WHERE at = ANY(string_to_array('2025-05-01 00:00+00,2024-05-01 00:00+00', ',')::timestamptz[])
SELECT * FROM {table} WHERE at = ANY(NULL::timestamptz[])
SELECT * FROM {table} WHERE at > ALL('{}'::timestamptz[])
SELECT * FROM {table} WHERE at > ALL(NULL::timestamptz[])
SELECT * FROM {table} WHERE at > SOME(ARRAY[timestamptz '2025-05-01 00:00+00'])
SELECT * FROM {table} WHERE extract(year from at) = 2025
SELECT * FROM {table} WHERE to_char(at, 'YYYY-MM') = '2025-05'
SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00' AND at < '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at > '2025-05-01 00:00+00' AND at = '2025-05-01 00:00+00'
SELECT * FROM {table} WHERE at >= now() - interval '500 days' AND at < now() - interval '510 days'
SELECT * FROM {table} WHERE at >= now() - interval '500 days' AND at < now() - interval '550 days'
SELECT * FROM {table} WHERE at <= '2024-05-01 00:00+00'
SELECT * FROM {table} WHERE at < '2024-05-01 00:00+00'
SELECT * FROM {table} WHERE at < '2024-05-01 00:00+00' OR at IS NULL
SELECT * FROM {table} WHERE (id, at) > (5, '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE (at) IN ('2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at - timestamptz '2025-05-01 00:00+00' > interval '0'
SELECT * FROM {table} WHERE now() - at < interval '500 days'
SELECT * FROM {table} WHERE at::text LIKE '2025-05%'
SELECT * FROM {table} WHERE at >= timestamptz '2025-05-01 00:00+00' AT TIME ZONE 'UTC'
SELECT * FROM {table} WHERE at >= '2025-05-01 00:00' AT TIME ZONE 'UTC'
SELECT * FROM {table} WHERE at >= localtimestamp - interval '500 days'
SELECT * FROM {table} WHERE at >= 'today'::timestamptz - interval '500 days'
SELECT * FROM {table} WHERE at >= cast('2025-05-01 00:00' as timestamptz(0))
SELECT * FROM {table} WHERE at >= nullif(timestamptz '2025-05-01 00:00+00', '2025-06-01 00:00+00')
SELECT * FROM {table} WHERE at >= coalesce(NULL, timestamptz '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at >= lower(tstzrange('2025-05-01 00:00+00', NULL))
SELECT * FROM {table} WHERE at >= to_timestamp('2025-05-01', 'YYYY-MM-DD')
SELECT * FROM {table} WHERE at >= to_date('2025-05-01', 'YYYY-MM-DD')
SELECT * FROM {table} WHERE at >= date_bin('1 day', timestamptz '2025-05-01 00:00+00', timestamptz '2001-01-01')
SELECT * FROM {table} WHERE at >= (('{"at":"2025-05-01 00:00+00"}'::jsonb) ->> 'at')::timestamptz
SELECT * FROM {table} WHERE at >= to_timestamp(('x' || lpad(left(replace('0196894b-7000-7000-8000-000000000000'::uuid::text,'-',''),12),16,'0'))::bit(64)::bigint / 1000.0 - 3600)
SELECT * FROM {table} TABLESAMPLE SYSTEM (50) WHERE at > '2025-05-01 00:00+00'
SELECT * FROM {table}* WHERE at > '2025-05-01 00:00+00'
TABLE {table}
SELECT id FROM {table} WHERE at > '2025-05-01 00:00+00' FOR SHARE
SELECT id FROM {table} e WHERE at > '2025-05-01 00:00+00' FOR SHARE OF e
VALUES ((SELECT count(*) FROM {table} WHERE at > '2025-05-01 00:00+00'))
SELECT 1 IN (SELECT id FROM {table} WHERE at > '2025-05-01 00:00+00')
SELECT * FROM {table} WHERE at > %(t)s AND id > %(n)s
SELECT * FROM {table} e WHERE e."Odd Key" = %(n)s AND e."at" >= %(t)s
SELECT * FROM {table} WHERE at BETWEEN %(t)s AND %(t)s + interval '1 month'
SELECT * FROM {table} WHERE at >= make_date(2025, 5, 1)
SELECT * FROM {table} WHERE at >= %(t)s::timestamptz AND at < %(t)s::timestamptz + '1 month'
SELECT * FROM {table} e WHERE at > (SELECT o.since FROM other o WHERE o.id = 20)
WITH gone AS (DELETE FROM {table} WHERE at < %(t)s RETURNING *) SELECT count(*) FROM gone
WITH gone AS (DELETE FROM {table} WHERE at < %(t)s RETURNING *) SELECT count(*) FROM gone WHERE at > %(t)s
WITH latest AS (SELECT * FROM {table} WHERE at >= %(t)s ORDER BY at DESC), f AS (SELECT * FROM latest WHERE at < %(u)s) SELECT count(*) FROM f
SELECT count(*) FROM (SELECT * FROM {table} WHERE at >= %(t)s UNION ALL SELECT * FROM {table} WHERE at < '2024-02-01') x
SELECT count(*) FROM (SELECT * FROM {table} UNION ALL SELECT * FROM {table} WHERE part = 3) x WHERE at > %(t)s
SELECT o.id, count(e.*) FROM other o LEFT JOIN {table} e ON e.part = o.id AND e.at >= %(t)s GROUP BY o.id
SELECT count(*) FROM {table} WHERE at >= %(t)s AND part = 3 GROUP BY part HAVING count(*) > 3
SELECT * FROM {table} e JOIN (SELECT timestamptz '2025-05-01 00:00+00' AS m) x ON e.at >= x.m
SELECT * FROM {table} e LEFT JOIN (SELECT timestamptz '2025-05-01 00:00+00' AS m) x ON e.at >= x.m
SELECT * FROM (SELECT timestamptz '2025-05-01 00:00+00' AS m) x LEFT JOIN {table} e ON e.at >= x.m
WITH p AS (SELECT %(t)s::timestamptz AS lo, %(u)s::timestamptz AS hi) SELECT count(*) FROM {table}, p WHERE at >= lo AND at < hi
WITH p AS (SELECT %(t)s::timestamptz AS lo, %(u)s::timestamptz AS hi) SELECT count(*) FROM {table} e CROSS JOIN p WHERE e.at BETWEEN p.lo AND p.hi
WITH p(lo) AS (SELECT %(t)s::timestamptz) SELECT count(*) FROM {table} e CROSS JOIN p WHERE e.at >= p.lo
SELECT * FROM {table} WHERE at > %(t)s ORDER BY at DESC
SELECT DISTINCT ON (part) * FROM {table} WHERE at > %(t)s ORDER BY part, at DESC
SELECT * FROM {table} e WHERE e.at > %(t)s AND EXISTS (SELECT 1 FROM {table} f WHERE f.id = e.id AND f.at > %(u)s)
SELECT * FROM {table} e WHERE e.at > %(t)s AND e.at IN (SELECT f.at FROM {table} f WHERE f.at > %(u)s)
SELECT * FROM {table} e JOIN {table} f ON f.part = e.part AND f.at BETWEEN e.at AND e.at + interval '1 day' WHERE e.at > %(u)s AND f.at > %(u)s
SELECT date_trunc('month', at) AS month, count(*) FROM {table} WHERE at >= '2025-03-01 00:00+00' AND at < '2025-04-01 00:00+00' GROUP BY 1
SELECT * FROM {table} WHERE (at >= %(t)s) AND NOT (at >= %(u)s)
SELECT * FROM {table} WHERE (%(nul)s IS NULL OR at >= %(nul)s)
SELECT * FROM {table} WHERE (%(nul)s::timestamptz IS NULL OR at >= %(nul)s) AND at < '2024-05-01 00:00+00'
SELECT * FROM {table} WHERE at >= coalesce(%(nul)s, %(t)s)
SELECT * FROM {table} WHERE at >= coalesce(%(nul)s, '-infinity') AND at < coalesce(%(u)s, 'infinity')
SELECT * FROM {table} WHERE at >= (%(t)s AT TIME ZONE 'UTC')::date
SELECT * FROM {table} WHERE at >= %(t)s::date
SELECT * FROM {table} WHERE at >= %(t)s::timestamp
DELETE FROM {table} WHERE at < now() - interval '700 days'
DELETE FROM {table} WHERE id = %(n)s
UPDATE {table} SET note = 'x' WHERE id = %(n)s AND at = %(t)s
UPDATE {table} SET note = 'x' WHERE (id, at) = (%(n)s, %(t)s)
SELECT * FROM {table} WHERE id = %(n)s AND at = %(t)s FOR UPDATE
INSERT INTO {table} (id, at, part) SELECT 99999, %(t)s, 3 WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = 99999 AND at = %(t)s)
WITH s AS (SELECT * FROM {table} WHERE id = 5) INSERT INTO {table} (id, at) SELECT id + 99999, at FROM s
SELECT * FROM {table} WHERE at > now() - interval '2 years' AND at < now() AND at > %(t)s
SELECT * FROM {table} WHERE at = (%(t)s)
SELECT * FROM {table} WHERE (((at))) >= ((%(t)s))
SELECT * FROM {table} WHERE at >= '2025-05-01 00:00+00'::timestamptz::timestamptz
SELECT * FROM {table} WHERE cast(at AS timestamp with time zone) >= %(t)s
SELECT * FROM {table} WHERE at >= %(t)s - interval '1' day
SELECT * FROM {table} WHERE at >= %(t)s - '1 day'::interval
SELECT * FROM {table} WHERE at >= %(t)s - make_interval(days => 3)
SELECT * FROM {table} WHERE at - interval '1 day' >= %(t)s AND at < %(u)s
SELECT * FROM {table} WHERE at < ALL (ARRAY[%(t)s, %(u)s, now()])
SELECT * FROM {table} WHERE at > ANY (ARRAY[%(t)s, %(d)s])
SELECT * FROM {table} WHERE 5 = ANY(ARRAY[id]) AND at > %(t)s
SELECT count(*) FILTER (WHERE at > %(t)s) FROM {table}
SELECT count(*) FILTER (WHERE at > %(t)s) FROM {table} WHERE at < %(u)s
SELECT sum(1) OVER (ORDER BY at) FROM {table} WHERE at < %(t)s
SELECT * FROM {table} WHERE at >= date_trunc('day', now() AT TIME ZONE 'UTC') - interval '800 days'
SELECT * FROM {table} WHERE at >= date_trunc('day', now() AT TIME ZONE 'Europe/Berlin') AT TIME ZONE 'Europe/Berlin' - interval '800 days'
SELECT * FROM other o JOIN LATERAL (SELECT * FROM {table} e WHERE e.part = o.id AND e.at > %(t)s) x ON true
SELECT * FROM other o LEFT JOIN LATERAL (SELECT * FROM {table} e WHERE e.part = o.id) x ON x.at > %(t)s
SELECT * FROM (SELECT e.*, o.since FROM {table} e JOIN other o ON o.id = e.part) j WHERE j.at > %(t)s
SELECT * FROM (SELECT e.id, e.at AS happened FROM {table} e JOIN other o ON o.id = e.part) j WHERE j.happened > %(t)s
SELECT * FROM (SELECT at + interval '0' AS at FROM {table}) j WHERE j.at > %(t)s
SELECT * FROM (SELECT min(at) OVER () AS at FROM {table}) j WHERE j.at > %(t)s
SELECT * FROM (SELECT DISTINCT part, at FROM {table} WHERE id > 0) j WHERE j.at > %(t)s
SELECT * FROM (SELECT at, part, count(*) FROM {table} GROUP BY CUBE(at, part)) j WHERE j.at > %(t)s
SELECT * FROM (SELECT at, part, count(*) FROM {table} GROUP BY part, at HAVING count(*) > 0) j WHERE j.at > %(t)s
SELECT * FROM {table} WHERE at > %(t)s UNION SELECT * FROM {table} WHERE at = %(u)s
(SELECT * FROM {table} WHERE at > %(t)s)
(SELECT * FROM {table} WHERE at > %(t)s) UNION ALL (SELECT * FROM {table} WHERE at < '2024-02-05')
SELECT * FROM other c FULL JOIN {table} e ON e.part=c.id WHERE e.at > %(t)s AND c.id = 3
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id JOIN other d ON d.id = e.id AND e.at > %(t)s
SELECT * FROM other c LEFT JOIN {table} e ON e.part=c.id AND e.at > %(t)s LEFT JOIN other d ON d.id = e.id AND e.at < %(t)s
SELECT * FROM {table} e LEFT JOIN other c ON e.part = c.id WHERE e.at > %(t)s AND c.id IS NULL
SELECT * FROM {table} e, other c WHERE e.at > %(t)s AND e.part = c.id
SELECT * FROM other c, {table} e LEFT JOIN other d ON d.id = e.id WHERE e.at > %(t)s
SELECT * FROM other c LEFT JOIN ({table} e JOIN other d ON d.id = e.id AND e.at > %(t)s) ON c.id = d.id
SELECT * FROM other c LEFT JOIN (SELECT * FROM {table}) e ON e.part = c.id AND e.at > %(t)s
SELECT * FROM other c LEFT JOIN (SELECT * FROM {table}) e ON e.part = c.id WHERE e.at IS NULL OR e.at > %(t)s
SELECT * FROM {table} e LEFT JOIN other c USING (at)
SELECT * FROM other c LEFT JOIN {table} e USING (at)
SELECT * FROM other c RIGHT JOIN {table} e USING (at) WHERE at > %(t)s
SELECT * FROM {table} e FULL JOIN other c USING (at) WHERE at > %(t)s
SELECT * FROM {table} e FULL JOIN other c USING (at) WHERE e.at > %(t)s
SELECT * FROM {table} e LEFT JOIN other c USING (at) WHERE at > %(t)s
SELECT * FROM other c JOIN (other d LEFT JOIN {table} e ON e.part = d.id) ON d.id = c.id WHERE e.at > %(t)s OR e.at IS NULL
SELECT * FROM other c JOIN (other d LEFT JOIN {table} e ON e.part = d.id) ON d.id = c.id WHERE e.at > %(t)s
SELECT * FROM other c JOIN (other d LEFT JOIN {table} e ON e.part = d.id) ON d.id = c.id AND (e.at > %(t)s OR e.at IS NULL)
SELECT * FROM (SELECT e.at FROM other c LEFT JOIN {table} e ON e.part = c.id) s WHERE s.at > %(t)s OR s.at IS NULL
SELECT * FROM (SELECT e.at FROM other c LEFT JOIN {table} e ON e.part = c.id) s WHERE s.at > %(t)s
SELECT * FROM (SELECT e.at FROM other c LEFT JOIN {table} e ON e.part = c.id) s LEFT JOIN other d ON d.at = s.at WHERE s.at > %(t)s OR s.at IS NULL
WITH x AS (SELECT e.at FROM other c LEFT JOIN {table} e ON e.part = c.id) SELECT * FROM x WHERE x.at IS NULL OR x.at > %(t)s
SELECT e.at FROM other c LEFT JOIN {table} e ON e.part = c.id GROUP BY e.at HAVING e.at > %(t)s OR e.at IS NULL
SELECT e.at FROM other c LEFT JOIN {table} e ON e.part = c.id GROUP BY e.at HAVING e.at > %(t)s
SELECT * FROM other c LEFT JOIN {table} e ON e.part = c.id AND (e.at > %(t)s OR e.at IS NULL)
SELECT * FROM (SELECT at FROM {table} UNION (SELECT since FROM other LIMIT 3)) s WHERE at > %(t)s
SELECT * FROM (SELECT at FROM {table} UNION ALL (SELECT since FROM other LIMIT 3)) s WHERE at > %(t)s
SELECT * FROM (SELECT at FROM {table} INTERSECT SELECT since FROM other OFFSET 1) s WHERE at > %(t)s
