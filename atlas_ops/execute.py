"""The one writer: runs a plan that was confirmed, step by step, and reports each of them.

A step is one transaction. It is tried again only for lock_timeout (55P03) and deadlock (40P01), after a pause with jitter, and every
attempt is in the report. Steps of neighbouring lanes run side by side on `workers` connections; a lane keeps its order.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psycopg

from atlas_ops import sqlfile
from atlas_ops.database import Session, connect, translate
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan, Step, confirmed
from atlas_ops.progress import Says, silent
from atlas_ops.report import Line

ATTEMPTS = 30
PAUSE_S = (0.05, 1.0)  # the first and the longest pause between attempts, before jitter
TRIED_AGAIN = {"55P03", "40P01"}
CANCELED = "57014"
RUN_LOCK = (0x41544C53, 1)  # advisory lock of a run on one database: 'ATLS' in ASCII


@dataclass(frozen=True, slots=True)
class _Holder:
    pid: int
    role: str
    application: str
    seconds: float


def execute(where: Session, plan: Plan, confirm: str, progress: Says = silent) -> tuple[Line, ...]:
    """Run the plan if `confirm` arms it; returns a line a step, none where the plan was only shown.

    `progress(done, total, label)` is called after each step, in units of `Step.weight` (at least one a step).
    Raises AtlasError: another digest confirmed, another target, a second run at once, or the first step that failed. What was
    committed before stays; the next plan is made from what the catalogs then show.
    """
    if not confirmed(plan, confirm, demo=where.is_demo):
        return ()
    where = replace(
        where,
        digest=plan.digest,
        lock_timeout_ms=plan.lock_timeout_ms,
        statement_timeout_ms=plan.statement_timeout_ms,
    )
    with connect(where, write=True) as guard, _alone(guard, plan):
        return _Run(where, plan, progress).steps()


@contextmanager
def _alone(guard: psycopg.Connection, plan: Plan) -> Iterator[None]:
    """Hold the run's advisory lock for as long as it lasts; a second run is told who holds it."""
    _same_target(guard, plan)
    # this connection only holds the lock: it idles, outside of any transaction, for as long as the plan runs
    row = guard.execute("SELECT pg_try_advisory_lock(%s, %s)", RUN_LOCK).fetchone()
    if row is None or not row[0]:
        holders = guard.execute(
            sqlfile.text("catalog", "lock_holders"), {"class": RUN_LOCK[0], "object": RUN_LOCK[1]}
        ).fetchall()
        who = "; ".join(
            f"process {holder.pid} ({holder.application}, role {holder.role}), connected for {holder.seconds:.0f} s"
            for holder in (_Holder(*found) for found in holders)
        )
        raise AtlasError(
            what="Another run is changing this database.",
            why=f"The lock of a run is held by {who or 'a connection that has just ended'}.",
            next="Wait until it has ended, then run again: the plan will be read anew. If it hangs: SELECT pg_terminate_backend(pid);",
        )
    try:
        yield
    finally:
        # closing the connection gives the lock back too, whatever happened, but the server may take a moment to notice
        with suppress(psycopg.Error):
            guard.execute("SELECT pg_advisory_unlock(%s, %s)", RUN_LOCK)


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


class _Run:
    """One execution: its connections, and what was done so far."""

    def __init__(self, where: Session, plan: Plan, progress: Says) -> None:
        self.where, self.plan, self.progress = where, plan, progress
        self.total = sum(max(step.weight, 1) for step in plan.steps)
        self.done = 0
        self.lines: dict[int, Line] = {}
        self.number = {id(step): position for position, step in enumerate(plan.steps)}
        self.mutex = threading.Lock()
        self.stop = threading.Event()
        self.open: set[psycopg.Connection] = set()

    def steps(self) -> tuple[Line, ...]:
        for section in self.plan.sections():
            if len(section) == 1:
                self._lane(section)
            else:
                self._side_by_side(section)
        return tuple(self.lines[number] for number in sorted(self.lines))

    def _side_by_side(self, section: Sequence[Step]) -> None:
        lanes: dict[str, list[Step]] = {}
        for step in section:
            lanes.setdefault(step.lane, []).append(step)
        with ThreadPoolExecutor(max_workers=self.plan.workers, thread_name_prefix="atlas_ops") as pool:
            futures = [pool.submit(self._lane, steps) for steps in lanes.values()]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                # the first failure, or Ctrl-C
                if not all(future.done() and future.exception() is None for future in futures):
                    self._wind_up(futures)
        for future in futures:
            if not future.cancelled() and (error := future.exception()) is not None and not isinstance(error, _Stopped):
                raise error

    def _wind_up(self, futures: Sequence[Future[None]]) -> None:
        """No new step starts, running ones are cancelled and rolled back."""
        self.stop.set()
        for future in futures:
            future.cancel()
        # again and again: a cancellation that arrives between two statements of a step has nothing to cancel
        while wait(futures, timeout=0.2).not_done:
            with self.mutex:
                running = list(self.open)
            for connection in running:
                with suppress(psycopg.Error):  # it has ended meanwhile, or the server has
                    connection.cancel_safe(timeout=5)

    def _lane(self, steps: Sequence[Step]) -> None:
        """The steps of a lane, on one connection of their own."""
        if self.stop.is_set():
            raise _Stopped
        with connect(self.where, write=True) as connection:
            with self.mutex:
                self.open.add(connection)
            try:
                for step in steps:
                    if self.stop.is_set():
                        raise _Stopped
                    self._finished(step, self._step(connection, step))
            finally:
                with self.mutex:
                    self.open.discard(connection)

    def _finished(self, step: Step, line: Line) -> None:
        with self.mutex:
            self.lines[self.number[id(step)]] = line
            self.done += max(step.weight, 1)
            self.progress(self.done, self.total, step.name)

    def _step(self, connection: psycopg.Connection, step: Step) -> Line:
        started = datetime.now(UTC)
        states: list[str] = []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                rows = _attempt(connection, step)
            except psycopg.Error as error:
                again = (
                    error.sqlstate in TRIED_AGAIN
                    and not step.autocommit
                    and attempt < ATTEMPTS
                    and not self.stop.is_set()
                )
                if self.stop.is_set() and error.sqlstate == CANCELED:
                    raise _Stopped from None  # by ourselves: the failure to tell is the one that came first
                if not again:
                    raise translate(error, f'Step "{step.name}"') from None
                states.append(str(error.sqlstate))
                time.sleep(_pause(attempt))
            else:
                return Line(step.name, started, datetime.now(UTC), attempt, rows, tuple(states))
        raise AssertionError("the last attempt returns or raises")


def _attempt(connection: psycopg.Connection, step: Step) -> int:
    """Run the statements once, in one transaction unless the step says otherwise; returns the rows inserted, updated, deleted."""
    if step.autocommit:
        return sum(_rows(connection.execute(statement)) for statement in step.statements)
    with connection.transaction():
        return sum(_rows(connection.execute(statement)) for statement in step.statements)


def _rows(cursor: psycopg.Cursor[tuple[object, ...]]) -> int:
    written = (cursor.statusmessage or "").startswith(("INSERT", "UPDATE", "DELETE", "MERGE", "COPY"))
    return cursor.rowcount if written else 0


def _pause(attempt: int) -> float:
    """Twice as long after each attempt up to a second, times 0.5 to 1.5: two runs do not meet again at the same moment."""
    first, longest = PAUSE_S
    spread: float = random.uniform(0.5, 1.5)  # noqa: S311  # no secret
    return min(first * 2.0 ** (attempt - 1), longest) * spread


class _Stopped(Exception):
    """Another lane has failed; this one ends between two steps."""
