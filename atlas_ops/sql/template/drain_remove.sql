-- Rows of the keys taken that are not the same, image by image, in the table that the application writes.
DELETE FROM {target} AS t USING {batch_rows} AS b
WHERE {target_condition} AND NOT EXISTS (
    SELECT FROM {source} AS s WHERE {source_condition} AND {identical})
