-- The registry's rows of a batch become those of the table. OFFSET 0: each is looked up by its key, whatever the planner expects.
WITH touched AS (SELECT DISTINCT {primary} FROM {batch}),
     fresh AS MATERIALIZED (
         SELECT {touched}, now_there.* FROM touched AS t
         LEFT JOIN LATERAL (SELECT true AS atlas_ops_there, {value} AS {key} FROM {table} AS o WHERE {same} OFFSET 0) AS now_there ON true
     ),
     gone AS (DELETE FROM {keys} AS k USING fresh AS f WHERE {gone} AND f.atlas_ops_there IS NULL)
INSERT INTO {keys} AS k ({columns}) SELECT {columns} FROM fresh WHERE atlas_ops_there
ON CONFLICT ({primary}) DO UPDATE SET {key} = excluded.{key} WHERE k.{key} IS DISTINCT FROM excluded.{key}
