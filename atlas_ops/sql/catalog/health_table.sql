-- One table by schema and name as `table.sql` gives it, by catalog rows alone: no function here opens a relation, so none waits for its lock.
-- Sizes are left at 0; the partition key is that of a RANGE over columns, or else its strategy alone.
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relispartition AS is_partition,
       pg_get_userbyid(c.relowner)::text AS owner,
       pg_has_role(c.relowner, 'USAGE') AS may_own,
       has_table_privilege(c.oid, 'SELECT') AS may_select,
       c.relrowsecurity AS row_security, c.relforcerowsecurity AS force_row_security,
       c.relreplident::text AS replica_identity,
       '{}'::text[] AS storage_parameters, NULL::text AS tablespace,
       obj_description(c.oid, 'pg_class') AS comment,
       c.reltuples::bigint AS estimated_rows,
       0::bigint AS heap_bytes, 0::bigint AS index_bytes, 0::bigint AS toast_bytes,
       CASE c.relkind WHEN 'p' THEN (
           SELECT CASE p.partstrat WHEN 'r' THEN 'RANGE' WHEN 'l' THEN 'LIST' ELSE 'HASH' END || ' ('
                  || coalesce((SELECT string_agg(coalesce(quote_ident(a.attname), '(an expression)'), ', ' ORDER BY k.position)
                               FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS k(attnum, position)
                               LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum AND k.attnum > 0), '') || ')'
           FROM pg_partitioned_table p WHERE p.partrelid = c.oid) END AS partition_key,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
