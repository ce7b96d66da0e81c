"""The online copy on real servers: what is captured, what a drain makes of it in either direction, large months, and who stays out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from atlas_ops import cutover, database, division, execute, online, verify
from atlas_ops.errors import AtlasError
from atlas_ops.stages.apply_migration import ApplyMigration
from atlas_ops.stages.cut_over import CutOver

# Passes of a drain, by hand


class Passes:
    """Drains pass by pass, in any order of the log; after each of them every row that differs is still in the log."""

    def __init__(self, ops: Any, db: Any, spec: Any, conn: Any) -> None:
        self.conn = conn
        self.spec, snapshot = ops.placed(db, spec)
        self.original, self.authority = snapshot.original, snapshot.online.authority
        key = self.original.column(self.spec.partition_key)
        self.parts = [one for one in division.parts(self.spec, key.base_type, ops.as_of) if one.table]
        self.log = online.log(self.spec).as_string(None)

    def one(self, limit: int) -> None:
        """A pass of at most `limit` keys (0: of all), and what must hold after it."""
        with self.conn.transaction():
            for statement in online.Drain(self.spec, self.original, self.authority).statements(limit):
                self.conn.execute(statement)
        assert self.lost() == 0

    def all(self, limit: int, order: str = "random()") -> None:
        """Passes until the log is empty."""
        assert self.lost() == 0
        for _ in range(300):
            if not self.waiting():
                return
            self.conn.execute(
                f"WITH d AS (DELETE FROM {self.log} RETURNING *) INSERT INTO {self.log} SELECT * FROM d ORDER BY {order}"
            )
            self.one(limit)
        pytest.fail(f"{self.waiting()} keys are left")

    def waiting(self) -> int:
        """Keys in the log."""
        return int(self.conn.execute(f"SELECT count(*) FROM {self.log}").fetchone()[0])

    def lost(self) -> int:
        """Rows that differ and are in no log."""
        found = [
            self.conn.execute(verify.waiting_query(self.spec, self.original, part, self.authority)).fetchone()
            for part in self.parts
        ]
        return sum(lost for _, lost in found)


@contextmanager
def passes(ops: Any, db: Any, spec: Any) -> Iterator[Passes]:
    with database.connect(ops.session(db), write=True) as conn:
        yield Passes(ops, db, spec, conn)


def plainly(statement: str) -> str:
    """On one line, without comments."""
    return " ".join(" ".join(line for line in statement.splitlines() if not line.startswith("--")).split())


# Every verb

KEYED = """
INSERT INTO {t} (id, at, body) VALUES (101, '2024-01-20 12:00:00.000001+00', 'new'), (102, '2024-02-20', 'new');
INSERT INTO {t} (id, at, body) VALUES (103, '1999-01-01', 'early'), (104, '2031-01-01', 'late');
UPDATE {t} SET body = 'changed' WHERE id IN (5, 41);
UPDATE {t} SET body = body WHERE id = 51;
DELETE FROM {t} WHERE id IN (6, 42);
UPDATE {t} SET at = at + interval '1 month' WHERE id IN (7, 8);
UPDATE {t} SET at = at - interval '1 month' WHERE id = 43;
UPDATE {t} SET at = '2031-01-01' WHERE id = 52;
UPDATE {t} SET id = id + 1000 WHERE id IN (9, 44);
UPDATE {t} SET id = -1 WHERE id = 11; UPDATE {t} SET id = 11 WHERE id = 12; UPDATE {t} SET id = 12 WHERE id = -1;
DELETE FROM {t} WHERE id = 13; INSERT INTO {t} (id, at, body) VALUES (13, '2024-02-13', 'again');
INSERT INTO {t} (id, at, body) VALUES (105, '2024-01-05', 'brief'); DELETE FROM {t} WHERE id = 105;
INSERT INTO {t} (id, at, body) SELECT id, at, 'upsert' FROM {t} WHERE id IN (14, 46) ON CONFLICT ({key}) DO UPDATE SET body = 'upserted';
INSERT INTO {t} (id, at, body) SELECT id, at, 'nothing' FROM {t} WHERE id = 15 ON CONFLICT DO NOTHING;
MERGE INTO {t} USING (VALUES (16, '2024-01-16'), (106, '2024-01-16')) AS m (id, at) ON {t}.id = m.id
    WHEN MATCHED THEN UPDATE SET body = 'merged' WHEN NOT MATCHED THEN INSERT (id, at, body) VALUES (m.id, m.at::timestamptz, 'merged');
