"""What a partition set looks like on one day; sets not made by us are read too. `inspection` judges it.

All of it is pure. A row count comes from statistics, and says from which: no partition is read for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from atlas_ops import bounds, definition
from atlas_ops.bounds import Bound, Every, Period
from atlas_ops.definition import name, text
from atlas_ops.division import SET_ASIDE, mark_prefix
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.spec import TableSpec
from atlas_ops.tables import Column, Table, count

NEVER_ANALYZED = -1
"""pg_class.reltuples before the first VACUUM or ANALYZE."""

DATES = ("%Y_%m_%d", "%Y-%m-%d", "%Y%m%d", "%Gw%V", "%GW%V", "%G_%V", "%Y_%m", "%Y-%m", "%Y%m", "%Y")
"""How the name of a partition tells when it begins, the longest first."""

_MOST_NAMED = 5
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_BEYOND = timedelta(days=366)  # how much of an endless partition a chart draws


class Kind(StrEnum):
    """What a table of the set is on the day asked for. The first of these that fits is told."""

    SET_ASIDE = "set aside"  # rows without a partition key, in a table that is never attached
    NOT_ATTACHED = "not attached"
    DETACH_PENDING = "detach pending"
    DEFAULT = "default"
    CURRENT = "current"
    FUTURE = "future"
    EMPTY = "empty"
    HOLDS_ROWS = "holds rows"  # of the past, or with a bound that is no range of time


class Counted(StrEnum):
    """Where a row count comes from."""

    NO_PAGE = "no page"  # the table has no page: exactly 0
    COUNTER = "counter"  # pg_stat_all_tables.n_live_tup
    ESTIMATE = "estimate"  # pg_class.reltuples, as of the last VACUUM or ANALYZE
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One line of the overview: a partition, or a table with our mark that stands beside the set.

    `lower` is inclusive, `upper` exclusive, in UTC; None: unbounded, or no range of time (`bound` tells).
    Sizes are in bytes.
    """

    table: str  # as the specification writes it
    schema: str
    partition: str
    bound: str  # as PostgreSQL prints it; empty: not attached
    lower: datetime | None
    upper: datetime | None
    kind: Kind
    rows: int | None
    counted: Counted
    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    dead_rows: int
    dead_share: float | None  # of all row versions, 0 to 1; None where there are none
    bloat_bytes: int  # a rough estimate; 0 without statistics
    indexes: int
    invalid_indexes: int
    row_security: bool
    open_to: tuple[str, ...]
    last_vacuum: datetime | None
    last_analyze: datetime | None

    @property
    def bytes(self) -> int:
        """Heap, indexes and TOAST."""
        return self.heap_bytes + self.index_bytes + self.toast_bytes


def partitioned_table(snapshot: Snapshot) -> Relation | None:
    """The partitioned table, under its own name or, after the cut-over, the original's; None without one."""
    found = (snapshot.partitioned, snapshot.original)
    return next((relation for relation in found if relation and relation.table.kind == "p"), None)


def attached(snapshot: Snapshot) -> tuple[tuple[Partition, Bound], ...]:
    """The partitions with their bounds, in the order of time; those without a range of time come last.

    A partition whose detach is pending is among them.
    """
    found = [(each, bounds.parse_bound(each.bound)) for each in snapshot.partitions if each.bound is not None]
    return tuple(sorted(found, key=_in_time))


def beside(snapshot: Snapshot) -> tuple[Partition, ...]:
    """Tables with our mark that are not attached, by name."""
    found = (each for each in snapshot.partitions if each.bound is None)
    return tuple(sorted(found, key=lambda each: each.name))


def rows_of(partition: Partition) -> tuple[int | None, Counted]:
    """How many rows a partition holds according to statistics, and which ones.

    The counter starts from 0 when statistics are lost (a crash, pg_stat_reset): until a VACUUM or ANALYZE is
    on record again, the larger of the two figures is nearer to the truth. Of a table that holds no rows
    itself (a partition that is partitioned, a foreign table) only a figure above 0 says anything.
    """
    if partition.kind == "r" and partition.heap_bytes == 0:
        return 0, Counted.NO_PAGE
    on_record = partition.last_vacuum is not None or partition.last_analyze is not None
    if on_record and partition.kind == "r":
        return partition.live_rows, Counted.COUNTER
    if partition.live_rows > max(partition.estimated_rows, 0):
        return partition.live_rows, Counted.COUNTER
    if partition.estimated_rows > NEVER_ANALYZED:
        return partition.estimated_rows, Counted.ESTIMATE
    return None, Counted.UNKNOWN


