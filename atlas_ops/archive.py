"""Which partitions have outlived `keep`, and how they leave the partitioned table. Pure.

A partition that leaves is detached, closed and marked: its rows stay in a table of their own (the quarantine)
until somebody drops it, and ATTACH PARTITION with the bound in its comment brings them back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg import sql

from atlas_ops import bounds, definition
from atlas_ops.bounds import MOST_PERIODS, Bound
from atlas_ops.definition import name, plainly, raw, text
from atlas_ops.errors import AtlasError
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.partitions import attached, listed, partitioned_table, qualified, role_names, rows_of
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import Column, Table, count, size
from atlas_ops.written import stretch

STAGE = "plan_archive"

BEFORE = "; before: "  # in the mark of a table that was detached: the comment that it had
HOLD_ALL = "all"
CONCURRENT_LOCK_TIMEOUT = "10min"
"""How long DETACH CONCURRENTLY waits for others: in nobody's way, and giving up leaves a pending detach, so
that the short lock_timeout of every other step would do harm here."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A partition, and whether it leaves. Bounds are in UTC, None where it has none; sizes are in bytes."""

    table: str  # as the specification writes it
    schema: str
    partition: str
    lower: datetime | None
    upper: datetime | None
    rows: int | None  # from statistics, as `partitions.rows_of`
    bytes: int
    age: int | None  # whole periods between its end and the current one; None: not ended, or no end known
    goes: bool
    why: str

    @property
    def fate(self) -> str:
        """'archive' or 'keep'."""
        return "archive" if self.goes else "keep"


def quarantine_mark(spec: TableSpec) -> str:
    """How the comment of a table starts that was archived from this original.

    It differs from the mark of the migration, which would take the table for its own and attach it again.
    """
    return f"atlas_ops: archived rows of {text(name(spec.schema, spec.name))} "


def held(spec: TableSpec, bound: str) -> bool:
    """Whether a partition of that bound is under legal hold: it does not leave, and what has left is not dropped."""
    if spec.hold == HOLD_ALL:
        return True
    found = bounds.parse_bound(bound)
    return found.readable and any(
        (found.lower is None or found.lower < after) and (found.upper is None or found.upper > first)
        for first, after in map(stretch, spec.hold)
    )


def candidates(spec: TableSpec, snapshot: Snapshot, as_of: date) -> tuple[Candidate, ...]:
    """Every partition in the order of time, with its fate and the reason for it.

    One leaves if `keep` whole periods or more lie between its end and the current one. Never one that has not
    ended by the server's own clock (whatever `as_of` says), the default partition, a foreign table, or one
    whose bound is no range of time. One whose detach is pending has left already.
    """
    return tuple(candidate for candidate, _ in _judged(spec, snapshot, as_of))


def as_table(found: Iterable[Candidate], caption: str = "") -> Table:
    """The candidates as a notebook shows them, all of them."""
    columns: list[Column | str] = ["table", "partition", "from", "to", "periods ago", "rows", "bytes"]
    columns += [Column("fate", "verdict"), "why"]
    shown = [
        (
            each.table, each.partition, _day(each.lower), _day(each.upper), each.age, each.rows, each.bytes,
            each.fate, each.why,
        )
        for each in found
    ]  # fmt: skip
    return Table(columns, shown, caption, limit=max(len(shown), 1))


def chart_rows(found: Iterable[Candidate]) -> list[tuple[str, str, int, str]]:
    """(table, partition, bytes, fate) for `charts.archive_timeline`."""
    return [(each.table, each.partition, each.bytes, each.fate) for each in found]


def freed_bytes(found: Iterable[Candidate]) -> int:
    """Bytes that come free once what leaves is dropped; the detach by itself frees none."""
    return sum(each.bytes for each in found if each.goes)


