-- Which of these names a relation, an index or a statistics object of a schema has.
SELECT wanted.name AS name
FROM unnest(%(names)s::text[]) AS wanted(name)
WHERE EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s AND c.relname = wanted.name)
   OR EXISTS (SELECT FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE n.nspname = %(schema)s AND s.stxname = wanted.name)
