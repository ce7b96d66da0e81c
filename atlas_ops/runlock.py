"""The locks of our own, all advisory: one run at a time on a database, and one writer at a time of the manifests of its tables.

The lock of a run belongs to a connection that does nothing else. If the server, an administrator or the network ends that connection, the lock is
free and another run may begin: whoever holds it asks, before what must not be done twice, whether it is still held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from atlas_ops import sqlfile
from atlas_ops.database import Session, connect, translate
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan

RUN_LOCK = (0x41544C53, 1)  # of a run on one database: 'ATLS' in ASCII
MANIFEST_LOCK = (0x41544C53, 2)  # of a manifest's next line
GLANCE_S = 5.0  # between two looks of a loop; they keep the idle connection alive too, where a firewall would forget it
TURN = "60s"  # how long a line waits for that of another run


class Held:
    """The lock of a run, while it lasts. Threads may share it."""

    def __init__(self, guard: psycopg.Connection | None) -> None:
        self._guard, self._asked, self._mutex = guard, time.monotonic(), threading.Lock()

    def require(self) -> None:
        """Ask the server. Raises AtlasError where the connection that holds the lock is lost."""
        if self._guard is None:
            return
        with self._mutex:
            try:
                row = self._guard.execute(sqlfile.text("catalog", "lock_is_mine"), _named(RUN_LOCK)).fetchone()
            except psycopg.Error:
                row = None
            self._asked = time.monotonic()
        if row is None or not row[0]:
            raise AtlasError(
                what="The lock of this run was lost.",
                why="The connection that held it was ended, by the server, an administrator or the network: another run may have begun since.",
                next="What is complete stays, what is not was taken back. See that no other run is on its way, then run again: it goes on from here.",
            )

    def glance(self) -> None:
        """The same for a loop: asks once in a while."""
        if time.monotonic() - self._asked > GLANCE_S:
            self.require()


@dataclass(frozen=True, slots=True)
class _Holder:
    pid: int
    role: str
    application: str
    seconds: float


@contextmanager
def alone(where: Session, plan: Plan) -> Iterator[Held]:
    """Be the only run on the plan's database. Raises AtlasError where it is another database, or where somebody else runs."""
    with connect(where) as guard:
        _same_target(guard, plan)
        if not plan.alone:
            yield Held(None)
            return
        # this connection only holds the lock: it idles, outside of any transaction, for as long as the plan runs
        row = guard.execute("SELECT pg_try_advisory_lock(%s, %s)", RUN_LOCK).fetchone()
        if row is None or not row[0]:
            raise _taken(guard)
        try:
            yield Held(guard)
        finally:
            # closing the connection gives the lock back too, whatever happened, but the server may take a moment to notice
            with suppress(psycopg.Error):
                guard.execute("SELECT pg_advisory_unlock(%s, %s)", RUN_LOCK)


@contextmanager
def turn(where: Session) -> Iterator[None]:
    """Be the only one that writes a manifest of this database's tables: a proof on another server is under the lock of that one only.

    Raises AtlasError where somebody else does not come to an end.
    """
    with connect(where) as connection:
        try:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (TURN,))
            connection.execute("SELECT pg_advisory_lock(%s, %s)", MANIFEST_LOCK)
        except psycopg.Error as error:
            raise translate(error, "Waiting for another run to write its line into the manifest") from None
        yield


def _named(lock: tuple[int, int]) -> dict[str, int]:
    return {"class": lock[0], "object": lock[1]}


def _taken(guard: psycopg.Connection) -> AtlasError:
    holders = guard.execute(sqlfile.text("catalog", "lock_holders"), _named(RUN_LOCK)).fetchall()
    who = "; ".join(
        f"process {holder.pid} ({holder.application}, role {holder.role}), connected for {holder.seconds:.0f} s"
        for holder in (_Holder(*found) for found in holders)
    )
    return AtlasError(
        what="Another run is changing this database.",
        why=f"The lock of a run is held by {who or 'a connection that has just ended'}.",
        next="Wait until it has ended, then run again: the plan will be read anew. If it hangs: SELECT pg_terminate_backend(pid);",
    )


def _same_target(guard: psycopg.Connection, plan: Plan) -> None:
    found = guard.execute(
        "SELECT system_identifier::text, current_database()::text FROM pg_control_system()"
    ).fetchone()
    if found != (plan.target.system_identifier, plan.target.database):
        raise AtlasError(
            what="The plan was made for another database.",
            why=f"It names {plan.target.database} on system {plan.target.system_identifier}; this is {found}.",
            next="Make the plan again on this database, read it, and confirm its own digest.",
        )
