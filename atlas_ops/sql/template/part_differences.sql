-- Rows of one part that are not the same on both sides, by key and by the names of the columns that differ; never their content.
-- *= on records compares their images (manual: composite type comparison), so 1.0 is not 1.00.
SELECT {key_texts} AS key,
       CASE WHEN p.atlas_ops_here IS NULL THEN 'only in the original' WHEN o.atlas_ops_here IS NULL THEN 'only in the partitioned table' ELSE 'differs' END AS kind,
       CASE WHEN o.atlas_ops_here AND p.atlas_ops_here THEN array_remove(ARRAY[{columns}]::text[], NULL) ELSE '{{}}' END AS columns
FROM {original} AS o
FULL JOIN {partitioned} AS p USING ({keys})
WHERE o.atlas_ops_here IS NULL OR p.atlas_ops_here IS NULL OR NOT ({same})
ORDER BY 2, 1
LIMIT {limit}
