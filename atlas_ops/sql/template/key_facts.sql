-- One read of the whole partition key, plus the share of its most common value in a sample of {percent} per cent of the pages.
SELECT f.rows, f.nulls, f.infinite, f.lowest, f.highest,
       coalesce(s.dominant, 0)::bigint AS dominant_rows, coalesce(s.sampled, 0)::bigint AS sampled_rows, f.unvalued_nulls
FROM (SELECT count(*) AS rows,
             count(*) FILTER (WHERE {key} IS NULL) AS nulls,
             count(*) FILTER (WHERE NOT isfinite({key})) AS infinite,
             min({key})::text AS lowest, max({key})::text AS highest,
             count(*) FILTER (WHERE {key} IS NULL AND ({value}) IS NULL) AS unvalued_nulls
      FROM {table}) f
CROSS JOIN (SELECT max(n) AS dominant, sum(n) AS sampled
            FROM (SELECT count(*) AS n FROM {table} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)
                  WHERE {key} IS NOT NULL GROUP BY {key}) g) s
