-- Whether pg_cron can be used in this database. Its settings are for superusers and pg_read_all_settings to see; it runs in one database alone.
SELECT EXISTS (SELECT FROM pg_available_extensions e WHERE e.name = 'pg_cron') AS available,
       EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') AS installed,
       (SELECT s.setting FROM pg_settings s WHERE s.name = 'cron.database_name') AS database
