-- Appends the key of every changed row to the key log, in the writer's own transaction, and does nothing else: what only appends cannot fail.
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $capture$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO {log} VALUES ({new});
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {log} VALUES ({old});
    ELSIF {same} THEN
        INSERT INTO {log} VALUES ({new});
    ELSE
        INSERT INTO {log} VALUES ({old}), ({new});
    END IF;
    RETURN NULL;
END $capture$
