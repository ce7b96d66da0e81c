-- What the role may do in the schema of the partitions and in that of the partitioned table, and who else gets into the former.
SELECT n.oid IS NOT NULL AS "exists",
       CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE') ELSE has_schema_privilege(n.oid, 'CREATE') END AS may_create,
       coalesce(pg_has_role(n.nspowner, 'USAGE'), true) AS may_own,
       coalesce((SELECT array_agg(r.rolname::text ORDER BY r.rolname) FROM pg_roles r
                 WHERE r.rolname = ANY (%(roles)s) AND has_schema_privilege(r.oid, n.oid, 'USAGE')), '{}') AS open_to,
       (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm')
          AND NOT coalesce(starts_with(obj_description(c.oid, 'pg_class'), 'atlas_ops: '), false))::int AS foreign_relations,
       coalesce((SELECT has_schema_privilege(t.oid, 'CREATE') FROM pg_namespace t WHERE t.nspname = %(target)s), false) AS may_create_target
FROM (SELECT 1) one
LEFT JOIN pg_namespace n ON n.nspname = %(schema)s
