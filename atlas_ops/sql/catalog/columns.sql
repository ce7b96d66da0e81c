-- The live columns of a table, in their order; a domain's base type is followed down to its end.
WITH RECURSIVE base AS (
    SELECT a.attnum, t.oid AS type, t.typtype, t.typbasetype
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, t.oid, t.typtype, t.typbasetype
    FROM base b JOIN pg_type t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT a.attname::text AS name,
       format_type(a.atttypid, a.atttypmod) AS type,
       bt.typname::text AS base_type,
       t.typtype::text AS type_kind,
       a.attnotnull AS not_null,
       CASE a.attgenerated WHEN '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
       a.attidentity::text AS identity,
       a.attgenerated::text AS generated,
       col_description(a.attrelid, a.attnum) AS comment,
       owned.sequence AS sequence,
       called.sequence AS default_sequence,
       CASE WHEN a.attidentity <> '' THEN owned.options ELSE '' END AS identity_options,
       CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::int END AS statistics_target,
       coalesce((SELECT array_agg(quote_ident(o.option_name) || ' = ' || quote_literal(o.option_value)) FROM pg_options_to_table(a.attoptions) o
                 WHERE o.option_name IN ('n_distinct', 'n_distinct_inherited')), '{}') AS options,
       (SELECT s.correlation FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
        WHERE c.oid = a.attrelid AND s.attname = a.attname AND NOT s.inherited) AS correlation
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN base b ON b.attnum = a.attnum AND b.typtype <> 'd'
JOIN pg_type bt ON bt.oid = b.type
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
    SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname) AS sequence,
           concat('INCREMENT BY ', q.seqincrement, ' MINVALUE ', q.seqmin, ' MAXVALUE ', q.seqmax, ' START WITH ', q.seqstart,
                  ' CACHE ', q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END) AS options
    FROM pg_depend p JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
    JOIN pg_sequence q ON q.seqrelid = s.oid
    WHERE p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
      AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i')
    LIMIT 1
) owned ON true
LEFT JOIN LATERAL (
    SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname) AS sequence
    FROM pg_depend p JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
    WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
    LIMIT 1
) called ON true
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
