"""The one writer: runs a plan that was confirmed, step by step, and reports each of them.

A step is one transaction. It is tried again only for lock_timeout (55P03) and deadlock (40P01), after a pause with jitter, and every
attempt is in the report. Steps of neighbouring lanes run side by side on `workers` connections; a lane keeps its order. A step that is
repeated is a transaction each time, with the plan's throttle between them; an exchange is two connections, see `exchange`. A step that is fed
takes the rows of its COPY from outside, from a file of an archive.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TypeVar

import psycopg

from atlas_ops import exchange, runlock
from atlas_ops.database import Session, connect, translate, written
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan, Step, confirmed
from atlas_ops.progress import Says, silent
from atlas_ops.report import Line
from atlas_ops.runlock import Held
from atlas_ops.throttle import LOOK_S, Brake

ATTEMPTS = 30
PAUSE_S = (0.05, 1.0)  # the first and the longest pause between attempts, before jitter
TRIED_AGAIN = frozenset({"55P03", "40P01"})
CANCELED = "57014"
Done = TypeVar("Done")
Block = bytes | memoryview
Feed = Callable[[], Iterable[tuple[Block, int]]]
"""Blocks of whole rows for a COPY ... FROM STDIN, each with about how many they are. It is called once an attempt, and raises where it is broken."""
FROM_OUTSIDE = re.compile(r"COPY .+ FROM STDIN\b", re.DOTALL)
PIECE_BYTES = 8 << 20
"""Of fed rows that are taken in pieces: so few that a temporary table of them stays in temp_buffers and never reaches a disk."""


def execute(
    where: Session, plan: Plan, confirm: str, progress: Says = silent, feeds: Mapping[str, Feed] | None = None
) -> tuple[Line, ...]:
    """Run the plan if `confirm` arms it; returns a line a step, none where the plan was only shown.

    `progress(done, total, label)` is called after each step, in units of `Step.weight` (at least one a step). `feeds`: by `Step.feed`.
    Raises AtlasError: another digest confirmed, another target, a second run at once, or the first step that failed. What was
    committed before stays; the next plan is made from what the catalogs then show.
    """
    if not confirmed(plan, confirm, demo=where.is_demo):
        return ()
    where = dressed(where, plan)
    with runlock.alone(where, plan) as held:
        return _Run(where, plan, progress, feeds or {}, held).steps()


def dressed(where: Session, plan: Plan) -> Session:
    """The session under the plan's name and timeouts."""
    return replace(
        where,
        digest=plan.digest,
        lock_timeout_ms=plan.lock_timeout_ms,
        statement_timeout_ms=plan.statement_timeout_ms,
    )


class _Run:
    """One execution: its connections, and what was done so far."""

    def __init__(self, where: Session, plan: Plan, progress: Says, feeds: Mapping[str, Feed], held: Held) -> None:
        self.where, self.plan, self.progress, self.feeds, self.held = where, plan, progress, feeds, held
        self.total = sum(max(step.weight, 1) for step in plan.steps)
        self.done = 0
        self.part: dict[int, int] = {}
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
        with self._connected() as connection:
            brake = Brake(self.plan.throttle, self.stop.is_set, self._say)
            for step in steps:
                if self.stop.is_set():
                    raise _Stopped
                self.held.require()
                with self._translated(step):
                    if step.lane or step.again:
                        brake(connection)
                    line = self._step(connection, step, brake)
                self._finished(step, line)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        """A connection that is cancelled when the run is wound up."""
        with connect(self.where, write=True) as connection:
            with self.mutex:
                self.open.add(connection)
            try:
                yield connection
            finally:
                with self.mutex:
                    self.open.discard(connection)

    @contextmanager
    def _translated(self, step: Step) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if self.stop.is_set() and error.sqlstate == CANCELED:
                raise _Stopped from None  # by ourselves: the failure to tell is the one that came first
            raise translate(error, f'Step "{step.name}"') from None

    def _say(self, label: str) -> None:
        with self.mutex:
            self.progress(self.done, self.total, label)

    def _passed(self, step: Step, rows: int) -> None:
        """A part of a step that is repeated is done: never more of its weight than it has."""
        with self.mutex:
            before = self.part.get(id(step), 0)
            self.part[id(step)] = min(before + rows, max(step.weight - 1, 0))
            self.done += self.part[id(step)] - before
            self.progress(self.done, self.total, step.name)

    def _finished(self, step: Step, line: Line) -> None:
        with self.mutex:
            self.lines[self.number[id(step)]] = line
            self.done += max(step.weight, 1) - self.part.pop(id(step), 0)
            self.progress(self.done, self.total, step.name)

    def _step(self, connection: psycopg.Connection, step: Step, brake: Brake) -> Line:
        attempts = _Attempts(step, self.stop)
        if step.exchange:
            held = attempts.run(lambda: self._exchange(step), exchange.TRIED_AGAIN, exchange.ATTEMPTS)
            return attempts.line(held.rows, held.waits, held.held_ms)
        if step.feed:
            return attempts.line(attempts.run(lambda: self._fed(connection, step)))
        rows = 0
        for _ in range(max(step.again, 1)):
            done, more = attempts.run(lambda: _attempt(connection, step))
            rows += done
            if not step.again or not more:
                return attempts.line(rows)
            self._passed(step, done)
            if self.stop.is_set():
                raise _Stopped
            self.held.glance()
            brake(connection)
        raise AtlasError(
            what=f'Step "{step.name}" was repeated {step.again:,} times, and there is still more to do.',
            why="Rows come faster than they are taken: the key log does not shrink.",
            next="Nothing is lost, and what is done stays done. Run again at a quieter hour, with a shorter pause, or look who writes so much.",
        )

    def _fed(self, connection: psycopg.Connection, step: Step) -> int:
        """One attempt at a step whose rows come from outside: one transaction. The brake looks on a connection of its own."""
        rows = 0
        with self._connected() as watcher, connection.transaction():
            brake = Brake(self.plan.throttle, self.stop.is_set, self._say, LOOK_S)
            for statement in step.statements:
                if not FROM_OUTSIDE.match(statement):
                    rows += written(connection.execute(statement))
                    continue
                with closing(self._braked(step, brake, watcher)) as blocks:
                    for piece in _pieces(blocks, PIECE_BYTES if step.piecewise else 0):
                        cursor = connection.cursor()
                        with cursor.copy(statement) as copy:
                            for block in piece:
                                copy.write(block)
                        rows += cursor.rowcount
                        for each in step.piecewise:
                            connection.execute(each, prepare=True)
            self.held.require()  # what was fed for hours is not committed beside another run
        return rows

    def _braked(self, step: Step, brake: Brake, watcher: psycopg.Connection) -> Generator[Block]:
        """The blocks of the step's feed, as fast as the throttle lets them pass."""
        for block, rows in self.feeds[step.feed]():
            if self.stop.is_set():
                raise _Stopped
            self.held.glance()
            brake(watcher)
            yield block
            self._passed(step, rows)

    def _exchange(self, step: Step) -> exchange.Held:
        """One attempt, on two connections of its own: the server ends one that idles for too long with its lock."""
        with self._connected() as first, self._connected() as second:
            return exchange.attempt(first, second, step, self._say)


