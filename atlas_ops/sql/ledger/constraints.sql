-- Constraints; a NOT NULL (since 18 a constraint with a name) is a property of its column. Foreign keys as pg_get_constraintdef prints them, NOT VALID included.
SELECT CASE c.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique constraint' WHEN 'x' THEN 'exclusion constraint'
                      WHEN 'f' THEN 'foreign key' ELSE 'check' END AS kind,
       c.conname::text AS name, f.aspect AS aspect, f.value AS value
FROM pg_constraint c
CROSS JOIN LATERAL (VALUES
    ('definition', regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '')),
    ('validated', CASE WHEN c.contype IN ('f', 'c') THEN CASE WHEN c.convalidated THEN 'yes' ELSE 'no' END END),
    ('comment', obj_description(c.oid, 'pg_constraint'))
) AS f(aspect, value)
WHERE c.conrelid = %(oid)s AND c.contype IN ('p', 'u', 'x', 'f', 'c') AND f.value IS NOT NULL
ORDER BY 1, 2, 3
