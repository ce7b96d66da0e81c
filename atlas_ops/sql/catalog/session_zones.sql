-- The time zones that sessions of this database begin with: that of this connection before we set our own (the server's, the database's,
-- the role's or the client's), and what is set for the database or for any role.
SELECT reset_val AS zone FROM pg_settings WHERE name = 'TimeZone'
UNION
SELECT substr(setting, strpos(setting, '=') + 1)
FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
WHERE lower(split_part(setting, '=', 1)) = 'timezone'
  AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
