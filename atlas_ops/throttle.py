"""Between two batches: the pause that the specification asks for, and the wait while the server has other troubles.

A copy that runs for hours must not be what fills the disk, lets the replicas fall behind or bloats every table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from atlas_ops import sqlfile
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Throttle

LOOK_S = 0.5  # between two looks while a limit is passed, and in a stream


@dataclass(frozen=True, slots=True)
class Pressure:
    """One row of `sql/catalog/pressure.sql`."""

    replica_lag_ms: float | None
    wal_bytes: float
    database_bytes: float
    snapshot_age_ms: float | None
    at: float  # the server's clock, in seconds


def passed(limits: Throttle, before: Pressure | None, now: Pressure) -> str:
    """Which limit is passed, in words; empty: none. The rate of WAL is that since `before`."""
    if limits.replica_lag_ms and (now.replica_lag_ms or 0) > limits.replica_lag_ms:
        return f"a replica is {(now.replica_lag_ms or 0) / 1000:,.1f} s behind (max_replica_lag)"
    if limits.database_bytes and now.database_bytes > limits.database_bytes:
        return f"the database takes {now.database_bytes / 2**20:,.0f} MB (max_database_size)"
    if limits.snapshot_age_ms and (now.snapshot_age_ms or 0) > limits.snapshot_age_ms:
        return f"a transaction is open for {(now.snapshot_age_ms or 0) / 1000:,.0f} s (max_snapshot_age)"
    if limits.wal_bytes_per_s and before and now.at > before.at:
        rate = (now.wal_bytes - before.wal_bytes) / (now.at - before.at)
        if rate > limits.wal_bytes_per_s:
            return f"the server writes {rate / 2**20:,.1f} MB of WAL a second (max_wal_rate)"
    return ""


class Brake:
    """Called between two transactions of a connection; holds the last figures, from which the rate of WAL comes.

    `every_s`: in a stream it is called for each block, many times a second, and looks no more often than that; a look reads the size of every file.
    """

    def __init__(
        self, limits: Throttle, stopped: Callable[[], bool], say: Callable[[str], None], every_s: float = 0.0
    ) -> None:
        self.limits, self.stopped, self.say, self.every_s = limits, stopped, say, every_s
        self.before: Pressure | None = None
        self.called, self.looked = False, float("-inf")

    def __call__(self, connection: psycopg.Connection) -> None:
        """Pause, then wait while a limit is passed. Raises AtlasError when the patience for it ends."""
        if self.limits.pause_ms and self.called:
            time.sleep(self.limits.pause_ms / 1000)
        self.called = True
        if not self.limits.any or time.monotonic() - self.looked < self.every_s:
            return
        deadline = time.monotonic() + self.limits.patience_ms / 1000
        while not self.stopped():
            now = self._look(connection)
            self.looked = time.monotonic()
            reason = passed(self.limits, self.before, now)
            self.before = now
            if not reason:
                return
            if time.monotonic() > deadline:
                raise AtlasError(
                    what=f"Stopped: {reason}.",
                    why=f"It has been so for {self.limits.patience_ms / 1000:,.0f} s, and the next batch would make it worse.",
                    next="Cure it, then run again: what is done stays done, and the key log keeps what the application writes meanwhile. "
                    "Or raise the limit in the parameters file.",
                )
            self.say(f"waiting: {reason}")
            time.sleep(LOOK_S)

    def _look(self, connection: psycopg.Connection) -> Pressure:
        with connection.cursor(row_factory=class_row(Pressure)) as cursor:
            found = cursor.execute(sqlfile.text("catalog", "pressure")).fetchone()
        assert found is not None
        return found
