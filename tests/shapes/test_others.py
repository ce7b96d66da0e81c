"""Sets that others made are read, continued and archived as they are: no migration, no registry, no other name."""

from __future__ import annotations

from typing import Any

import pytest
from shapes.others import KEYS, PARTMAN, SETS, Others
from shapes.story import Story

from atlas_ops import archive, inspection, partitions
from atlas_ops.report import Severity
from atlas_ops.stages.inspect_partitions import InspectPartitions
from atlas_ops.stages.plan_archive import PlanArchive
from atlas_ops.stages.preflight import Preflight
from atlas_ops.stages.start_here import StartHere

each_set = pytest.mark.parametrize("others", SETS, ids=lambda one: one.name)
QUIET = {"not attached", "statistics", "detach pending", "number of partitions", "partition key", "overlaps"}


def findings(ops: Any, db: Any, others: Others) -> dict[str, Any]:
    """What 04 has to say that is not OK, by question."""
    spec = ops.spec(**others.keys)
    found = inspection.checks(spec, ops.snapshot(db, spec), ops.as_of)
    return {check.name: check for check in found if check.severity is not Severity.OK}


@each_set
def test_a_set_of_others_is_inspected_as_it_is(empty: Any, ops: Any, others: Others) -> None:
    ops.run(empty, *others.made, "ANALYZE")
    spec = ops.spec(**others.keys)
    rows = partitions.overview(spec, ops.snapshot(empty, spec), ops.as_of)
    assert tuple(row.partition for row in rows) == others.partitions
    found = findings(ops, empty, others)
    assert not QUIET & set(found), found
    assert others.told <= set(found) <= others.told | {"row security", "runway", "default partition", "bounds"}


@each_set
def test_what_is_missing_ahead_is_made_under_the_names_of_the_set(empty: Any, ops: Any, others: Others) -> None:
    ops.run(empty, *others.made)
    before = ops.bounds(empty, "public")
    found = findings(ops, empty, others).get("runway")
    if not others.following:  # the last partition has no end, or one in the middle of a month
        assert found is None or found.sql == ""
        return
    assert found is not None
    assert "not under our care" in found.cure and "create_future_partitions" not in found.sql
    ops.run(empty, *found.sql.splitlines())
    spec = ops.spec(**others.keys)
    names = [row.partition for row in partitions.overview(spec, ops.snapshot(empty, spec), ops.as_of)]
    assert others.following in names and set(others.partitions) <= set(names)
    assert before.items() <= ops.bounds(empty, "public").items()
    assert "runway" not in findings(ops, empty, others)


@each_set
def test_what_is_old_is_archived_as_it_is_called(empty: Any, ops: Any, others: Others) -> None:
    ops.run(empty, *others.made)
    spec = ops.spec(**others.keys)
    snapshot = ops.snapshot(empty, spec)
    assert tuple(one.partition for one in archive.candidates(spec, snapshot, ops.as_of) if one.goes) == others.old
    ops.carry_out(empty, archive.plan_archive(spec, snapshot, ops.as_of))
    spec = ops.spec(**others.keys)
    left = partitions.overview(spec, ops.snapshot(empty, spec), ops.as_of)
    assert tuple(row.partition for row in left) == tuple(one for one in others.partitions if one not in others.old)


@each_set
def test_the_notebooks_serve_it_and_preflight_says_so(
    empty: Any, ops: Any, enter: Any, monkeypatch: pytest.MonkeyPatch, others: Others
) -> None:
    ops.run(empty, *others.made, "ANALYZE")
    story = Story(ops, empty, **others.keys)
    [red] = story.refused()
    assert "04 Inspect partitions and 08 Plan archive serve it as it is" in red.why + red.cure
    keys = dict(others.keys)
    [line] = enter(StartHere, empty, **keys).tables().rows
    assert line[4] == len(others.partitions)
    if "partitioned_table" not in keys:
        assert line[5] == "04 Inspect partitions, 08 Plan archive: it is partitioned already"
    preflight = enter(Preflight, empty, **keys)
    preflight.findings()
    assert preflight.report().verdict == "stopped"
    inspected = enter(InspectPartitions, empty, **keys)
    inspected.findings()
    assert inspected.report().figures["partitions"] == len(others.partitions)
    planned = enter(PlanArchive, empty, **keys)
    planned.findings()
    planned.plan_archive()
    assert planned.report().figures["partitions"] == len(others.old)


def test_no_partition_is_found_where_there_is_none(empty: Any, enter: Any, ops: Any) -> None:
    ops.run(empty, "CREATE TABLE message (id int PRIMARY KEY, at timestamptz NOT NULL)")
    with pytest.raises(Exception, match="no partitioned table of message"):
        enter(PlanArchive, empty, table="message").plan_archive()


def test_under_our_care_a_set_of_others_is_continued_beside_what_is_there(empty: Any, ops: Any) -> None:
    """Whoever enters such a set into the registry gets the partitions that are missing, and nothing twice under another name."""
    ops.run(empty, *ops_installed(ops, empty), *PARTMAN)
    ops.run(
        empty,
        "INSERT INTO atlas_ops.partitioned_table VALUES ('public', 'message', 'month', 2, 'public', 'message', '{}', true)",
        "SELECT * FROM public.create_future_partitions('2024-01-15')",
    )
    assert set(ops.bounds(empty, "public")) == set(SETS[0].partitions), "as long as pg_partman has it, it is left to it"
    ops.run(
        empty,
        "DELETE FROM partman.part_config",
        "SET DateStyle = 'German'; SELECT * FROM public.create_future_partitions('2024-01-15')",
        "SELECT * FROM public.create_future_partitions('2024-01-15')",
    )
    made = set(ops.bounds(empty, "public"))
    assert {name for name in made if name.startswith("message_")} == {
        *SETS[0].partitions,
        "message_2024_02",
        "message_2024_03",
    }


def ops_installed(ops: Any, db: Any) -> tuple[str, ...]:
    """The statements that install our own database objects."""
    ops.run(db, "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL)")
    [step] = [step for step in ops.plan(db, ops.spec()).steps if step.name.startswith("install")]
    return (*step.statements, "DROP TABLE note")


def test_a_default_partition_with_rows_of_the_time_is_told(empty: Any, ops: Any) -> None:
    ops.run(empty, *PARTMAN, "INSERT INTO message (at, body) VALUES ('2024-02-02', 'x')", "ANALYZE")
    assert "default partition" in findings(ops, empty, Others("", (), KEYS, (), ()))
