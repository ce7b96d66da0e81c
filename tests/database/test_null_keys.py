"""Rows without a key, each way that the specification knows, through the whole story, with writers that insert more of them meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atlas_ops import cutover, migration
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity

TABLES = (
    "CREATE TABLE author (id int PRIMARY KEY)",
    "INSERT INTO author SELECT generate_series(1, 9)",
    "CREATE TABLE note (id int PRIMARY KEY, at timestamptz, edited timestamptz, author int REFERENCES author ON DELETE CASCADE, body text)",
    "INSERT INTO note SELECT n, CASE WHEN n % 5 > 0 THEN '2024-01-01'::timestamptz + n * interval '12 hours' END, "
    "'2024-01-15'::timestamptz + n * interval '6 hours', 1 + n % 9, 'row ' || n FROM generate_series(1, 100) n",
)
# more rows without a key, one that gets a key and one that loses it, one that goes
MEANWHILE = (
    "INSERT INTO note SELECT n, NULL, '2024-02-01', 1, 'came while it was copied' FROM generate_series(201, 205) n",
    "UPDATE note SET at = '2024-02-02' WHERE id = 5",
    "UPDATE note SET at = NULL WHERE id = 6",
    "UPDATE note SET body = 'changed' WHERE id = 10",
    "DELETE FROM note WHERE id = 15",
)
LOOK = "SELECT array_agg(format('%s %s %s %s', id, coalesce(extract(epoch FROM at)::text, '-'), author, body) ORDER BY id) FROM {}"
WAYS = {"aside": "set_aside", "valued": {"value": "coalesce(edited, '2024-01-01 00:00+00')"}}


def look(ops: Any, db: Any, table: str = "note") -> Any:
    return ops.value(db, LOOK.format(table))


def step_by_step(ops: Any, db: Any, spec: Any) -> None:
    """The copy, with a writer that comes in the middle of it."""
    placed, snapshot = ops.placed(db, spec)
    assert ops.reds(db, placed) == []
    plan = migration.plan_migration(placed, snapshot, ops.as_of)
    half = next(number for number, step in enumerate(plan.steps) if step.name == "copy note_2024_02")
    ops.carry_out(db, replace(plan, steps=plan.steps[:half]))
    ops.run(db, *MEANWHILE)
    ops.follow(db, spec)


def test_refused_with_the_count_and_the_query_and_nothing_is_made(empty: Any, ops: Any) -> None:
    ops.run(empty, *TABLES)
    [red] = [check for check in ops.checks(empty, ops.online()) if check.name == "null keys"]
    assert (red.severity, red.what) == (Severity.STOP, "20 rows have no at.")
    assert ops.value(empty, red.sql.rstrip(";")) == 20
    assert "set_aside" in red.cure and "{value: <expression>}" in red.cure
    # none at first, and one comes while it is copied: the drain stops at it, nothing is lost, and set_aside goes on from there
    kept = look(ops, empty)
    ops.run(empty, "CREATE TABLE kept AS SELECT * FROM note WHERE at IS NULL", "DELETE FROM note WHERE at IS NULL")
    ops.follow(empty, ops.online())
    ops.run(empty, "INSERT INTO note SELECT * FROM kept")
    with pytest.raises(AtlasError, match=r"rows without a partition key came|23502"):
        ops.drain(empty, ops.online())
    assert look(ops, empty) == kept
    spec = ops.online(null_keys="set_aside")
    ops.follow(empty, spec)
    ops.drain(empty, spec)
    assert ops.in_step(empty, spec) == 100


@pytest.mark.parametrize("way", WAYS)
def test_abandoned_the_original_is_as_the_application_left_it(empty: Any, ops: Any, way: str) -> None:
    ops.run(empty, *TABLES)
    spec = ops.online(null_keys=WAYS[way])
    step_by_step(ops, empty, spec)
    left = look(ops, empty)
    assert ops.in_step(empty, spec) == 104 == len(left)
    assert sum(" - " in row for row in left) == 24
    ops.carry_out(empty, cutover.plan_abandon(*ops.placed(empty, spec)))
    assert look(ops, empty) == left
    assert ops.value(empty, "SELECT to_regclass('partitions.note_null_keys') IS NULL")


@pytest.mark.parametrize("way", WAYS)
def test_verify_accounts_for_every_one_of_them(empty: Any, ops: Any, way: str) -> None:
    ops.run(empty, *TABLES)
    spec = ops.online(null_keys=WAYS[way])
    step_by_step(ops, empty, spec)
    proofs, _ = ops.compared(empty, spec)
    assert all(proof.same for proof in proofs)
    rows = {proof.part: (proof.original.rows, proof.partitioned.rows) for proof in proofs}
    assert rows["no key"] == ((24, 24) if way == "aside" else (0, 0))
    assert sum(original for original, _ in rows.values()) == 104
    table = "partitions.note_null_keys" if way == "aside" else "note_partitioned"
    assert ops.value(empty, f"SELECT count(*) FROM {table} WHERE body = 'came while it was copied'") == 5


@pytest.mark.parametrize("way", WAYS)
def test_after_a_cut_over_and_a_roll_back_the_original_has_exactly_what_it_should(
    empty: Any, ops: Any, way: str
) -> None:
    ops.run(empty, *TABLES)
    spec = ops.online(null_keys=WAYS[way])
    step_by_step(ops, empty, spec)
    before = {row.split()[0]: row for row in look(ops, empty)}
    ops.cut_over(empty, spec)
    ops.run(
        empty,
        "INSERT INTO note VALUES (301, '2024-02-20', NULL, 2, 'new')",
        "UPDATE note SET body = 'edited' WHERE id IN (1, 10, 20)",
        "DELETE FROM note WHERE id IN (2, 25)",
    )
    ops.drain(empty, spec)
    ops.roll_back(empty, spec)
    after = {row.split()[0]: row for row in look(ops, empty)}
    touched = {"1", "2", "301"} | ({"10", "20", "25"} if way == "valued" else set())
    assert {number for number in before.keys() | after.keys() if before.get(number) != after.get(number)} == touched
    # what was not touched is as it was, NULL and all; what was written has the key that the application saw
    assert sum(" - " in row for row in after.values()) == (24 if way == "aside" else 21)
    assert ops.in_step(empty, spec) == 104 - (way == "valued")


def test_what_refers_onwards_takes_a_row_that_was_set_aside_along(empty: Any, ops: Any) -> None:
    """A row that was set aside belongs to its author still: who deletes the author deletes it, before, after, and on the way back."""
    ops.run(empty, *TABLES)
    spec = ops.online(null_keys="set_aside")
    step_by_step(ops, empty, spec)
    ops.cut_over(empty, spec)
    ops.run(empty, "DELETE FROM author WHERE id = 3")
    assert ops.value(empty, "SELECT count(*) FROM partitions.note_null_keys WHERE author = 3") == 0
    ops.drain(empty, spec)
    ops.in_step(empty, spec)
    ops.roll_back(empty, spec)
    assert ops.value(empty, "SELECT count(*) FROM note WHERE author = 3") == 0
    assert ops.value(
        empty, "SELECT bool_and(convalidated) FROM pg_constraint WHERE conrelid = 'note'::regclass AND contype = 'f'"
    )
    ops.in_step(empty, spec)


def test_what_refers_to_a_row_that_was_set_aside_goes_with_it(empty: Any, ops: Any) -> None:
    """With a registry: the chain from the author over the row to its tag is whole, as it was in the original."""
    ops.run(
        empty,
        *TABLES,
        "CREATE TABLE tag (note int REFERENCES note ON DELETE CASCADE, word text)",
        "CREATE INDEX ON tag (note)",
        "INSERT INTO tag SELECT n, 'of ' || n FROM generate_series(1, 50) n WHERE n <> 15",
    )
    spec = ops.online(null_keys="set_aside", incoming_foreign_keys="registry")
    step_by_step(ops, empty, spec)
    tags = ops.value(empty, "SELECT count(*) FROM tag t JOIN note n ON n.id = t.note WHERE n.author = 3")
    assert (
        ops.value(empty, "SELECT count(*) FROM tag t JOIN note n ON n.id = t.note WHERE n.author = 3 AND n.at IS NULL")
        > 0
    )
    ops.cut_over(empty, spec)
    all_tags = ops.value(empty, "SELECT count(*) FROM tag")
    ops.run(empty, "DELETE FROM author WHERE id = 3")
    assert ops.value(empty, "SELECT count(*) FROM tag") == all_tags - tags
    ops.drain(empty, spec)
    ops.roll_back(empty, spec)
    assert ops.value(empty, "SELECT count(*) FROM note WHERE author = 3") == 0
    assert ops.value(
        empty, "SELECT bool_and(convalidated) FROM pg_constraint WHERE conrelid = 'tag'::regclass AND contype = 'f'"
    )
    ops.in_step(empty, spec)
    ops.cut_over(empty, spec)
    ops.roll_back(empty, spec)
    ops.carry_out(empty, cutover.plan_abandon(*ops.placed(empty, spec)))
    assert ops.value(empty, "SELECT to_regnamespace('partitions') IS NULL")


TAGS = (
    "CREATE TABLE tag (note int REFERENCES note ON DELETE CASCADE, word text)",
    "CREATE INDEX ON tag (note)",
    "INSERT INTO tag SELECT n, 'of ' || n FROM generate_series(1, 50) n WHERE n <> 15",
)
ORPHANS = "SELECT count(*) FROM tag AS t WHERE NOT EXISTS (SELECT FROM note AS n WHERE n.id = t.note)"


def reds(ops: Any, db: Any, spec: Any) -> list[Any]:
    """The red checks of an exchange."""
    return [check for check in cutover.checks(*ops.placed(db, spec)) if check.severity is Severity.STOP]


def test_with_a_composite_key_what_refers_to_a_row_that_is_set_aside_stops_the_cut_over(empty: Any, ops: Any) -> None:
    """It would be out of every foreign key's sight: who deletes the author deletes the row, and its tag would refer to nothing."""
    ops.run(empty, *TABLES, *TAGS)
    spec = ops.online(null_keys="set_aside", incoming_foreign_keys="composite")
    step_by_step(ops, empty, spec)
    referred = "SELECT count(*) FROM tag AS t JOIN note AS n ON n.id = t.note WHERE n.at IS NULL"
    count = ops.value(empty, referred)
    assert count > 1
    [red] = reds(ops, empty, spec)
    assert (red.name, red.what) == ("incoming foreign key", f"{count} rows of public.tag refer to rows without at.")
    assert ops.value(empty, red.sql.rstrip(";")) == count
    [said] = [check for check in ops.checks(empty, spec) if check.what == red.what]
    assert said.severity is Severity.WARN and said.why.startswith("It stops the cut-over.")

    # each cure: the registry, or a key, or nothing that refers; and the cut-over has every row under its foreign key
    assert reds(ops, empty, replace(spec, incoming_foreign_keys="registry")) == []
    ops.run(empty, "DELETE FROM tag WHERE note = 10")
    assert reds(ops, empty, spec)[0].what.startswith(f"{count - 1} ")
    ops.run(empty, "UPDATE note SET at = '2024-02-03' WHERE at IS NULL AND id IN (SELECT note FROM tag)")
    ops.drain(empty, spec)
    assert reds(ops, empty, spec) == []
    ops.cut_over(empty, spec)
    assert ops.value(empty, ORPHANS) == 0
    ops.run(empty, "DELETE FROM author WHERE id IN (1, 2, 3)")
    assert ops.value(empty, ORPHANS) == 0
    ops.drain(empty, spec)
    ops.roll_back(empty, spec)
    assert ops.value(empty, ORPHANS) == 0
    assert ops.value(empty, "SELECT bool_and(convalidated) FROM pg_constraint WHERE conrelid = 'tag'::regclass")


