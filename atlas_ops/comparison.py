"""A query on the original table and on the partitioned one: what was measured, and the verdict. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atlas_ops.predicate import Foresight
from atlas_ops.queryplan import Document, PlanFigures
from atlas_ops.timing import Timing
from atlas_ops.workload import Query

Verdict = Literal["faster", "same", "slower", "failed"]

SAME_SHARE = 0.10
"""Times within 10 % of each other are called the same: nobody who waits can tell them apart."""
SAME_MS = 0.07
"""And so are times less than this apart, which is less than an empty statement takes there and back on the same machine."""
PROMISED_SHARE = 0.40
"""The guide promises 40 to 60 % less time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a query could not be measured on one table, in our words; no SQLSTATE if no server said so."""

    what: str
    sqlstate: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """A query asked in one way: figures of a call on the average of its values, and a run whose nodes were timed.

    `plan` is masked. A side that failed has `failure` and nothing else.
    """

    figures: PlanFigures | None = None
    runs_ms: tuple[float, ...] = ()
    plan: Document | None = None
    leaves: frozenset[str] = frozenset()
    shape: str = ""  # of the plan, as queryplan.shape
    locks: int = 0  # on the table, its partitions and their indexes, while it runs
    cold: PlanFigures | None = None  # one run on empty shared buffers, where that was asked for and allowed
    unindexed: tuple[str, ...] = ()  # partitions read without an index that most of the others have
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """Another way to ask the partitioned table, measured in the same turns: a generic plan, a rewritten statement."""

    name: str
    description: str
    sql: str  # as a workload writes it; empty: the query's own
    side: Side
    timing: Timing | None = None  # against the original
    same_rows: bool | None = None
    counterexamples: int | None = 0  # rows for which it may answer otherwise; None: could not be counted

    @property
    def holds(self) -> bool:
        """Whether it answers as the original does, as far as the data tells."""
        return self.counterexamples == 0 and self.same_rows is True


@dataclass(frozen=True, slots=True)
class QueryResult:
    """A query on the original and on the partitioned table.

    `timing` is None where either side failed; `same_rows` where the answers could not be compared.
    """

    query: Query
    partition_key: str
    original: Side
    partitioned: Side
    timing: Timing | None = None
    same_rows: bool | None = None
    generic: Variant | None = None  # its timing is against the original as the application asks it now
    prepared: Timing | None = None  # generic plans on both tables
    rewrites: tuple[Variant, ...] = ()
    foreseen: Foresight | None = None  # what its text alone tells of the partition key
    index: str = ""  # a statement that makes the index it lacks

    @property
    def name(self) -> str:
        """The name of the query."""
        return self.query.name

    @property
    def verdict(self) -> Verdict:
        """Whether the partitioned table is faster."""
        return judged(self.timing)

    @property
    def ratio(self) -> float | None:
        """The partitioned table's time over the original's: below 1 is faster. None if either side failed."""
        return self.timing.ratio if self.timing else None

    @property
    def keeps_promise(self) -> bool:
        """Whether the query takes at least 40 % less time, as the guide says all will: the whole interval does."""
        return self.timing is not None and self.verdict == "faster" and self.timing.high <= 1 - PROMISED_SHARE

    @property
    def as_expected(self) -> bool | None:
        """Whether it read no more partitions than the workload expects; None where nothing is expected."""
        after = self.partitioned.figures
        if self.query.prunes_to is None:
            return None
        return after is not None and after.touched <= self.query.prunes_to

    @property
    def rewrite(self) -> Variant | None:
        """The quickest of the rewritten statements, if it answers alike and is quicker beyond doubt than the query itself."""
        if self.timing is None:
            return None
        known = [(each.timing, each) for each in self.rewrites if each.timing is not None and each.holds]
        quicker = [
            (timing.ratio, each)
            for timing, each in known
            if timing.high < self.timing.low and timing.ratio <= (1 - SAME_SHARE) * self.timing.ratio
        ]
        return min(quicker, key=lambda pair: pair[0])[1] if quicker else None


def judged(timing: Timing | None) -> Verdict:
    """faster or slower where the whole interval is, and the times differ by more than 10 % and 0.07 ms; else the same."""
    if timing is None:
        return "failed"
    if abs(timing.ratio - 1) <= SAME_SHARE or abs(timing.after_ms - timing.before_ms) < SAME_MS:
        return "same"
    if timing.low <= 1 <= timing.high:
        return "same"
    return "faster" if timing.ratio < 1 else "slower"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the text of a query tells, and how many of the partitions that the specification wants it would read of how many."""

    query: Query
    foresight: Foresight
    partitions: int | None  # None: the values that bound the key could not be had
    there: int