@dataclass(frozen=True, slots=True)
class Naming:
    """Where new partitions of a set go, and what they are called: `before`, then the date as `form` (strftime) writes it; '' is our own way."""

    schema: str
    before: str
    form: str

    def called(self, spec: TableSpec, period: Period) -> str:
        """The name for a period, at most 63 bytes."""
        return (
            definition.fit(self.before + period.lower.strftime(self.form))
            if self.form
            else str(spec.partition_name(period))
        )


def naming(spec: TableSpec, snapshot: Snapshot) -> Naming:
    """How partitions are named here: as ours, or in a set that others made as most of its partitions are.

    pg_partman ends a name in p20240101, pgslice in 202401; whatever stands before the date stays.
    """
    found = attached(snapshot)
    if snapshot.registered or not found:
        return Naming(str(spec.partition_schema), str(spec.name), "")
    [(schema, _)] = Counter(partition.schema for partition, _ in found).most_common(1)
    forms = Counter(form for partition, bound in found for form in _dated(partition.name, bound, spec.every))
    if not forms:
        return Naming(schema, str(spec.name), "")
    [((before, form), _)] = forms.most_common(1)
    return Naming(schema, before, form)


def named_like(spec: TableSpec, snapshot: Snapshot, period: Period) -> tuple[str, str]:
    """Schema and name for the partition of a period."""
    ours = naming(spec, snapshot)
    return ours.schema, ours.called(spec, period)


def _dated(called: str, bound: Bound, every: Every) -> Iterable[tuple[str, str]]:
    """What stands before the date at the end of a name, and how the date is written; nothing where it ends in another."""
    if bound.readable and bound.lower:
        for form in DATES:
            date_written = bound.lower.strftime(form)
            if _tells(form, every) and called.endswith(date_written):
                return [(called.removesuffix(date_written), form)]
    return []


def _tells(form: str, every: Every) -> bool:
    """Whether a date so written tells one period from the next: 2024_01 is a month, or a week, by the length of the periods."""
    whole = "%d" in form
    return {Every.day: whole, Every.week: whole or "%V" in form, Every.year: "%V" not in form}.get(every, "%m" in form)


def overview(spec: TableSpec, snapshot: Snapshot, as_of: date) -> tuple[PartitionRow, ...]:
    """Every partition in the order of time, then DEFAULT, then what stands beside; empty without any.

    `as_of`: a date, which is its midnight in UTC, or an aware datetime.
    """
    rows = [_row(spec, partition, bound, as_of) for partition, bound in attached(snapshot)]
    return (*rows, *(_row(spec, partition, None, as_of) for partition in beside(snapshot)))


def as_table(rows: Iterable[PartitionRow], caption: str = "") -> Table:
    """The overview as a notebook shows it, all of its rows."""
    columns: list[Column | str] = ["table", "partition", "from", "to", "kind", "rows", "counted by"]
    columns += [Column(heading, "size") for heading in ("heap", "on indexes", "TOAST", "bloat, roughly")]
    columns += ["dead rows", "dead share", "indexes", "invalid", "row security", "open to"]
    columns += ["last vacuum", "last analyze"]
    shown = [
        (
            row.table, row.partition,
            edge_text(row.lower, row.bound, "MINVALUE"), edge_text(row.upper, row.bound, "MAXVALUE"),
            str(row.kind), row.rows, str(row.counted),
            row.heap_bytes, row.index_bytes, row.toast_bytes, row.bloat_bytes,
            row.dead_rows, row.dead_share, row.indexes, row.invalid_indexes, row.row_security, row.open_to,
            row.last_vacuum, row.last_analyze,
        )
        for row in rows
    ]  # fmt: skip
    return Table(columns, shown, caption, limit=max(len(shown), 1))


def size_rows(rows: Iterable[PartitionRow]) -> list[tuple[str, str, int, int]]:
    """(table, partition, heap and TOAST bytes, index bytes), attached ones, for `charts.partition_sizes`."""
    return [(row.table, row.partition, row.heap_bytes + row.toast_bytes, row.index_bytes) for row in rows if row.bound]


