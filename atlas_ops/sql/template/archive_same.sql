-- Refuses rows that are not those told, in number and content.
DO $same$
DECLARE
    had record;
BEGIN
    SELECT found.rows, found.content INTO had FROM ({found}) AS found;
    IF had.rows <> {rows} OR had.content <> {content} THEN
        RAISE EXCEPTION USING
            ERRCODE = 'XX001',
            MESSAGE = {what} || ' differs from the archive: ' || had.rows || ' rows, and ' || {rows} || ' were exported'
                      || CASE WHEN had.rows = {rows} THEN ', with other content' ELSE '' END,
            HINT = {cure};
    END IF;
END $same$