BEGIN;
UPDATE {t} SET body = 'kept' WHERE id = 17;
SAVEPOINT s; DELETE FROM {t} WHERE id < 60; INSERT INTO {t} (id, at) VALUES (107, '2024-01-01'); ROLLBACK TO s;
UPDATE {t} SET at = '2024-02-29 23:59:59.999999' WHERE id = 18;
COMMIT;
BEGIN; DELETE FROM {t}; ROLLBACK;
"""
KEYLESS = """
UPDATE {t} SET at = NULL WHERE id IN (21, 47);
UPDATE {t} SET at = '2024-02-10' WHERE id = 10;
UPDATE {t} SET at = edited WHERE id IN (20, 22); UPDATE {t} SET at = NULL WHERE id = 22;
UPDATE {t} SET at = '2024-01-10' WHERE id = 30; UPDATE {t} SET at = NULL WHERE id = 30;
UPDATE {t} SET at = edited WHERE id = 40; UPDATE {t} SET at = NULL WHERE id = 40;
UPDATE {t} SET body = 'changed', edited = edited - interval '1 month' WHERE id = 50;
UPDATE {t} SET id = 1060 WHERE id = 60;
DELETE FROM {t} WHERE id = 70;
INSERT INTO {t} (id, edited) VALUES (108, '2024-01-08'); DELETE FROM {t} WHERE id = 108;
INSERT INTO {t} (id, edited) VALUES (109, '2024-01-09');
"""


def written(db: Any, spec: Any, *, authority: str) -> None:
    """Every verb, through SQL, COPY and a session in replica role, as an application of any kind would."""
    key = "id" if authority == online.ORIGINAL else "id, at"
    with psycopg.connect(db.conninfo, autocommit=True, options="-c TimeZone=UTC") as conn:
        keyless = KEYLESS if spec.null_keys != "refuse" and authority == online.ORIGINAL else ""
        for statement in (KEYED + keyless).format(t=spec.name, key=key).split(";"):
            conn.execute(statement)
        with conn.cursor().copy(f"COPY {spec.name} (id, at, body) FROM STDIN") as copy:
            for number in range(110, 120):
                copy.write_row((number, f"2024-0{1 + number % 3}-11", "copied"))
        conn.execute(f"UPDATE {spec.name} SET body = 'copied and changed' WHERE id BETWEEN 115 AND 119")
    with psycopg.connect(db.superuser_conninfo, autocommit=True, options="-c session_replication_role=replica") as conn:
        conn.execute(f"UPDATE {spec.name} SET body = 'replicated' WHERE id = 23")
        conn.execute(f"DELETE FROM {spec.name} WHERE id = 24")


@pytest.mark.parametrize("limit", [1, 0])
@pytest.mark.parametrize("authority", [online.ORIGINAL, online.PARTITIONED])
@pytest.mark.parametrize("table", ["online", "aside", "valued"])
def test_every_verb_reaches_what_follows(following: Any, ops: Any, table: str, authority: str, limit: int) -> None:
    spec = getattr(ops, table)()
    if authority == online.PARTITIONED:
        ops.cut_over(following, spec)
    written(following, spec, authority=authority)
    proofs, _ = ops.compared(following, spec)
    assert sum(proof.waiting for proof in proofs) > 30 and sum(proof.lost or 0 for proof in proofs) == 0
    with passes(ops, following, spec) as by_hand:
        by_hand.all(limit)
    assert ops.in_step(following, spec) == 82


@pytest.mark.parametrize("order", ["at NULLS FIRST", "at DESC NULLS LAST"])
@pytest.mark.parametrize("table", ["aside", "valued"])
def test_a_key_that_turns_from_null_to_a_value_and_back_may_be_drained_in_any_order(
    following: Any, ops: Any, table: str, order: str
) -> None:
    """The last value may be just what stands in for NULL, so that one row of the copy stands for both keys."""
    spec = getattr(ops, table)()
    with passes(ops, following, spec) as by_hand:
        for turns in (
            ["edited", "NULL"],
            ["'2024-02-02'", "NULL"],
            ["'2031-01-01'", "edited", "'2024-02-02'"],
            ["NULL"],
        ):
            for at in turns:
                ops.run(following, f"UPDATE {table} SET at = {at} WHERE id IN (5, 10)")
            by_hand.all(1, order)
    assert ops.in_step(following, spec) == 70


def test_no_drain_comes_between_the_copy_of_a_new_month_and_its_attachment(following: Any, ops: Any) -> None:
    """It would put rows of that month into the default partition, and miss what was deleted from it."""
    ops.run(following, "DELETE FROM note WHERE at < '2024-01-01' OR at >= '2024-03-01'")
    ops.drain(following, ops.online())
    ops.run(following, "INSERT INTO note VALUES (71, '2024-03-05')")
    spec = ops.online(until="2024-04-01")
    plan = ops.plan(following, spec)
    copied = [step.name for step in plan.steps].index("copy note_2024_03") + 1
    ops.carry_out(following, replace(plan, steps=plan.steps[:copied]))
    ops.run(following, "DELETE FROM note WHERE id = 71", "INSERT INTO note VALUES (72, '2024-03-06')")
    ops.drain(following, spec)
    assert ops.bars(following, spec) == ["in step"]
    ops.follow(following, spec)
    assert ops.in_step(following, spec) == 61
    assert ops.value(following, "SELECT array_agg(id) FROM partitions.note_2024_03") == [72]


# Large months


LARGE = {
    # 2,600 rows of January: on both sides of the ends of the batches some share a microsecond, others follow by one
    "timestamptz": "'2024-01-01'::timestamptz + (n / 7) * interval '1 microsecond'",
    "timestamp": "'2024-01-31 23:59:59'::timestamp - n * interval '1 microsecond'",
    "date": "'2024-01-01'::date + n / 400",
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_month_is_copied_in_batches_by_a_key_of_any_type(empty: Any, ops: Any, kind: str) -> None:
    spec = ops.online(batch_rows=1_000, pause="1ms")
    ops.run(
        empty,
        f"CREATE TABLE note (id bigint PRIMARY KEY, at {kind} NOT NULL)",
        "CREATE INDEX ON note (at)",
        f"INSERT INTO note SELECT n, {LARGE[kind]} FROM generate_series(0, 2599) n",
        "INSERT INTO note VALUES (-1, 'infinity'), (-2, '-infinity'), (-3, '0044-03-15 BC'), (-4, '2024-02-01')",
    )
    lines = ops.follow(empty, spec, {"2024-01": 2_600, "2024-02": 1})
    [copied] = [line for line in lines if line.step == "copy note_2024_01"]
    copies = "SELECT count(*) FROM partitions.note_"
    assert ops.value(empty, copies + "2024_01") == 2_600 and ops.value(empty, copies + "default") == 3
    assert copied.attempts == 4, "three batches, and a look whether there is more"
    assert ops.value(empty, "SELECT count(*) FROM atlas_ops.copy_progress") == 0
    assert ops.in_step(empty, spec) == 2_604


def test_a_month_that_is_one_moment_is_one_batch(empty: Any, ops: Any) -> None:
    spec = ops.online(batch_rows=1_000)
    ops.run(
        empty,
        "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE INDEX ON note (at)",
        "INSERT INTO note SELECT n, '2024-01-07 01:02:03.000004+00' FROM generate_series(1, 2500) n",
    )
    lines = ops.follow(empty, spec, {"2024-01": 2_500})
    [copied] = [line for line in lines if line.step == "copy note_2024_01"]
    assert copied.attempts == 2
    assert ops.in_step(empty, spec) == 2_500


KILLED = """
import json, os, signal, sys
from datetime import date
from atlas_ops import catalog, database, division, execute, migration
from atlas_ops.settings import tables_from
conninfo, table, as_of, rows = json.loads(sys.argv[1])
where = database.Session("test", conninfo, "test")
[spec] = tables_from([table])
with database.connect(where) as conn:
    snapshot = catalog.snapshot(conn, spec, division.names_needed(spec, date.fromisoformat(as_of)))
