-- User triggers; those of the capture, its guards and the registry of keys are ours. A definition is CREATE TRIGGER name <head> ON table <tail>; the head is rebuilt from pg_trigger's bits (trigger.h)
-- so that the tail is found by length, not by searching for ' ON ' in a text that may hold quoted names.
SELECT g.tgname::text AS name,
       built.head AS head,
       CASE WHEN starts_with(def.full_text, def.prefix) THEN substr(def.full_text, length(def.prefix) + 1) END AS tail,
       g.tgenabled::text AS enabled,
       g.tgtype::int & 1 = 1 AS row_level,
       built.timing AS timing,
       g.tgoldtable IS NOT NULL OR g.tgnewtable IS NOT NULL AS transition_tables,
       g.tgconstraint <> 0 AS "constraint"
FROM pg_trigger g
JOIN pg_class t ON t.oid = g.tgrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE WHEN g.tgtype::int & 2 = 2 THEN 'BEFORE' WHEN g.tgtype::int & 64 = 64 THEN 'INSTEAD OF' ELSE 'AFTER' END AS timing,
           array_to_string(array_remove(ARRAY[
               CASE WHEN g.tgtype::int & 4 = 4 THEN 'INSERT' END,
               CASE WHEN g.tgtype::int & 8 = 8 THEN 'DELETE' END,
               CASE WHEN g.tgtype::int & 16 = 16 THEN 'UPDATE' || coalesce((
                   SELECT ' OF ' || string_agg(quote_ident(a.attname), ', ' ORDER BY k.position)
                   FROM unnest(g.tgattr::int2[]) WITH ORDINALITY AS k(attnum, position)
                   JOIN pg_attribute a ON a.attrelid = g.tgrelid AND a.attnum = k.attnum), '') END,
               CASE WHEN g.tgtype::int & 32 = 32 THEN 'TRUNCATE' END], NULL), ' OR ') AS events
) bits
CROSS JOIN LATERAL (SELECT bits.timing AS timing, bits.timing || ' ' || bits.events AS head) built
CROSS JOIN LATERAL (
    SELECT pg_get_triggerdef(g.oid) AS full_text,
           'CREATE ' || CASE WHEN g.tgconstraint <> 0 THEN 'CONSTRAINT ' ELSE '' END || 'TRIGGER ' || quote_ident(g.tgname) || ' '
             || built.head || ' ON ' || quote_ident(n.nspname) || '.' || quote_ident(t.relname) || ' ' AS prefix
) def
WHERE g.tgrelid = %(oid)s AND NOT g.tgisinternal AND g.tgname !~ '^(000_|zzz_)?atlas_ops_'
ORDER BY g.tgname
