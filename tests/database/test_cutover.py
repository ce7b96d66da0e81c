"""The exchange and its inverse on real servers: what the application notices, whose snapshot is too old, and what comes back."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import cutover, exchange, execute, online
from atlas_ops.errors import AtlasError
from atlas_ops.report import Verdict
from atlas_ops.stages.apply_migration import ApplyMigration
from atlas_ops.stages.cut_over import CutOver
from atlas_ops.stages.explain_analysis import ExplainAnalysis
from atlas_ops.stages.inspect_partitions import InspectPartitions
from atlas_ops.stages.plan_archive import PlanArchive
from atlas_ops.stages.roll_back import RollBack
from atlas_ops.stages.verify_counts import VerifyCounts
from tests.database.conftest import FOLLOWED


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
    """Runs something of a test's own at a moment of an exchange: `before` its first lock, `under` it and before the last drain, and when the
    table is `locked` altogether. Once each; `attempts` counts how often the first lock was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **calls: Callable[[], None]) -> None:
        self.calls, self.attempts, self.timed = calls, 0, exchange._timed
        monkeypatch.setattr(exchange, "_timed", self)

    def __call__(self, connection: Any, statement: str, **options: Any) -> float:
        first = statement.startswith("LOCK") and "SHARE ROW EXCLUSIVE" in statement
        if first:
            self.attempts += 1
            self.calls.pop("before", lambda: None)()
        took = self.timed(connection, statement, **options)
        if statement.startswith("LOCK"):
            self.calls.pop("under" if first else "locked", lambda: None)()
        return took


# There and back


def applied(ops: Any, db: Any, table: str = "note") -> None:
    """What an application does to either table: rows come, go, change, and move to another month."""
    ops.run(
        db,
        f"UPDATE {table} SET body = body || '.' WHERE id % 7 = 0",
        f"DELETE FROM {table} WHERE id % 10 = 1",
        f"UPDATE {table} SET at = at + interval '25 days' WHERE id % 10 = 2",
        f"INSERT INTO {table} (id, at, author, topic) SELECT max(id) + 1, '2024-01-31 23:59:59.999999+00', 1, 1 FROM {table}",
    )


def lines_of(ops: Any, db: Any) -> list[str]:
    return sorted(ops.dump(db, "-s").splitlines())


def test_after_a_cut_over_a_roll_back_and_an_abandon_the_catalogs_are_as_they_were(empty: Any, ops: Any) -> None:
    spec = ops.online()
    ops.run(empty, *FOLLOWED)
    before = lines_of(ops, empty)
    ops.follow(empty, spec)
    following = lines_of(ops, empty)
    for exchange_of in (ops.cut_over, ops.roll_back):
        applied(ops, empty)
        proofs, _ = ops.compared(empty, spec)
        assert sum(proof.waiting for proof in proofs) > 20 and sum(proof.lost or 0 for proof in proofs) == 0
        exchange_of(empty, spec)
        assert ops.in_step(empty, spec) == ops.value(empty, "SELECT count(*) FROM note")
    # the way there again, and what follows has a guard of the exchange more than before
    assert [line for line in lines_of(ops, empty) if line not in following and "atlas_ops_guard" not in line] == []
    ops.cut_over(empty, spec)
    ops.roll_back(empty, spec)
    with_content = "SELECT md5(string_agg(note::text, ',' ORDER BY id)) FROM note"
    digest = ops.value(empty, with_content)
    ops.carry_out(empty, cutover.plan_abandon(*ops.placed(empty, spec)))
    assert lines_of(ops, empty) == before
    assert ops.value(empty, with_content) == digest


def test_a_copy_in_use_is_not_abandoned_and_one_that_was_switched_off_is_no_longer_a_way_back(
    following: Any, ops: Any
) -> None:
    spec = ops.online()
    ops.cut_over(following, spec)
    with pytest.raises(AtlasError, match="the application writes to the partitioned table"):
        cutover.plan_abandon(*ops.placed(following, spec))
    ops.carry_out(following, cutover.plan_switch_off(*ops.placed(following, spec)))
    assert ops.bars(following, spec) == ["capture"]
    ops.run(following, "TRUNCATE note")
    assert ops.value(following, "SELECT count(*) FROM partitions.note_retired") == 70


# Foreign keys and triggers are live on the table in use, and on no other