plan = migration.plan_migration(spec, snapshot, date.fromisoformat(as_of), rows)
batches = []

def told(done, total, label):
    if label == "copy note_2024_01":
        batches.append(done)
        if len(batches) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

execute.execute(where, plan, plan.digest, told)
"""


def test_a_run_killed_between_two_batches_goes_on_after_the_last_one(empty: Any, ops: Any) -> None:
    spec = ops.online(batch_rows=1_000, workers=1)
    rows = {"2024-01": 4_000}
    ops.run(
        empty,
        "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE INDEX ON note (at)",
        "INSERT INTO note SELECT n, '2024-01-01'::timestamptz + n * interval '1 second' FROM generate_series(1, 4000) n",
    )
    table = ops.keys(copy="online", batch_rows=1_000, workers=1)
    arguments = json.dumps([empty.conninfo, table, ops.as_of.isoformat(), rows])
    done = subprocess.run([sys.executable, "-c", KILLED, arguments], check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert ops.value(empty, "SELECT count(*) FROM partitions.note_2024_01") == 2_000
    assert ops.value(empty, "SELECT reached FROM atlas_ops.copy_progress") == "2024-01-01 00:33:20+00"
    # what comes meanwhile in either half is in the log, or still to be copied
    ops.run(
        empty,
        "DELETE FROM note WHERE id IN (5, 3005)",
        "UPDATE note SET at = at + interval '30 minutes' WHERE id BETWEEN 1990 AND 2010",
        "UPDATE note SET at = at - interval '40 minutes' WHERE id BETWEEN 3990 AND 4000",
    )
    assert ops.reds(empty, spec) == []
    lines = ops.follow(empty, spec, rows)
    assert "make note_2024_01" not in [line.step for line in lines]
    [copied] = [line for line in lines if line.step == "copy note_2024_01"]
    assert copied.attempts == 3 and 2_000 <= copied.rows < 2_030
    assert (
        ops.value(empty, "SELECT obj_description('partitions.note_2024_01'::regclass) LIKE '%being copied%'") is False
    )
    assert ops.in_step(empty, spec) == 3_998
    assert ops.plan(empty, spec).steps == ()


# What is captured


FOREIGN_TYPE = """
CREATE TYPE code;
CREATE FUNCTION code_in(cstring) RETURNS code LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION code_out(code) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE code (INPUT = code_in, OUTPUT = code_out, LIKE = int4);
CREATE FUNCTION code_eq(code, code) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'int4eq';
CREATE FUNCTION code_cmp(code, code) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
CREATE OPERATOR = (FUNCTION = code_eq, LEFTARG = code, RIGHTARG = code);
CREATE OPERATOR CLASS code_ops DEFAULT FOR TYPE code USING btree AS OPERATOR 3 =, FUNCTION 1 code_cmp(code, code);
"""


def test_the_capture_needs_no_operator_of_the_keys_type(empty: Any, ops: Any) -> None:
    """As those of an extension, which lie in a schema of their own: the application's UPDATE must not fail for want of one."""
    with psycopg.connect(empty.superuser_conninfo, autocommit=True) as admin:
        admin.execute(FOREIGN_TYPE)
    ops.run(
        empty,
        "CREATE TABLE note (id code PRIMARY KEY, at timestamptz NOT NULL)",
        "INSERT INTO note VALUES ('1', '2024-01-01')",
    )
    plan = ops.plan(empty, ops.online())
    ops.carry_out(empty, replace(plan, steps=plan.steps[:3]))
    ops.run(
        empty,
        "UPDATE note SET at = '2024-01-02'",
        "UPDATE note SET at = at",
        "UPDATE note SET id = '2'",
        "DELETE FROM note",
    )
    logged = "SELECT string_agg(id || ' ' || at::date, ', ' ORDER BY ctid) FROM partitions.note_key_log"
    assert ops.value(empty, logged) == (
        "1 2024-01-01, 1 2024-01-02, 1 2024-01-02, 1 2024-01-02, 2 2024-01-02, 2 2024-01-02"
    )


