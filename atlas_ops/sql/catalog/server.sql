-- Who is connected, where, and what the server is. pg_control_system() is open to every role.
SELECT current_setting('server_version_num')::int AS version,
       current_setting('server_version') AS version_text,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       current_database()::text AS database,
       current_user::text AS role,
       r.rolsuper AS superuser,
       r.rolsuper OR r.rolbypassrls AS bypasses_row_security,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       has_schema_privilege('public', 'CREATE') AS may_create_in_public,
       current_setting('TimeZone') AS time_zone,
       pg_is_in_recovery() AS in_recovery,
       pg_is_in_recovery() OR (SELECT boot.reset_val = 'on' FROM pg_settings boot
                               WHERE boot.name = 'default_transaction_read_only') AS read_only,
       current_setting('wal_level') AS wal_level,
       current_setting('max_locks_per_transaction')::int
         * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) AS max_locks,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements') AS has_pg_stat_statements,
       now() AS now,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_activity
FROM pg_roles r
WHERE r.rolname = current_user
