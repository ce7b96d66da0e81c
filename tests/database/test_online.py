"""The online copy on real servers: what is captured, what a drain makes of it in either direction, large months, and who stays out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from atlas_ops import database, migration, online, verify

# Passes of a drain, by hand


class Passes:
    """Drains pass by pass, in any order of the log; after each of them every row that differs is still in the log."""

    def __init__(self, ops: Any, db: Any, spec: Any, conn: Any) -> None:
        self.conn = conn
        self.spec, snapshot = ops.placed(db, spec)
        self.original, self.authority = snapshot.original, snapshot.online.authority
        key = self.original.column(self.spec.partition_key)
        self.parts = [one for one in migration.parts(self.spec, key.base_type, ops.as_of) if one.table]
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


# The plan, and a run that was stopped


def test_a_run_stopped_after_any_of_its_steps_is_completed_by_the_next(empty: Any, ops: Any) -> None:
    """And what the application wrote in between is in the copy."""
    for done in (1, 2, 3, 5, 8, 10):  # build, capture, a copy, an attach, vacuum, follow
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
