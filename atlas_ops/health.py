"""What is told of a partition set on one look: its state, and a figure for each question. Pure; `examination` answers them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from atlas_ops import partitions
from atlas_ops.growth import Expected, Month
from atlas_ops.online import ORIGINAL
from atlas_ops.partitions import PartitionRow
from atlas_ops.vitals import Unread, Vitals


class State(StrEnum):
    """How far a table has come."""

    UNREAD = "not read"
    NOT_MIGRATED = "not migrated"
    MISSING = "missing"
    FILLING = "being filled"
    FOLLOWS = "follows the original"
    IN_USE = "in use"


@dataclass(frozen=True, slots=True)
class Figure:
    """The answer to one question. `value` is in the unit of `thresholds.FIGURES`; None: it does not apply, or nothing is on record."""

    name: str
    value: float | None
    told: str
    partitions: tuple[str, ...] = ()  # those it is about, in the order of time
    sql: str = ""  # to look closer, or to cure it


@dataclass(frozen=True, slots=True)
class Activity:
    """What was done on one partition since the statistics began to count."""

    partition: str
    inserted: int
    updated: int
    deleted: int
    seq_scans: int
    index_scans: int
    dead_rows: int


@dataclass(frozen=True, slots=True)
class Health:
    """One table on one look."""

    table: str  # as the specification writes it
    partitioned_table: str  # as it is called now
    state: State
    figures: tuple[Figure, ...]
    rows: tuple[PartitionRow, ...] = ()
    months: tuple[Month, ...] = ()
    expected: tuple[Expected, ...] = ()
    activity: tuple[Activity, ...] = ()
    covered_until: datetime | None = None  # the end of the runway
    whole_at: datetime | None = None  # when the schedule was last seen to have left all partitions there
    statistics_since: datetime | None = None
    sized: bool = False  # sizes are the file system's; else as of the last VACUUM or ANALYZE
    unread: tuple[Unread, ...] = ()

    def figure(self, name: str) -> Figure:
        """The figure of that name."""
        return next(figure for figure in self.figures if figure.name == name)

    @property
    def bytes(self) -> int:
        """Heap, indexes and TOAST of all partitions and what stands beside them."""
        return sum(row.bytes for row in self.rows)


def state_of(vitals: Vitals) -> State:
    """How far a table has come. A set that others made, and that the specification names, is in use."""
    snapshot, care = vitals.snapshot, vitals.care
    if snapshot is None or any(unread.what.startswith(("the table ", "the partitions")) for unread in vitals.unread):
        return State.UNREAD
    registry_read = all(unread.what != "the registry" for unread in vitals.unread)
    relation, original = partitions.partitioned_table(snapshot), snapshot.original
    if care is not None and relation is None:
        return State.MISSING
    beside_a_plain_original = original is not None and original.table.kind != "p" and care is None and registry_read
    if relation is None or beside_a_plain_original:
        return State.NOT_MIGRATED
    if care is not None and not care.ready:
        return State.FILLING
    return State.FOLLOWS if vitals.following and vitals.following.authority == ORIGINAL else State.IN_USE
