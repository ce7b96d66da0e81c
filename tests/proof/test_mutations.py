"""Each step of the product's own plan, left out or done wrong: either another step refuses to go on, or the proof sees what is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from proof import stories
from proof.load import Load, apart, try_truncate
from proof.miniature import Without
from proof.mutations import Belt, Mutant
from proof.stories import Story

from atlas_ops.errors import AtlasError

# what holds besides, and would hide that the step is missing
BELTS = {
    Without.ALWAYS: Belt.CHECKS,
    Without.LAST_DRAIN: Belt.LOG_IS_EMPTY,
    Without.REVERSE_CAPTURE: Belt.CHECKS,
}
STORIES = [
    (story, without, {*always, *([BELTS[without]] if without in BELTS else [])})
    for story, without, always in stories.EACH
]


@pytest.fixture
def told_of(ground: Any, load: Load, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Story]:
    return lambda *without: Story(ground, load, lambda at: Mutant(ground.owner, frozenset(without), at, monkeypatch))


@pytest.mark.parametrize(("story", "without", "always"), STORIES, ids=stories.by_name)
def test_a_step_that_is_missing_loses_rows_and_the_proof_sees_it(
    told_of: Callable[..., Story], load: Load, story: Callable[[Story], None], without: Without, always: set[Without]
) -> None:
    told = told_of(without, *always)
    story(told)
    verdict = load.verdict()
    assert without in told.subject.seen
    assert verdict.losses > 0, f"the proof does not see that {without}:\n{verdict}"


@pytest.mark.parametrize(("story", "without", "always"), STORIES, ids=stories.by_name)
def test_with_that_step_nothing_is_lost(
    ground: Any,
    told_of: Callable[..., Story],
    load: Load,
    story: Callable[[Story], None],
    without: Without,
    always: set[Without],
) -> None:
    told = told_of(*always)
    story(told)
    verdict = load.verdict()
    assert verdict.clean, verdict
    assert not told.hooks, "a point of the story was never reached"
    told.subject.drain()
    with ground.place.connect() as conn:
        [turned] = conn.execute("SELECT to_regclass('partitions.item_retired') IS NOT NULL").fetchone()
    other = "partitions.item_retired" if turned else "public.item_partitioned"
    assert apart(ground.place, "public.item", other) == []


def test_an_exchange_without_its_last_drain_refuses(told_of: Callable[..., Story], load: Load) -> None:
    with pytest.raises(AtlasError, match="log"):
        stories.written_just_before_the_cut_over(told_of(Without.LAST_DRAIN))
    assert load.verdict().clean


@pytest.mark.parametrize(
    ("story", "without"),
    [(stories.written_by_a_replica, Without.ALWAYS), (stories.written_after_the_cut_over, Without.REVERSE_CAPTURE)],
    ids=stories.by_name,
)
def test_the_checks_of_the_next_stage_see_a_capture_that_is_not_whole(
    told_of: Callable[..., Story], story: Callable[[Story], None], without: Without
) -> None:
    with pytest.raises(AssertionError, match="capture"):
        story(told_of(without))


def test_truncate_is_refused_by_the_plan_and_by_nothing_else(
    ground: Any, told_of: Callable[..., Story], load: Load
) -> None:
    story = told_of(Without.TRUNCATE)
    story.copy()
    assert try_truncate(ground.place) == ""
    assert load.verdict().clean