# The pass itself


def test_no_statement_of_a_drain_is_compiled_where_jit_is_on(following: Any, ops: Any) -> None:
    """Debian's server has it on; the embedded one has not. Compiling takes longer than an exchange may hold its locks."""
    name = ops.value(following, "SELECT current_database()")
    with psycopg.connect(following.superuser_conninfo, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET jit = on")
    with passes(ops, following, ops.online()) as by_hand, by_hand.conn.transaction():
        statements = online.Drain(by_hand.spec, by_hand.original, by_hand.authority).statements()
        explained = 0
        for statement in statements:
            if "note_batch" in statement and not statement.startswith(("CREATE", "DO")):
                plan = by_hand.conn.execute("EXPLAIN " + statement).fetchall()
                assert not [line for (line,) in plan if "JIT" in line], statement
                explained += 1
            else:
                by_hand.conn.execute(statement)
        assert explained == 4, "take, remove, insert, put back"


def test_two_rows_that_exchange_a_unique_value_are_drained_one_after_the_other(empty: Any, ops: Any) -> None:
    """The one that is taken first finds its value taken: it is put back, and comes in once the other has gone."""
    spec = ops.online()
    ops.run(
        empty,
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL, code text, UNIQUE (code, at))",
        "INSERT INTO note VALUES (1, '2024-01-05', 'a'), (2, '2024-01-05', 'b'), (3, '2024-01-05', 'c')",
    )
    ops.follow(empty, spec)
    ops.run(
        empty,
        "BEGIN; UPDATE note SET code = 'x' WHERE id = 1; UPDATE note SET code = 'a' WHERE id = 2; "
        "UPDATE note SET code = 'b' WHERE id = 1; COMMIT",
    )
    with passes(ops, empty, spec) as by_hand:
        by_hand.conn.execute(f"DELETE FROM {by_hand.log} WHERE ctid > '(0,2)'")
        assert by_hand.waiting() == 2
        by_hand.one(1)
        assert by_hand.waiting() == 2, "put back"
        by_hand.one(1)
        by_hand.one(1)
        assert by_hand.waiting() == 0
    assert ops.in_step(empty, spec) == 3


def test_a_row_without_a_key_stops_a_drain_that_was_told_to_refuse_it(empty: Any, ops: Any) -> None:
    spec = ops.online()
    ops.run(
        empty, "CREATE TABLE note (id int PRIMARY KEY, at timestamptz)", "INSERT INTO note VALUES (1, '2024-01-05')"
    )
    ops.follow(empty, spec)
    ops.run(empty, "INSERT INTO note VALUES (2, NULL), (3, '2024-01-06')")
    with pytest.raises(AtlasError) as stop:
        ops.drain(empty, spec)
    assert stop.value.why == "23502 rows without a partition key came, and null_keys is refuse"
    assert stop.value.next == "Say in the specification what becomes of them: null_keys: set_aside, or a value."
    assert ops.log_rows(empty, spec) == 2 and ops.reds(empty, spec) == ["null keys"]
    ops.run(empty, "UPDATE note SET at = '2024-01-07' WHERE id = 2")
    ops.drain(empty, spec)
    assert ops.in_step(empty, spec) == 3