def runway_rows(rows: Iterable[PartitionRow]) -> list[tuple[str, str, datetime | None, datetime | None, str]]:
    """(table, partition, lower, upper, kind) for `charts.runway`.

    `kind` is 'holds rows', 'empty', 'default' or 'gap'. Gaps get rows of their own; a pending detach is one,
    for it takes no row. Of a partition without an end, a year is drawn beyond all other bounds. Bounds that
    are no range of time are left out.
    """
    given = list(rows)
    edges = [edge for row in given for edge in (row.lower, row.upper) if edge]
    first, last = (min(edges) - _BEYOND, max(edges) + _BEYOND) if edges else (None, None)
    drawn: list[tuple[str, str, datetime | None, datetime | None, str]] = []
    for table in dict.fromkeys(row.table for row in given):
        read = [(row, bounds.parse_bound(row.bound)) for row in given if row.table == table and row.bound]
        for row, bound in read:
            if bound.is_default:
                drawn.append((table, row.partition, None, None, "default"))
            elif bound.readable:
                drawn.append((table, row.partition, row.lower or first, row.upper or last, _drawn_as(row)))
        gaps = bounds.gaps(bound for _, bound in read)
        drawn += [(table, "gap", lower, upper, "gap") for lower, upper in gaps]
    return drawn


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {count(len(names) - _MOST_NAMED)} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def qualified(partition: Partition) -> str:
    """The partition's name, quoted, for SQL."""
    return text(name(partition.schema, partition.name))


# rows


def _row(spec: TableSpec, partition: Partition, bound: Bound | None, as_of: date) -> PartitionRow:
    rows, counted = rows_of(partition)
    versions = (rows or 0) + partition.dead_rows
    return PartitionRow(
        table=spec.table,
        schema=partition.schema,
        partition=partition.name,
        bound=partition.bound or "",
        lower=bound.lower if bound else None,
        upper=bound.upper if bound else None,
        kind=_kind(spec, partition, bound, as_of, rows),
        rows=rows,
        counted=counted,
        heap_bytes=partition.heap_bytes,
        index_bytes=partition.index_bytes,
        toast_bytes=partition.toast_bytes,
        dead_rows=partition.dead_rows,
        dead_share=partition.dead_rows / versions if versions else None,
        bloat_bytes=partition.bloat_bytes,
        indexes=partition.indexes,
        invalid_indexes=partition.invalid_indexes,
        row_security=partition.row_security,
        open_to=partition.open_to,
        last_vacuum=partition.last_vacuum,
        last_analyze=partition.last_analyze,
    )


def _kind(spec: TableSpec, partition: Partition, bound: Bound | None, as_of: date, rows: int | None) -> Kind:
    if bound is None:
        return Kind.SET_ASIDE if is_set_aside(spec, partition) else Kind.NOT_ATTACHED
    if partition.detach_pending:
        return Kind.DETACH_PENDING
    if bound.is_default:
        return Kind.DEFAULT
    now = bounds.period_of(spec.every, as_of)
    if bound.readable and (bound.lower or _EARLIEST) >= now.upper:
        return Kind.FUTURE
    if bound.readable and (bound.upper or _LATEST) > now.lower:
        return Kind.CURRENT
    return Kind.EMPTY if rows == 0 else Kind.HOLDS_ROWS


def _drawn_as(row: PartitionRow) -> str:
    if row.kind is Kind.DETACH_PENDING:
        return "gap"
    return "empty" if row.rows == 0 else "holds rows"


def edge_text(edge: datetime | None, bound: str, unbounded: str) -> str | None:
    """A bound as it is shown: the day where it is a midnight; None where there is nothing to tell."""
    if edge is None:
        return unbounded if unbounded in bound else None
    return edge.date().isoformat() if edge == midnight(edge) else edge.replace(tzinfo=None).isoformat(" ")


def _in_time(found: tuple[Partition, Bound]) -> tuple[int, datetime, datetime, str]:
    partition, bound = found
    return (
        2 if bound.is_default else 0 if bound.readable else 1,
        bound.lower or _EARLIEST,
        bound.upper or _LATEST,
        partition.name,
    )


def marked(spec: TableSpec, partition: Partition) -> str:
    """What our mark says: the bound to come, or SET_ASIDE; empty without a mark. The rows' condition follows it there."""
    prefix = mark_prefix(spec)
    comment = partition.comment or ""
    return comment.removeprefix(prefix).split(" WHERE ", 1)[0] if comment.startswith(prefix) else ""


def is_set_aside(spec: TableSpec, partition: Partition) -> bool:
    """Whether it is the table of the rows without a partition key."""
    return marked(spec, partition) == SET_ASIDE


def midnight(instant: date) -> datetime:
    """The start of that day, UTC."""
    return bounds.period_of(Every.day, instant).lower


def role_names(partition: Partition) -> list[str]:
    """The roles that hold a privilege on a partition, without PUBLIC, which is no role's name."""
    return [role for role in partition.open_to if role != "PUBLIC"]
