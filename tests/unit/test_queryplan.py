"""What is read out of plans, and that no value of a user stays in it. No database."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops import queryplan
from atlas_ops.model import LeafIndex
from atlas_ops.queryplan import Leaves, masked, plan_figures, without_literals

LEAVES = frozenset({"m_2024_01", "m_2024_02", "m_2024_03"})


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


def test_several_values_are_averaged_and_the_most_partitions_told() -> None:
    one = plan_figures(document(scan("m_2024_01"), execution=2.0), LEAVES, "k")
    two = plan_figures(document(node("Append", scan("m_2024_01"), scan("m_2024_02")), execution=4.0), LEAVES, "k")
    found = queryplan.average([one, two])
    assert (found.execution_ms, found.touched, found.planned, found.hit_blocks) == (3.0, 2, 2, 4)


def test_what_was_planned_counts_what_the_start_removed() -> None:
    plan = node("Append", scan("m_2024_01"), scan("m_2024_02", loops=0), Subplans_Removed=5)
    found = plan_figures(document(plan), LEAVES, "k")
    assert (found.touched, found.planned, found.never_executed, found.removed) == (1, 7, 1, 5)


# the shape

INDEXED = Leaves.of(
    [LeafIndex(f"m_2024_0{month}", f"m_2024_0{month}_id_idx", "m_id_idx", "USING btree (id)") for month in (1, 2, 3)]
)


def indexed(month: int, **more: Any) -> dict[str, Any]:
    return scan(f"m_2024_0{month}", Index_Name=f"m_2024_0{month}_id_idx", Index_Cond="(id = 5)", **more)


def test_the_shape_is_blind_for_months_values_and_costs() -> None:
    one = queryplan.shape(document(node("Append", indexed(1))), INDEXED)
    assert len(one) == 8
    assert queryplan.shape(document(node("Append", indexed(2, rows=9, ms=7.0), indexed(3)), planning=9), INDEXED) == one
    assert queryplan.shape(document(node("Append", indexed(1, loops=0))), INDEXED) == one


@pytest.mark.parametrize(
    "other",
    [
        node("Merge Append", indexed(1)),
        node("Append", scan("m_2024_01", Index_Name="m_2024_01_k_idx", Index_Cond="(k = 5)")),
        node("Append", indexed(1, Filter="(n = 5)")),
        node("Append", scan("other", Index_Name="m_2024_01_id_idx", Index_Cond="(id = 5)")),
        node("Sort", node("Append", indexed(1))),
        node("Append", indexed(1), scan("m_2024_02", Filter="(id = 5)")),
    ],
)
def test_another_way_to_the_rows_is_another_shape(other: dict[str, Any]) -> None:
    assert queryplan.shape(document(other), INDEXED) != queryplan.shape(document(node("Append", indexed(1))), INDEXED)


# what one partition lacks


def whole(month: int) -> dict[str, Any]:
    return node("Seq Scan", Filter="(id = 5)", **{"Relation Name": f"m_2024_0{month}"})


def test_a_partition_without_the_index_of_the_others_is_named() -> None:
    there = Leaves.of([*[LeafIndex(f"m_2024_0{m}", f"m_2024_0{m}_id_idx", None, "USING btree (id)") for m in (1, 2)],
                       LeafIndex("m_2024_03", None, None, None)])  # fmt: skip
    plan = document(node("Append", indexed(1), indexed(2), whole(3)))
    assert queryplan.unindexed(plan, there) == ("m_2024_03",)
    assert queryplan.unindexed(plan, INDEXED) == (), "it has the index: a small partition is read whole all the same"
    assert queryplan.unindexed(document(node("Append", whole(1), whole(2), whole(3))), there) == ()


# for reading


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
    table = queryplan.plan_table(document(plan), LEAVES, "page, partitioned")
    assert table.caption == "page, partitioned"
    assert [row[:5] for row in table.rows] == [
        ("Limit", None, 10, 1, 0.5),
        ("· Append", None, 10, 1, 2.0),
        ("· · Index Scan", "m_2024_01 … m_2024_03 (3), 1 not reached", 30, 2, 5.0),
        ("· · Bitmap Heap Scan", "m_2024_03", 10, 1, 3.0),
        ("· · · Bitmap Index Scan", None, 10, 1, 1.0),
        ("· · Index Scan", "other", 10, 1, 0.5),
        ("· · Index Scan", "other", 10, 1, 0.5),
    ]
