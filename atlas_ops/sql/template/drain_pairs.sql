-- What refers to a logged key gets the partition key that its row has now. OFFSET 0: looked up by the key, whatever the planner expects.
WITH logged AS (DELETE FROM {pairs} RETURNING {primary}), touched AS ({touched}),
     fresh AS MATERIALIZED (
         SELECT {columns}, o.{key} FROM touched AS t
         CROSS JOIN LATERAL (SELECT {value} AS {key} FROM {table} AS o WHERE {same} OFFSET 0) AS o
     ),
     {updates}
SELECT count(*) FROM logged
