-- Rows by period in one read: 0 lies before the first bound, NULL has no key, the last number lies at or after the last bound.
SELECT width_bucket({key}, {bounds}) AS period, count(*) AS rows
FROM {table}
GROUP BY 1
ORDER BY 1 NULLS LAST
