-- Where the next batch ends: the partition key of its last row. Rows that share that key belong to it too. Locks the part's progress.
-- Its columns are named by the table: the source may have one that is called reached.
UPDATE atlas_ops.copy_progress AS atlas_ops_progress SET next = (
    SELECT max(b.at)::text
    FROM (SELECT {key} AS at FROM {source}
          WHERE {rows} AND {key} > coalesce(atlas_ops_progress.reached::{type}, '-infinity') ORDER BY {key} LIMIT {limit}) AS b)
WHERE {progress}
