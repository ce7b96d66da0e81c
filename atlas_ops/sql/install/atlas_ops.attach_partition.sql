-- Attaches the table of a partition, and gives it the replica identity by index that the youngest other one has (the partitioned
-- table, where there is none): the index of its own that is attached to the same index of the partitioned table.
CREATE OR REPLACE FUNCTION atlas_ops.attach_partition(parent regclass, fresh text, from_edge text, to_edge text)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
DECLARE
    sibling oid := (SELECT r.partition FROM atlas_ops.ranges(parent) r WHERE r.kind = 'r' AND r.partition <> pg_catalog.to_regclass(fresh)
                    ORDER BY r.upper_bound DESC LIMIT 1);
    identifying text;
BEGIN
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, fresh, from_edge, to_edge);
    SELECT x.relname INTO identifying
    FROM pg_catalog.pg_index whole
    JOIN pg_catalog.pg_inherits h ON h.inhparent = whole.indexrelid
    JOIN pg_catalog.pg_index own ON own.indexrelid = h.inhrelid AND own.indrelid = pg_catalog.to_regclass(fresh) AND NOT own.indisreplident
    JOIN pg_catalog.pg_class x ON x.oid = own.indexrelid
    WHERE whole.indrelid = parent
      AND CASE WHEN sibling IS NULL THEN whole.indisreplident
               ELSE EXISTS (SELECT FROM pg_catalog.pg_inherits s JOIN pg_catalog.pg_index theirs ON theirs.indexrelid = s.inhrelid
                            WHERE s.inhparent = whole.indexrelid AND theirs.indrelid = sibling AND theirs.indisreplident) END;
    IF identifying IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', fresh, identifying);
    END IF;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.attach_partition(regclass,text,text,text)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.attach_partition(regclass,text,text,text) FROM ' || grantee;
    END LOOP;
END $$;
