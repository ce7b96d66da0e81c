"""The rehearsal: 02, 06 and 10 on one table while a synthetic writer writes to it, with every wait, hold and stall measured.

`rehearse` works on the table it is given: the demo's, in a database of its own. `on_scratch` makes a scratch copy in the DBA's own database,
rehearses on that, and drops it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import psycopg

from atlas_ops import catalog, compare, cutover, division, migration, preflight, scratch, traffic
from atlas_ops.database import Session, connect, translate
from atlas_ops.errors import AtlasError
from atlas_ops.execute import execute
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan, Step
from atlas_ops.progress import Says, silent
from atlas_ops.report import Check, Line, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.traffic import Asked, Rehearsal, Stage, Statement, Statements

CUT_OVER, ROLL_BACK = "cut over", "roll back"
STAGES = 12  # of the story, for the progress shown
BEHIND_S = 1.0  # a client that waited sends what it is late with, but no more than this
CLIENT_TIMEOUT_MS = 60_000  # of a statement: a client that hangs is a failure, and not the end of the rehearsal
ENDING_S = 5.0  # for the clients' last statements
REHEARSAL_LOCK = (0x41544C53, 2)  # advisory lock of a rehearsal on one database; (..., 1) is that of a run


@dataclass(frozen=True, slots=True)
class Load:
    """What the synthetic writer does: `rate` statements a second by `clients` connections; `quiet_s` between the stages of the story."""

    rate: int = 500
    clients: int = 4
    quiet_s: float = 3.0


# -- the story


def rehearse(where: Session, spec: TableSpec, as_of: date, load: Load, progress: Says = silent) -> Rehearsal:
    """Copy online, compare, cut over, roll back, compare: on this very table, written to all the while. The copy stays.

    Raises AtlasError as 02, 06 and 10 would, and where the table takes no statement of the synthetic writer.
    """
    return _Story(where, spec, as_of, load, progress).told()


class _Story:
    def __init__(self, where: Session, spec: TableSpec, as_of: date, load: Load, progress: Says) -> None:
        self.where, self.spec, self.as_of, self.load, self.progress = where, spec, as_of, load, progress
        self.stages: list[Stage] = []
        self.rows = self.lost = 0

    def told(self) -> Rehearsal:
        spec, snapshot = self._snapshot()
        self._refuse(preflight.checks(spec, snapshot, self.as_of))
        with Writer(self.where, _statements(spec, snapshot, self.as_of), self.load) as writer:
            self.writer = writer
            self._quiet("before")
            self._copy()
            self._compare()
            self._turn(CUT_OVER)
            self._quiet("in use")
            self._turn(ROLL_BACK)
            self._quiet("after")
            self._compare()
        return Rehearsal(
            table=self.spec.table,
            rows=self.rows,
            rate=self.load.rate,
            clients=self.load.clients,
            began=writer.began,
            lock_timeout_ms=self.spec.lock_timeout_ms,
            stages=tuple(self.stages),
            statements=writer.statements(),
            lost=self.lost,
            left_out=writer.left_out,
        )

    def _snapshot(self) -> tuple[TableSpec, Snapshot]:
        with connect(self.where) as connection:
            spec = catalog.placed(connection, self.spec)
            return spec, catalog.snapshot(connection, spec, division.names_needed(spec, self.as_of))

    def _refuse(self, checks: Sequence[Check]) -> None:
        red = next((check for check in checks if check.severity is Severity.STOP), None)
        if red:
            raise AtlasError(what=f"{red.table}: {red.what}", why=red.why, next=red.cure)

    @contextmanager
    def _stage(self, stage: str) -> Iterator[list[Line]]:
        """The lines of the steps that ran go into the list."""
        self.progress(len(self.stages), STAGES, f"{self.spec.name}: {stage}")
        lines: list[Line] = []
        started = self.stages[-1].ended if self.stages else 0.0  # no statement falls between two stages
        yield lines
        self.stages.append(Stage(stage, started, self.writer.seconds(), tuple(lines)))
        self.writer.raise_if_broken()

    def _quiet(self, stage: str) -> None:
        with self._stage(stage):
            time.sleep(self.load.quiet_s)

    def _copy(self) -> None:
        with self._stage("copy") as lines:
            spec, snapshot = self._snapshot()
            with connect(self.where) as connection:
                rows = dict(catalog.rows_per_period(connection, spec, division.periods(spec, self.as_of)))
            self.rows = sum(rows.values())
            rows[division.OUT_OF_RANGE] = rows.pop("before") + rows.pop("after")
            plan = migration.plan_migration(spec, snapshot, self.as_of, rows)
            lines.extend(execute(self.where, plan, plan.digest))

    def _compare(self) -> None:
        with self._stage("compare"):
            spec, snapshot = self._snapshot()
            original, state = snapshot.original, snapshot.online
            key = original.column(spec.partition_key) if original else None
            assert original and key and state, "it was copied before"
            parts = division.parts(spec, key.base_type, self.as_of)
            proofs, _ = compare.prove(self.where, [(spec, original, parts)], following={spec.name: state.authority})
            self.lost += sum(proof.lost or 0 for proof in proofs)

    def _turn(self, stage: str) -> None:
        spec, snapshot = self._snapshot()
        self._refuse(tuple(cutover.checks(spec, snapshot)))
        if stage == CUT_OVER:
            plan = cutover.plan_cut_over(spec, snapshot, self.as_of)
        else:
            plan = cutover.plan_roll_back(spec, snapshot)
        for part, steps in _around_the_exchange(stage, plan.steps):
            with self._stage(part) as lines:
                own = replace(plan, steps=steps)
                lines.extend(execute(self.where, own, own.digest))


def _around_the_exchange(stage: str, steps: Sequence[Step]) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """What comes before the exchange, the exchange, and what comes after it."""
    at = next(number for number, step in enumerate(steps) if step.exchange)
    drain = "drain" if at == 1 else "prepare and drain"
    parts = ((drain, steps[:at]), (stage, steps[at : at + 1]), ("foreign keys", steps[at + 1 :]))
    return ((name, tuple(part)) for name, part in parts if part)


def _statements(spec: TableSpec, snapshot: Snapshot, as_of: date) -> Statements:
    original = snapshot.original
    assert original is not None, "preflight refuses a specification whose table is missing"
    share = scratch.share_of(traffic.KEYS, original.table.estimated_rows)
    return traffic.statements(spec, original, division.periods(spec, as_of), share)


# -- the synthetic writer


class Writer:
    """The clients, as threads: they write from the beginning of the block to its end. A table that takes none of their statements is refused."""

    def __init__(self, where: Session, statements: Statements, load: Load) -> None:
        self.where = replace(
            where, stage="rehearsal client", digest="", lock_timeout_ms=0, statement_timeout_ms=CLIENT_TIMEOUT_MS
        )
        self.load, self.sql = load, statements
        self.left_out: dict[str, str] = {}
        self.stop = threading.Event()
        self.clients: list[_Client] = []

    def __enter__(self) -> Writer:
        with connect(self.where, write=True) as connection:
            keys = self._keys(connection)
            ((first,),) = _asked(connection, self.sql.highest)
            kinds = self._taken(connection, keys[0], first + 1)
        of = min(self.load.clients, len(keys))
        self.clients = [
            _Client(self.where, traffic.Client(self.sql, kinds, keys, number, of, first), number, of, self.load.rate, self.stop)
            for number in range(of)
        ]  # fmt: skip
        self.began, self._zero = datetime.now(UTC), time.perf_counter()
        for one in self.clients:
            one.begin(self._zero)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        deadline = time.monotonic() + ENDING_S
        for one in self.clients:
            one.thread.join(max(deadline - time.monotonic(), 0.0))
            one.cancel()
            one.thread.join(ENDING_S)

    def seconds(self) -> float:
        """Since the first statement."""
        return time.perf_counter() - self._zero

    def statements(self) -> tuple[Statement, ...]:
        """Every statement so far, in the order in which they were sent."""
        return tuple(sorted((one for client in self.clients for one in client.seen), key=lambda one: one.at))

    def raise_if_broken(self) -> None:
        """A fault of the writer itself, and no answer of the server's, ends the rehearsal."""
        for one in self.clients:
            if isinstance(one.fault, psycopg.Error):
                raise translate(one.fault, "The synthetic writer")
            if one.fault is not None:
                raise one.fault

    def _keys(self, connection: psycopg.Connection) -> list[traffic.Key]:
        for query in (self.sql.sample, self.sql.whole):
            if keys := [tuple(row) for row in _asked(connection, query)]:
                return keys
        raise AtlasError(
            what="The table has no row with a partition key.",
            why="The synthetic writer writes rows like those that are there.",
            next="Rehearse on a table that has some.",
        )

    def _taken(self, connection: psycopg.Connection, key: traffic.Key, number: int) -> dict[str, str]:
        """The statement of each kind that the table takes, tried in a transaction that is rolled back."""
        primary = key[: self.sql.primary]
        tries: list[tuple[str, Sequence[str], tuple[Any, ...]]] = [
            (traffic.INSERT, self.sql.inserts, (*key, number)),
            (traffic.UPDATE, (self.sql.update,), primary),
            (traffic.MOVE, self.sql.moves, (*primary, number)),
        ]
        kinds: dict[str, str] = {}
        for kind, candidates, parameters in tries:
            reason = "no such statement could be made for this table"
            for candidate in candidates:
                reason = _refused(connection, candidate, parameters)
                if not reason:
                    kinds[kind] = candidate
                    break
            if kind not in kinds:
                self.left_out[kind] = reason
        if traffic.INSERT in kinds:
            kinds[traffic.DELETE] = self.sql.delete
        else:
            self.left_out[traffic.DELETE] = "only rows that were inserted are deleted"
        if not kinds:
            raise AtlasError(
                what="The table takes no statement of the synthetic writer.",
                why="; ".join(f"{kind}: {reason}" for kind, reason in self.left_out.items()) + ".",
                next="Rehearse with the application itself, on a staging server.",
            )
        return kinds