def headline(spec: TableSpec, snapshot: Snapshot, as_of: date) -> str:
    """One sentence: how many partitions leave, why these, and how large they are."""
    if partitioned_table(snapshot) is None:
        return f"{spec.table}: there is no partitioned table to archive from."
    found = candidates(spec, snapshot, as_of)
    pending = [each.name for each, _ in attached(snapshot) if each.detach_pending]
    if pending:
        return f"{spec.table}: the detach of {listed(pending)} was interrupted and must be completed first."
    if spec.keep is None:
        return f"{spec.table}: keep is null, so nothing is archived."
    leaving = [each for each in found if each.goes]
    if not leaving:
        return f"{spec.table}: nothing is older than the {spec.keep} {spec.every}s to keep."
    known = [each.rows for each in leaving if each.rows is not None]
    rows = f"{count(sum(known))} rows" if len(known) == len(leaving) else "an unknown number of rows"
    return (
        f"{spec.table}: {len(leaving)} of {len(found)} partitions leave, ended {spec.keep} {spec.every}s "
        f"ago or before: {rows}; dropping them later frees {size(freed_bytes(found))}."
    )


def plan_archive(spec: TableSpec, snapshot: Snapshot, as_of: date, names: Collection[str] = ()) -> Plan:
    """The steps that detach what leaves, the oldest first and one at a time; none where nothing leaves. `names`: of these only.

    A pending detach is completed by a plan of its own: before that PostgreSQL detaches no other (55000).
    """
    relation = partitioned_table(snapshot)
    steps: list[Step] = []
    if relation is not None:
        detaching = _Detaching(spec, snapshot, relation, as_of)
        judged = _judged(spec, snapshot, as_of)
        pending = [partition for _, partition in judged if partition.detach_pending]
        steps = [detaching.finalize(partition) for partition in pending] or [
            step
            for candidate, partition in judged
            if candidate.goes and (not names or partition.name in names)
            for step in detaching.steps(partition)
        ]
    return plan_for(STAGE, spec, snapshot.server, steps, headline(spec, snapshot, as_of))


def checks(spec: TableSpec, snapshot: Snapshot, as_of: date) -> tuple[Check, ...]:
    """What would make the detach refuse, or would make it pointless. `inspection.checks` tells the rest."""
    relation = partitioned_table(snapshot)
    if relation is None:
        return ()  # a red line of inspection.checks already
    found: list[Check] = []
    if any(partition.detach_pending for partition, _ in attached(snapshot)):
        what = "A detach was interrupted: this plan completes it and does nothing else."
        why = "PostgreSQL detaches no other partition before (55000)."
        found.append(Check(Severity.WARN, spec.table, "detach pending", what, why, "Plan again afterwards."))
    if spec.keep is None:
        what = "keep is null: nothing is archived."
        cure = "Write keep: and the number of past periods to keep."
        found.append(Check(Severity.NOTE, spec.table, "keep", what, "All is kept.", cure))
    found += _referring(spec, relation)
    found += _registered(spec, snapshot)
    original = snapshot.original
    if original is not None and original is not relation:
        what = f"{spec.table} itself still holds the rows that would leave {relation.table.name}."
        why = "As long as it does, the application reads the original: archiving the copy helps nobody."
        found.append(
            Check(
                Severity.WARN, spec.table, "cut over", what, why, "Let the application use the partitioned table first."
            )
        )
    return tuple(found) or (Check(Severity.OK, spec.table, "archive", "Nothing stands in the way."),)


def _referring(spec: TableSpec, relation: Relation) -> list[Check]:
    """Incoming foreign keys: DETACH looks for rows that refer to the partition, and refuses for one."""
    if not relation.references:
        return []
    named = [f"{reference.constraint} of {reference.table}" for reference in relation.references]
    drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
    statements = [
        text(drop.format(raw(reference.table), name(reference.constraint))) + ";" for reference in relation.references
    ]
    return [
        Check(
            Severity.WARN,
            spec.table,
            "incoming foreign keys",
            f"These refer to the partitioned table: {listed(named)}.",
            "DETACH reads those tables, and is refused (23503) while a row in them refers to the partition.",
            "Archive the referring rows first, or drop the foreign key.",
            "\n".join(statements),
        )
    ]


