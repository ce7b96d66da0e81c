-- The rows of a default partition by period, in UTC; NULL: without a key, or with one beyond the calendar. Seen with TimeZone UTC.
SELECT CASE WHEN {key} >= {first} AND {key} < {last} THEN date_trunc({every}, {key}::timestamp) END AS period, {key} IS NULL AS keyless, count(*) AS rows
FROM ONLY {table} GROUP BY 1, 2 ORDER BY 1
