-- The migrating role as Supabase has it: no superuser, but may make databases and roles, replicate and read past row security.
-- Run once in single-user mode, right after initdb, where a blank line ends a statement.
CREATE ROLE postgres LOGIN NOSUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS;

GRANT pg_monitor, pg_read_all_settings, pg_signal_backend TO postgres;

