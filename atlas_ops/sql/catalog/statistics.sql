-- Extended statistics of a table: what stands between the parentheses, if it is not all kinds, and after ON.
SELECT s.stxname::text AS name,
       array_remove(ARRAY[CASE WHEN 'd' = ANY (s.stxkind) THEN 'ndistinct' END, CASE WHEN 'f' = ANY (s.stxkind) THEN 'dependencies' END,
                          CASE WHEN 'm' = ANY (s.stxkind) THEN 'mcv' END], NULL) AS kinds,
       pg_get_statisticsobjdef_columns(s.oid) AS columns,
       CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget::int END AS target,
       pg_get_userbyid(s.stxowner)::text AS owner,
       obj_description(s.oid, 'pg_statistic_ext') AS comment
FROM pg_statistic_ext s
WHERE s.stxrelid = %(oid)s
ORDER BY s.stxname
