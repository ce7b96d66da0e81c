-- One table by schema and name, with sizes in bytes; of a partitioned table the sizes of all its partitions.
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relispartition AS is_partition,
       pg_get_userbyid(c.relowner)::text AS owner,
       pg_has_role(c.relowner, 'USAGE') AS may_own,
       has_table_privilege(c.oid, 'SELECT') AS may_select,
       c.relrowsecurity AS row_security, c.relforcerowsecurity AS force_row_security,
       c.relreplident::text AS replica_identity,
       coalesce(c.reloptions, '{}') || coalesce((SELECT array_agg('toast.' || o) FROM pg_class toast, unnest(toast.reloptions) o
                                                 WHERE toast.oid = c.reltoastrelid), '{}') AS storage_parameters,
       t.spcname::text AS tablespace,
       obj_description(c.oid, 'pg_class') AS comment,
       c.reltuples::bigint AS estimated_rows,
       s.heap AS heap_bytes, s.indexes AS index_bytes, s.toast AS toast_bytes,
       CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children,
       EXISTS (SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid JOIN pg_namespace fn ON fn.oid = f.pronamespace
               WHERE g.tgrelid = c.oid AND g.tgname = 'atlas_ops_closed' AND g.tgenabled = 'A'
                 AND fn.nspname = 'atlas_ops' AND f.proname = 'refuse_application') AS closed
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pg_relation_size(leaf.relid)), 0)::bigint AS heap,
           coalesce(sum(pg_indexes_size(leaf.relid)), 0)::bigint AS indexes,
           coalesce(sum(pg_table_size(leaf.relid) - pg_relation_size(leaf.relid)), 0)::bigint AS toast
    FROM (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf
          UNION SELECT c.oid WHERE c.relkind = 'r') leaf
) s
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
