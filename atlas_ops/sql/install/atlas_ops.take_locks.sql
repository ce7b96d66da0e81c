-- Takes the locks that ATTACH (or a DETACH before it) will need, weak ones first, all of them within so many milliseconds together: whoever waits behind the
-- first of them waits no longer than that and the work itself. In a transaction that holds some already, time goes on counting from there; once it is
-- over, a lock that is not free is given up at once (55P03), and so is one that is free if somebody waits for this transaction.
-- mode: SHARE UPDATE EXCLUSIVE to attach where no row of the partition's time can be on its way; SHARE ROW EXCLUSIVE where one can: an INSERT that has
-- been routed to the default partition, and waits there while another is attached, would fail (23514), so it must wait before it is routed; ACCESS
-- EXCLUSIVE to detach and attach again.
CREATE OR REPLACE FUNCTION atlas_ops.take_locks(parent regclass, mode text, within_ms integer)
RETURNS void LANGUAGE plpgsql SECURITY INVOKER SET search_path = '' SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO, YMD' AS $$
DECLARE
    others CONSTANT text := CASE mode WHEN 'ACCESS EXCLUSIVE' THEN mode ELSE 'SHARE ROW EXCLUSIVE' END;
    deadline timestamptz := nullif(pg_catalog.current_setting('atlas_ops.locks_until', true), '')::timestamptz;
    left_ms integer;
    wanted record;
BEGIN
    IF deadline IS NULL THEN
        deadline := pg_catalog.clock_timestamp() + within_ms * interval '1 millisecond';
        PERFORM pg_catalog.set_config('atlas_ops.locks_until', deadline::text, true);
    ELSIF pg_catalog.clock_timestamp() > deadline AND EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        WHERE NOT l.granted AND l.locktype <> 'advisory' AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(l.pid))) THEN
        RAISE EXCEPTION 'somebody waits for this transaction: what is left is for the next one' USING ERRCODE = 'lock_not_available';
    END IF;
    FOR wanted IN
        SELECT parent AS relation, mode AS strength, 1 AS place
        UNION ALL
        SELECT DISTINCT o.relation::regclass, others, 2
        FROM pg_catalog.pg_constraint f
        CROSS JOIN LATERAL (VALUES (f.confrelid), (f.conrelid)) AS o (relation)
        WHERE f.contype = 'f' AND f.conparentid = 0 AND parent IN (f.conrelid, f.confrelid) AND o.relation <> parent
          AND pg_catalog.has_table_privilege(o.relation, 'UPDATE, DELETE, TRUNCATE')
          AND (SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') FROM pg_catalog.pg_class c WHERE c.oid = o.relation)
        UNION ALL
        SELECT p.partdefid::regclass, 'ACCESS EXCLUSIVE', 3 FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = parent AND p.partdefid <> 0
        ORDER BY place, relation
    LOOP
        left_ms := greatest(1, 1000 * extract(epoch FROM deadline - pg_catalog.clock_timestamp()));
        PERFORM pg_catalog.set_config('lock_timeout', left_ms || 'ms', true);
        EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', wanted.relation, wanted.strength);
    END LOOP;
END $$;
DO $$
DECLARE grantee text;
BEGIN
    FOR grantee IN SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                   FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                   WHERE f.oid = 'atlas_ops.take_locks(regclass,text,integer)'::regprocedure AND a.grantee <> f.proowner LOOP
        EXECUTE 'REVOKE ALL ON FUNCTION atlas_ops.take_locks(regclass,text,integer) FROM ' || grantee;
    END LOOP;
END $$;