def test_a_row_that_came_to_be_set_aside_after_the_checks_stops_the_exchange_whole(empty: Any, ops: Any) -> None:
    ops.run(
        empty, *TABLES, "DELETE FROM note WHERE at IS NULL", *TAGS[:2], "INSERT INTO tag VALUES (1, 'one'), (2, 'two')"
    )
    spec = ops.online(null_keys="set_aside", incoming_foreign_keys="composite")
    ops.follow(empty, spec)
    assert reds(ops, empty, spec) == []
    plan = ops.cut_over_plan(empty, spec)
    ops.run(empty, "UPDATE note SET at = NULL WHERE id = 2")
    with pytest.raises(AtlasError) as stopped:
        ops.carry_out(empty, plan)
    assert "registry serves it" in stopped.value.next
    # the original is in use and followed, its foreign key checks: nothing half done
    _, snapshot = ops.placed(empty, spec)
    assert not cutover.turned(snapshot) and snapshot.original is not None
    assert [reference.validated for reference in snapshot.original.references] == [True]
    assert ops.in_step(empty, spec) == 80
    assert reds(ops, empty, spec)[0].what == "1 rows of public.tag refer to rows without at."
    ops.run(empty, "UPDATE note SET at = '2024-01-05' WHERE id = 2")
    ops.drain(empty, spec)
    ops.cut_over(empty, spec)
    assert ops.value(empty, ORPHANS) == 0
