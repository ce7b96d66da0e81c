-- Once the application's roles are there: `postgres` may take each of them on (SET ROLE), and grant them further.
GRANT anon, authenticated, service_role, authenticator TO postgres WITH ADMIN OPTION;

