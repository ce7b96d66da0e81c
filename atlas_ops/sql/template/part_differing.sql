-- The keys of one part whose rows are not the same on both sides, and whether they wait in the key log.
SELECT {keys}, f.kind, {in_log} AS in_log
FROM (SELECT {keys},
             CASE WHEN p.atlas_ops_here IS NULL THEN 'only in the original' WHEN o.atlas_ops_here IS NULL THEN 'only in the partitioned table'
                  ELSE 'differs' END AS kind
      FROM {original} AS o FULL JOIN {partitioned} AS p USING ({using})
      WHERE o.atlas_ops_here IS NULL OR p.atlas_ops_here IS NULL OR NOT ({same})) AS f
{joins}