def _registered(spec: TableSpec, snapshot: Snapshot) -> list[Check]:
    """With a registry nothing refers to the partitioned table itself: a detach is not refused, and the keys stay."""
    if not snapshot.keeps_keys:
        return []
    return [
        Check(
            Severity.NOTE,
            spec.table,
            "registry",
            f"The keys of a month that leaves stay in {plainly(spec.partition_schema, spec.keys_name)}.",
            "What refers to its rows goes on to, and no new row takes one of its keys, so that the month can come back.",
            "Where a month is gone for good, delete its keys there; the foreign keys act on that.",
        )
    ]


# who leaves


def _judged(spec: TableSpec, snapshot: Snapshot, as_of: date) -> list[tuple[Candidate, Partition]]:
    found = attached(snapshot)
    starts = _starts(spec, as_of, [bound.upper for _, bound in found if bound.readable and bound.upper])
    return [(_candidate(spec, snapshot, starts, *each), each[0]) for each in found]


def _candidate(
    spec: TableSpec, snapshot: Snapshot, starts: Sequence[datetime], partition: Partition, bound: Bound
) -> Candidate:
    age = _age(starts, bound)
    goes, why = _fate(spec, snapshot, partition, bound, age)
    return Candidate(
        table=spec.table,
        schema=partition.schema,
        partition=partition.name,
        lower=bound.lower,
        upper=bound.upper,
        rows=rows_of(partition)[0],
        bytes=partition.bytes,
        age=age,
        goes=goes,
        why=why,
    )


def _fate(spec: TableSpec, snapshot: Snapshot, partition: Partition, bound: Bound, age: int | None) -> tuple[bool, str]:
    """Whether it goes, and why; the first rule that fits decides."""
    ended = bound.upper is not None and bound.upper <= snapshot.server.now
    rules = (
        (partition.detach_pending, True, "Its detach was interrupted and must be completed."),
        (held(spec, bound.text), False, "It is under legal hold."),
        (bound.is_default, False, "The default partition has no end."),
        (not bound.readable, False, "Its bound is no range of time."),
        (partition.kind == "f", False, "It is a foreign table: its rows lie elsewhere."),
        (spec.keep is None, False, "keep is null: all is kept."),
        (age is None or not ended, False, "It has not ended."),
        ((age or 0) < (spec.keep or 0), False, f"Ended {age} whole {spec.every}s ago; {spec.keep} are kept."),
    )
    why = f"Ended {age} whole {spec.every}s ago; {spec.keep} are kept."
    return next(((goes, reason) for fits, goes, reason in rules if fits), (True, why))


def _starts(spec: TableSpec, as_of: date, ends: Sequence[datetime]) -> list[datetime]:
    """Starts of periods, ascending, up to the current one: back to the earliest end, and `keep` at least."""
    period = bounds.period_of(spec.every, as_of)
    starts = [period.lower]
    earliest = min(ends, default=period.lower)
    while len(starts) <= MOST_PERIODS and (len(starts) <= (spec.keep or 0) or period.lower > earliest):
        try:
            period = period.previous()
        except AtlasError:  # the calendar begins here
            break
        starts.append(period.lower)
    return starts[::-1]


def _age(starts: Sequence[datetime], bound: Bound) -> int | None:
    if bound.upper is None or bound.upper > starts[-1]:
        return None
    return len(starts) - 1 - bisect_left(starts, bound.upper)


def _day(edge: datetime | None) -> str | None:
    return None if edge is None else edge.date().isoformat()


# how it leaves


