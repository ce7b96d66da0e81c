"""What a batch waits for on a real server, and when it stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from atlas_ops import cutover, execute, online, throttle
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan, Throttle


@pytest.fixture
def drained(following: Any, ops: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, list[str]]]:
    """A drain of four passes under a throttle: its line, and what was said meanwhile."""
    monkeypatch.setattr(throttle, "LOOK_S", 0.25)
    ops.run(following, "UPDATE note SET body = 'changed' WHERE id <= 4")
    spec, snapshot = ops.placed(following, ops.online())
    plan: Plan = cutover.plan_drain(spec, snapshot)
    passes = online.Drain(spec, snapshot.original, online.ORIGINAL).statements(1)

    def run(**limits: int) -> tuple[Any, list[str]]:
        said: list[str] = []
        short = replace(plan, steps=(replace(plan.steps[0], statements=passes),), throttle=Throttle(**limits))
        [line] = execute.execute(ops.session(following), short, short.digest, lambda *told: said.append(told[2]))
        return line, [label for label in said if label.startswith("waiting")]

    return run


@contextmanager
def old_snapshot(db: Any) -> Iterator[Any]:
    with psycopg.connect(db.conninfo, application_name="report") as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT 1")
        yield conn


@contextmanager
def busy(db: Any) -> Iterator[None]:
    """Somebody who writes WAL all the time."""
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(db.superuser_conninfo, autocommit=True) as conn:
            while not done.is_set():
                conn.execute("SELECT pg_logical_emit_message(false, 'busy', repeat('x', 100000))")
                done.wait(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def stopped(run: Callable[..., Any], **limits: int) -> AtlasError:
    with pytest.raises(AtlasError) as stop:
        run(**limits, patience_ms=200)
    assert stop.value.why == "It has been so for 0 s, and the next batch would make it worse."
    assert "what is done stays done" in stop.value.next and "raise the limit" in stop.value.next
    return stop.value


def test_an_old_snapshot_is_waited_for_and_then_it_stops(following: Any, ops: Any, drained: Any) -> None:
    with old_snapshot(following) as report:
        told = stopped(drained, snapshot_age_ms=1).what
        assert told.startswith("Stopped: a transaction is open for ") and told.endswith(" s (max_snapshot_age).")
        assert ops.log_rows(following, ops.online()) == 4
        threading.Timer(0.3, report.commit).start()
        line, said = drained(snapshot_age_ms=1, patience_ms=30_000)
    assert said and all(label.startswith("waiting: a transaction is open for ") for label in said)
    assert line.attempts == 4
    assert ops.in_step(following, ops.online()) == 70


def test_a_snapshot_of_our_own_is_no_reason_to_wait(following: Any, ops: Any, drained: Any) -> None:
    with psycopg.connect(following.conninfo, application_name="atlas_ops verify_counts") as ours:
        ours.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        ours.execute("SELECT 1")
        assert drained(snapshot_age_ms=1, patience_ms=200)[1] == []


def test_wal_of_whomever_is_waited_for_and_then_it_stops(following: Any, ops: Any, drained: Any) -> None:
    with busy(following):
        told = stopped(drained, wal_bytes_per_s=1_000).what
    assert told.startswith("Stopped: the server writes ") and told.endswith(" MB of WAL a second (max_wal_rate).")
    assert 0 < ops.log_rows(following, ops.online()) < 4, "the first pass has no rate to go by"
    _, said = drained(wal_bytes_per_s=2**40, patience_ms=200)
    assert said == []
    assert ops.in_step(following, ops.online()) == 70


def test_a_database_that_is_too_large_stops_it_before_the_first_batch(following: Any, ops: Any, drained: Any) -> None:
    size = ops.value(following, "SELECT pg_database_size(current_database())")
    assert (
        stopped(drained, database_bytes=2**20).what
        == f"Stopped: the database takes {size / 2**20:,.0f} MB (max_database_size)."
    )
    assert ops.log_rows(following, ops.online()) == 4
    assert drained(database_bytes=2**40, patience_ms=200)[1] == []


def test_a_pause_lies_between_two_batches(drained: Any) -> None:
    line, _ = drained(pause_ms=100)
    assert line.seconds > 0.3


def test_lanes_of_a_copy_wait_too(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "INSERT INTO note VALUES (1, '2024-01-05')",
    )
    plan = replace(ops.plan(empty, ops.online()), throttle=Throttle(database_bytes=1, patience_ms=0))
    with pytest.raises(AtlasError, match="max_database_size"):
        ops.carry_out(empty, plan)
    assert ops.value(empty, "SELECT count(*) FROM pg_class WHERE relname LIKE 'note_2024%'") == 0
    ops.follow(empty, ops.online())
    assert ops.in_step(empty, ops.online()) == 1
