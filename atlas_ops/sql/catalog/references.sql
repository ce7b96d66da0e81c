-- Foreign keys that refer to this table, or to the registry of its keys that stands in for it after a cut-over (or NULL).
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS "table",
       f.conname::text AS "constraint", pg_get_constraintdef(f.oid) AS definition, f.confdeltype::text AS on_delete,
       n.nspname::text AS schema, c.relname::text AS name,
       keys.referring AS columns, keys.referenced AS referenced_columns, keys.comments AS column_comments,
       rn.nspname::text AS referenced_schema, r.relname::text AS referenced_table,
       coalesce((SELECT array_agg(a.attname::text ORDER BY s.position)
                 FROM unnest(f.confdelsetcols) WITH ORDINALITY AS s(attnum, position)
                 JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = s.attnum), '{}') AS delete_columns,
       f.confupdtype::text AS on_update, f.confmatchtype::text AS "match",
       f.condeferrable AS deferrable, f.condeferred AS deferred, f.convalidated AS validated,
       coalesce((to_jsonb(f) ->> 'conenforced')::boolean, true) AS enforced,
       keys.not_null AS not_null,
       EXISTS (SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
                 AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey) AS indexed,
       f.conrelid = f.confrelid AS self,
       c.relkind = 'p' AS partitioned, pg_get_userbyid(c.relowner)::text AS owner, pg_has_role(c.relowner, 'USAGE') AS may_own,
       obj_description(f.oid, 'pg_constraint') AS comment,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS all_columns,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND starts_with(col_description(c.oid, a.attnum), 'atlas_ops: ') ORDER BY a.attnum) AS marked_columns,
       ARRAY(SELECT g.tgname::text FROM pg_trigger g
             WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
               AND g.tgtype::int & 16 = 16 AND g.tgattr = '' ORDER BY g.tgname) AS update_triggers,
       c.reltuples::bigint AS estimated_rows, pg_table_size(c.oid) AS bytes
FROM pg_constraint f
JOIN pg_class c ON c.oid = f.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = f.confrelid
JOIN pg_namespace rn ON rn.oid = r.relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY k.position) AS referring,
           array_agg(b.attname::text ORDER BY k.position) AS referenced,
           array_agg(col_description(a.attrelid, a.attnum) ORDER BY k.position) AS comments,
           bool_and(a.attnotnull) FILTER (WHERE NOT coalesce(starts_with(col_description(a.attrelid, a.attnum), 'atlas_ops: '), false)) AS not_null
    FROM unnest(f.conkey, f.confkey) WITH ORDINALITY AS k(referring, referenced, position)
    JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.referring
    JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.referenced
) keys
WHERE (f.confrelid = %(oid)s OR (rn.nspname = %(registry_schema)s AND r.relname = %(registry)s)) AND f.contype = 'f' AND f.conparentid = 0
ORDER BY 1, 2
