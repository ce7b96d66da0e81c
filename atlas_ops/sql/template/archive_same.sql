-- Refuses a table that does not hold the rows told, in number and content.
DO $same$
DECLARE
    found record;
BEGIN
    SELECT count(*) AS rows, coalesce(sum({content_hash}), 0) AS content INTO found FROM {table} AS r;
    IF found.rows <> {rows} OR found.content <> {content} THEN
        RAISE EXCEPTION USING
            ERRCODE = 'XX001',
            MESSAGE = {what} || ' differs from the archive: ' || found.rows || ' rows, and ' || {rows} || ' were exported'
                      || CASE WHEN found.rows = {rows} THEN ', with other content' ELSE '' END,
            HINT = {cure};
    END IF;
END $same$