def refused(db: Any, statement: str) -> str:
    """The SQLSTATE of a statement; empty where it works. It is rolled back."""
    with db.connect() as conn, contextlib.suppress(psycopg.Rollback), conn.transaction(force_rollback=True):
        try:
            conn.execute(statement)
        except psycopg.Error as error:
            return str(error.sqlstate)
    return ""


def keys_of(ops: Any, db: Any) -> list[tuple[str, str, bool, bool]]:
    """Foreign keys of `note` and of what follows it: table, name, validated, merged into that of the whole."""
    with db.connect() as conn:
        return conn.execute(
            "SELECT conrelid::regclass::text, conname::text, convalidated, conparentid > 0 FROM pg_constraint "
            "WHERE contype = 'f' AND confrelid IN ('author'::regclass, 'topic'::regclass) ORDER BY 1, 2"
        ).fetchall()


def test_foreign_keys_are_live_on_the_table_in_use_only(following: Any, ops: Any) -> None:
    spec = ops.online()
    both = ["note_author_fkey", "note_topic_fkey"]
    for way in (None, ops.cut_over, ops.roll_back):
        if way is not None:
            way(following, spec)
        places = [*(f"partitions.note_{part}" for part in ("2024_01", "2024_02", "default")), "note"]
        wanted = [
            (place, key, True, place != "note")
            for place in (places if way == ops.cut_over else ["note"])
            for key in both
        ]
        assert keys_of(ops, following) == sorted(wanted)
        # enforced where the application writes
        assert refused(following, "DELETE FROM author WHERE id = 1") == "23503"
        assert refused(following, "INSERT INTO note (id, at, author) VALUES (999, '2024-02-01', 99)") == "23503"
        # and nowhere else: what follows is stale, and refuses nothing
        author = {None: 2, ops.cut_over: 3, ops.roll_back: 4}[way]
        ops.run(following, f"DELETE FROM note WHERE author = {author}", f"DELETE FROM author WHERE id = {author}")
        # a cascade is what the application did, once; the drain repeats it
        ops.run(following, f"DELETE FROM topic WHERE id = {author}")
        assert ops.value(following, f"SELECT count(*) FROM note WHERE topic = {author}") == 0
        assert ops.log_rows(following, spec) > 10
        ops.drain(following, spec)
        assert ops.in_step(following, spec) == ops.value(following, "SELECT count(*) FROM note")


def test_triggers_of_the_user_hear_every_write_once_and_never_a_drain(following: Any, ops: Any) -> None:
    """In their own states, which are carried there and back, also where somebody changes one in between."""
    spec = ops.online()

    def heard(role: str = "origin") -> list[tuple[str, str, str]]:
        ops.run(following, "TRUNCATE heard")
        with psycopg.connect(following.superuser_conninfo, options=f"-c session_replication_role={role}") as conn:
            conn.execute("UPDATE note SET body = 'heard' WHERE id = 5")
            conn.execute("UPDATE note SET at = at + interval '1 month' WHERE id = 6")
        ops.drain(following, spec)
        assert ops.in_step(following, spec) == 70
        with following.connect() as conn:
            return conn.execute("SELECT listener, place, verb FROM heard ORDER BY 1, 2, 3").fetchall()

    def on_original(*names: str) -> list[tuple[str, str, str]]:
        return [(f"hears_{name}", "note", "UPDATE") for name in names for _ in range(2)]

    def on_partitions(first: str, *names: str) -> list[tuple[str, str, str]]:
        """A move to another partition is a DELETE here and an INSERT there."""
        second = {"note_2024_01": "note_2024_02", "note_2024_07": "note_default"}[first]
        moved = [(first, "UPDATE"), (first, "DELETE"), (second, "INSERT")]
        return sorted((f"hears_{name}", place, verb) for name in names for place, verb in moved)

    assert heard() == on_original("always", "origin")
    assert heard("replica") == on_original("always", "replica")
    ops.run(following, "UPDATE note SET at = '2024-01-05' WHERE id IN (5, 6)")
    ops.cut_over(following, spec)
    assert heard() == on_partitions("note_2024_01", "always", "origin")
    ops.run(following, "UPDATE note SET at = '2024-01-05' WHERE id IN (5, 6)")
    assert heard("replica") == on_partitions("note_2024_01", "always", "replica")
    # a partition that is made later hears and is captured alike
    ops.run(
        following,
        "SELECT public.create_future_partitions('2024-06-15')",
        "ALTER TABLE note DISABLE TRIGGER hears_origin",
    )
    ops.run(following, "UPDATE note SET at = '2024-07-05' WHERE id IN (5, 6)")
    assert heard("replica") == on_partitions("note_2024_07", "always", "replica")
    ops.roll_back(following, spec)
    assert heard() == on_original("always")
    states = "SELECT string_agg(tgenabled::text, '' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'note'::regclass AND tgname LIKE 'hears%'"
    assert ops.value(following, states) == "ADDR"
    assert ops.value(following, states.replace("note", "note_partitioned")) == "DDDD"


