"""The exchange and its inverse on real servers: what the application notices, whose snapshot is too old, and what comes back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import cutover, exchange
from atlas_ops.errors import AtlasError
from atlas_ops.stages.apply_migration import ApplyMigration


def wait_until(reached: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def waiting_for(db: Any, table: str = "note") -> list[str]:
    """The lock modes that are waited for on a table."""
    with psycopg.connect(db.superuser_conninfo, autocommit=True) as conn:
        query = "SELECT mode FROM pg_locks WHERE NOT granted AND relation = to_regclass(%s)"
        return [mode for (mode,) in conn.execute(query, (table,))]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of an exchange are waited for as long as a test needs to bring about what it tests."""
    for limit in ("LONGEST_WAIT_MS", "STATEMENT_MS", "IDLE_MS"):
        monkeypatch.setattr(cutover, limit, 30_000)


class Between:
    """Runs something of a test's own after the n-th drain of an exchange: 1 is before the lock, 2 under it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **calls: Callable[[], None]) -> None:
        self.number = 0
        self.calls = {int(name.removeprefix("after_")): call for name, call in calls.items()}
        self.drain = exchange._transaction
        monkeypatch.setattr(exchange, "_transaction", self)

    def __call__(self, connection: Any, statements: tuple[str, ...]) -> int:
        rows = self.drain(connection, statements)
        self.number += 1
        self.calls.get(self.number, lambda: None)()
        return rows


# Old snapshots


@pytest.mark.usefixtures("patient")
def test_a_snapshot_that_misses_the_last_drain_does_not_meet_the_exchanged_table(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A REPEATABLE READ reader that took its snapshot just before the last drain, and now waits for the exchange itself."""
    spec = ops.online(lock_timeout="30s")
    seen: list[int] = []
    reader, holder = (psycopg.connect(following.conninfo) for _ in range(2))
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    def read() -> None:
        seen.append(reader.execute("SELECT count(*) FROM note WHERE id = 101").fetchone()[0])
        reader.commit()

    def prepare() -> None:
        ops.run(following, "INSERT INTO note VALUES (101, '2024-01-20')")
        reader.execute("SELECT 1")
        holder.execute("SELECT 1 FROM note LIMIT 1")

    reading = threading.Thread(target=read)

    def let_them_meet() -> None:
        wait_until(lambda: waiting_for(following) == ["AccessExclusiveLock"])
        reading.start()
        wait_until(lambda: len(waiting_for(following)) == 2)
        holder.commit()

    meeting = threading.Thread(target=let_them_meet)
    Between(monkeypatch, after_1=prepare, after_2=meeting.start)
    with reader, holder:
        _, line, *_ = ops.cut_over(following, spec)
        meeting.join()
        reading.join()
    assert seen == [1], "it was committed before the reader's snapshot"
    assert line.sqlstates == ("55P03",)
    assert ops.in_step(following, spec) == 71


# The way back that is barred


def test_two_rows_of_one_primary_key_bar_the_way_back_until_one_is_gone(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partitioned table allows them, the original cannot hold them."""
    spec = ops.online()
    ops.cut_over(following, spec)
    ops.run(following, "INSERT INTO note (id, at) VALUES (5, '2024-02-20'), (101, '2024-01-01'), (102, '2024-01-02')")
    drains = Between(monkeypatch)
    with pytest.raises(AtlasError) as stop:
        ops.roll_back(following, spec)
    assert drains.number == 2, "it was tried once: the same keys would be left again"
    assert stop.value.what == 'Step "roll back public.note": The tables are not in the state that it needs.'
    assert stop.value.why == "55000 keys are left in the key log"
    assert stop.value.next == (
        "Rows of public.note share a unique key of partitions.note_retired, which can hold one of them. Their keys: "
        'SELECT DISTINCT "id", "at" FROM "partitions"."note_key_log"; Change or delete all but one of each, then run again.'
    )
    # nothing is lost on either side, and the application goes on
    assert ops.value(following, "SELECT array_agg(at::date::text ORDER BY at) FROM note WHERE id = 5") == [
        "2024-01-04",
        "2024-02-20",
    ]
    assert ops.value(following, "SELECT count(*) FROM partitions.note_retired WHERE id IN (5, 101, 102)") == 3
    assert ops.value(following, "SELECT array_agg(id || ' ' || at::date) FROM partitions.note_key_log") == [
        "5 2024-02-20"
    ]
    assert [(proof.waiting, proof.lost) for proof in ops.compared(following, spec)[0] if not proof.same] == [(1, 0)]
    ops.run(following, "DELETE FROM note WHERE id = 5 AND at < '2024-02-01'")
    ops.roll_back(following, spec)
    assert ops.in_step(following, spec) == 72
    assert ops.value(following, "SELECT at::date::text FROM note WHERE id = 5") == "2024-02-20"


# A client of ours that hangs or dies while it holds the lock


CHILD = """
import json, os, signal, sys
from datetime import date
from atlas_ops import catalog, cutover, database, exchange, execute, migration
from atlas_ops.spec import tables_from
conninfo, table, as_of, end, idle_ms = json.loads(sys.argv[1])
cutover.IDLE_MS = idle_ms
where = database.Session("test", conninfo, "test")
[spec] = tables_from([table])
with database.connect(where) as conn:
    snapshot = catalog.snapshot(conn, spec, migration.names_needed(spec, date.fromisoformat(as_of)))
plan = cutover.plan_cut_over(spec, snapshot, date.fromisoformat(as_of))
drain, calls = exchange._transaction, []

def ended(connection, statements):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), getattr(signal, end))
    return drain(connection, statements)

