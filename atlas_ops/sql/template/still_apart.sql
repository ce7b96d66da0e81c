-- Refuses a table that is not, or is no longer, one that was detached and marked by us.
DO $apart$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                   WHERE c.oid = {table}::pg_catalog.regclass AND c.relkind = 'r' AND NOT c.relispartition
                     AND pg_catalog.starts_with(pg_catalog.obj_description(c.oid, 'pg_class'), {mark})) THEN
        RAISE EXCEPTION USING
            ERRCODE = '55000',
            MESSAGE = {said} || ' is no partition that was detached and marked here',
            HINT = 'Only a table with our mark in its comment is ever dropped. Plan again: the catalogs are read anew.';
    END IF;
END $apart$
