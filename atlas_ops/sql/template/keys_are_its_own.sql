-- Refuses a month some of whose primary keys belong to other rows by now.
DO $keys$
DECLARE
    others bigint;
BEGIN
    SELECT count(*) INTO others FROM {table} AS r WHERE NOT EXISTS (SELECT FROM {keys} AS k WHERE {same});
    IF others > 0 THEN
        RAISE EXCEPTION USING
            ERRCODE = '23505',
            MESSAGE = others || ' primary keys of ' || {said} || ' belong to other rows by now',
            HINT = 'Leave the month aside: place = "aside".';
    END IF;
END $keys$
