"""Times of two ways to ask one question, measured in turn: medians, their ratio, and how sure it is. Pure.

A machine that others use is slow and fast by turns, so both ways run side by side and a run is compared with its
neighbours only. Times of a query are skewed (one run in twenty waits for something), so the median speaks; and as
nothing is known of their distribution, the interval is drawn from the runs themselves: the bootstrap of Efron
(Annals of Statistics 7, 1979), percentiles of 2,000 draws with replacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

RESAMPLES = 2_000
CONFIDENCE = 0.95
LEAST_PAIRS = 20
MOST_PAIRS = 100
NARROW = 1.10
"""An interval whose ends are within 10 % of each other tells faster from slower as finely as we do."""
SMALLEST_MS = 0.001
"""What EXPLAIN prints as 0 ms is less than it can tell."""


class Pair(NamedTuple):
    """One run of either way, one after the other, with the same values: ms."""

    values: int  # which of the several values
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Timing:
    """What pairs came to. `before_ms` and `after_ms`: the time of a call, where each of the values is as likely."""

    before_ms: float
    after_ms: float
    low: float  # of the ratio: 95 % of the draws lie between low and high
    high: float
    pairs: int

    @property
    def ratio(self) -> float:
        """The second way's time over the first's: below 1 is faster."""
        return self.after_ms / max(self.before_ms, SMALLEST_MS)

    @property
    def narrow(self) -> bool:
        """Whether more runs would hardly tell more."""
        return self.high <= self.low * NARROW


def compared(pairs: Sequence[Pair], seed: int = 1) -> Timing:
    """The medians of each of the values' pairs, added up, and the interval of their ratio.

    Each value is drawn for itself: a long query and a short one have no median in common. The same pairs give the
    same interval. Raises ValueError without a pair.
    """
    import numpy as np  # noqa: PLC0415 - an import of 0.1 s, and 05 alone compares

    if not pairs:
        raise ValueError("nothing was measured")
    by_values: dict[int, list[tuple[float, float]]] = {}
    for pair in pairs:
        by_values.setdefault(pair.values, []).append((pair.before, pair.after))
    generator = np.random.default_rng(seed)
    before_ms = after_ms = 0.0
    drawn = np.zeros((2, RESAMPLES))
    for each in by_values.values():
        runs = np.array(each).T  # 2 × pairs
        before_ms += float(np.median(runs[0])) / len(by_values)
        after_ms += float(np.median(runs[1])) / len(by_values)
        chosen = generator.integers(0, len(each), (RESAMPLES, len(each)))  # the pair stays together
        drawn += np.median(runs[:, chosen], axis=2)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn[1] / np.maximum(drawn[0], SMALLEST_MS), (tail, 100 - tail))
    return Timing(before_ms, after_ms, float(low), float(high), len(pairs))
