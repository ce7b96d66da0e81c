-- The rows of the registry for a table's names; columns that a registry of an older version lacks are NULL.
SELECT t.schema_name AS schema, t.table_name AS name, t.every, t.ahead, (to_jsonb(t) ->> 'keep')::int AS keep,
       (to_jsonb(t) ->> 'lock_timeout_ms')::int AS lock_timeout_ms, t.partition_schema, t.partition_prefix AS prefix,
       to_jsonb(t) ->> 'name_form' AS name_form, t.ready,
       to_jsonb(t) ->> 'made' AS made, (to_jsonb(t) ->> 'made_at')::timestamptz AS made_at, to_jsonb(t) ->> 'made_by' AS made_by,
       (to_jsonb(t) ->> 'whole_at')::timestamptz AS whole_at, to_jsonb(t) ->> 'whole_by' AS whole_by
FROM atlas_ops.partitioned_table t
WHERE t.schema_name = %(schema)s AND t.table_name = %(name)s