def test_a_row_that_no_partition_takes_stops_a_drain_until_one_does(empty: Any, ops: Any) -> None:
    spec = ops.online(default_partition=False)
    ops.run(
        empty,
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "INSERT INTO note VALUES (1, '2024-01-05')",
    )
    ops.follow(empty, spec)
    ops.run(empty, "INSERT INTO note VALUES (2, '2024-03-05'), (3, '2024-01-06')")
    with pytest.raises(AtlasError, match="does not fit its partition"):
        ops.drain(empty, spec)
    assert ops.log_rows(empty, spec) == 2
    later = ops.online(default_partition=False, until="2024-04-01")
    ops.follow(empty, later)
    assert ops.in_step(empty, later) == 3
    assert (
        ops.value(empty, "SELECT tableoid::regclass::text FROM note_partitioned WHERE id = 2")
        == "partitions.note_2024_03"
    )


# The plan, and a run that was stopped


def whole_plan(closed: str, only: str) -> list[str]:
    """The statements for `note` with two months and an index, each of them once on a line."""
    log = '"partitions"."note_key_log"'
    fence = (
        "DO $fence$ BEGIN PERFORM FROM atlas_ops.online_copy WHERE schema_name = 'public' AND table_name = 'note' AND authority = 'original' "
        "AND exchanged = false {} IF NOT FOUND THEN RAISE EXCEPTION 'the copy of %.% has been turned, switched off or dropped since this "
        "plan was made', 'public', 'note' USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run the stage again: the plan is "
        "read anew.'; END IF; END $fence$"
    )

    def copied(name: str, condition: str, bound: str) -> list[str]:
        at = f'"partitions"."note_{name}"'
        mark = f'atlas_ops: rows of "public"."note" {bound} WHERE {condition}'.replace("'", "''")
        return [
            fence.format("FOR SHARE;"),
            f'CREATE TABLE {at} (LIKE "public"."note_partitioned" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED '
            "INCLUDING STORAGE INCLUDING COMPRESSION)",
            f"REVOKE ALL ON TABLE {at} FROM {closed}",
            f"ALTER TABLE {at} ENABLE ROW LEVEL SECURITY",
            f'ALTER TABLE {at} ADD CONSTRAINT "atlas_ops_bound" CHECK ("at" IS NOT NULL AND {condition})',
            f'INSERT INTO {at} ("id", "at") SELECT "id", "at" FROM "public"."note" WHERE {condition}',
            f'ALTER TABLE {at} ADD CONSTRAINT "note_{name}_pkey" PRIMARY KEY (id, "at")',
            f'CREATE INDEX "note_{name}_at_idx" ON {at} USING btree (at)',
            f"COMMENT ON TABLE {at} IS '{mark}'",
            f"ANALYZE {at}",
        ]

    def attached(name: str, bound: str) -> list[str]:
        return [
            f'ALTER TABLE "public"."note_partitioned" ATTACH PARTITION "partitions"."note_{name}" {bound}',
            f'ALTER TABLE "partitions"."note_{name}" DROP CONSTRAINT IF EXISTS "atlas_ops_bound"',
        ]

    def registered(ready: str) -> str:
        return (
            "INSERT INTO atlas_ops.partitioned_table (schema_name, table_name, every, ahead, partition_schema, partition_prefix, "
            "storage_parameters, ready, keep, lock_timeout_ms) VALUES ('public', 'note_partitioned', 'month', 1, 'partitions', 'note', "
            f"'{{}}', {ready}, 24, 100) "
            "ON CONFLICT (schema_name, table_name) DO UPDATE SET every = excluded.every, ahead = excluded.ahead, "
            "partition_schema = excluded.partition_schema, partition_prefix = excluded.partition_prefix, "
            "storage_parameters = excluded.storage_parameters, ready = excluded.ready, keep = excluded.keep, "
            "lock_timeout_ms = excluded.lock_timeout_ms"
        )

    january = """"at" >= '2024-01-01 00:00:00+00' AND "at" < '2024-02-01 00:00:00+00'"""
    february = """"at" >= '2024-02-01 00:00:00+00' AND "at" < '2024-03-01 00:00:00+00'"""
    of_january = "FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')"
    of_february = "FOR VALUES FROM ('2024-02-01 00:00:00+00') TO ('2024-03-01 00:00:00+00')"
    return [
        'CREATE SCHEMA IF NOT EXISTS "partitions"',
        f'REVOKE ALL ON SCHEMA "partitions" FROM {closed}',
        "COMMENT ON SCHEMA \"partitions\" IS 'atlas_ops: partitions, closed to the roles of the application'",
        'CREATE TABLE "partitions"."note" (LIKE "public"."note" INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS) '
        'PARTITION BY RANGE ("at")',
        f'REVOKE ALL ON TABLE "partitions"."note" FROM {closed}',
        'ALTER TABLE "partitions"."note" ADD CONSTRAINT "note_partitioned_pkey" PRIMARY KEY (id, "at")',
        'CREATE INDEX "note_partitioned_at_idx" ON "partitions"."note" USING btree (at)',
        'CREATE TRIGGER "touch" BEFORE UPDATE ON "partitions"."note" FOR EACH ROW EXECUTE FUNCTION '
        "suppress_redundant_updates_trigger()",
        'ALTER TABLE "partitions"."note" DISABLE TRIGGER "touch"',
        'CREATE TRIGGER "atlas_ops_follows" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "partitions"."note" FOR EACH STATEMENT '
        "EXECUTE FUNCTION atlas_ops.refuse_write()",
        'ALTER TABLE "partitions"."note" ENABLE ALWAYS TRIGGER "atlas_ops_follows"',
        "INSERT INTO atlas_ops.online_copy (schema_name, table_name) VALUES ('public', 'note')",
        'ALTER TABLE "partitions"."note" RENAME TO "note_partitioned"',
        'ALTER TABLE "partitions"."note_partitioned" SET SCHEMA "public"',
        registered("false"),
        f'CREATE TABLE {log} ("id" bigint, "at" timestamp with time zone) WITH (autovacuum_vacuum_threshold = 5000, '
        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off)",
        f"REVOKE ALL ON TABLE {log} FROM {closed}",
        f"ALTER TABLE {log} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {log} REPLICA IDENTITY FULL",
        f"COMMENT ON TABLE {log} IS 'atlas_ops: keys of changed rows'",
        'CREATE FUNCTION "partitions"."note_capture"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = \'\' AS '
        f'$capture$ BEGIN IF TG_OP = \'INSERT\' THEN INSERT INTO {log} VALUES ("new"."id", "new"."at"); '
        f'ELSIF TG_OP = \'DELETE\' THEN INSERT INTO {log} VALUES ("old"."id", "old"."at"); '
        'ELSIF ROW("old"."id", "old"."at")::record *= ROW("new"."id", "new"."at")::record THEN '
        f'INSERT INTO {log} VALUES ("new"."id", "new"."at"); ELSE INSERT INTO {log} VALUES ("old"."id", "old"."at"), '
        '("new"."id", "new"."at"); END IF; RETURN NULL; END $capture$',
        f'REVOKE ALL ON FUNCTION "partitions"."note_capture"() FROM {closed}',
        'CREATE TRIGGER "atlas_ops_capture" AFTER INSERT OR UPDATE OR DELETE ON "public"."note" FOR EACH ROW EXECUTE FUNCTION '
        '"partitions"."note_capture"()',
        'ALTER TABLE "public"."note" ENABLE ALWAYS TRIGGER "atlas_ops_capture"',
        'CREATE TRIGGER "atlas_ops_no_truncate" BEFORE TRUNCATE ON "public"."note" FOR EACH STATEMENT EXECUTE FUNCTION '
        '"atlas_ops"."refuse_truncate"()',
        'ALTER TABLE "public"."note" ENABLE ALWAYS TRIGGER "atlas_ops_no_truncate"',
        *copied("2024_01", january, of_january),
        *copied("2024_02", february, of_february),
        *attached("2024_01", of_january),
        *attached("2024_02", of_february),
        'VACUUM (ANALYZE, SKIP_LOCKED) "partitions"."note_2024_01"',
        'VACUUM (ANALYZE, SKIP_LOCKED) "partitions"."note_2024_02"',
        f'ANALYZE (SKIP_LOCKED) {only}"public"."note_partitioned"',
        fence.format("FOR UPDATE;"),
        "UPDATE atlas_ops.online_copy SET in_step = true WHERE schema_name = 'public' AND table_name = 'note'",
        registered("true"),
    ]


