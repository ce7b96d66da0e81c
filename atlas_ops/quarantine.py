"""Months that were detached and stand beside the partitioned table, closed and marked: what is known of them, and how they go. Pure.

Only a table with our mark goes, only with a proof in the manifest, and only if under its lock it holds the very rows that were exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import sql

from atlas_ops import bounds, contents, sqlfile
from atlas_ops.archive import BEFORE, held, quarantine_mark
from atlas_ops.definition import insertable, name, names, plainly, raw, text
from atlas_ops.manifest import Month
from atlas_ops.model import Partition, Server, Snapshot
from atlas_ops.partitions import attached, edge_text, partitioned_table
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import Column, Table

STAGE = "plan_archive"
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Apart:
    """A table with our mark that was detached."""

    partition: Partition
    bound: str  # as PostgreSQL printed it
    before: str | None  # the comment before the mark

    @property
    def name(self) -> str:
        """Its name."""
        return self.partition.name


def apart(spec: TableSpec, marked: Iterable[Partition]) -> tuple[Apart, ...]:
    """The tables that carry the mark, in the order of time. One whose mark tells no bound was marked by somebody else, and is none."""
    found = []
    for partition in marked:
        told = (partition.comment or "").removeprefix(quarantine_mark(spec))
        bound, _, _ = told.partition(", detached from ")
        if told == partition.comment or not bounds.parse_bound(bound).readable:
            continue
        _, split, before = told.partition(BEFORE)
        found.append(Apart(partition, bound, before if split else None))
    return tuple(sorted(found, key=lambda one: (bounds.parse_bound(one.bound).lower or _EARLIEST, one.name)))


# how it goes


def plan_drop(
    spec: TableSpec, server: Server, found: Sequence[Apart], months: Mapping[str, Month], gone: Sequence[Month] = ()
) -> Plan:
    """The steps that drop what was proven, one transaction each; what is held or not proven stays. `gone`: dropped by a run that was
    killed before it could note that."""
    steps = [_drop(spec, one, months[one.name]) for one in found if droppable(spec, one, months.get(one.name))]
    steps += [_note(month) for month in gone]
    headline = f"{spec.table}: {len(steps)} of {len(found)} detached partitions are proven and can go."
    return plan_for(STAGE, spec, server, steps, headline)


def droppable(spec: TableSpec, one: Apart, month: Month | None) -> bool:
    """Exported after it was detached, proven, of that very table, and not under legal hold."""
    return (
        month is not None
        and month.export.purpose == "archive"
        and month.proven
        and (month.export.schema, month.export.bound) == (one.partition.schema, one.bound)
        and not held(spec, one.bound)
    )


def _drop(spec: TableSpec, one: Apart, month: Month) -> Step:
    export = month.export
    where = name(one.partition.schema, one.name)
    return Step(
        name=f"drop {one.name}",
        statements=(
            text(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(where)),
            text(
                sqlfile.template(
                    "still_apart",
                    table=sql.Literal(text(where)),
                    mark=sql.Literal(quarantine_mark(spec)),
                    said=sql.Literal(plainly(one.partition.schema, one.name)),
                )
            ),
            contents.same_statement(
                contents.sums(where, export.fields),
                export.rows,
                export.content,
                what=one.name,
                cure="Rows were written since it was exported. Nothing was dropped: "
                f'how = "export", partitions = ["{one.name}"], then prove it again.',
            ),
            text(sql.SQL("DROP TABLE {}").format(where)),
        ),
        lock="ACCESS EXCLUSIVE",
        on=plainly(one.partition.schema, one.name),
        why=f"Its files were restored and compared: line {month.proof.number if month.proof else 0} of the manifest. Its rows are counted and hashed "
        "once more under the lock. Back again: 11 Restore archive.",
        effect=Effect.REMOVES,
    )


def _note(month: Month) -> Step:
    export = month.export
    where = name(export.schema, export.partition)
    return Step(
        name=f"note that {export.partition} was dropped",
        statements=(text(sql.SQL("SELECT to_regclass({}) IS NULL").format(sql.Literal(text(where)))),),
        lock="none",
        on="nothing: its table is gone",
        why="It was proven, its table is gone, and the manifest does not say so: the run that dropped it was killed.",
    )


# where each month is


def standing_rows(
    spec: TableSpec, snapshot: Snapshot, found: Sequence[Apart], known: Mapping[str, Month]
) -> list[tuple[object, ...]]:
    """One row a month that has left or was exported, in the order of time; for `standing_table`."""
    apart_by_name = {one.name: one for one in found}
    there = {partition.name for partition, _ in attached(snapshot)}
    bounds_of = {name: month.export.bound for name, month in known.items()} | {one.name: one.bound for one in found}
    names = sorted(bounds_of, key=lambda each: (bounds.parse_bound(bounds_of[each]).lower or _EARLIEST, each))
    return [
        _standing(spec, each, apart_by_name.get(each), known.get(each), bounds_of[each], attached=each in there)
        for each in names
    ]


def standing_table(rows: Sequence[tuple[object, ...]]) -> Table:
    """The rows of `standing_rows` as a notebook shows them, all of them."""
    columns: list[Column | str] = ["table", "partition", "from", "to", "it is", "rows", Column("on disk", "size")]
    columns += [Column("dump", "size"), Column("parquet", "size"), "proven", "held"]
    return Table(columns, rows, limit=max(len(rows), 1))


def _standing(
    spec: TableSpec, called: str, one: Apart | None, month: Month | None, bound: str, *, attached: bool
) -> tuple[object, ...]:
    edges = bounds.parse_bound(bound)
    export = month.export if month else None
    whereabouts = _whereabouts(one, month, attached=attached)
    return (
        spec.table, called, edge_text(edges.lower, bound, "MINVALUE"), edge_text(edges.upper, bound, "MAXVALUE"), whereabouts,
        export.rows if export else one.partition.live_rows if one else None,
        one.partition.bytes if one else None,
        export.files["dump"].bytes if export else None, export.files["parquet"].bytes if export else None,
        ("yes" if month.proven else "not yet") if month else "not exported",
        "yes" if held(spec, bound) else "",
    )  # fmt: skip


def _whereabouts(one: Apart | None, month: Month | None, *, attached: bool) -> str:
    """`attached`: a partition of its name is."""
    if one is not None:
        return "detached"
    restored = month.restored if month is not None else None
    aside = restored is not None and not restored.body.get("attached")
    if attached:
        return "attached, and a copy aside" if aside else "attached again" if restored is not None else "attached"
    if aside:
        return "restored aside"
    return "in the archive only" if month is not None and month.dropped is not None else "not here"


# what stands in the way, or is to be known


def late_query(spec: TableSpec, snapshot: Snapshot, bound: str) -> sql.Composed | None:
    """How many rows of a month that has left lie in the partitioned table again: they arrived late. None: there is no such table."""
    relation = partitioned_table(snapshot)
    if relation is None:
        return None
    return sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
        name(relation.table.schema, relation.table.name), raw(bounds.condition(bound, text(name(spec.partition_key))))
    )


def checks(spec: TableSpec, snapshot: Snapshot, found: Sequence[Apart], late: Mapping[str, int]) -> Iterator[Check]:
    """What is true of the months that have left. `late`: rows by partition."""
    for partition, rows in late.items():
        if rows:
            yield _late(spec, snapshot, partition, rows, next((each for each in found if each.name == partition), None))
    for one in found:
        if held(spec, one.bound):
            what = f"{one.name} is under legal hold, and was detached before."
            yield Check(
                Severity.NOTE,
                spec.table,
                "legal hold",
                what,
                "It stays where it is: it is not dropped, whatever is confirmed.",
            )
        if one.partition.open_to:
            yield _open(spec, one)


def _open(spec: TableSpec, one: Apart) -> Check:
    roles = [sql.SQL("PUBLIC") if role == "PUBLIC" else name(role) for role in one.partition.open_to]
    close = sql.SQL("REVOKE ALL ON TABLE {} FROM {};").format(
        name(one.partition.schema, one.name), sql.SQL(", ").join(roles)
    )
    return Check(
        Severity.WARN, spec.table, "quarantine open", f"{one.name} is open to {', '.join(one.partition.open_to)}.",
        "A detached partition has no policies: whoever holds a privilege reads and writes all of it.", "Close it.", text(close),
    )  # fmt: skip


def _late(spec: TableSpec, snapshot: Snapshot, partition: str, rows: int, one: Apart | None) -> Check:
    """`one`: the month, where it still stands beside the table."""
    statement = _moving_late(spec, snapshot, one) if one is not None else ""
    into = "; or into the month they belong to, by the statement below, before it is exported" if statement else ""
    return Check(
        Severity.WARN, spec.table, "late rows", f"{rows:,} rows of {partition} arrived after it had left.",
        "A month can be attached again only where no other partition holds rows of its range.",
        f"07 Maintain partitions moves them into a partition of their own, which leaves in its turn{into}.", statement,
    )  # fmt: skip


def _moving_late(spec: TableSpec, snapshot: Snapshot, one: Apart) -> str:
    """The statement that moves late rows into their month; none where another table refers to them: a DELETE would act on what does."""
    relation = partitioned_table(snapshot)
    if relation is None or relation.references or snapshot.keeps_keys:
        return ""
    columns = names(column.name for column in insertable(relation))
    moving = sql.SQL("WITH late AS (DELETE FROM {} WHERE {} RETURNING {}) INSERT INTO {} ({}) SELECT {} FROM late;")
    return text(
        moving.format(
            name(relation.table.schema, relation.table.name),
            raw(bounds.condition(one.bound, text(name(spec.partition_key)))),
            columns,
            name(one.partition.schema, one.name),
            columns,
            columns,
        )
    )
