"""A plan is named by what it would run, armed by that name only, and its script says nothing but its statements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops.errors import AtlasError
from atlas_ops.plan import Effect, Plan, Step, Target, confirmed, joined

TARGET = Target("7300000000000000001", "atlas")


def step(name: str = "one", *statements: str, **fields: Any) -> Step:
    made = Step(name, statements or (f"SELECT '{name}'",), "ACCESS SHARE", "public.messages", "It reads.")
    return replace(made, **fields)


def plan(*steps: Step, **fields: Any) -> Plan:
    return replace(Plan("apply_migration", TARGET, steps or (step(),)), **fields)


# What the digest names


BASE = plan(step("one", "SELECT 1", "SELECT 2"), step("two", "SELECT 3"))


@pytest.mark.parametrize(
    "other",
    [
        plan(step("one", "SELECT 1", "SELECT 22"), step("two", "SELECT 3")),
        plan(step("one", "SELECT 2", "SELECT 1"), step("two", "SELECT 3")),
        plan(step("two", "SELECT 3"), step("one", "SELECT 1", "SELECT 2")),
        plan(step("one", "SELECT 1"), step("two", "SELECT 2", "SELECT 3")),
        plan(step("one", "SELECT 1", "SELECT 2")),
        plan(step("one", "SELECT 1", "SELECT 2", lane="a"), step("two", "SELECT 3")),
        plan(step("one", "SELECT 1", "SELECT 2", autocommit=True), step("two", "SELECT 3")),
        replace(BASE, target=Target("7300000000000000002", "atlas")),
        replace(BASE, target=Target("7300000000000000001", "atlas_staging")),
        replace(BASE, stage="verify_counts"),
        replace(BASE, lock_timeout_ms=200),
    ],
)
def test_another_plan_has_another_digest(other: Plan) -> None:
    assert other.digest != BASE.digest


def test_rows_to_come_workers_and_words_do_not_change_the_digest() -> None:
    weighed = replace(BASE, steps=tuple(replace(s, weight=10, why="Because.") for s in BASE.steps), workers=8)
    assert replace(weighed, headline="Two steps.").digest == BASE.digest


@given(st.text())
def test_a_digest_is_eight_characters_that_no_parser_takes_for_a_number(text: str) -> None:
    digest = plan(step("one", text)).digest
    assert len(digest) == 8 and digest[0] in "abcdef" and set(digest) <= set("0123456789abcdef")


# What arms it


def test_its_own_digest_arms_a_plan_and_nothing_shows_it_only() -> None:
    assert confirmed(BASE, BASE.digest, demo=False)
    assert not confirmed(BASE, "", demo=False)
    assert not confirmed(BASE, "", demo=True)


@pytest.mark.parametrize("confirm", ["", "demo", "additive", "deadbeef"])
def test_a_plan_without_steps_has_nothing_to_confirm(confirm: str) -> None:
    assert not confirmed(replace(BASE, steps=()), confirm, demo=False)


def test_demo_arms_a_plan_on_the_demo_only() -> None:
    assert confirmed(BASE, "demo", demo=True)
    with pytest.raises(AtlasError, match="not the embedded demo") as stop:
        confirmed(BASE, "demo", demo=False)
    assert BASE.digest in stop.value.next


@pytest.mark.parametrize("effect", [Effect.CHANGES, Effect.REMOVES])
def test_additive_arms_a_plan_that_only_adds(effect: Effect) -> None:
    assert confirmed(BASE, "additive", demo=False)
    more = plan(step("one"), step("drop it", effect=effect))
    assert not more.additive
    with pytest.raises(AtlasError, match="does more than add") as stop:
        confirmed(more, "additive", demo=False)
    assert stop.value.why == f'Step "drop it" {effect}.' and more.digest in stop.value.next


@pytest.mark.parametrize("confirm", ["deadbeef", "Additive", "yes", BASE.digest.upper(), BASE.digest[:7], " "])
def test_anything_else_stops_in_three_lines(confirm: str) -> None:
    with pytest.raises(AtlasError) as stop:
        confirmed(BASE, confirm, demo=True)
    lines = stop.value.lines()
    assert [line.split(":")[0].strip() for line in lines] == ["STOPPED", "because", "next"]
    assert f"This plan is {BASE.digest}, but {confirm} was confirmed." in lines[0]


# How it runs and how it reads


def test_neighbours_with_lanes_are_one_section_and_others_stand_alone() -> None:
    steps = [
        step("a"),
        step("b", lane="1"),
        step("c", lane="2"),
        step("d", lane="1"),
        step("e"),
        step("f"),
        step("g", lane="3"),
    ]
    names = ["".join(s.name for s in section) for section in plan(*steps).sections()]
    assert names == ["a", "bcd", "e", "f", "g"]


def test_a_script_is_its_statements_each_once_and_ended_once() -> None:
    text = plan(step("one", "SELECT 1", "SELECT 2;\n"), step("two", "DO $$ BEGIN NULL; END $$ ; ")).script()
    assert text == (
        "-- 1. one\n--    It reads. Lock: ACCESS SHARE on public.messages.\nSELECT 1;\nSELECT 2;\n\n"
        "-- 2. two\n--    It reads. Lock: ACCESS SHARE on public.messages.\nDO $$ BEGIN NULL; END $$ ;\n"
    )


@given(st.text(min_size=1), st.text(), st.text())
def test_no_word_of_a_step_leaves_its_comment(name: str, why: str, on: str) -> None:
    text = plan(replace(step("x", "SELECT 1"), name=name, why=why, on=on)).script()
    # PostgreSQL ends a comment at a newline or a carriage return, and at nothing else
    lines = [line for line in text.replace("\r", "\n").split("\n") if line]
    assert len(lines) == 3 and lines[2] == "SELECT 1;" and all(line.startswith("--") for line in lines[:2])


def test_injected_lines_stay_comments() -> None:
    text = plan(step("copy\nDROP TABLE messages; --\r\\! rm -rf /", "SELECT 1")).script()
    assert text.splitlines()[0] == "-- 1. copy DROP TABLE messages; -- \\! rm -rf /"


def test_joined_plans_keep_the_order_and_the_shortest_wait() -> None:
    one = plan(step("one"), lock_timeout_ms=500, statement_timeout_ms=10, workers=1, headline="One.")
    two = plan(step("two"), lock_timeout_ms=50, statement_timeout_ms=20, workers=4, headline="")
    three = plan(step("three"), lock_timeout_ms=100, headline="Three.")
    whole = joined([one, two, three])
    assert [s.name for s in whole.steps] == ["one", "two", "three"]
    assert (whole.lock_timeout_ms, whole.statement_timeout_ms, whole.workers) == (50, 20, 4)
    assert (whole.stage, whole.target, whole.headline) == ("apply_migration", TARGET, "One. Three.")