exchange._transaction = ended
print([line.sqlstates for line in execute.execute(where, plan, plan.digest) if line.held_ms is not None])
"""


def child_that_ends_under_the_lock(db: Any, ops: Any, end: str, idle_ms: int = 30_000) -> subprocess.Popen[str]:
    """A cut-over in a process of its own, which ends itself by a signal when the lock is held and before the last drain."""
    table = {"table": "note", "partition_key": "at", "from": "2024-01-01", "until": "2024-03-01", "ahead": 1}
    arguments = json.dumps([db.conninfo, table, ops.as_of.isoformat(), end, idle_ms])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def is_stopped(child: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_server_frees_the_lock_of_a_client_that_hangs_and_it_tries_again(following: Any, ops: Any) -> None:
    child = child_that_ends_under_the_lock(following, ops, "SIGSTOP", idle_ms=500)
    try:
        wait_until(lambda: is_stopped(child))
        started = time.monotonic()
        ops.run(following, "INSERT INTO note VALUES (101, '2024-01-20')")
        assert time.monotonic() - started < 5
        child.send_signal(signal.SIGCONT)
        out, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    assert out == "[('25P03',)]\n", errors
    assert ops.in_step(following, ops.online()) == 71
    assert ops.value(following, "SELECT relkind = 'p' FROM pg_class WHERE oid = 'note'::regclass")


def test_a_client_killed_under_the_lock_leaves_everything_as_it_was(following: Any, ops: Any) -> None:
    before = ops.dump(following, "-s")
    child = child_that_ends_under_the_lock(following, ops, "SIGKILL")
    assert child.wait(timeout=30) == -signal.SIGKILL
    child.communicate()
    started = time.monotonic()
    ops.run(following, "INSERT INTO note VALUES (101, '2024-01-20')")
    assert time.monotonic() - started < 5
    assert ops.dump(following, "-s") == before
    assert ops.log_rows(following, ops.online()) == 1
    ops.cut_over(following, ops.online())
    assert ops.in_step(following, ops.online()) == 71


# After the cut-over


def test_02_brings_the_original_in_step_after_the_cut_over_and_has_nothing_to_do_once_it_is_retired(
    following: Any, ops: Any, enter: Any
) -> None:
    """The reverse log would grow for ever otherwise: 02 is what the scheduler runs."""
    ops.cut_over(following, ops.online())
    assert enter(ApplyMigration, following).report().verdict == "nothing_to_do"
    ops.run(following, "INSERT INTO note VALUES (101, '2024-01-20')", "DELETE FROM note WHERE id < 10")
    run = enter(ApplyMigration, following, confirm="additive")
    run.execute(run.plan_migration())
    assert [(line.step, line.rows) for line in run.lines] == [("drain into partitions.note_retired", 21)]
    assert ops.in_step(following, ops.online()) == 62
    ops.carry_out(following, cutover.plan_retire(*ops.placed(following, ops.online())))
    assert enter(ApplyMigration, following).report().verdict == "nothing_to_do"
