-- Remembers when the log was last seen empty, and the transaction that a snapshot must see to see both tables alike.
UPDATE atlas_ops.online_copy
SET drained_xid = pg_current_xact_id(), drained_at = CASE WHEN EXISTS (SELECT FROM {log}) THEN drained_at ELSE clock_timestamp() END
WHERE schema_name = {schema} AND table_name = {table}
