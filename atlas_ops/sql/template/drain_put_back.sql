-- Keys whose rows are still not the same go back into the log: nothing that differs may leave it.
INSERT INTO {log} ({keys})
SELECT {batch_keys} FROM {batch} AS b JOIN {source} AS s ON {source_condition}
WHERE NOT EXISTS (SELECT FROM {here} AS t WHERE {target_condition} AND {identical})
