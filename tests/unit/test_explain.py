"""What is told of a measured workload: verdicts, reasons, cures, tables, figures. No database."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from atlas_ops import advice, explain
from atlas_ops.comparison import Failure, QueryResult, Side, Variant, judged
from atlas_ops.errors import AtlasError
from atlas_ops.predicate import Foresight
from atlas_ops.queryplan import PlanFigures
from atlas_ops.timing import Timing
from atlas_ops.workload import Query

QUERY = Query(name="page", description="a page", table="m", sql="SELECT FROM {table}")
PLAN = {"Plan": {"Node Type": "Seq Scan", "Relation Name": "m", "Plan Rows": 1, "Filter": "(n = …)"}}


def figures(total: float, **more: Any) -> PlanFigures:
    given: dict[str, Any] = {
        "planning_ms": 0.0, "execution_ms": total, "hit_blocks": 10, "read_blocks": 2, "temp_blocks": 0,
        "wal_bytes": 0, "rows": 5.0, "touched": 3, "planned": 3, "never_executed": 0, "removed": 0, "partitions": 3,
        "bounds_key": False, **more,
    }  # fmt: skip
    return PlanFigures(**given)


def timed(before: float, after: float, spread: float = 0.01) -> Timing:
    ratio = after / max(before, 0.001)
    return Timing(before, after, ratio * (1 - spread), ratio * (1 + spread), 20)


def result(
    before: PlanFigures | Failure, after: PlanFigures | Failure, query: Query = QUERY, **more: Any
) -> QueryResult:
    sides = [
        Side(failure=s)
        if isinstance(s, Failure)
        else Side(figures=s, runs_ms=(s.total_ms,), plan=PLAN, shape="01234567")
        for s in (before, after)
    ]
    if isinstance(before, PlanFigures) and isinstance(after, PlanFigures):
        more = {"timing": timed(before.total_ms, after.total_ms), **more}
    return QueryResult(query, "created_at", *sides, **more)


# verdicts


@pytest.mark.parametrize(
    ("before", "after", "verdict", "promise"),
    [
        (10, 10.9, "same", False),
        (10, 9.1, "same", False),
        (10, 11.1, "slower", False),
        (10, 8.9, "faster", False),
        (10, 6.1, "faster", False),
        (10, 5.9, "faster", True),
        (10, 6, "faster", False),
        (0.01, 0.07, "same", False),
        (0.07, 0.01, "same", False),
        (0.01, 0.12, "slower", False),
        (0.0, 0.0, "same", False),
    ],
)
def test_verdicts(before: float, after: float, verdict: str, promise: bool) -> None:
    found = result(figures(before), figures(after))
    assert (found.verdict, found.keeps_promise) == (verdict, promise)


def test_a_wide_interval_decides_nothing() -> None:
    wide = result(figures(10), figures(13), timing=Timing(10, 13, 0.9, 1.9, 20))
    assert wide.verdict == "same"
    assert advice.why(wide).endswith("The times waver: the ratio may be 0.90 to 1.90.")
    assert judged(Timing(10, 13, 1.01, 1.9, 20)) == "slower"


SORTED = {"Plan": {"Node Type": "Sort", "Plans": [PLAN["Plan"]], "Plan Rows": 1}}


@pytest.mark.parametrize(
    ("before", "after", "more", "why"),
    [
        ({}, {}, {}, "Reads all 3 partitions: created_at is not bounded."),
        ({}, {}, {"foreseen": Foresight("all", "", (), (), "created_at is cast to date.")}, "Reads all 3 partitions: created_at is cast to date."),
        ({}, {"bounds_key": True}, {}, "Reads all 3 partitions: created_at is bounded, but none drops out."),
        ({}, {"touched": 1, "planned": 1, "bounds_key": True}, {}, "Reads 1 of 3 partitions."),
        ({}, {"touched": 1, "never_executed": 2}, {}, "Reads 1 of 3 partitions and has enough, 2 more are planned: created_at is not bounded."),
        ({}, {"touched": 1, "bounds_key": True, "removed": 2}, {}, "Reads 1 of 3 partitions; 3 are planned, the rest drops out as it runs."),
        ({}, {"touched": 1, "planned": 1, "temp_blocks": 9}, {}, "Reads 1 of 3 partitions. It sorts or hashes on disk."),
        ({}, {"touched": 1, "planned": 1, "planning_ms": 4.0}, {},
         "Reads 1 of 3 partitions. Most of the difference is planning: 4.0 ms instead of 0.0."),
        ({}, {"touched": 2, "planned": 2, "execution_ms": 9.0, "hit_blocks": 90}, {},
         "Reads 2 of 3 partitions. Descends an index in each partition: 92 blocks instead of 12."),
        ({}, {"touched": 1, "planned": 1}, {"same_rows": False},
         "Not the same answer from both tables: see 03 Verify counts, or drain first; with a LIMIT,"
         " rows that the ORDER BY does not tell apart may differ. Reads 1 of 3 partitions."),
    ],
)  # fmt: skip
def test_why(before: dict[str, Any], after: dict[str, Any], more: dict[str, Any], why: str) -> None:
    assert (
        advice.why(
            result(
                figures(5, **before),
                figures(**{"total": 5, **after} if "execution_ms" not in after else {"total": 0, **after}),
                **more,
            )
        )
        == why
    )


def test_a_sort_that_the_original_does_without_is_told() -> None:
    found = result(figures(5), figures(9, touched=1, planned=1))
    sides = (found.original, replace(found.partitioned, plan=SORTED))
    assert advice.why(replace(found, original=sides[0], partitioned=sides[1])).endswith(
        "It sorts what the original reads in order."
    )


def test_a_partition_without_its_index_is_told_with_the_cure() -> None:
    found = result(figures(5), figures(9, touched=1, planned=1))
    found = replace(found, partitioned=replace(found.partitioned, unindexed=("m_1", "m_2", "m_3", "m_4")))
    assert "m_1, m_2, m_3 and 1 more is read row by row: it lacks the index that the others have." in advice.why(found)
    assert advice.what_to_do(found).startswith("Create the missing index on m_1, m_2, m_3 and 1 more;")


def variant(ratio: float, name: str = "send_k", **more: Any) -> Variant:
    side = more.pop("side", Side(figures=figures(10 * ratio), plan=PLAN))
    return Variant(name, "send the key along", "SELECT 1", side, timed(10, 10 * ratio), **{"same_rows": True, **more})


def test_a_generic_plan_is_told_by_what_it_reads() -> None:
    own = figures(20, touched=1, planned=1)
    more = variant(1.2, side=Side(figures=figures(12, touched=3)))
    found = result(figures(10), own, generic=more, prepared=timed(8, 12))
    assert advice.why(found).endswith("A generic plan reads 3 partitions instead of 1.")
    assert advice.what_to_do(found) == (
        "Prepared, with plan_cache_mode = force_generic_plan for its role, it takes 12.00 ms instead of 20.00: 1.50 times the"
        " original prepared alike."
    )
    fewer = variant(2.5, side=Side(figures=figures(25, touched=1, planned=3, removed=2)))
    found = result(figures(10), own, generic=fewer)
    assert advice.why(found).endswith("A generic plan drops 2 of its 3 partitions as it starts.")
    assert advice.what_to_do(found) == "Nothing."


def test_the_quickest_rewrite_that_holds_is_named() -> None:
    rewrites = (variant(0.9), variant(0.5, "wrong", same_rows=False), variant(0.4, "untrue", counterexamples=7),
                variant(0.6, "unproven", counterexamples=None), variant(0.8, "best"))  # fmt: skip
    found = result(figures(10), figures(30), rewrites=rewrites)
    assert found.rewrite is rewrites[-1]
    assert advice.what_to_do(found) == (
        "Send the key along (best): 0.80 times the original instead of 3.00 (0.79 to 0.81), faster."
        " untrue is no way: 7 rows of the data would be answered otherwise."
    )
    assert [row[0] for row in explain.reasons([found, result(figures(1), figures(1))]).rows] == ["page", "page"]
    assert [row[1:4] for row in explain.rewrites([found]).rows][-1] == ("best", "faster", "0.80")
    assert result(figures(10), figures(10), rewrites=(variant(0.95),)).rewrite is None, "hardly quicker"


def test_a_failure_is_a_verdict_and_a_reason() -> None:
    found = result(figures(1), Failure("the role lacks a right.", "42501"))
    assert (found.verdict, found.ratio) == ("failed", None)
    assert advice.why(found) == "On the partitioned table: the role lacks a right. (42501)"


def test_an_expectation_that_is_not_met_is_told() -> None:
    query = Query(name="q", description="d", table="m", sql="SELECT FROM {table}", expects={"prunes_to": 1})  # type: ignore[arg-type]
    assert result(figures(1), figures(1, touched=1), query).as_expected is True
    missed = result(figures(1), figures(1, touched=2, planned=2), query)
    assert missed.as_expected is False
    assert advice.why(missed) == "Reads 2 of 3 partitions. Expected were at most 1."
    assert result(figures(1), figures(1)).as_expected is None


def test_the_sentence() -> None:
    pairs = [(10, 4.9), (10, 8), (10, 10), (10, 20), (10, 30)]
    results = [result(figures(a), figures(b)) for a, b in pairs]
    assert (
        explain.verdict_sentence(results)
        == "2 of 5 queries faster, 1 the same, 2 slower; the guide's 40 % holds for 1. Each query counted once, a call takes"
        " 10.00 ms on the original and 14.58 on the partitioned table: 1.46 times as long, where the guide promises at most 0.60."
    )
    results.append(result(figures(1), Failure("x")))
    assert "2 slower, 1 failed; the guide's" in explain.verdict_sentence(results)
    assert explain.verdict_sentence(results[-1:]) == "No query was measured on both tables."
    assert explain.verdict_sentence([]) == "No query was asked."
    assert explain.verdict_sentence(results[3:4]).startswith(
        "0 of 1 query faster, 0 the same, 1 slower; the guide's 40 % holds for none."
    )


def test_the_sentence_weighs_calls_if_all_have_a_weight() -> None:
    def weighted(name: str, weight: float | None) -> Query:
        return Query(name=name, description="d", table="m", sql="SELECT FROM {table}", weight=weight)

    results = [result(figures(1), figures(4), weighted("a", 3)), result(figures(5), figures(8), weighted("b", 1))]
    assert explain.verdict_sentence(results).endswith(
        "By the number of calls, a call takes 2.00 ms on the original and 5.00 on the partitioned table: 2.50 times as long,"
        " where the guide promises at most 0.60."
    )
    results.append(result(figures(1), figures(4), weighted("c", None)))
    assert "Each query counted once" in explain.verdict_sentence(results)


# for reading


def test_charts_leave_failures_out() -> None:
    results = [result(figures(1), figures(2)), result(figures(1), Failure("x"))]
    assert explain.ratio_rows(results) == [("page", 2.0, 1.98, 2.02, "slower")]
    assert explain.touched_rows(results) == [("page", 3, 3)]
    assert explain.buffer_rows(results) == [("page", 12, 12)]
    assert explain.planning_rows(results) == [("page", "original", 0.0, 1), ("page", "partitioned", 0.0, 2)]


def test_the_overview_shows_failures_too() -> None:
    table = explain.overview([result(figures(1), figures(2)), result(figures(1), Failure("no.", "42703"))])
    assert [row[:9] for row in table.rows] == [
        ("page", "slower", "2.00", "1.98 to 2.02", 1, 2, 12, 12, "3 of 3"),
        ("page", "failed", None, None, None, None, 12, None, None),
    ]
    assert (
        explain.reasons([result(figures(1), Failure("no.", "42703"))]).rows[0][2]
        == "On the partitioned table: no. (42703)"
    )
    assert "20 pairs or more" in table.caption
    assert repr(explain.overview([])).endswith("no rows")


def test_pruning_is_told_for_both_kinds_of_plan() -> None:
    generic = variant(1.2, side=Side(figures=figures(12, touched=1, planned=3, removed=2)))
    found = result(figures(1), figures(2, touched=1, planned=1), generic=generic)
    assert explain.pruning([found, result(figures(1), Failure("x"))]).rows == (
        ("page", 3, 1, 1, 3, 2, 1, 0, 0, 0.0, "01234567"),
    )


def test_figures_are_json_without_plans() -> None:
    told = json.dumps(
        explain.figures([result(figures(1), Failure("no.", "57014"), generic=variant(1.0), rewrites=(variant(1.0),))])
    )
    assert '"sqlstate": "57014"' in told
    assert "Filter" not in told


def test_the_plan_of_a_side_that_failed_is_its_reason() -> None:
    table = explain.plan_table(result(figures(1), Failure("no.", "42703")), "partitioned")
    assert (len(table), table.caption) == (0, "page, partitioned: no.")


def test_there_are_two_sides() -> None:
    with pytest.raises(AtlasError, match="no such side"):
        explain.plan_table(result(figures(1), figures(1)), "left")


def test_every_plan_that_was_kept_is_told_with_its_statement() -> None:
    found = result(figures(1), figures(2), generic=variant(1.0), rewrites=(variant(1.0, "bounded"),))
    assert [(plan["side"], plan["sql"]) for plan in explain.plans([found, result(figures(1), Failure("x"))])] == [
        ("original", "SELECT FROM {table}"),
        ("partitioned", "SELECT FROM {table}"),
        ("generic", "SELECT FROM {table}"),
        ("bounded", "SELECT 1"),
        ("original", "SELECT FROM {table}"),
    ]
