"""Rows of the default partition, and how they come into the partition of their period while the application writes. Pure.

`atlas_ops.move_rows()` in the database moves them, some thousand a transaction: deleted from the one and inserted into the other in the same
transaction, so that every snapshot, an old one too, finds each row in exactly one of the two. The partition is made from the end of the period
downwards, so that what is written meanwhile goes to it and not to the rows that are still to be moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from psycopg import sql

from atlas_ops import bounds, maintain, partitions
from atlas_ops.bounds import Bound, Period
from atlas_ops.definition import name, plainly, text
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.partitions import attached, partitioned_table
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import count
from atlas_ops.upkeep import Upkeep

ROUNDS = 20  # transactions beyond those that the rows ask for
LATE = "_late"  # ends the name of a partition of a month whose own name an archived table has


class Answer(StrEnum):
    """What becomes of the rows of one period."""

    MOVED = "moved into their partition"
    CAME_BACK = "moved; their month is archived, or older than keep: it gets a partition again, which 08 archives with the next ones"
    OUTSIDE = "stay: from and until leave that time to the default partition (out_of_range)"
    COVERED = "stay: another partition reaches into that time"
    KEYLESS = "stay: a row without a key belongs to no period"
    BEYOND = "stay: no period can hold such a key"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one period in a default partition, and what becomes of them."""

    table: str  # as the specification writes it
    period: Period | None
    rows: int
    answer: Answer

    @property
    def moves(self) -> bool:
        """A plan moves them."""
        return self.answer in (Answer.MOVED, Answer.CAME_BACK)