def test_the_whole_plan_of_two_months_word_for_word_and_then_it_runs(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE INDEX ON note (at)",
        "CREATE TRIGGER touch BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "INSERT INTO note SELECT n, '2024-01-10'::timestamptz + n * interval '1 day' FROM generate_series(1, 40) n",
    )
    spec = ops.online(default_partition=False)
    plan = ops.plan(empty, spec, install=False)
    closed = 'PUBLIC, "anon", "authenticated", "authenticator", "service_role"'
    told = [plainly(statement) for step in plan.steps[:-1] for statement in step.statements]
    assert told == whole_plan(closed, "ONLY " if empty.version >= 18 else "")
    found = ops.snapshot(empty, spec).original
    assert plan.steps[-1].statements == online.Drain(spec, found, online.ORIGINAL).statements(), (
        "word for word in tests/unit"
    )
    assert [(step.name, step.lock, step.lane) for step in plan.steps] == [
        ("build public.note_partitioned", "ACCESS SHARE", ""),
        ("capture public.note", "SHARE ROW EXCLUSIVE", ""),
        ("copy note_2024_01", "ACCESS SHARE", "note 2024-01"),
        ("copy note_2024_02", "ACCESS SHARE", "note 2024-02"),
        ("attach note_2024_01", "SHARE UPDATE EXCLUSIVE", ""),
        ("attach note_2024_02", "SHARE UPDATE EXCLUSIVE", ""),
        ("vacuum note_2024_01", "SHARE UPDATE EXCLUSIVE", "note 2024-01"),
        ("vacuum note_2024_02", "SHARE UPDATE EXCLUSIVE", "note 2024-02"),
        ("analyze public.note_partitioned", "SHARE UPDATE EXCLUSIVE", ""),
        ("follow public.note", "ROW SHARE", ""),
        ("drain into public.note_partitioned", "ACCESS SHARE", ""),
    ]
    assert plan.additive
    ops.migrate(empty, spec)
    assert ops.in_step(empty, spec) == 40