# What a client notices


def test_prepared_statements_functions_and_writers_that_wait_go_on_in_the_exchanged_table(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch, patient: None
) -> None:
    ops.run(
        following,
        "CREATE FUNCTION write_note(n bigint) RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO note (id, at) VALUES (n, '2024-01-20'); UPDATE note SET body = 'by function' WHERE id = n; END $$",
    )
    insert = "INSERT INTO note (id, at) VALUES (%s, '2024-01-20')"
    simple, prepared, function = (psycopg.connect(following.conninfo, autocommit=True) for _ in range(3))
    writers: list[Callable[[int], Any]] = [
        lambda n: simple.execute(f"INSERT INTO note (id, at) VALUES ({n}, '2024-01-20')"),
        lambda n: prepared.execute(insert, (n,), prepare=True),
        lambda n: function.execute("SELECT write_note(%s)", (n,), prepare=True),
    ]
    threads: list[threading.Thread] = []

    def wait_for_the_lock(first: int) -> None:
        threads[:] = [threading.Thread(target=write, args=(first + number,)) for number, write in enumerate(writers)]
        for thread in threads:
            thread.start()
        wait_until(lambda: waiting_for(following) == ["RowExclusiveLock"] * 3)

    with simple, prepared, function:
        for number, write in enumerate(writers):
            write(101 + number)
        for first, way in ((111, ops.cut_over), (121, ops.roll_back)):
            with monkeypatch.context() as patched:
                Between(patched, under=lambda first=first: wait_for_the_lock(first))
                [line] = [line for line in way(following, ops.online(lock_timeout="30s")) if line.held_ms is not None]
            for thread in threads:
                thread.join()
            assert line.attempts == 1
            for number, write in enumerate(writers):
                write(first + 3 + number)
            assert ops.log_rows(following, ops.online()) > 6, "what they wrote was captured on the table in use"
    assert ops.value(following, "SELECT count(*) FROM note WHERE body = 'by function'") == 5
    ops.drain(following, ops.online())
    assert ops.in_step(following, ops.online()) == 85


