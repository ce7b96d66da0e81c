"""The synthetic writer of a rehearsal: its statements for a table of any shape, who does what next, and what the clients saw. Pure.

An application is imitated, not the table's content: rows are inserted like existing ones under new keys, single rows are updated and deleted by
primary key. Each client changes rows of its own only, so a statement that finds no row, or fails, is a fault of the exchange and nobody else's.
Statements name the table by its own name and take native parameters ($1), as psycopg's RawCursor sends them.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import sql

from atlas_ops import bounds, online
from atlas_ops.bounds import Period
from atlas_ops.definition import insertable, name, names, raw, text
from atlas_ops.model import Column, Relation
from atlas_ops.report import Line
from atlas_ops.spec import TableSpec

INSERT, UPDATE, MOVE, DELETE = "INSERT", "UPDATE", "UPDATE of the partition key", "DELETE"
ROUND = (INSERT, UPDATE, INSERT, UPDATE, DELETE)
MOVE_EVERY = 10  # updates: the one after so many changes the partition key by a month
KEYS = 2_000  # rows that the clients know at the start
TEMPLATES = 5  # one of so many of them is inserted again and again, and never changed itself
HOLD_LIMIT_MS = 100.0  # for the locks of an exchange
_NUMBERS = ("int2", "int4", "int8", "numeric")
_TEXTS = ("text", "varchar", "bpchar")
_DIGITS = 12  # room for a number at the end of a text that has a longest length
_MICROSECONDS = 6


@dataclass(frozen=True, slots=True)
class Statements:
    """What the clients send. Parameters: the key (primary key, then the partition key if it is no part of it), then a number never used before."""

    key: tuple[str, ...]
    primary: int  # how many columns of the key are the primary key's: UPDATE and DELETE take those
    sample: str  # keys of existing rows, as text
    whole: str  # the same of a table whose size the planner does not know
    highest: str  # the number to count from
    inserts: tuple[str, ...]  # the first that the table takes is used; none: a new key cannot be made up
    update: str
    moves: tuple[str, ...]
    delete: str


def statements(spec: TableSpec, original: Relation, covered: Sequence[Period], share: float) -> Statements:
    """`covered`: the periods that have partitions; `share`: per cent of the pages to look for keys in, so that nothing reads the whole table."""
    table = name(*spec.original_at)
    primary, key = online.primary_columns(original), online.key_columns(spec, original)
    renewed = _renewals(spec, original, covered)
    listed = sql.SQL(", ").join(sql.SQL("{}::text").format(name(column)) for column in key)
    by_primary = _where(primary)
    numbers = [column for column, how in (renewed or {}).items() if how.counts]
    highest = sql.SQL("SELECT coalesce(greatest({}), 0)::bigint FROM {}").format(
        sql.SQL(", ").join(sql.SQL("ceil(max({}))").format(name(column)) for column in numbers), table
    )
    return Statements(
        key=key,
        primary=len(primary),
        sample=text(_sample(spec, table, listed, share)),
        whole=text(_sample(spec, table, listed, 100.0)),
        highest=text(highest) if numbers else "SELECT 0::bigint",
        inserts=tuple(_inserts(spec, original, covered, renewed, listed)) if renewed is not None else (),
        update=text(
            sql.SQL("UPDATE {t} SET {c} = {c} WHERE {w} RETURNING {k}").format(
                t=table, c=name(_untouched(spec, original)), w=by_primary, k=listed
            )
        ),
        moves=tuple(
            text(
                sql.SQL("UPDATE {} SET {} = {} WHERE {} AND ${}::bigint IS NOT NULL RETURNING {}").format(
                    table, name(spec.partition_key), value, by_primary, raw(str(len(primary) + 1)), listed
                )
            )
            for value in _a_month_earlier(spec, original, covered, len(primary) + 1)
        ),
        delete=text(sql.SQL("DELETE FROM {} WHERE {} RETURNING {}").format(table, by_primary, listed)),
    )


def _sample(spec: TableSpec, table: sql.Composable, listed: sql.Composable, share: float) -> sql.Composed:
    return sql.SQL("SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) WHERE {} IS NOT NULL LIMIT {}").format(
        listed, table, sql.Literal(share), name(spec.partition_key), sql.Literal(KEYS)
    )


def _where(columns: Sequence[str], alias: str = "") -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = ${}").format(name(*filter(None, (alias, column))), raw(str(number)))
        for number, column in enumerate(columns, 1)
    )


# -- new keys


@dataclass(frozen=True, slots=True)
class _New:
    """How a column of a new row gets a value of its own: an expression, or none where the table's default does it."""

    value: sql.Composable | None
    rank: int = 0
    counts: bool = False


