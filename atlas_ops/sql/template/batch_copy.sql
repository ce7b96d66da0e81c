-- The rows of a batch: after the last one's end, up to its own.
INSERT INTO {target} ({columns})
SELECT {columns} FROM {source}
WHERE {rows} AND {key} > coalesce((SELECT reached::{type} FROM atlas_ops.copy_progress WHERE {progress}), '-infinity')
  AND {key} <= (SELECT next::{type} FROM atlas_ops.copy_progress WHERE {progress})
