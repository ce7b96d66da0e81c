-- Comments on what belongs to a table and is made beside it, not with it: constraints, indexes, triggers and policies.
SELECT o.kind AS kind, o.name::text AS name, d.description AS content
FROM (SELECT 'CONSTRAINT', k.conname, 'pg_constraint'::regclass, k.oid FROM pg_constraint k WHERE k.conrelid = %(oid)s
      UNION ALL SELECT 'INDEX', x.relname, 'pg_class'::regclass, x.oid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = %(oid)s
      UNION ALL SELECT 'TRIGGER', g.tgname, 'pg_trigger'::regclass, g.oid FROM pg_trigger g WHERE g.tgrelid = %(oid)s
      UNION ALL SELECT 'POLICY', p.polname, 'pg_policy'::regclass, p.oid FROM pg_policy p WHERE p.polrelid = %(oid)s) o(kind, name, classoid, oid)
JOIN pg_description d ON d.classoid = o.classoid AND d.objoid = o.oid AND d.objsubid = 0
ORDER BY 1, 2
