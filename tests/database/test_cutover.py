"""The exchange and its inverse on real servers: what the application notices, whose snapshot is too old, and what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from atlas_ops import cutover, exchange


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
