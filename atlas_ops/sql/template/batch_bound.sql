-- Where the next batch ends: the partition key of its last row. Rows that share that key belong to it too. Locks the part's progress.
UPDATE atlas_ops.copy_progress SET next = (
    SELECT max(b.at)::text
    FROM (SELECT {key} AS at FROM {source}
          WHERE {rows} AND {key} > coalesce(reached::{type}, '-infinity') ORDER BY {key} LIMIT {limit}) AS b)
WHERE {progress}