def _refused(connection: psycopg.Connection, statement: str, parameters: tuple[Any, ...]) -> str:
    """Why the table does not take a statement, without a value of a row; empty where it does."""
    try:
        with connection.transaction(force_rollback=True):
            return "" if _asked(connection, statement, parameters) else "it finds no row"
    except psycopg.Error as error:
        if connection.closed:
            raise translate(error, "Trying the synthetic writer") from None
        named = ".".join(filter(None, (error.diag.table_name, error.diag.column_name, error.diag.constraint_name)))
        return " ".join(filter(None, (error.sqlstate, type(error).__name__, f"({named})" if named else "")))


def _asked(
    connection: psycopg.Connection, statement: str, parameters: tuple[Any, ...] = (), *, prepare: bool = False
) -> list[tuple[Any, ...]]:
    # native parameters: a name with a per cent sign in it needs no care
    return psycopg.RawCursor(connection).execute(statement, parameters or None, prepare=prepare).fetchall()


@dataclass(slots=True)
class _Client:
    """One connection of `of`, paced: a statement every `of` / `rate` seconds, what is late being caught up with."""

    where: Session
    hand: traffic.Client
    number: int
    of: int
    rate: int
    stop: threading.Event
    seen: list[Statement] = field(default_factory=list)
    fault: BaseException | None = None
    connection: psycopg.Connection | None = None
    thread: threading.Thread = field(init=False)

    def begin(self, zero: float) -> None:
        self.thread = threading.Thread(target=self._run, args=(zero,), name=f"rehearsal {self.number}", daemon=True)
        self.thread.start()

    def cancel(self) -> None:
        """A last statement that hangs is not waited for."""
        if self.thread.is_alive() and self.connection is not None:
            with suppress(psycopg.Error):
                self.connection.cancel_safe(timeout=ENDING_S)

    def _run(self, zero: float) -> None:
        every = self.of / self.rate
        due = zero + every * self.number / self.of
        try:
            with connect(self.where, write=True) as self.connection:
                while not self.stop.wait(max(due - time.perf_counter(), 0.0)):
                    asked = self.hand.next()
                    if asked is not None:
                        self._send(self.connection, asked, zero)
                    due = max(due + every, time.perf_counter() - BEHIND_S)
        except BaseException as error:  # a thread has nobody to raise to: raise_if_broken tells it
            self.fault = error

    def _send(self, connection: psycopg.Connection, asked: Asked, zero: float) -> None:
        """Every other client prepares its statements, as some drivers do."""
        started = time.perf_counter()
        state, rows = "", []
        try:
            rows = _asked(connection, asked.statement, asked.parameters, prepare=self.number % 2 == 0)
        except psycopg.Error as error:
            if connection.closed:
                raise
            state = error.sqlstate or ""
        took = time.perf_counter() - started
        if rows:
            self.hand.done(asked, tuple(rows[0]))
        self.seen.append(Statement(started - zero, took * 1000, asked.kind, state, len(rows) == 1))