class _Attempts:
    """The attempts at one step, for its line in the report."""

    def __init__(self, step: Step, stop: threading.Event) -> None:
        self.step, self.stop = step, stop
        self.started = datetime.now(UTC)
        self.failed: list[str] = []
        self.transactions = 0

    def run(self, attempt: Callable[[], Done], also: frozenset[str] = frozenset(), most: int = 0) -> Done:
        """Try until it works, at most `most` times (0: ATTEMPTS). Raises psycopg's error of the last one."""
        most = most or ATTEMPTS
        for number in range(1, most + 1):
            self.transactions += 1
            try:
                return attempt()
            except psycopg.Error as error:
                again = error.sqlstate in TRIED_AGAIN | also and not self.step.autocommit and number < most
                if not again or self.stop.is_set():
                    raise
                self.failed.append(str(error.sqlstate))
                time.sleep(_pause(number))
        raise AssertionError("the last attempt returns or raises")

    def line(self, rows: int, waits: tuple[tuple[str, float], ...] = (), held_ms: float | None = None) -> Line:
        """The line of a step that worked."""
        return Line(
            self.step.name,
            self.started,
            datetime.now(UTC),
            self.transactions,
            rows,
            tuple(self.failed),
            waits,
            held_ms,
        )


def _pieces(blocks: Iterator[Block], most: int) -> Iterator[Iterator[Block]]:
    """The blocks, in pieces that end with the block that fills them (0: all are one). Each is taken before the next; there is one at least."""

    def piece(first: Block | None) -> Iterator[Block]:
        size = 0
        for block in chain([] if first is None else [first], blocks):
            yield block
            size += len(block)
            if 0 < most <= size:
                return

    yield piece(None)
    for first in blocks:
        yield piece(first)


def _attempt(connection: psycopg.Connection, step: Step) -> tuple[int, bool]:
    """Run the statements once, in one transaction unless the step says otherwise.

    Returns the rows inserted, updated and deleted, and what the last statement answered of a step that is repeated.
    """
    if step.autocommit:
        return _executed(connection, step)
    with connection.transaction():
        return _executed(connection, step)


def _executed(connection: psycopg.Connection, step: Step) -> tuple[int, bool]:
    rows, more = 0, False
    for statement in step.statements:
        # a statement that is repeated finds its plan again: for few rows the plan costs more than its execution
        cursor = connection.execute(statement, prepare=True if step.again else None)
        rows += written(cursor)
    if step.again:
        answer = cursor.fetchone()
        more = bool(answer and answer[0])
    return rows, more


def _pause(attempt: int) -> float:
    """Twice as long after each attempt up to a second, times 0.5 to 1.5: two runs do not meet again at the same moment."""
    first, longest = PAUSE_S
    spread: float = random.uniform(0.5, 1.5)  # noqa: S311  # no secret
    return min(first * 2.0 ** (attempt - 1), longest) * spread


class _Stopped(Exception):
    """Another lane has failed; this one ends between two steps."""