def rows(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> tuple[Rows, ...]:
    """Every period that has rows in the default partition, in the order of time; those that belong to none last."""
    found = [
        Rows(spec.table, one.period, one.rows, _answer(spec, snapshot, upkeep, as_of, one.period, one.keyless))
        for one in upkeep.waiting
    ]
    return tuple(sorted(found, key=lambda one: (one.period is None, one.period.lower.timestamp() if one.period else 0)))


def _answer(
    spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date, period: Period | None, keyless: bool
) -> Answer:
    if period is None:
        return Answer.KEYLESS if keyless else Answer.BEYOND
    if any(
        _overlaps(bound, period)
        for partition, bound in attached(snapshot)
        if not _begun(spec, snapshot, partition, bound, period)
    ):
        return Answer.COVERED
    asked_for = list(maintain.wanted(spec, snapshot, as_of))
    inside = partitions.midnight(spec.from_) <= period.lower <= asked_for[-1].lower
    if not inside and spec.out_of_range != "extend":
        return Answer.OUTSIDE
    naming = partitions.naming(spec, snapshot)
    if maintain.archived(upkeep, naming.schema, naming.called(spec, period)) or maintain.outlived(spec, period, as_of):
        return Answer.CAME_BACK
    return Answer.MOVED


def _overlaps(bound: Bound, period: Period) -> bool:
    if bound.is_default or not bound.readable:
        return False
    return bool(bounds.overlaps([bound, Bound(period.lower, period.upper, is_default=False, text="")]))


def _begun(spec: TableSpec, snapshot: Snapshot, partition: Partition, bound: Bound, period: Period) -> bool:
    """Whether it is the partition of the period, made so far from its end down to some time in the midst of it: a move was interrupted."""
    called = partitions.naming(spec, snapshot).called(spec, period)
    return (
        partition.name in (called, called + LATE)
        and bound.upper == period.upper
        and bound.lower is not None
        and bound.lower > period.lower
    )


def checks(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> Iterator[Check]:
    """What lies in the default partition, and what would hinder a move."""
    found = rows(spec, snapshot, upkeep, as_of)
    relation = partitioned_table(snapshot)
    default = _default(snapshot)
    if relation is None or default is None:
        return
    going = [one for one in found if one.moves]
    staying = [one for one in found if not one.moves]
    at = plainly(default.schema, default.name)
    if going:
        yield Check(
            Severity.WARN, spec.table, "default partition",
            f"{at} holds {count(sum(one.rows for one in going))} rows of {count(len(going))} {spec.every}s that could have a partition.",
            "Every query that is not pruned reads them, no archive takes them, and each is in the way of its month.",
            'Run this again with what = "move".',
        )  # fmt: skip
    if staying:
        yield Check(
            Severity.NOTE, spec.table, "default partition", f"{at} keeps {count(sum(one.rows for one in staying))} rows that belong to no partition.",
            "; ".join(sorted({str(one.answer) for one in staying})) + ".",
        )  # fmt: skip
    if going and (referring := _referring(relation)):
        yield Check(
            Severity.WARN, spec.table, "incoming foreign keys", f"{', '.join(referring)} refer to the partitioned table itself.",
            "Moving is a DELETE and an INSERT. Rows that another table refers to are not moved (23503): the foreign key would act on those "
            "that refer to them. A month is moved in one transaction.",
            "Where it is refused: drop the foreign key, move, and add it again.",
        )  # fmt: skip
    if not found:
        yield Check(Severity.OK, spec.table, "default partition", f"{at} is empty.")


def plan_move(
    spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date, most: int, *, install: bool = True
) -> Plan:
    """One step a period, at most `most` rows a transaction, the latest first: that is where rows still come in.

    Nothing where nothing can be moved, or the set is not under care.
    """
    return plan_for(
        maintain.STAGE,
        spec,
        snapshot.server,
        _steps(spec, snapshot, upkeep, as_of, most, install),
        f"{spec.table}: rows of the default partition.",
    )


def _steps(
    spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date, most: int, install: bool
) -> Iterator[Step]:
    relation = partitioned_table(snapshot)
    default = _default(snapshot)
    going = [one for one in reversed(rows(spec, snapshot, upkeep, as_of)) if one.moves]
    if (
        relation is None
        or default is None
        or not going
        or upkeep.elsewhere
        or upkeep.care is None
        or not upkeep.care.ready
    ):
        return
    if install and (step := maintain.installing(snapshot)):
        yield step
    whole = bool(_referring(relation))
    for one in going:
        assert one.period is not None, "rows that belong to no period do not move"
        yield _move(spec, snapshot, relation, one.period, one.rows, 0 if whole else most)
    yield _vacuum(default)


def _move(spec: TableSpec, snapshot: Snapshot, relation: Relation, period: Period, number: int, most: int) -> Step:
    call = sql.SQL("SELECT atlas_ops.move_rows({}, {}, {}, {})").format(
        sql.Literal(relation.table.schema),
        sql.Literal(relation.table.name),
        sql.Literal(bounds.literal(period.lower, "timestamptz")),
        sql.Literal(most),
    )
    once = not most or number <= most
    lock, on = maintain.locks(snapshot, relation, begun=True, moved=True, again=not once)
    each = (
        "In one transaction."
        if once
        else f"{count(most)} rows a transaction, from the end of the {spec.every} downwards; one that is killed is as if it had not been."
    )
    return Step(
        name=f"move rows of {period.label} out of {plainly(*_at(_default(snapshot)))}",
        statements=(text(call),),
        lock=lock,
        on=on,
        why=f"{each} Every reader finds each row in one of the two partitions. No trigger fires, nothing cascades. The locks are held for as "
        "long as so many rows take, and for one read of the default partition.",
        effect=Effect.CHANGES,
        again=ROUNDS + (4 * (number // most + 1) if most else 0),
        weight=number,
    )


def _vacuum(default: Partition) -> Step:
    return Step(
        name=f"vacuum {plainly(*_at(default))}",
        statements=(f"VACUUM (ANALYZE, SKIP_LOCKED) {text(name(default.schema, default.name))}",),
        lock="SHARE UPDATE EXCLUSIVE",
        on=plainly(*_at(default)),
        why="The next ATTACH reads all of it: what was moved out is to be gone from there.",
        autocommit=True,
    )


def _default(snapshot: Snapshot) -> Partition | None:
    return next((partition for partition, bound in attached(snapshot) if bound.is_default), None)


def _at(partition: Partition | None) -> tuple[str, str]:
    return (partition.schema, partition.name) if partition else ("", "")


def _referring(relation: Relation) -> list[str]:
    return sorted(
        f"{reference.constraint} of {reference.table}" for reference in relation.references if not reference.way
    )
