-- A row that is set aside leaves the table: a foreign key with the partition key could not check what refers to it, nor act on it.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM {aside} AS a JOIN {table} AS r ON {same}) THEN
        RAISE EXCEPTION '%', {said} USING ERRCODE = 'object_not_in_prerequisite_state', HINT = {cure};
    END IF;
END $do$
