"""Medians, a ratio and its interval, out of runs in turn. No database."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops.timing import Pair, compared

MS = st.floats(0.001, 1_000)


def drawn(ratio: float, pairs: int = 20, noise: float = 0.1, seed: int = 5) -> list[Pair]:
    chance = random.Random(seed)
    times = [(10 * chance.lognormvariate(0, noise), 10 * ratio * chance.lognormvariate(0, noise)) for _ in range(pairs)]
    return [Pair(0, *each) for each in times]


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5, 20.0])
def test_the_interval_holds_the_ratio(ratio: float) -> None:
    found = [compared(drawn(ratio, seed=seed)) for seed in range(40)]
    assert sum(each.low <= ratio <= each.high for each in found) >= 35  # 38 of 40 are expected
    assert all(each.low <= each.ratio <= each.high for each in found)


def test_one_run_that_waited_for_something_changes_nothing() -> None:
    calm = compared(drawn(1.0))
    disturbed = compared([*drawn(1.0)[:-1], Pair(0, 10.0, 5_000.0)])
    assert disturbed.ratio == pytest.approx(calm.ratio, rel=0.1)


def test_more_pairs_are_surer() -> None:
    few, many = compared(drawn(1.5, 6)), compared(drawn(1.5, 100))
    assert many.high / many.low < few.high / few.low
    assert compared(drawn(1.5, 100, 0.01)).narrow
    assert not compared(drawn(1.5, 6, 0.5)).narrow


def test_each_of_several_values_has_a_median_of_its_own() -> None:
    pairs = [Pair(0, 1.0, 2.0), Pair(1, 100.0, 50.0)] * 10
    found = compared(pairs)
    assert (found.before_ms, found.after_ms, found.pairs) == (50.5, 26.0, 20)
    assert found.low == found.high == found.ratio


def test_the_same_pairs_give_the_same_interval() -> None:
    assert compared(drawn(1.3)) == compared(drawn(1.3))


@given(st.lists(st.builds(Pair, st.integers(0, 2), MS, MS), min_size=1, max_size=30))
def test_it_is_always_a_number(pairs: list[Pair]) -> None:
    found = compared(pairs)
    assert 0 < found.low <= found.high
    assert found.ratio > 0


def test_nothing_measured_is_no_timing() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        compared([])
    assert compared([Pair(0, 0.0, 0.0)]).ratio == 0.0
