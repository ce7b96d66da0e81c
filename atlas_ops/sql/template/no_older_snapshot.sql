-- No transaction with a snapshot from before the drain is left, but those that wait for this one: it would miss rows in the exchanged table.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
                 AND backend_xmin IS NOT NULL AND wait_event_type IS DISTINCT FROM 'Lock'
                 AND xact_start < current_setting({setting})::timestamptz) THEN
        RAISE EXCEPTION 'a transaction with an older snapshot is open' USING ERRCODE = 'lock_not_available',
            HINT = 'Look who: SELECT pid, usename, application_name, state FROM pg_stat_activity WHERE backend_xmin IS NOT NULL;';
    END IF;
END $do$