def _renewals(spec: TableSpec, original: Relation, covered: Sequence[Period]) -> dict[str, _New] | None:
    """For every uniqueness of the table one column that gets a new value; None where one has no such column."""
    chosen: dict[str, _New] = {}
    referring = {column for one in original.constraints if one.kind == "f" for column in one.columns}
    unique = [index.columns for index in original.indexes if index.unique and index.valid and not index.primary]
    for columns in (online.primary_columns(original), *unique):
        if set(columns) & set(chosen):
            continue
        ways = [
            (way.rank + 10 * (column.name in referring), number, column.name, way)
            for number, column in enumerate(column for column in original.columns if column.name in columns)
            if (way := _new(spec, original, covered, column)) is not None
        ]
        if not ways:
            return None
        _, _, column_name, way = min(ways, key=lambda one: one[:2])
        chosen[column_name] = way
    return chosen


def _new(spec: TableSpec, original: Relation, covered: Sequence[Period], column: Column) -> _New | None:
    number = raw(str(len(online.key_columns(spec, original)) + 1))
    kind = raw(column.type)
    way = None
    if column.generated:
        way = None
    elif column.identity or column.default_sequence:
        way = _New(None)
    elif column.base_type == "uuid":
        way = _New(sql.SQL("gen_random_uuid()"), 1)
    elif column.name == spec.partition_key and _fine(column):
        way = _New(_now(spec, covered, column), 2)
    elif column.base_type in _NUMBERS:
        way = _New(sql.SQL("${}::{}").format(number, kind), 3, counts=True)
    elif column.base_type in _TEXTS:
        longest = re.search(r"\((\d+)\)", column.type)
        own = name("r", column.name)
        kept = sql.SQL("left({}, {})").format(own, sql.Literal(max(int(longest[1]) - _DIGITS, 0))) if longest else own
        way = _New(sql.SQL("({} || '~' || ${}::bigint)::{}").format(kept, number, kind), 4)
    elif not column.not_null:
        way = _New(sql.SQL("NULL"), 5)
    return way


def _fine(column: Column) -> bool:
    """A time of whole microseconds: two rows hardly ever share one."""
    precision = re.search(r"\((\d)\)", column.type)
    return column.base_type in ("timestamp", "timestamptz") and (not precision or int(precision[1]) >= _MICROSECONDS)


def _now(spec: TableSpec, covered: Sequence[Period], column: Column) -> sql.Composable:
    """The clock, or the row's own key where no partition would take today."""
    now = sql.SQL("clock_timestamp()::{}").format(raw(column.type))
    if spec.default_partition:
        return now
    first, last = _edges(covered, column)
    return sql.SQL("CASE WHEN {now} >= {first} AND {now} < {last} THEN {now} ELSE {own} END").format(
        now=now, first=first, last=last, own=name("r", column.name)
    )


def _edges(covered: Sequence[Period], column: Column) -> tuple[sql.Composed, sql.Composed]:
    """The first bound and the last."""
    first, last = (
        sql.SQL("{}::{}").format(sql.Literal(bounds.literal(edge, column.base_type)), raw(column.type))
        for edge in (covered[0].lower, covered[-1].upper)
    )
    return first, last


def _inserts(
    spec: TableSpec,
    original: Relation,
    covered: Sequence[Period],
    renewed: Mapping[str, _New],
    listed: sql.Composable,
) -> Iterable[str]:
    """A row like an existing one, with the partition key now; where a CHECK of the table forbids that, with its own."""
    key = original.column(spec.partition_key)
    assert key is not None, "preflight refuses a specification whose key is missing"
    table, known = name(*spec.original_at), online.key_columns(spec, original)
    for at in (_now(spec, covered, key), name("r", key.name)):
        values: dict[str, sql.Composable] = {}
        for column in insertable(original):
            way = renewed.get(column.name)
            if column.identity or (way and way.value is None):
                continue
            own = at if column.name == key.name else name("r", column.name)
            values[column.name] = way.value if way and way.value else own
        yield text(
            sql.SQL(
                "INSERT INTO {} ({}) SELECT {} FROM {} AS r WHERE {} AND ${}::bigint IS NOT NULL RETURNING {}"
            ).format(
                table,
                names(values),
                sql.SQL(", ").join(values.values()),
                table,
                _where(known, "r"),
                raw(str(len(known) + 1)),
                listed,
            )
        )


def _untouched(spec: TableSpec, original: Relation) -> str:
    """A column to set to itself: none of a key, and none that may not be named; the partition key where there is no other."""
    unique = {column for index in original.indexes if index.unique for column in index.columns}
    free = [
        column.name
        for column in insertable(original)
        if column.name not in unique and column.name != spec.partition_key and column.identity != "a"
    ]
    return free[0] if free else spec.partition_key