# -- on a scratch copy


def on_scratch(
    where: Session, plan: Plan, spec: TableSpec, as_of: date, load: Load, progress: Says = silent
) -> Rehearsal:
    """Run `plan_scratch`'s plan, which was confirmed, with the story before its last step. Whatever happens, the scratch copy is dropped.

    Raises AtlasError; also where another rehearsal is going on.
    """
    with _alone(where):
        try:
            _run(where, plan, plan.steps[:-1])
            found = rehearse(where, scratch.scratch_spec(spec), as_of, load, progress)
        except BaseException:
            with suppress(AtlasError):  # the failure to tell is the first; the next rehearsal drops what is left
                _run(where, plan, plan.steps[-1:])
            raise
        _run(where, plan, plan.steps[-1:])
    return replace(found, table=spec.table)


def _run(where: Session, plan: Plan, steps: tuple[Step, ...]) -> None:
    """A part of a plan that was confirmed as a whole."""
    part = replace(plan, steps=steps)
    execute(where, part, part.digest)


@contextmanager
def _alone(where: Session) -> Iterator[None]:
    """The lock of a rehearsal: it tells what another one uses from what a killed one left."""
    with connect(where) as guard:
        row = guard.execute("SELECT pg_try_advisory_lock(%s, %s)", REHEARSAL_LOCK).fetchone()
        if row is None or not row[0]:
            raise AtlasError(
                what="Another rehearsal is going on in this database.",
                why="Both would use the same scratch copy.",
                next="Wait until it has ended.",
            )
        yield