def test_a_run_stopped_after_any_of_its_steps_is_completed_by_the_next(empty: Any, ops: Any) -> None:
    """And what the application wrote in between is in the copy."""
    for done in (1, 2, 3, 5, 10):  # build, capture, a copy, an attach, follow
        spec = ops.online(table=f"note{done}", default_partition=False)
        ops.run(
            empty,
            f"CREATE TABLE {spec.table} (id int PRIMARY KEY, at timestamptz NOT NULL)",
            f"INSERT INTO {spec.table} SELECT n, '2024-01-31'::timestamptz + n * interval '1 day' FROM generate_series(0, 20) n",
        )
        plan = ops.plan(empty, spec, install=done == 1)
        begun = replace(plan, steps=plan.steps[: done + (done == 1)])
        ops.carry_out(empty, begun)
        ops.run(
            empty, f"DELETE FROM {spec.table} WHERE id = 5", f"UPDATE {spec.table} SET at = '2024-01-02' WHERE id = 6"
        )
        assert ops.reds(empty, spec) == [], begun.steps[-1].name
        ops.follow(empty, spec)
        assert ops.in_step(empty, spec) == 20, begun.steps[-1].name
        assert ops.plan(empty, spec).steps == ()


def test_a_drain_that_has_more_to_do_after_all_its_passes_says_so_and_keeps_what_is_done(
    following: Any, ops: Any
) -> None:
    spec = ops.online()
    ops.run(following, "UPDATE note SET body = 'changed' WHERE id <= 5")
    plan = cutover.plan_drain(*ops.placed(following, spec))
    [step] = plan.steps
    found = ops.snapshot(following, spec).original
    short = replace(step, statements=online.Drain(spec, found, online.ORIGINAL).statements(1), again=3)
    with pytest.raises(AtlasError) as stop:
        ops.carry_out(following, replace(plan, steps=(short,)))
    assert stop.value.lines() == [
        'STOPPED: Step "drain into public.note_partitioned" was repeated 3 times, and there is still more to do.',
        " because: Rows come faster than they are taken: the key log does not shrink.",
        "    next: Nothing is lost, and what is done stays done. Run again at a quieter hour, with a shorter pause, or look who writes so much.",
    ]
    assert ops.log_rows(following, spec) == 2
    assert ops.value(following, "SELECT count(*) FROM note_partitioned WHERE body = 'changed'") == 3
    assert execute.execute(ops.session(following), cutover.plan_drain(*ops.placed(following, spec)), "additive")
    assert ops.in_step(following, spec) == 70


def test_a_second_drain_waits_for_the_first(following: Any, ops: Any) -> None:
    """Without the lock of a run too, as after a client that died while its server process goes on."""
    spec = ops.online()
    ops.run(following, "UPDATE note SET body = 'changed' WHERE id <= 5")
    with passes(ops, following, spec) as first:
        statements = online.Drain(first.spec, first.original, first.authority).statements()
        with first.conn.transaction():
            for statement in statements:
                first.conn.execute(statement)
            with passes(ops, following, spec) as second, pytest.raises(psycopg.errors.LockNotAvailable):
                second.conn.execute("SET lock_timeout = '20ms'")
                second.one(0)
            lines: list[Any] = []
            run = threading.Thread(target=lambda: lines.extend(ops.drain(following, spec)))
            run.start()
            deadline = time.monotonic() + 20
            while not ops.value(following, WAITING) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.2)  # longer than its lock_timeout
        run.join()
    [line] = lines
    assert line.sqlstates and set(line.sqlstates) == {"55P03"}
    assert ops.in_step(following, spec) == 70


WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name LIKE 'atlas_ops%' AND wait_event_type = 'Lock'"
)


# What is refused


DAMAGES = [
    "DROP TRIGGER atlas_ops_capture ON note",
    "ALTER TABLE note DISABLE TRIGGER atlas_ops_capture",
    "ALTER TABLE note ENABLE TRIGGER atlas_ops_capture",
    "DROP TRIGGER atlas_ops_no_truncate ON note",
    "ALTER TABLE note DISABLE TRIGGER USER",
]


