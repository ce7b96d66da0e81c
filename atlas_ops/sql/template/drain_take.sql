-- Takes keys out of the log: exactly the rows that are read here, never those up to a number, which commit out of order.
WITH taken AS (
    DELETE FROM {log} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {log}{limit})) RETURNING {keys}
)
INSERT INTO {batch} ({keys}) SELECT DISTINCT {keys} FROM taken
