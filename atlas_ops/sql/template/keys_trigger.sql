-- Keeps the registry of the keys in step with the partitioned table, as a unique index would be.
#variable_conflict use_column
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- In place: a row that moves between partitions is a DELETE and an INSERT to the triggers below, and a DELETE here would
        -- take the rows of other tables that refer to it.
        PERFORM set_config('atlas_ops.moving', 'on', true);
        UPDATE {keys} SET ({columns}) = ROW({new}) WHERE ({primary}) = ({old});
        RETURN NEW;
    ELSIF TG_OP = 'INSERT' THEN
        -- The second half of a move: its key is here. Locked, so that a key which somebody else has removed since this snapshot was
        -- taken is not trusted. Not asked without need: the read would make SERIALIZABLE writers fail each other.
        IF current_setting('atlas_ops.moving', true) = 'on' THEN
            PERFORM FROM {keys} WHERE ({columns}) = ({new}) FOR KEY SHARE;
            IF FOUND THEN
                RETURN NULL;
            END IF;
        END IF;
        INSERT INTO {keys} ({columns}) VALUES ({new});
    ELSIF TG_OP = 'DELETE' THEN
        -- The first half of a move finds nothing: its key has changed. A row that was set aside has none.
        DELETE FROM {keys} WHERE ({primary}) = ({old}) AND {key} IS NOT DISTINCT FROM {old_key};
    ELSE
        RAISE feature_not_supported USING
            MESSAGE = {refused}, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
            HINT = 'DELETE the rows: the foreign keys act on them one by one.';
    END IF;
    RETURN NULL;
END
