-- The rows of one part that are not the same and in no log, by key; never their content.
SELECT {key_texts} AS key, kind, '{{}}'::text[] AS columns
FROM ({differing}) AS d
WHERE NOT in_log
ORDER BY 2, 1
LIMIT {limit}
