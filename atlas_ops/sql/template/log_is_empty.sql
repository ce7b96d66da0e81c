-- Nothing differs any more: writers are kept out, and the drain has taken every key. One that is left can never be drained: no use in trying again.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM {log}) THEN
        RAISE EXCEPTION 'keys are left in the key log' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = {cure};
    END IF;
END $do$