# Old snapshots


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_a_snapshot_that_misses_the_last_drain_does_not_meet_the_exchanged_table(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """A reader that took its snapshot just before the last drain, and now waits for the exchange itself."""
    spec = ops.online(lock_timeout="30s")
    seen: list[int] = []
    reader = psycopg.connect(following.conninfo)
    reader.isolation_level = psycopg.IsolationLevel[level]

    def read() -> None:
        seen.append(reader.execute("SELECT count(*) FROM note WHERE id = 101").fetchone()[0])
        reader.commit()

    def prepare() -> None:
        ops.run(following, "INSERT INTO note VALUES (101, '2024-01-20')")
        reader.execute("SELECT 1")

    reading = threading.Thread(target=read)

    def wait_for_the_exchange() -> None:
        reading.start()
        wait_until(lambda: waiting_for(following) == ["AccessShareLock"])

    Between(monkeypatch, before=prepare, locked=wait_for_the_exchange)
    with reader:
        _, line, *_ = ops.cut_over(following, spec)
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
    exchanges = Between(monkeypatch)
    with pytest.raises(AtlasError) as stop:
        ops.roll_back(following, spec)
    assert exchanges.attempts == 1, "the same keys would be left again"
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
from atlas_ops import catalog, cutover, database, division, exchange, execute
from atlas_ops.settings import tables_from
conninfo, table, as_of, end, idle_ms = json.loads(sys.argv[1])
cutover.IDLE_MS = idle_ms
where = database.Session("test", conninfo, "test")
[spec] = tables_from([table])
with database.connect(where) as conn:
    snapshot = catalog.snapshot(conn, spec, division.names_needed(spec, date.fromisoformat(as_of)))
plan = cutover.plan_cut_over(spec, snapshot, date.fromisoformat(as_of))
timed, ends = exchange._timed, [end]

def ended(connection, statement, **options):
    took = timed(connection, statement, **options)
    if ends and statement.startswith("LOCK"):
        os.kill(os.getpid(), getattr(signal, ends.pop()))
    return took

exchange._timed = ended
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


def test_the_retired_table_refuses_to_be_written(following: Any, ops: Any) -> None:
    """A view that is bound to it, or somebody who knows its name: the next drain would undo what they wrote."""
    ops.cut_over(following, ops.online())
    with following.connect() as conn, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as error:
        conn.execute("DELETE FROM partitions.note_retired")
    assert "follows another table" in str(error.value)


# Clients with snapshots and locks of their own


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_a_writer_with_an_old_snapshot_is_asked_once_to_begin_again(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """It waits for the exchange; without the guard its UPDATE would find no row, and say nothing."""
    spec = ops.online(lock_timeout="30s")
    writer = psycopg.connect(following.conninfo)
    writer.isolation_level = psycopg.IsolationLevel[level]
    told: list[str] = []

    def write() -> None:
        for _ in range(5):
            try:
                told.append(writer.execute("UPDATE note SET body = 'late' WHERE id = 101").statusmessage or "")
                writer.commit()
            except psycopg.errors.SerializationFailure as error:
                told.append(str(error.sqlstate))
                writer.rollback()
            else:
                return

    def prepare() -> None:
        ops.run(following, "INSERT INTO note VALUES (101, '2024-01-20')")
        writer.execute("SELECT 1")

    writing = threading.Thread(target=write)

    def wait_for_the_lock() -> None:
        writing.start()
        wait_until(lambda: waiting_for(following) == ["RowExclusiveLock"])

    Between(monkeypatch, before=prepare, under=wait_for_the_lock)
    with writer:
        _, line, *_ = ops.cut_over(following, spec)
        writing.join()
    assert line.sqlstates == () and told == ["40001", "UPDATE 1"]
    ops.drain(following, spec)
    assert ops.in_step(following, spec) == 71
    # later transactions know nothing of it
    assert (
        refused(following, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; UPDATE note SET body = 'x' WHERE id = 101")
        == ""
    )


def test_older_transactions_are_waited_for_without_a_lock_named_and_given_up_in_the_end(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pg_dump has one for hours."""
    monkeypatch.setattr(exchange, "WAIT_S", 0.3)
    spec = ops.online()
    plan = ops.cut_over_plan(following, spec)
    said: list[str] = []
    with psycopg.connect(following.conninfo, application_name="nightly dump") as dump:
        dump.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        dump.execute("LOCK TABLE author IN ACCESS SHARE MODE")
        assert dump.execute("SELECT count(*) FROM note").fetchone() == (70,)
        with pytest.raises(AtlasError) as stop:
            execute.execute(ops.session(following), plan, plan.digest, lambda *told: said.append(told[2]))
        who = f"process {dump.info.backend_pid} (postgres, nightly dump, idle in transaction) for "
        assert stop.value.what == "Transactions that began before this step are still open after 0 s."
        assert (
            who in stop.value.why
            and ", holds AccessShareLock" in stop.value.why
            and "no lock was asked for" in stop.value.why
        )
        assert "pg_terminate_backend(pid)" in stop.value.next
        assert [label for label in said if label.startswith(f"waiting for older transactions: {who}")]
        assert (
            ops.value(following, "SELECT authority FROM atlas_ops.online_copy WHERE table_name = 'note'") == "original"
        )
        monkeypatch.setattr(exchange, "WAIT_S", 30)
        committed: list[datetime] = []

        def end() -> None:
            committed.append(datetime.now(UTC))
            dump.commit()

        threading.Timer(0.5, end).start()
        _, line, *_ = ops.cut_over(following, spec)
        assert committed and line.ended > committed[0] and line.attempts == 1
    assert ops.in_step(following, spec) == 70


def test_a_reader_makes_it_give_way_and_nobody_waits_for_longer_than_its_own_patience(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader sits on the table until two attempts have failed; a writer behind them waits for the lock of one at most."""
    monkeypatch.setattr(exchange, "QUIET_S", 0.02)
    exchanges = Between(monkeypatch)
    stalls: list[float] = []
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(following.conninfo, autocommit=True) as conn:
            for number in itertools.count(201):
                if done.is_set():
                    return
                started = time.monotonic()
                conn.execute("INSERT INTO note (id, at) VALUES (%s, '2024-01-20')", (number,))
                stalls.append(time.monotonic() - started)
                time.sleep(0.005)

    def leave() -> None:
        wait_until(lambda: exchanges.attempts > 2)
        reader.commit()

    writing, leaving = (threading.Thread(target=work) for work in (write, leave))
    with psycopg.connect(following.conninfo) as reader:
        reader.execute("SELECT count(*) FROM note").fetchall()
        writing.start()
        leaving.start()
        try:
            _, line, *_ = ops.cut_over(following, ops.online())
        finally:
            done.set()
            writing.join()
            leaving.join()
    assert line.attempts > 2 and set(line.sqlstates) == {"55P03"}
    assert len(stalls) > 10 and max(stalls) < 1.2, (
        "its share of lock_timeout, the hold, and a margin for a machine that is busy"
    )
    ops.drain(following, ops.online())
    assert ops.in_step(following, ops.online()) == 70 + len(stalls)


def test_waits_and_holds_are_in_the_report(following: Any, enter: Any) -> None:
    shown = enter(CutOver, following)
    shown.execute(shown.plan_cut_over())
    assert shown.report().verdict == "planned" and shown.plan.digest in shown.headline()
    assert shown.report().next == f'Read the plan, then run again with confirm = "{shown.plan.digest}".'
    run = enter(CutOver, following, confirm=shown.plan.digest)
    run.state()
    run.proof()
    run.execute(run.plan_cut_over())
    run.exchanged()
    result = run.report().result()
    assert result["verdict"] == "ok"
    [step] = [step for step in result["steps"] if "held_ms" in step]
    assert step["step"] == "cut over public.note"
    assert [lock for lock, _ in step["waits"]] == [
        'LOCK TABLE "public"."note" IN SHARE ROW EXCLUSIVE MODE',
        'LOCK TABLE "public"."note" IN ACCESS EXCLUSIVE MODE',
    ]
    assert 0 < step["held_ms"] < 2_000 and all(0 <= ms < 500 for _, ms in step["waits"])
    assert result["figures"]["exchanges"] == [
        {"step": step["step"], "attempts": 1, "held_ms": step["held_ms"], "waits_ms": [ms for _, ms in step["waits"]]}
    ]
    assert result["figures"] | {"rows": 70, "waiting": 0, "lost": 0} == result["figures"]
    json.dumps(result)
    assert run.headline().endswith("ms at most.")
    again = enter(CutOver, following)
    again.plan_cut_over()
    assert again.report().verdict == "nothing_to_do"


# What is lost is found before the exchange, named and made good


@pytest.mark.parametrize("authority", [online.ORIGINAL, online.PARTITIONED])
def test_a_row_lost_behind_its_back_stops_06_is_named_by_03_and_comes_back_by_the_key_log(
    following: Any, ops: Any, enter: Any, authority: str
) -> None:
    spec = ops.online()
    if authority == online.PARTITIONED:
        ops.cut_over(following, spec)
    follower = "note_partitioned" if authority == online.ORIGINAL else "partitions.note_retired"
    ops.run(
        following,
        f"SET atlas_ops.writes = 'allowed'; DELETE FROM {follower} WHERE id = 5",
        f"SET atlas_ops.writes = 'allowed'; UPDATE {follower} SET body = 'stale' WHERE id = 41",
        f"SET atlas_ops.writes = 'allowed'; INSERT INTO {follower} (id, at) VALUES (999, '2024-02-20')",
        "UPDATE note SET body = 'waits' WHERE id = 6",
    )
    if authority == online.ORIGINAL:
        digest = enter(CutOver, following).plan_cut_over().plan.digest
        run = enter(CutOver, following, confirm=digest)
        with pytest.raises(AtlasError, match="3 rows differ and are in no key log") as stop:
            run.execute(run.plan_cut_over())
        assert "03 Verify counts" in stop.value.next and run.lines == ()
        assert ops.value(following, "SELECT relkind = 'r' FROM pg_class WHERE oid = 'note'::regclass")
    shown = enter(VerifyCounts, following)
    plan = shown.plan_repair().plan
    where = ("only in the original", "only in the partitioned table")
    missing, more = where if authority == online.ORIGINAL else where[::-1]
    assert {(found.key[0], found.kind) for found in shown._proven[1]} == {
        ("5", missing),
        ("41", "differs"),
        ("999", more),
    }
    assert shown.report().verdict == "stopped" and [check.name for check in shown.checks] == [
        "part 2024-01",
        "part 2024-02",
    ]
    repair = enter(VerifyCounts, following, confirm=plan.digest)
    repair.execute(repair.plan_repair())
    assert repair.report().verdict == "ok"
    assert ops.in_step(following, spec) == 70
    (ops.cut_over if authority == online.ORIGINAL else ops.roll_back)(following, spec)


def test_a_run_killed_between_the_exchange_and_its_foreign_keys_is_completed_by_the_next(
    following: Any, ops: Any
) -> None:
    spec = ops.online()

    def only_the_exchange(plan: Any) -> Any:
        return replace(plan, steps=plan.steps[: 1 + next(at for at, step in enumerate(plan.steps) if step.exchange)])

    ops.carry_out(following, only_the_exchange(ops.cut_over_plan(following, spec)))
    ready = "SELECT ready FROM atlas_ops.partitioned_table WHERE partition_prefix = 'note'"
    assert {(validated, merged) for _, _, validated, merged in keys_of(ops, following)} == {(False, False)}
    assert ops.value(following, ready) is False, "no partition is made without its foreign keys"
    assert refused(following, "INSERT INTO note (id, at, author) VALUES (999, '2024-02-01', 99)") == "23503"
    left = ops.cut_over_plan(following, spec)
    assert [step.name for step in left.steps] == [
        *(f"check foreign keys of note_{part}" for part in ("2024_01", "2024_02", "default")),
        "foreign keys of public.note",
    ]
    ops.cut_over(following, spec)
    assert {validated for _, _, validated, _ in keys_of(ops, following)} == {True} and ops.value(
        following, ready
    ) is True
    ops.carry_out(following, only_the_exchange(cutover.plan_roll_back(*ops.placed(following, spec))))
    assert keys_of(ops, following) == [("note", key, False, False) for key in ("note_author_fkey", "note_topic_fkey")]
    ops.roll_back(following, spec)
    assert keys_of(ops, following) == [("note", key, True, False) for key in ("note_author_fkey", "note_topic_fkey")]
    # and back from half way
    ops.carry_out(following, only_the_exchange(ops.cut_over_plan(following, spec)))
    ops.roll_back(following, spec)
    assert keys_of(ops, following) == [("note", key, True, False) for key in ("note_author_fkey", "note_topic_fkey")]
    assert ops.in_step(following, spec) == 70


# Side by side, and the end


def test_side_by_side_the_application_moves_by_itself_and_can_move_back(following: Any, ops: Any) -> None:
    stays, moves = (
        ops.online(cut_over="side_by_side", in_step=in_step) for in_step in ("to_partitioned", "to_original")
    )
    assert ops.cut_over_plan(following, stays).steps == ()
    insert = "INSERT INTO {} (id, at, author) VALUES ({}, '2024-01-20', {})"
    hint = "Write to the table that the application uses; 06 Cut over exchanges the two."
    for wrong, right, way, spec in [
        ("note_partitioned", "note", None, stays),
        ("note", "note_partitioned", ops.cut_over, moves),
        ("note_partitioned", "note", ops.roll_back, moves),
    ]:
        if way is not None:
            [line] = [line for line in way(following, spec) if line.held_ms is not None]
            assert line.attempts == 1
        with following.connect() as conn, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as error:
            conn.execute(insert.format(wrong, 999, 1))
        assert error.value.diag.message_hint == hint and f"public.{wrong} follows another table" in str(error.value)
        assert refused(following, insert.format(right, 999, 99)) == "23503", (
            "foreign keys are live where the application writes"
        )
        ops.run(following, "TRUNCATE heard")
        applied(ops, following, right)
        assert ops.value(following, "SELECT count(DISTINCT listener) FROM heard") == 2
        heard = ops.value(following, "SELECT count(*) FROM heard")
        ops.drain(following, spec)
        assert ops.value(following, "SELECT count(*) FROM heard") == heard
        assert ops.in_step(following, spec) == ops.value(following, f"SELECT count(*) FROM {right}")
    assert cutover.plan_roll_back(*ops.placed(following, moves)).steps == ()


def test_the_retired_table_goes_and_with_it_the_way_back(following: Any, ops: Any, enter: Any) -> None:
    spec = ops.online()
    assert cutover.plan_retire(*ops.placed(following, spec)).steps == (), "the original is in use"
    ops.cut_over(following, spec)
    plan = enter(CutOver, following).plan_cut_over(drop_retired=True).plan
    assert not plan.additive
    run = enter(CutOver, following, confirm=plan.digest)
    run.execute(run.plan_cut_over(drop_retired=True))
    gone = "SELECT to_regclass('partitions.note_retired') IS NULL AND to_regclass('partitions.note_key_log') IS NULL"
    assert ops.value(following, gone)
    assert (
        ops.value(
            following, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'note'::regclass AND tgname LIKE 'atlas_ops%'"
        )
        == 0
    )
    ops.run(following, "DELETE FROM note WHERE id < 10", "TRUNCATE note")
    assert cutover.plan_retire(*ops.placed(following, spec)).steps == ()
    assert "tables" in ops.bars(following, spec)
    done = enter(CutOver, following)
    done.state()
    assert "gone" in repr(done.proof())
    assert done.plan_cut_over().plan.steps == () and done.report().verdict is Verdict.NOTHING_TO_DO
    with pytest.raises(AtlasError, match=r"There is no partitions\.note_retired"):
        enter(RollBack, following).plan_roll_back()
    made = "SELECT count(*) FROM public.create_future_partitions('2024-08-15') WHERE partitioned_table = 'public.note'"
    assert ops.value(following, made) == 7, "March to September"
    ops.run(following, "INSERT INTO note (id, at) VALUES (1, '2024-08-20')")
    assert ops.value(following, "SELECT tableoid::regclass::text FROM note") == "partitions.note_2024_08"


# Who gets in


REACHED = """
SELECT r.rolname || ': ' || c.oid::regclass FROM pg_class c, unnest(%s::regrole[]) AS role JOIN pg_roles r ON r.oid = role
WHERE c.relkind IN ('r', 'p', 'v') AND (c.relnamespace = ANY ('{partitions,atlas_ops}'::regnamespace[]) OR c.oid = 'partition_performance'::regclass)
  AND (has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
       OR has_schema_privilege(role, c.relnamespace, 'USAGE') AND c.relkind <> 'v' OR NOT c.relrowsecurity AND c.relkind <> 'v')
UNION ALL
SELECT r.rolname || ': ' || f.oid::regprocedure FROM pg_proc f, unnest(%s::regrole[]) AS role JOIN pg_roles r ON r.oid = role
WHERE (f.pronamespace = ANY ('{partitions,atlas_ops}'::regnamespace[]) OR f.proname IN ('create_future_partitions', 'get_partition_sizes'))
  AND has_function_privilege(role, f.oid, 'EXECUTE')
"""
OF_NOBODY = ["SELECT FROM {}", "INSERT INTO {} DEFAULT VALUES", "UPDATE {} SET id = 1", "DELETE FROM {}", "TRUNCATE {}"]


def test_no_role_of_the_application_gets_at_anything_of_ours_at_any_stage(following: Any, ops: Any) -> None:
    """Through the application's own table alone, by the privileges that it had there; not even where somebody opens the schema."""
    spec, roles = ops.online(), ["anon", "authenticated", "service_role"]
    for way in (None, ops.cut_over, ops.roll_back):
        if way is not None:
            way(following, spec)
        with following.connect() as conn:
            assert conn.execute(REACHED, (roles, roles)).fetchall() == []
        inside = ["note_key_log", "note_2024_01", "aside_null_keys", *(["note_retired"] if way == ops.cut_over else [])]
        for table in inside:
            for statement in OF_NOBODY:
                opened = f"GRANT USAGE ON SCHEMA partitions TO authenticated; SET ROLE authenticated; {statement}"
                assert refused(following, opened.format(f"partitions.{table}")) == "42501", statement.format(table)
        assert refused(following, "SET ROLE authenticated; UPDATE note SET body = 'mine' WHERE id = 5") == ""
        assert refused(following, "SET ROLE authenticated; DELETE FROM note; SELECT id, body FROM note") == ""
        assert refused(following, "SET ROLE anon; SELECT id, at FROM note") == ""
        for denied in (
            "SELECT body FROM note",
            "DELETE FROM note",
            "TRUNCATE note",
            "INSERT INTO note (id) VALUES (1)",
        ):
            assert refused(following, f"SET ROLE anon; {denied}") == "42501"


# The other stages


def test_the_other_stages_find_both_tables_after_the_cut_over_and_do_without_one_once_it_is_retired(
    following: Any, ops: Any, enter: Any
) -> None:
    spec = ops.online()
    ops.cut_over(following, spec)
    assert repr(enter(ExplainAnalysis, following).queries()).startswith("Nothing was compared.")
    assert enter(VerifyCounts, following).report().verdict == "ok"
    ops.carry_out(following, cutover.plan_retire(*ops.placed(following, spec)))
    inspected, archived = (enter(stage, following, keep=1) for stage in (InspectPartitions, PlanArchive))
    inspected.findings()
    archived.plan_archive()
    assert [run.report().verdict for run in (inspected, archived)] == ["ok", "nothing_to_do"]
    with pytest.raises(AtlasError, match="The original of note is gone"):
        enter(VerifyCounts, following).report()


def test_names_with_quotes_and_the_like_go_there_and_back(empty: Any, ops: Any) -> None:
    table = "'my ''schema'''.'it`s ''a'' %s {t} $1 note'".replace("'", '"').replace("`", "'")
    key = "'at ''%I'' {k} `x`'".replace("'", '"').replace("`", "'")
    spec = ops.online(table=table, partition_key=key, partition_schema='"parts; -- "')
    ops.run(
        empty,
        'CREATE SCHEMA "my ""schema"""',
        'CREATE TABLE author ("i ""d" int PRIMARY KEY)',
        "INSERT INTO author SELECT generate_series(1, 9)",
        f"""CREATE TABLE {table} ("I'd" int PRIMARY KEY, {key} timestamptz NOT NULL, "%" int CONSTRAINT "f %k" REFERENCES author, "{{}}" text)""",
        f"INSERT INTO {table} SELECT n, '2023-12-30'::timestamptz + n * interval '1 day', 1 + n % 9 FROM generate_series(1, 70) n",
        f'CREATE TRIGGER "t % {{}}" BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
    )
    before = lines_of(ops, empty)
    ops.follow(empty, spec)
    for number, way in enumerate((ops.cut_over, ops.roll_back)):
        ops.run(
            empty,
            f"""UPDATE {table} SET {key} = {key} + interval '1 month' WHERE "%" = 5""",
            f"""DELETE FROM {table} WHERE "%" = {6 + number}""",
        )
        assert ops.log_rows(empty, spec) > 10
        way(empty, spec)
        assert ops.in_step(empty, spec) == ops.value(empty, f"SELECT count(*) FROM {table}")
    ops.carry_out(empty, cutover.plan_abandon(*ops.placed(empty, spec)))
    assert lines_of(ops, empty) == before


@pytest.mark.usefixtures("patient")
def test_who_comes_in_the_last_moment_waits_and_reads_the_new_table(
    following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at who holds the table and the stronger lock. Had he come in, and written, one of us would get a deadlock."""
    came: list[threading.Thread] = []
    done: list[int] = []

    def visit() -> None:
        with psycopg.connect(following.conninfo) as conn:
            conn.execute("SELECT count(*) FROM note").fetchall()
            done.append(conn.execute("UPDATE note SET body = 'late' WHERE id = 7").rowcount)

    def comes() -> None:
        if not came and "RowExclusiveLock" not in waiting_for(following):
            came.append(threading.Thread(target=visit))
            came[0].start()
            came[0].join(0.08)

    before_17 = ops.value(following, "SELECT current_setting('server_version_num')::int") < exchange.NOWAIT_SINCE
    if before_17:
        until, looks = exchange._until, itertools.count()

        def looked(true: Callable[[], bool], deadline: float) -> None:
            until(true, deadline)
            if next(looks):  # the second one: the gate stands, and nobody holds the table
                comes()

        monkeypatch.setattr(exchange, "_until", looked)
    else:
        nowait = exchange._lock_nowait
        monkeypatch.setattr(exchange, "_lock_nowait", lambda *asked: (comes(), nowait(*asked)))
    _, line, *_ = ops.cut_over(following, ops.online())
    came[0].join()
    assert done == [1]
    if before_17:
        assert line.attempts == 1, "nobody came in"
    ops.drain(following, ops.online())
    assert ops.in_step(following, ops.online()) == 70
    assert ops.value(following, "SELECT body FROM note WHERE id = 7") == "late"
