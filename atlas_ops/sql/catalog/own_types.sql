-- The database's own types that the columns of a table (%(oid)s) rest on, those that others rest on first; a type of an extension is told by its name.
WITH RECURSIVE needed AS (
    SELECT a.atttypid AS type, 1 AS depth FROM pg_attribute a
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT below.type, n.depth + 1
    FROM needed n
    JOIN pg_type t ON t.oid = n.type
    CROSS JOIN LATERAL (
        SELECT t.typelem AS type WHERE t.typelem <> 0
        UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid OR r.rngmultitypid = t.oid
        UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid
        UNION ALL SELECT f.atttypid FROM pg_attribute f WHERE f.attrelid = t.typrelid AND t.typrelid <> 0 AND f.attnum > 0 AND NOT f.attisdropped
    ) below
    WHERE n.depth < 20
)
SELECT format_type(t.oid, NULL) AS name,
       CASE WHEN e.extname IS NOT NULL THEN '-- ' || format_type(t.oid, NULL) || ' is of the extension ' || quote_ident(e.extname)
            ELSE CASE t.typtype
                WHEN 'e' THEN 'CREATE TYPE ' || format_type(t.oid, NULL) || ' AS ENUM ('
                              || (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid) || ')'
                WHEN 'd' THEN 'CREATE DOMAIN ' || format_type(t.oid, NULL) || ' AS ' || format_type(t.typbasetype, t.typtypmod)
                              || coalesce((SELECT string_agg(' CONSTRAINT ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid), '' ORDER BY k.conname)
                                           FROM pg_constraint k WHERE k.contypid = t.oid), '')
                WHEN 'c' THEN 'CREATE TYPE ' || format_type(t.oid, NULL) || ' AS ('
                              || (SELECT string_agg(quote_ident(f.attname) || ' ' || format_type(f.atttypid, f.atttypmod), ', ' ORDER BY f.attnum)
                                  FROM pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) || ')'
                WHEN 'r' THEN 'CREATE TYPE ' || format_type(t.oid, NULL) || ' AS RANGE (SUBTYPE = '
                              || (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid) || ')'
                ELSE '-- ' || format_type(t.oid, NULL) END
       END AS definition
FROM (SELECT n.type, max(n.depth) AS depth FROM needed n GROUP BY n.type) d
JOIN pg_type t ON t.oid = d.type
JOIN pg_namespace s ON s.oid = t.typnamespace
LEFT JOIN pg_depend x ON x.classid = 'pg_type'::regclass AND x.objid = t.oid AND x.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = x.refobjid
WHERE s.nspname NOT IN ('pg_catalog', 'information_schema') AND t.typtype <> 'm'
  AND NOT (t.typelem <> 0 AND t.typcategory = 'A')
ORDER BY d.depth DESC, 1
