"""What is read out of plans, and that no value of a user stays in it. No database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops import explain
from atlas_ops.errors import AtlasError
from atlas_ops.explain import Failure, PlanFigures, QueryResult, Side, masked, plan_figures, without_literals
from atlas_ops.workload import Query

LEAVES = frozenset({"m_2024_01", "m_2024_02", "m_2024_03"})
QUERY = Query(name="page", description="a page", table="m", sql="SELECT FROM {table}")


def node(
    kind: str, *below: dict[str, Any], loops: int = 1, ms: float = 1.0, rows: float = 1, **more: Any
) -> dict[str, Any]:
    return {
        "Node Type": kind,
        "Plan Rows": 10,
        "Actual Rows": rows,
        "Actual Loops": loops,
        "Actual Total Time": ms,
        "Shared Hit Blocks": 4,
        "Shared Read Blocks": 1,
        "Plans": list(below),
        **{key.replace("_", " "): value for key, value in more.items()},
    }


def scan(relation: str, loops: int = 1, **more: Any) -> dict[str, Any]:
    return node("Index Scan", loops=loops, **{"Relation Name": relation}, **more)


def document(plan: dict[str, Any], planning: float = 1.0, execution: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"Plan": plan, "Planning Time": planning, "Execution Time": execution, "Triggers": [], **more}


def figures(total: float, **more: Any) -> PlanFigures:
    given: dict[str, Any] = {
        "planning_ms": 0.0, "execution_ms": total, "hit_blocks": 10, "read_blocks": 2, "temp_blocks": 0,
        "wal_bytes": 0, "rows": 5.0, "touched": 3, "never_executed": 0, "removed": 0, "partitions": 3,
        "bounds_key": False, **more,
    }  # fmt: skip
    return PlanFigures(**given)


def result(before: PlanFigures | Failure, after: PlanFigures | Failure, query: Query = QUERY) -> QueryResult:
    sides = [
        Side(failure=s) if isinstance(s, Failure) else Side(figures=s, runs_ms=(s.total_ms,)) for s in (before, after)
    ]
    return QueryResult(query, "created_at", *sides)


# masking


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("(id = '38eb8eed-2a23-b7a6-7e7a-8b79180a1ae1'::uuid)", "(id = …::uuid)"),
        (r"(x = E'C:\\te\'mp''s')", "(x = …)"),
        ("(m_2024_01.n > 42)", "(m_2024_01.n > …)"),
        ("(n = '-5'::integer) OR (v = 1.5e10)", "(n = …::integer) OR (v = …)"),
        ("(a = ANY ('{a,b''c}'::uuid[]))", "(a = ANY (…::uuid[]))"),
        ("((e)::text ~~* '%it''s%'::text)", "((e)::text ~~* …::text)"),
        ('("we\'ird 5" = $1)', '("we\'ird 5" = $1)'),
        ("(b = B'101'::\"bit\")", '(b = …::"bit")'),
        ("(größe1 = 7)", "(größe1 = …)"),
        ("name'x'", "name…"),
    ],
)
def test_literals_go_and_names_stay(text: str, seen: str) -> None:
    assert without_literals(text) == seen


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_no_literal_survives(value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    if "\\" in value:  # as quote_literal() and ruleutils print it
        quoted = "E" + quoted.replace("\\", "\\\\")
    assert without_literals(f"((a)::text = {quoted}::text)") == "((a)::text = …::text)"


def test_a_plan_keeps_its_names_and_figures_and_nothing_else() -> None:
    plan = document(
        scan(
            "o'brien", Index_Cond="(n = 5)", Filter="(t = 'x'::text)", Some_New_Key="of '5' and 6", Sort_Key=["(a + 5)"]
        ),
        Settings={"work_mem": "64MB"},
    )
    seen = masked(plan)
    assert seen["Plan"]["Relation Name"] == "o'brien"
    assert seen["Plan"]["Plan Rows"] == 10
    assert seen["Settings"] == {"work_mem": "64MB"}
    assert [seen["Plan"][key] for key in ("Index Cond", "Filter", "Some New Key", "Sort Key")] == [
        "(n = …)",
        "(t = …::text)",
        "of … and …",
        ["(a + …)"],
    ]
    assert plan["Plan"]["Index Cond"] == "(n = 5)"


# figures


def test_partitions_are_touched_if_they_were_executed() -> None:
    plan = node(
        "Append",
        scan("m_2024_01", loops=3),
        node("Bitmap Heap Scan", node("Bitmap Index Scan", Index_Name="i"), loops=0, Relation_Name="m_2024_02"),
        scan("other"),
        Subplans_Removed=1,
        rows=2,
        loops=4,
    )
    found = plan_figures(document(plan), LEAVES, "created_at")
    assert (found.touched, found.never_executed, found.removed, found.partitions) == (1, 1, 1, 3)
    assert (found.rows, found.total_ms, found.hit_blocks, found.read_blocks) == (8, 3.0, 4, 1)


def test_the_original_has_no_partitions() -> None:
    found = plan_figures(document(scan("m")), frozenset(), "created_at")
    assert (found.touched, found.partitions) == (0, 0)


def test_an_inserted_row_went_to_one_partition() -> None:
    plan = node("ModifyTable", node("Result"), Operation="Insert", Relation_Name="m_partitioned")
    assert plan_figures(document(plan), LEAVES, "k").touched == 1
    fired = [{"Trigger Name": "t", "Relation": name, "Calls": 1} for name in ("m_2024_01", "m_2024_02")]
    assert plan_figures(document(plan, Triggers=fired), LEAVES, "k").touched == 2


@pytest.mark.parametrize(
    ("condition", "key", "bounded"),
    [
        ("(created_at > '2024-01-01'::date)", "created_at", True),
        ("(x.created_at > $1)", "created_at", True),
        ("(created_at_too > 1)", "created_at", False),
        ("(not_created_at > 1)", "created_at", False),
        ("(note = 'created_at'::text)", "created_at", False),
        ('("timestamp" > 1)', "timestamp", True),
        ('("a ""b" > 1)', 'a "b', True),
    ],
)
def test_the_key_is_found_in_conditions(condition: str, key: str, bounded: bool) -> None:
    assert plan_figures(document(scan("m_2024_01", Index_Cond=condition)), LEAVES, key).bounds_key is bounded


def test_the_key_of_another_table_is_not_ours() -> None:
    assert not plan_figures(document(scan("other", Filter="(created_at > 1)")), LEAVES, "created_at").bounds_key


def test_a_side_speaks_by_the_run_of_median_time() -> None:
    runs = [document(scan("m_2024_01"), execution=ms) for ms in (9.0, 1.0, 2.0)]
    found = explain.side(runs, document(scan("m_2024_01", Filter="(n = 5)")), LEAVES, "k")
    assert found.runs_ms == (10.0, 2.0, 3.0)
    assert found.figures is not None
    assert found.figures.execution_ms == 2.0
    assert found.plan is not None
    assert found.plan["Plan"]["Filter"] == "(n = …)"


# verdicts


@pytest.mark.parametrize(
    ("before", "after", "verdict", "promise"),
    [
        (10, 10.9, "same", False),
        (10, 9.1, "same", False),
        (10, 11.1, "slower", False),
        (10, 8.9, "faster", False),
        (10, 6.1, "faster", False),
        (10, 6, "faster", True),
        (0.01, 0.05, "same", False),
        (0.05, 0.01, "same", False),
        (0.01, 0.07, "slower", False),
        (0.0, 0.0, "same", False),
    ],
)
def test_verdicts(before: float, after: float, verdict: str, promise: bool) -> None:
    found = result(figures(before), figures(after))
    assert (found.verdict, found.keeps_promise) == (verdict, promise)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {}, "Reads all 3 partitions: created_at is not bounded."),
        ({}, {"bounds_key": True}, "Reads all 3 partitions: created_at is bounded, but none drops out."),
        ({}, {"touched": 1, "bounds_key": True}, "Reads 1 of 3 partitions."),
        ({}, {"touched": 1, "never_executed": 2}, "Reads 1 of 3 partitions and has enough, 2 more are planned: created_at is not bounded."),
        ({}, {"touched": 1, "bounds_key": True, "temp_blocks": 9}, "Reads 1 of 3 partitions. It sorts or hashes on disk."),
        ({}, {"touched": 1, "planning_ms": 4.0}, "Reads 1 of 3 partitions. Most of the difference is planning: 4.0 ms instead of 0.0."),
        ({}, {"touched": 1, "rows": 4.0}, ("Not the same answer: 5 rows from the original, 4 from the partitioned table. "
         "See 03 Verify counts. Reads 1 of 3 partitions.")),
    ],
)  # fmt: skip
def test_why(before: dict[str, Any], after: dict[str, Any], why: str) -> None:
    assert result(figures(5, **before), figures(5, **after)).why == why


def test_a_failure_is_a_verdict_and_a_reason() -> None:
    found = result(figures(1), Failure("the role lacks a right.", "42501"))
    assert (found.verdict, found.ratio) == ("failed", None)
    assert found.why == "On the partitioned table: the role lacks a right. (42501)"


def test_an_expectation_that_is_not_met_is_told() -> None:
    query = Query(name="q", description="d", table="m", sql="SELECT FROM {table}", expects={"prunes_to": 1})  # type: ignore[arg-type]
    assert result(figures(1), figures(1, touched=1), query).as_expected is True
    missed = result(figures(1), figures(1, touched=2), query)
    assert missed.as_expected is False
    assert missed.why == "Reads 2 of 3 partitions. Expected were at most 1."
    assert result(figures(1), figures(1)).as_expected is None


def test_the_sentence() -> None:
    pairs = [(10, 5), (10, 8), (10, 10), (10, 20), (10, 30)]
    results = [result(figures(a), figures(b)) for a, b in pairs]
    assert (
        explain.verdict_sentence(results)
        == "2 of 5 queries faster, 1 the same, 2 slower; the guide's 40 % holds for 1."
    )
    results.append(result(figures(1), Failure("x")))
    assert "2 slower, 1 failed; the guide's" in explain.verdict_sentence(results)
    assert explain.verdict_sentence(results[-1:]) == "No query was measured on both tables."
    assert explain.verdict_sentence([]) == "No query was asked."
    assert explain.verdict_sentence(results[3:4]).endswith(
        "of 1 query faster, 0 the same, 1 slower; the guide's 40 % holds for none."
    )


def test_the_sentence_weighs_calls_if_all_have_a_weight() -> None:
    def weighted(name: str, weight: float | None) -> Query:
        return Query(name=name, description="d", table="m", sql="SELECT FROM {table}", weight=weight)

    results = [result(figures(1), figures(4), weighted("a", 3)), result(figures(5), figures(8), weighted("b", 1))]
    assert explain.verdict_sentence(results).endswith(
        "By the number of calls: 2.00 ms a call on the original, 5.00 on the partitioned table."
    )
    results.append(result(figures(1), figures(4), weighted("c", None)))
    assert "calls" not in explain.verdict_sentence(results)


# for reading


def test_charts_leave_failures_out() -> None:
    results = [result(figures(1), figures(2)), result(figures(1), Failure("x"))]
    assert explain.time_rows(results) == [("page", 1.0, 2.0, "slower")]
    assert explain.touched_rows(results) == [("page", 3, 3)]


def test_the_overview_shows_failures_too() -> None:
    table = explain.overview([result(figures(1), figures(2)), result(figures(1), Failure("no.", "42703"))])
    assert [row[:8] for row in table.rows] == [
        ("page", 1.0, 2.0, "2.00", 12, 12, "3 of 3", "slower"),
        ("page", 1.0, None, None, 12, None, None, "failed"),
    ]
    assert table.rows[1][8] == "On the partitioned table: no. (42703)"
    assert "median of 1 run" in table.caption
    assert "without an interval" in table.caption
    assert repr(explain.overview([])).endswith("no rows")


def test_figures_are_json_without_plans() -> None:
    side = explain.side([document(scan("m_2024_01"))], document(scan("m_2024_01", Filter="(n = 5)")), LEAVES, "k")
    told = json.dumps(explain.figures([QueryResult(QUERY, "k", side, Side(failure=Failure("no.", "57014")))]))
    assert '"sqlstate": "57014"' in told
    assert "Filter" not in told


def test_a_plan_shows_partitions_of_a_kind_on_one_line() -> None:
    plan = node(
        "Limit",
        node(
            "Append",
            scan("m_2024_01", ms=2.0),
            scan("m_2024_02", ms=3.0),
            scan("m_2024_03", loops=0),
            node("Bitmap Heap Scan", node("Bitmap Index Scan", ms=1.0), ms=4.0, Relation_Name="m_2024_03"),
            scan("other", ms=0.5),
            scan("other", ms=0.5),
            ms=12.0,
        ),
        ms=12.5,
    )
    found = QueryResult(QUERY, "k", Side(), explain.side([document(plan)], document(plan), LEAVES, "k"))
    table = explain.plan_table(found, "partitioned")
    assert table.caption == "page on the partitioned table"
    assert [row[:5] for row in table.rows] == [
        ("Limit", None, 10, 1, 0.5),
        ("· Append", None, 10, 1, 2.0),
        ("· · Index Scan", "m_2024_01 … m_2024_03 (3), 1 not reached", 30, 2, 5.0),
        ("· · Bitmap Heap Scan", "m_2024_03", 10, 1, 3.0),
        ("· · · Bitmap Index Scan", None, 10, 1, 1.0),
        ("· · Index Scan", "other", 10, 1, 0.5),
        ("· · Index Scan", "other", 10, 1, 0.5),
    ]


def test_the_plan_of_a_side_that_failed_is_its_reason() -> None:
    table = explain.plan_table(result(figures(1), Failure("no.", "42703")), "partitioned")
    assert (len(table), table.caption) == (0, "page on the partitioned table: no.")


def test_there_are_two_sides() -> None:
    with pytest.raises(AtlasError, match="no such side"):
        explain.plan_table(result(figures(1), figures(1)), "left")