def _a_month_earlier(
    spec: TableSpec, original: Relation, covered: Sequence[Period], number: int
) -> Iterable[sql.Composable]:
    """The partition key a month back, never before the first partition where no other takes it; none where that could meet another row."""
    column = original.column(spec.partition_key)
    assert column is not None, "preflight refuses a specification whose key is missing"
    own, kind = name(column.name), raw(column.type)
    unique = any(index.unique and column.name in index.columns for index in original.indexes)
    if unique and not _fine(column):
        return
    apart = (
        sql.SQL(" - (${}::bigint % 1000000) * interval '1 microsecond'").format(raw(str(number)))
        if unique
        else sql.SQL("")
    )
    earlier = sql.SQL("({} - interval '1 month'{})::{}").format(own, apart, kind)
    if spec.default_partition:
        yield earlier
        return
    yield sql.SQL("CASE WHEN {e} >= {f} THEN {e} ELSE {o} END").format(e=earlier, f=_edges(covered, column)[0], o=own)


# -- who does what next

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One statement of a client, and the key of the row that it is about."""

    kind: str
    statement: str
    parameters: tuple[Any, ...]
    key: Key


class Client:
    """What one client does next. The rows it changes are its own; the templates are never changed by anybody."""

    def __init__(self, statements: Statements, kinds: Mapping[str, str], keys: Sequence[Key], number: int, of: int, first: int) -> None:  # fmt: skip
        """`kinds`: the statement of each kind that the table takes; client `number` of `of`; numbers are counted from `first` on."""
        own = list(keys[number::of]) or list(keys[:1])
        most = max(1, len(own) // TEMPLATES)
        self.statements, self.kinds = statements, kinds
        self.templates, self.known = own[:most], own[most:] if len(keys) >= of else []
        self.made: deque[Key] = deque()
        self.numbers = iter(range(first + 1 + number, 2**63 - 1, of))
        self.chance = random.Random(number)  # noqa: S311  # no secret
        self.turn = number
        self.updates = 0

    def next(self) -> Asked | None:
        """The next statement; None where nothing is left that the table takes."""
        for _ in ROUND:
            kind = ROUND[self.turn % len(ROUND)]
            self.turn += 1
            asked = self._asked(kind)
            if asked is not None:
                return asked
        return None

    def _asked(self, kind: str) -> Asked | None:
        if kind == INSERT and INSERT in self.kinds:
            key = self.chance.choice(self.templates)
            return Asked(kind, self.kinds[kind], (*key, next(self.numbers)), key)
        if kind == DELETE and DELETE in self.kinds and self.made:
            key = self.made.popleft()
            return Asked(kind, self.kinds[kind], key[: self.statements.primary], key)
        if kind == UPDATE and (self.known or self.made):
            return self._update()
        return None

    def _update(self) -> Asked | None:
        own = self.made if self.made and (not self.known or self.chance.random() < 0.25) else self.known  # noqa: PLR2004
        key = own[self.chance.randrange(len(own))]
        self.updates += 1
        primary = key[: self.statements.primary]
        if self.updates % MOVE_EVERY == 0 and MOVE in self.kinds:
            return Asked(MOVE, self.kinds[MOVE], (*primary, next(self.numbers)), key)
        return Asked(UPDATE, self.kinds[UPDATE], primary, key) if UPDATE in self.kinds else None

    def done(self, asked: Asked, found: Key | None) -> None:
        """What came of it: the key that the row has now, or None where there was no row."""
        if found is None:
            return
        if asked.kind == INSERT:
            self.made.append(found)
        elif asked.kind == MOVE and found != asked.key:
            own = self.made if asked.key in self.made else self.known
            own[own.index(asked.key)] = found


# -- what they saw

Span = tuple[str, float, float]
"""A name, and what it lasted: from when until when, in seconds since the beginning."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as its client saw it: when it was sent (seconds since the beginning), how long it took, how it ended."""

    at: float
    ms: float
    kind: str
    sqlstate: str = ""
    found: bool = True  # it did what it was sent for to one row

    @property
    def until(self) -> float:
        """When it was answered."""
        return self.at + self.ms / 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the story, in seconds since its beginning, with the steps that ran."""

    name: str
    started: float
    ended: float
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """A stage in figures: what was held, and what the clients saw meanwhile. Milliseconds, but for `seconds`."""

    stage: str
    seconds: float
    rows: int
    statements: int
    median_ms: float | None
    p99_ms: float | None
    longest_ms: float | None
    waits_ms: tuple[float, ...] = ()
    held_ms: float | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rehearsal from its first statement to its last."""

    table: str
    rows: int
    rate: int
    clients: int
    began: datetime
    lock_timeout_ms: int
    stages: tuple[Stage, ...]
    statements: tuple[Statement, ...]
    lost: int = 0  # rows that differed and were in no key log, in both comparisons
    left_out: Mapping[str, str] = field(default_factory=dict)  # kind of statement → why the table does not take it

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every step that ran."""
        return tuple(line for stage in self.stages for line in stage.lines)

    @property
    def seconds(self) -> float:
        """From the first statement to the last."""
        return max((stage.ended for stage in self.stages), default=0.0)

    @property
    def errors(self) -> dict[str, int]:
        """Statements that failed, by SQLSTATE."""
        states = sorted({one.sqlstate for one in self.statements if one.sqlstate})
        return {state: sum(one.sqlstate == state for one in self.statements) for state in states}

    @property
    def missed(self) -> int:
        """Statements that found no row where the client knows that there is one."""
        return sum(not one.found and not one.sqlstate for one in self.statements)

    @property
    def whole(self) -> bool:
        """No statement failed, none found its row gone, and nothing was lost."""
        return not self.errors and not self.missed and not self.lost

    @property
    def done_rate(self) -> float:
        """Statements a second, as done."""
        return len(self.statements) / self.seconds if self.seconds else 0.0

    @property
    def held_ms(self) -> float | None:
        """The longest hold of an exchange."""
        return max((line.held_ms for line in self.lines if line.held_ms is not None), default=None)

    @property
    def exchanges(self) -> tuple[Figures, ...]:
        """The stages that exchanged the tables."""
        return tuple(one for one in self.figures() if one.held_ms is not None)

    @property
    def within_limits(self) -> bool:
        """Each hold is under 100 ms, and no client waited for longer than lock_timeout and the hold."""
        return all(
            (one.held_ms or 0) < HOLD_LIMIT_MS and (one.longest_ms or 0) <= self.lock_timeout_ms + (one.held_ms or 0)
            for one in self.exchanges
        )

    def figures(self) -> tuple[Figures, ...]:
        """Each stage; a statement belongs to the one in which it was sent: what an exchange stalls is sent while it lasts."""
        return tuple(self._figures(stage) for stage in self.stages)

    def _figures(self, stage: Stage) -> Figures:
        ms = sorted(one.ms for one in self.statements if stage.started <= one.at < stage.ended)
        held = [line for line in stage.lines if line.held_ms is not None]
        return Figures(
            stage=stage.name,
            seconds=stage.ended - stage.started,
            rows=sum(line.rows for line in stage.lines),
            statements=len(ms),
            median_ms=percentile(ms, 0.5),
            p99_ms=percentile(ms, 0.99),
            longest_ms=ms[-1] if ms else None,
            waits_ms=tuple(wait for line in held for _, wait in line.waits),
            held_ms=held[-1].held_ms if held else None,
            attempts=sum(line.attempts for line in held),
        )

    def holds(self) -> tuple[Span, ...]:
        """(stage, from, to) of each exchange, in seconds: from the lock that keeps writers out to the commit."""
        return tuple(
            (stage.name, ended - line.held_ms / 1000, ended)
            for stage in self.stages
            for line in stage.lines
            if line.held_ms is not None
            for ended in [(line.ended - self.began).total_seconds()]
        )

    def drawn(self) -> tuple[str, list[tuple[float, float, bool]], list[Span], list[Span]]:
        """What `charts.stalls` draws: the table, its statements, stages and holds."""
        statements = [(one.at, one.ms, bool(one.sqlstate) or not one.found) for one in self.statements]
        return self.table, statements, [(one.name, one.started, one.ended) for one in self.stages], list(self.holds())

    def result(self) -> dict[str, Any]:
        """JSON types only; no value of a row."""
        return {
            "table": self.table,
            "rows": self.rows,
            "rate": self.rate,
            "clients": self.clients,
            "began": self.began.isoformat(),
            "seconds": round(self.seconds, 3),
            "statements": len(self.statements),
            "statements_per_second": round(self.done_rate, 1),
            "errors": self.errors,
            "missed": self.missed,
            "lost": self.lost,
            "left_out": dict(self.left_out),
            "held_ms": self.held_ms,
            "lock_timeout_ms": self.lock_timeout_ms,
            "within_limits": self.within_limits,
            "stages": [
                {
                    "stage": one.stage,
                    "seconds": round(one.seconds, 3),
                    "rows": one.rows,
                    "statements": one.statements,
                    "median_ms": _rounded(one.median_ms),
                    "p99_ms": _rounded(one.p99_ms),
                    "longest_stall_ms": _rounded(one.longest_ms),
                    "lock_waits_ms": [round(ms, 3) for ms in one.waits_ms],
                    "held_ms": _rounded(one.held_ms),
                    "attempts": one.attempts,
                }
                for one in self.figures()
            ],
        }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank; None of nothing."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
