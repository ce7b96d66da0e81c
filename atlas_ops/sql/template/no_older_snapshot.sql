-- No transaction is left that began before the drain had committed and whose snapshot may miss it: it would not find the rows drained in the exchanged
-- table. Those that wait to write to it pass: the guard stops them where their snapshot is old, and under READ COMMITTED they take another one. Those
-- that wait for a row pass too: there are always some on a busy server, and when they get it they have lost it to the one who changed it.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_stat_activity a
               JOIN atlas_ops.online_copy o ON o.schema_name = {schema} AND o.table_name = {table}
               WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
                 AND a.xact_start < current_setting({setting})::timestamptz
                 AND age(a.backend_xmin) >= age(o.drained_xid::xid)
                 AND coalesce(a.wait_event, '') NOT IN ('transactionid', 'tuple')
                 AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted AND l.relation = {locked}::regclass
                                   AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))) THEN
        RAISE EXCEPTION 'a transaction with an older snapshot is open' USING ERRCODE = 'lock_not_available',
            HINT = 'Look who: SELECT pid, usename, application_name, state FROM pg_stat_activity WHERE backend_xmin IS NOT NULL;';
    END IF;
END $do$
