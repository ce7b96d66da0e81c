-- Rows of the keys taken that are missing. A conflict with a row that another key in the log will replace is passed over, and put back below.
INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {values} FROM {batch} AS b JOIN {source} AS s ON {source_condition}
WHERE NOT EXISTS (SELECT FROM {here} AS t WHERE {target_condition}){arbitration}
