-- Columns in their order, each with all that ALTER TABLE ... ALTER COLUMN can set.
SELECT 'column' AS kind, c.name AS name, f.aspect AS aspect, f.value AS value
FROM (SELECT a.attname::text AS name, row_number() OVER (ORDER BY a.attnum) AS position, a.*
      FROM pg_attribute a WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped) c
JOIN pg_type t ON t.oid = c.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = c.attrelid AND d.adnum = c.attnum
CROSS JOIN LATERAL (VALUES
    ('position', c.position::text),
    ('type', format_type(c.atttypid, c.atttypmod)),
    ('not null', CASE WHEN c.attnotnull THEN 'yes' ELSE 'no' END),
    ('default', CASE c.attgenerated WHEN '' THEN pg_get_expr(d.adbin, d.adrelid) END),
    ('generated', CASE c.attgenerated WHEN 's' THEN 'stored ' || pg_get_expr(d.adbin, d.adrelid) WHEN 'v' THEN 'virtual ' || pg_get_expr(d.adbin, d.adrelid) END),
    ('identity', CASE c.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END),
    ('collation', CASE WHEN c.attcollation <> t.typcollation THEN c.attcollation::regcollation::text END),
    ('storage', CASE c.attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END),
    ('compression', CASE c.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END),
    -- 0 is a target, unlike NULL (since 17) and -1 (before)
    ('statistics target', CASE WHEN c.attstattarget >= 0 THEN c.attstattarget::text END),
    -- those that the manual names: 15.20 keeps a number of its own among them
    ('options', array_to_string(ARRAY(SELECT o FROM unnest(c.attoptions) o WHERE o ~ '^n_distinct' ORDER BY o), ', ')),
    ('comment', col_description(c.attrelid, c.attnum))
) AS f(aspect, value)
WHERE f.value IS NOT NULL AND f.value <> ''
UNION ALL
SELECT 'column', a.attname::text, 'security label by ' || s.provider, s.label
FROM pg_seclabel s JOIN pg_attribute a ON a.attrelid = s.objoid AND a.attnum = s.objsubid
WHERE s.classoid = 'pg_class'::regclass AND s.objoid = %(oid)s AND s.objsubid > 0
ORDER BY 2, 3
