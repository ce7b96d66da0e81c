-- The application's roles, and `authenticator` who logs in and becomes one of the others. They belong to the whole cluster, so each is made only where it is missing.
DO $roles$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('authenticator', 'LOGIN NOINHERIT'),
            ('anon',          'NOLOGIN NOINHERIT'),
            ('authenticated', 'NOLOGIN NOINHERIT'),
            ('service_role',  'NOLOGIN NOINHERIT BYPASSRLS')
        ) AS w (name, attributes)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.attributes);
            EXECUTE format('GRANT %I TO %I', wanted.name, current_user);
        ELSIF NOT pg_has_role(current_user, wanted.name, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', wanted.name, current_user);
        END IF;
        IF NOT pg_has_role('authenticator', wanted.name, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO authenticator', wanted.name);
        END IF;
    END LOOP;
END
$roles$;

