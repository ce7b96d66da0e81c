-- Publications that carry the table: by name, by its schema or because they carry all tables.
SELECT p.pubname::text AS name,
       pg_has_role(p.pubowner, 'USAGE') AS may_own,
       p.pubviaroot AS via_root,
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
                 WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])), '{}') AS columns,
       pg_get_expr(r.prqual, r.prrelid) AS row_filter,
       p.puballtables OR r.prrelid IS NULL AS all_tables
FROM pg_publication p
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(oid)s
WHERE r.prrelid IS NOT NULL OR p.puballtables
   OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_class c ON c.relnamespace = s.pnnspid
              WHERE s.pnpubid = p.oid AND c.oid = %(oid)s)
ORDER BY p.pubname
