-- What is true of the table itself. What a partitioned table leaves to its partitions is read from these: a value that they share, or all there are.
WITH own AS (
    SELECT c.* FROM pg_class c WHERE c.oid = %(oid)s
), leaves AS (
    SELECT c.* FROM pg_partition_tree(%(oid)s) p JOIN pg_class c ON c.oid = p.relid WHERE p.isleaf
    UNION SELECT own.* FROM own WHERE own.relkind <> 'p'
), facts(aspect, value) AS (
    SELECT 'kind', CASE relkind WHEN 'p' THEN 'partitioned table' WHEN 'r' THEN 'table' ELSE relkind::text END FROM own
    UNION ALL SELECT 'owner', pg_get_userbyid(relowner)::text FROM own
    UNION ALL SELECT 'persistence', string_agg(DISTINCT CASE relpersistence WHEN 'p' THEN 'permanent' WHEN 'u' THEN 'unlogged' ELSE 'temporary' END, '; ') FROM leaves
    UNION ALL SELECT 'tablespace', string_agg(DISTINCT coalesce(t.spcname::text, 'default'), '; ')
        FROM leaves l LEFT JOIN pg_tablespace t ON t.oid = l.reltablespace
    UNION ALL SELECT 'access method', string_agg(DISTINCT a.amname::text, '; ') FROM leaves l JOIN pg_am a ON a.oid = l.relam
    UNION ALL SELECT 'storage parameters', string_agg(DISTINCT coalesce(array_to_string(ARRAY(SELECT o FROM unnest(l.reloptions) o ORDER BY o), ', '), ''), '; ') FROM leaves l
    UNION ALL SELECT 'storage parameters of TOAST',
        string_agg(DISTINCT coalesce(array_to_string(ARRAY(SELECT o FROM unnest(t.reloptions) o ORDER BY o), ', '), ''), '; ')
        FROM leaves l JOIN pg_class t ON t.oid = l.reltoastrelid
    UNION ALL SELECT 'row security', CASE WHEN relrowsecurity THEN 'on' ELSE 'off' END FROM own
    UNION ALL SELECT 'force row security', CASE WHEN relforcerowsecurity THEN 'on' ELSE 'off' END FROM own
    UNION ALL SELECT 'replica identity',
        string_agg(DISTINCT CASE l.relreplident WHEN 'd' THEN 'default' WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' ELSE 'index' END, '; ') FROM leaves l
    UNION ALL SELECT 'comment', obj_description(oid, 'pg_class') FROM own
    UNION ALL SELECT 'of type', reloftype::regtype::text FROM own WHERE reloftype <> 0
    UNION ALL SELECT 'security label by ' || s.provider, s.label
        FROM pg_seclabel s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = %(oid)s AND s.objsubid = 0
    UNION ALL SELECT 'inherits from ' || i.inhparent::regclass::text, '' FROM pg_inherits i JOIN own ON i.inhrelid = own.oid AND NOT own.relispartition
    UNION ALL SELECT 'inherited by ' || i.inhrelid::regclass::text, '' FROM pg_inherits i JOIN own ON i.inhparent = own.oid AND own.relkind <> 'p'
)
SELECT 'table' AS kind, '' AS name, f.aspect AS aspect, f.value AS value
FROM facts f WHERE f.value IS NOT NULL
