-- Constraints of a table; constraint triggers are listed with the triggers.
SELECT c.conname::text AS name, c.contype::text AS kind,
       pg_get_constraintdef(c.oid) AS definition,
       coalesce((SELECT array_agg(a.attname::text ORDER BY k.position)
                 FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, position)
                 JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum), '{}') AS columns,
       c.convalidated AS validated, c.condeferrable AS deferrable,
       CASE c.contype WHEN 'f' THEN (SELECT quote_ident(n.nspname) || '.' || quote_ident(r.relname)
                                     FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
                                     WHERE r.oid = c.confrelid) END AS referenced,
       c.contype <> 'f' OR has_table_privilege(c.confrelid, 'REFERENCES') AS may_reference
FROM pg_constraint c
WHERE c.conrelid = %(oid)s AND c.contype <> 't'
ORDER BY c.contype, c.conname