def test_a_capture_that_somebody_touched_stops_everything_until_the_copy_is_made_anew(
    following: Any, ops: Any, enter: Any
) -> None:
    spec = ops.online()
    note = ("public", "note")
    for damage in DAMAGES:
        ops.run(following, damage)
        assert ops.bars(following, spec) == ops.reds(following, spec) == ["capture"], damage
        ops.run(following, *online.release(note), *online.capture(spec, note))
        assert ops.bars(following, spec) == ops.reds(following, spec) == []
    ops.run(following, DAMAGES[0], "UPDATE note SET body = 'nobody heard' WHERE id = 5")
    with pytest.raises(AtlasError) as stop:
        enter(ApplyMigration, following).plan_migration()
    assert stop.value.what == "note cannot be migrated: The capture of note is not there, or does not always fire."
    assert 'how = "abandon"' in stop.value.next
    with pytest.raises(AtlasError, match="1 rows differ and are in no key log"):
        enter(CutOver, following).proof()
    ops.carry_out(following, cutover.plan_abandon(*ops.placed(following, spec)))
    ops.follow(following, spec)
    assert ops.in_step(following, spec) == 70


def test_a_plan_made_before_the_direction_was_turned_is_stopped_by_the_fence(following: Any, ops: Any) -> None:
    spec = ops.online()
    ops.run(following, "UPDATE note SET body = 'changed' WHERE id = 5")
    stale = [
        cutover.plan_drain(*ops.placed(following, spec)),
        ops.cut_over_plan(following, spec),
        ops.plan(following, ops.online(until="2024-05-01")),
    ]
    ops.cut_over(following, spec)
    ops.run(following, "UPDATE note SET body = 'changed again' WHERE id = 6")
    for plan in stale:
        with pytest.raises(AtlasError) as stop:
            ops.carry_out(following, plan)
        assert stop.value.why.startswith("55000 the copy of public.note has been turned, switched off or dropped")
        assert stop.value.next == "Run the stage again: the plan is read anew."
    stale = [cutover.plan_drain(*ops.placed(following, spec)), cutover.plan_roll_back(*ops.placed(following, spec))]
    ops.carry_out(following, cutover.plan_switch_off(*ops.placed(following, spec)))
    for plan in stale:
        with pytest.raises(AtlasError, match="switched off"):
            ops.carry_out(following, plan)
    assert ops.value(following, "SELECT body FROM partitions.note_retired WHERE id = 6") == "row 6"


def test_truncate_is_refused_and_so_is_every_write_to_what_follows(following: Any, ops: Any) -> None:
    refused = [
        *(("note", f"TRUNCATE {tables}") for tables in ("note", "note, author", "author CASCADE")),
        *(
            ("note_partitioned", write.format("note_partitioned"))
            for write in (
                "INSERT INTO {} (id, at) VALUES (101, '2024-01-01')",
                "UPDATE {} SET body = 'x' WHERE false",
                "DELETE FROM {}",
                "TRUNCATE {}",
                "COPY {} FROM '/dev/null'",
            )
        ),
    ]
    hints = {
        "note": ("55006", "Use DELETE, or switch the copy off first (10 Roll back)."),
        "note_partitioned": ("55000", "Write to the table that the application uses; 06 Cut over exchanges the two."),
    }
    for options in ("", "-c session_replication_role=replica"):
        for table, statement in refused:
            with (
                psycopg.connect(following.superuser_conninfo, options=options) as conn,
                pytest.raises(psycopg.Error) as error,
            ):
                conn.execute(statement)
            assert (error.value.sqlstate, error.value.diag.message_hint) == hints[table], statement
    ops.cut_over(following, ops.online())
    with (
        following.connect() as conn,
        pytest.raises(psycopg.errors.ObjectInUse, match="is refused while"),
    ):
        conn.execute("TRUNCATE note")
    assert ops.in_step(following, ops.online()) == 70


# What 03 says of it


def test_rows_that_wait_and_rows_that_are_lost_are_told_apart_by_key(empty: Any, ops: Any) -> None:
    """Names of columns that our own queries could use are no trouble."""
    spec = ops.online()
    ops.run(
        empty,
        "CREATE TABLE note (kind int, here text, at timestamptz NOT NULL, key int, in_log int, PRIMARY KEY (kind, here))",
        "INSERT INTO note SELECT n, 'it''s \"' || n, '2024-01-31'::timestamptz + n * interval '1 day' FROM generate_series(0, 9) n",
    )
    ops.follow(empty, spec)
    ops.run(
        empty,
        "UPDATE note SET key = 1 WHERE kind = 1",
        "DELETE FROM note WHERE kind = 2",
        "SET atlas_ops.writes = 'allowed'; DELETE FROM note_partitioned WHERE kind IN (1, 3)",
        "SET atlas_ops.writes = 'allowed'; UPDATE note_partitioned SET key = 5 WHERE kind = 5",
    )
    proofs, differences = ops.compared(empty, spec)
    assert [(proof.part, proof.waiting, proof.lost) for proof in proofs if not proof.same] == [("2024-02", 2, 2)]
    assert [(found.part, found.key, found.kind) for found in differences] == [
        ("2024-02", ("5", "it's \"5", "2024-02-05 00:00:00+00"), "differs"),
        ("2024-02", ("3", "it's \"3", "2024-02-03 00:00:00+00"), "only in the original"),
    ]
