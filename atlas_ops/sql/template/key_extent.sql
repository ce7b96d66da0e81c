-- The lowest and the highest key that a calendar of four-digit years holds, as UTC; by the index on the key where there is one.
SELECT min(lowest) AS lowest, max(highest) AS highest
FROM (SELECT min({key})::{type} AT TIME ZONE 'UTC' AS lowest, max({key})::{type} AT TIME ZONE 'UTC' AS highest
      FROM {table} WHERE {key} >= {first} AND {key} < {last}
      UNION ALL
      SELECT min({value})::{type} AT TIME ZONE 'UTC', max({value})::{type} AT TIME ZONE 'UTC'
      FROM {table} WHERE {key} IS NULL AND {value} >= {first} AND {value} < {last}) AS ends
