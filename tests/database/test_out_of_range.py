"""Rows out of range, each way that the specification knows: the default partition, further partitions at either end, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atlas_ops import migration
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity

TABLE = "CREATE TABLE note (id int PRIMARY KEY, at {} NOT NULL, body text)"
ROWS = (
    "INSERT INTO note SELECT n, '2024-01-01'::timestamp + n * interval '12 hours', 'row ' || n FROM generate_series(1, 100) n",
    "INSERT INTO note VALUES (901, '2023-11-30', 'early'), (902, '2024-05-31', 'late')",
)
LATER = (
    "INSERT INTO note VALUES (903, '1999-01-01', 'earlier'), (904, '2031-01-01', 'later'), (905, '2023-11-01', 'in the first')",
    "UPDATE note SET at = '2030-06-01' WHERE id = 1",
    "UPDATE note SET at = '2023-12-31' WHERE id = 2",
)


def made(ops: Any, db: Any, kind: str = "timestamptz", *more: str) -> None:
    ops.run(db, TABLE.format(kind), *ROWS, *more)


def checked(ops: Any, db: Any, spec: Any, name: str) -> list[Any]:
    placed, _ = ops.placed(db, spec)
    return [check for check in ops.checks(db, placed) if check.name == name]


def copied(ops: Any, db: Any, spec: Any) -> Any:
    """The copy made online from the placed specification, and nothing left to do."""
    placed, _ = ops.placed(db, spec)
    assert ops.reds(db, placed) == []
    ops.follow(db, spec)
    assert ops.placed(db, spec)[0] == placed
    assert migration.plan_migration(*ops.placed(db, spec), ops.as_of).steps == ()
    return placed


def places(ops: Any, db: Any, table: str) -> str:
    return str(
        ops.value(
            db, f"SELECT string_agg(id || ' ' || tableoid::regclass, ', ' ORDER BY id) FROM {table} WHERE id > 900"
        )
    )


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_further_partitions_at_either_end_for_the_rows_there_are(empty: Any, ops: Any, kind: str) -> None:
    made(ops, empty, kind)
    spec = ops.online(out_of_range="extend", default_partition=True)
    placed = copied(ops, empty, spec)
    assert (placed.from_.isoformat(), placed.until.isoformat()) == ("2023-11-01", "2024-06-01")
    assert [name for name in ops.bounds(empty) if name != "note_default"] == [
        f"note_{month}" for month in ("2023_11", "2023_12", "2024_01", "2024_02", "2024_03", "2024_04", "2024_05")
    ]
    assert places(ops, empty, "note_partitioned") == "901 partitions.note_2023_11, 902 partitions.note_2024_05"
    assert ops.value(empty, "SELECT count(*) FROM partitions.note_default") == 0
    assert checked(ops, empty, spec, "out of range") == []


def test_what_comes_later_goes_to_the_default_partition_and_moves_no_end(empty: Any, ops: Any) -> None:
    """Rows that a writer adds while it is copied, or after it, do not make another plan of it: there, through the cut-over and back."""
    made(ops, empty)
    spec = ops.online(out_of_range="extend")
    placed = copied(ops, empty, spec)
    ops.run(empty, *LATER)
    assert ops.placed(empty, spec)[0] == placed
    ops.drain(empty, spec)
    assert ops.in_step(empty, spec) == 105
    before = ops.bounds(empty)
    assert "903 partitions.note_default, 904 partitions.note_default, 905 partitions.note_2023_11" in places(
        ops, empty, "note_partitioned"
    )
    ops.cut_over(empty, spec)
    ops.run(empty, "INSERT INTO note VALUES (906, '2035-01-01', 'after')", "DELETE FROM note WHERE id = 903")
    ops.drain(empty, spec)
    assert ops.in_step(empty, spec) == 105
    ops.roll_back(empty, spec)
    assert ops.bounds(empty) == before
    assert ops.placed(empty, spec)[0] == placed
    assert ops.in_step(empty, spec) == 105 == ops.value(empty, "SELECT count(*) FROM note")


def test_the_ends_of_a_run_that_was_stopped_are_kept(empty: Any, ops: Any) -> None:
    made(ops, empty)
    spec = ops.online(out_of_range="extend")
    placed, snapshot = ops.placed(empty, spec)
    plan = migration.plan_migration(placed, snapshot, ops.as_of)
    built = next(number for number, step in enumerate(plan.steps) if step.name.startswith("copy "))
    ops.carry_out(empty, replace(plan, steps=plan.steps[: built + 1]))
    ops.run(empty, *LATER)
    assert ops.placed(empty, spec)[0] == placed
    ops.follow(empty, spec)
    assert ops.in_step(empty, spec) == 105


def test_keys_from_an_expression_extend_it_too(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz, edited date)",
        "INSERT INTO note VALUES (1, '2024-01-05', NULL), (2, NULL, '2024-04-05'), (3, NULL, '2023-10-31')",
    )
    placed = copied(
        ops, empty, ops.online(out_of_range="extend", null_keys={"value": "edited::timestamp AT TIME ZONE 'UTC'"})
    )
    assert (placed.from_.isoformat(), placed.until.isoformat()) == ("2023-10-01", "2024-05-01")


def test_infinite_keys_and_those_beyond_the_calendar_are_left_to_the_default_partition(empty: Any, ops: Any) -> None:
    made(
        ops,
        empty,
        "timestamptz",
        "INSERT INTO note VALUES (903, 'infinity', ''), (904, '-infinity', ''), (905, '0044-03-15 BC', '')",
    )
    refused = ops.online(out_of_range="extend", default_partition=False)
    assert sorted(check.name for check in (checked(ops, empty, refused, "infinite keys") + checked(ops, empty, refused, "out of range"))
                  if check.severity is Severity.STOP) == ["infinite keys", "out of range"]  # fmt: skip
    placed = copied(ops, empty, ops.online(out_of_range="extend"))
    assert (placed.from_.isoformat(), placed.until.isoformat()) == ("2023-11-01", "2024-06-01")
    assert ops.value(empty, "SELECT count(*) FROM partitions.note_default") == 3


def test_more_periods_than_a_specification_may_have_are_refused(empty: Any, ops: Any) -> None:
    made(ops, empty, "timestamptz", "INSERT INTO note VALUES (903, '0204-01-01', 'a slip of the pen')")
    with pytest.raises(AtlasError) as stop:
        ops.placed(empty, ops.online(out_of_range="extend"))
    assert "more than 10,000" in stop.value.what
    assert "out_of_range" in stop.value.next


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_refused_with_counts_and_the_query_that_finds_them(empty: Any, ops: Any, kind: str) -> None:
    made(ops, empty, kind)
    for keys in ({"out_of_range": "refuse"}, {"default_partition": False}):
        spec = ops.online(**keys)
        [red] = checked(ops, empty, spec, "out of range")
        assert red.severity is Severity.STOP
        assert red.what == "1 rows lie before the first partition, 1 after the last."
        assert "out_of_range: extend" in red.cure
        assert ops.value(empty, f"SELECT array_agg(q::text) FROM ({red.sql.rstrip(';')}) q") is not None
        assert ops.value(empty, f"SELECT sum(count) FROM ({red.sql.rstrip(';')}) q") == 2
    ops.run(empty, "DELETE FROM note WHERE id > 900")
    copied(ops, empty, ops.online(out_of_range="refuse"))


def test_left_to_the_default_partition_with_counts_and_the_query(empty: Any, ops: Any) -> None:
    made(ops, empty)
    spec = ops.online()
    [note] = checked(ops, empty, spec, "out of range")
    assert (note.severity, note.what) == (Severity.NOTE, "1 rows lie before the first partition, 1 after the last.")
    copied(ops, empty, spec)
    assert ops.value(empty, "SELECT count(*) FROM partitions.note_default") == 2
