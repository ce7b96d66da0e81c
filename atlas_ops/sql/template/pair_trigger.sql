-- Fills the partition key of the row that is referred to; the application writes the other columns only. Whoever may write the referring table
-- may write this column too: what no row bears out is not taken, or a NULL would let go of the foreign key (MATCH SIMPLE).
#variable_conflict use_column
BEGIN
    IF TG_OP = 'UPDATE' AND ROW({new}) IS NOT DISTINCT FROM ROW({old}) AND (
        {added} IS NOT DISTINCT FROM {was}
        OR EXISTS (SELECT FROM {table} WHERE ({primary}) = ({new}) AND {value} = {added})) THEN
        RETURN NEW;  -- ON UPDATE CASCADE and the drain write the key itself
    END IF;
    {added} := NULL;
    IF num_nulls({new}) = 0 THEN
        SELECT {value} INTO {added} FROM {table} WHERE ({primary}) = ({new});
        IF NOT FOUND AND current_setting('session_replication_role') <> 'replica' THEN
            RAISE foreign_key_violation USING
                MESSAGE = {violated}, SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = {constraint};
        END IF;
    END IF;
    RETURN NEW;
END
