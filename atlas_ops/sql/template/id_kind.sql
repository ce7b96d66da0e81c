-- What kind of id a column holds, by some hundred of its values: 'uuid7', 'ulid' (as text), or NULL. Only the kind leaves the server.
SELECT CASE WHEN count(*) = 0 THEN NULL
            WHEN bool_and(id ~ '^[0-9a-f]{{8}}-[0-9a-f]{{4}}-7[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$') THEN 'uuid7'
            WHEN bool_and(id ~ '^[0-7][0-9A-HJKMNP-TV-Z]{{25}}$') THEN 'ulid' END AS kind
FROM (SELECT {column}::text AS id FROM {table} WHERE {column} IS NOT NULL LIMIT 500) AS sample