class _Detaching:
    """Writes the steps that take one partition out; holds nothing but what it was given.

    Locks were read from pg_locks on PostgreSQL 15 and 18.
    """

    def __init__(self, spec: TableSpec, snapshot: Snapshot, relation: Relation, as_of: date) -> None:
        self.spec, self.snapshot, self.as_of = spec, snapshot, as_of
        self.target = text(name(relation.table.schema, relation.table.name))
        self.referenced = sorted({key.referenced for key in relation.constraints if key.kind == "f" and key.referenced})
        self.default = next((qualified(each) for each, bound in attached(snapshot) if bound.is_default), None)

    def steps(self, partition: Partition) -> list[Step]:
        """One transaction where there is a default partition: CONCURRENTLY is refused (55000). Else two."""
        if self.default is not None:
            return [self._at_once(partition, self.default)]
        return [self._set_apart(partition), self._concurrently(partition)]

    def finalize(self, partition: Partition) -> Step:
        """Complete an interrupted DETACH CONCURRENTLY: the only way on that PostgreSQL leaves."""
        unmarked = not (partition.comment or "").startswith(quarantine_mark(self.spec))
        return Step(
            name=f"finish the detach of {partition.name}",
            statements=(
                self._detach(partition, " FINALIZE"),
                *(self._quarantine(partition) if unmarked else ()),
            ),
            lock="ACCESS EXCLUSIVE",
            on=", ".join([qualified(partition), f"SHARE UPDATE EXCLUSIVE on {self.target}", *self._also()]),
            why="A detach was interrupted: the rows are out of sight, inserts in their range fail. It "
            "waits for transactions that may still see them.",
            effect=Effect.REMOVES,
        )

    def _at_once(self, partition: Partition, default: str) -> Step:
        return Step(
            name=f"detach {partition.name}",
            statements=(self._detach(partition), *self._quarantine(partition)),
            lock="ACCESS EXCLUSIVE",
            on=", ".join([self.target, default, qualified(partition), *self._also()]),
            why="No row is read or moved: the lock is held for milliseconds. CONCURRENTLY is refused where "
            "there is a default partition (55000). Undo: ATTACH PARTITION with the bound in its comment.",
            effect=Effect.REMOVES,
        )

    def _set_apart(self, partition: Partition) -> Step:
        """Before the detach: whatever interrupts that, what FINALIZE leaves is closed and marked."""
        return Step(
            name=f"close and mark {partition.name}",
            statements=tuple(self._quarantine(partition)),
            lock="SHARE UPDATE EXCLUSIVE" if partition.row_security else "ACCESS EXCLUSIVE",
            on=qualified(partition),
            why="Nobody but the owner gets at it once it stands alone, no migration takes it for its own. "
            "Access through the partitioned table stays as it is.",
            effect=Effect.CHANGES,
        )

    def _concurrently(self, partition: Partition) -> Step:
        timeout = text(sql.SQL("SET lock_timeout = {}").format(sql.Literal(CONCURRENT_LOCK_TIMEOUT)))
        return Step(
            name=f"detach {partition.name}",
            statements=(timeout, self._detach(partition, " CONCURRENTLY"), "RESET lock_timeout"),
            lock="SHARE UPDATE EXCLUSIVE",
            on=", ".join([self.target, f"ACCESS EXCLUSIVE on {qualified(partition)} at the end", *self._also()]),
            why="It waits for every transaction that uses the table and blocks none of them. If interrupted, "
            "the detach is pending: plan again. Undo: ATTACH PARTITION with the bound in its comment.",
            effect=Effect.REMOVES,
            autocommit=True,
        )

    def _detach(self, partition: Partition, how: str = "") -> str:
        return f"ALTER TABLE {self.target} DETACH PARTITION {qualified(partition)}{how}"

    def _quarantine(self, partition: Partition) -> list[str]:
        """The comment that tells what it holds, the doors shut; row security only if off: a strong lock."""
        ours = quarantine_mark(self.spec)
        mark = f"{ours}{partition.bound}, detached from {self.target}, planned {self.as_of}"
        if partition.comment and not partition.comment.startswith(ours):
            mark += f"{BEFORE}{partition.comment}"
        roles = sorted({*self.snapshot.closed_to, *role_names(partition)})
        closing = definition.closing(partition.schema, partition.name, roles)
        return [
            *definition.comment(partition.schema, partition.name, mark),
            *(closing[:1] if partition.row_security else closing),
        ]

    def _also(self) -> list[str]:
        return [f"SHARE ROW EXCLUSIVE on {table}" for table in self.referenced]
