-- The fence: one writer to the copy at a time, and only in the direction that holds now.
DO $fence$
BEGIN
    PERFORM FROM atlas_ops.online_copy
    WHERE schema_name = {schema} AND table_name = {table} AND authority = {authority} AND exchanged = {exchanged} {condition}
    FOR {strength};
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the copy of %.% has been turned, switched off or dropped since this plan was made', {schema}, {table}
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run the stage again: the plan is read anew.';
    END IF;
END $fence$
