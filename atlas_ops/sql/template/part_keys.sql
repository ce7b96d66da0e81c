-- The keys of one part on both sides: how many are only here, only there, on both.
SELECT count(*) FILTER (WHERE p.atlas_ops_here IS NULL) AS only_original,
       count(*) FILTER (WHERE o.atlas_ops_here IS NULL) AS only_partitioned,
       count(*) FILTER (WHERE o.atlas_ops_here AND p.atlas_ops_here) AS both
FROM {original} AS o
FULL JOIN {partitioned} AS p USING ({keys})
