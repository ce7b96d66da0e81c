"""How a partition set grows: rows and bytes of each period, and where the trend leads. Pure.

Rows are those of the statistics. The trend is the median of the slopes between any two of the last twelve ended periods (Theil-Sen): one period of a
bulk load does not bend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import combinations
from statistics import median

from atlas_ops import bounds
from atlas_ops.bounds import Every, Period
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.partitions import attached, rows_of
from atlas_ops.spec import TableSpec

LAST_PERIODS = 12  # that the trend is drawn through
FEWEST_PERIODS = 3
MOST_EXPECTED = 12
BEFORE = 6  # periods that the newest is compared with
FEWEST_ROWS = 1_000  # of their median: below, a multiple of it says nothing


class When(StrEnum):
    """Where a period lies."""

    ENDED = "ended"
    CURRENT = "current"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Month:
    """What one partition of a range of time holds; `rows` None: never analyzed. Sizes in bytes."""

    partition: str
    label: str  # of the period, or the first day where the range is no whole one
    lower: datetime
    upper: datetime
    when: When
    rows: int | None
    heap_bytes: int
    index_bytes: int
    toast_bytes: int

    @property
    def bytes(self) -> int:
        """Heap, indexes and TOAST."""
        return self.heap_bytes + self.index_bytes + self.toast_bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """What a period to come, or the current one once it is full, will hold if the trend goes on."""

    label: str
    rows: int
    bytes: int


def months(spec: TableSpec, snapshot: Snapshot, as_of: date) -> tuple[Month, ...]:
    """The partitions with two bounds, in the order of time; without one whose detach is pending."""
    now = bounds.period_of(spec.every, as_of)
    found = []
    for partition, bound in attached(snapshot):
        if bound.lower is None or bound.upper is None or partition.detach_pending:
            continue
        when = When.AHEAD if bound.lower >= now.upper else When.ENDED if bound.upper <= now.lower else When.CURRENT
        found.append(
            Month(
                partition=partition.name,
                label=_label(spec.every, bound.lower, bound.upper),
                lower=bound.lower,
                upper=bound.upper,
                when=when,
                rows=rows_of(partition)[0],
                heap_bytes=partition.heap_bytes,
                index_bytes=partition.index_bytes,
                toast_bytes=partition.toast_bytes,
            )
        )
    return tuple(found)


def expected(spec: TableSpec, found: Sequence[Month], as_of: date) -> tuple[Expected, ...]:
    """The current period and `ahead` more by the trend; empty where fewer than three ended periods hold rows."""
    known = _with_rows(month for month in found if month.when is When.ENDED)[-LAST_PERIODS:]
    if len(known) < FEWEST_PERIODS:
        return ()
    rows = [month.rows or 0 for month in known]
    slope = median((rows[j] - rows[i]) / (j - i) for i, j in combinations(range(len(rows)), 2))
    start = median(n - slope * i for i, n in enumerate(rows))
    width = median(month.bytes / max(month.rows or 0, 1) for month in known)
    to_come = []
    for number, period in enumerate(_periods(spec, as_of)):
        level = max(0.0, start + slope * (len(rows) + number))
        to_come.append(Expected(period.label, round(level), round(level * width)))
    return tuple(to_come)


def newest_against_median(found: Sequence[Month]) -> tuple[Month, float] | None:
    """Of the two newest periods that hold rows the one that stands out more, and how many times as many it has as the median of the six before
    it; None where that says nothing. The current one counts as it is: to be above the others before it ends is what this is for."""
    known = _with_rows(month for month in found if month.when is not When.AHEAD)
    candidates = []
    for last in range(len(known) - 1, max(len(known) - 3, 0), -1):
        before = [month.rows or 0 for month in known[max(0, last - BEFORE) : last]]
        if len(before) >= FEWEST_PERIODS and median(before) >= FEWEST_ROWS:
            candidates.append((known[last], (known[last].rows or 0) / median(before)))
    return max(candidates, key=lambda one: one[1], default=None)


def _with_rows(found: Iterable[Month]) -> list[Month]:
    return [month for month in found if month.rows]


def _label(every: Every, lower: datetime, upper: datetime) -> str:
    try:
        period = bounds.period_of(every, lower)
    except AtlasError:  # the end of the calendar
        return lower.date().isoformat()
    return period.label if (period.lower, period.upper) == (lower, upper) else lower.date().isoformat()


def _periods(spec: TableSpec, as_of: date) -> list[Period]:
    periods = [bounds.period_of(spec.every, as_of)]
    for _ in range(min(spec.ahead, MOST_EXPECTED)):
        periods.append(periods[-1].next())
    return periods
