-- The live columns of a table by name and type alone: a default is printed by a function that opens the table.
WITH RECURSIVE base AS (
    SELECT a.attnum, t.oid AS type, t.typtype, t.typbasetype
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.oid, t.typtype, t.typbasetype
    FROM base b JOIN pg_type t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, bt.typname::text AS base_type, t.typtype::text AS type_kind,
       a.attnotnull AS not_null, NULL::text AS "default", a.attidentity::text AS identity, a.attgenerated::text AS generated,
       NULL::text AS comment, NULL::text AS sequence, NULL::text AS default_sequence
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN base b ON b.attnum = a.attnum AND b.typtype <> 'd'
JOIN pg_type bt ON bt.oid = b.type
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
