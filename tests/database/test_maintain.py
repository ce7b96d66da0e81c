"""07 on real servers: one plan a run, sets of others under care and out of it again, an ANALYZE when it is due, a verdict by outcome."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from shapes.others import KEYS, SETS, Others

from atlas_ops import adopt, archive, database, inspection, maintain, moving
from atlas_ops import care as reads
from atlas_ops.bounds import Every, period_of
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.plan import confirmed
from atlas_ops.report import Severity, Verdict
from atlas_ops.spec import TableSpec
from atlas_ops.stages.maintain_partitions import MaintainPartitions
from atlas_ops.upkeep import Upkeep

NOTE = (
    "CREATE TABLE author (id int PRIMARY KEY)",
    "INSERT INTO author SELECT generate_series(1, 9)",
    "CREATE TABLE note (id bigint PRIMARY KEY, author int REFERENCES author, at timestamptz NOT NULL)",
    "CREATE INDEX ON note (at)",
    "INSERT INTO note SELECT n, 1 + n % 9, '2024-01-01'::timestamptz + n * interval '1 hour' FROM generate_series(1, 1200) n",
)
COPY = {"copy": "by_partition"}


@pytest.fixture
def note(empty: Any, ops: Any) -> Any:
    """`note` with January and February 2024, under care, one month ahead."""
    ops.run(empty, *NOTE)
    ops.migrate(empty, ops.spec())
    return empty


def read(db: Any, ops: Any, spec: TableSpec) -> tuple[TableSpec, Snapshot, Upkeep]:
    with database.connect(ops.session(db)) as conn:
        snapshot = ops.snapshot(db, spec)
        return spec, snapshot, reads.upkeep(conn, spec, snapshot, ops.as_of)


# What is shown, done and found


def test_a_run_shows_its_plan_then_makes_what_is_missing_and_has_nothing_left_to_do(
    note: Any, ops: Any, enter: Any
) -> None:
    march = replace(ops, as_of=date(2024, 3, 15))

    def begun(**more: Any) -> MaintainPartitions:
        stage: MaintainPartitions = enter(MaintainPartitions, note, **COPY, **more)
        stage.as_of = march.as_of
        return stage

    shown = begun()
    view = shown.plan_maintenance()
    assert [step.name for step in view.plan.steps] == ["make partitions.note_2024_03", "make partitions.note_2024_04"]
    assert view.plan.additive and "default partition is read once" in view.plan.steps[0].why
    assert shown.report().verdict is Verdict.PLANNED and shown.report().figures == {
        "missing": 2,
        "rows_to_move": 0,
        "what": "ahead",
    }
    assert ops.bounds(note).keys() == {"note_2024_01", "note_2024_02", "note_default"}
    for each in (shown.state(), shown.findings(), shown.waiting(), shown.schedules(), shown.runway()):
        assert repr(each)

    done = begun(confirm="additive")
    done.execute(done.plan_maintenance())
    report = done.report()
    assert report.verdict is Verdict.OK and "0 partitions are missing" in report.headline, report
    assert {"note_2024_03", "note_2024_04"} <= ops.bounds(note).keys()
    with note.connect() as conn:
        assert conn.execute(
            "SELECT made, made_by ~ '^atlas_ops maintain_partitions [a-z][0-9a-f]{7}$' FROM atlas_ops.partitioned_table"
        ).fetchone() == ("note_2024_04", True)
    after = begun(confirm="additive")
    after.execute(after.plan_maintenance())
    assert after.report().verdict is Verdict.NOTHING_TO_DO


def test_a_month_whose_rows_lie_in_the_default_partition_is_red_until_they_are_moved(
    note: Any, ops: Any, enter: Any
) -> None:
    ops.run(note, "INSERT INTO note_partitioned VALUES (9001, 1, '2024-03-03'), (9002, 1, '2024-03-04')")

    def begun(confirm: str = "") -> MaintainPartitions:
        stage: MaintainPartitions = enter(MaintainPartitions, note, confirm=confirm, **COPY)
        stage.as_of = date(2024, 3, 15)
        return stage

    shown = begun("additive")
    shown.execute(shown.plan_maintenance())
    report = shown.report()
    assert report.verdict is Verdict.STOPPED and "note_2024_04" in ops.bounds(note), "the other month is made"
    [red] = [check for check in report.checks if check.severity is Severity.STOP]
    assert (
        red.what == "2024-03 cannot be made: 2 rows of 2024-03 lie in the default partition." and '"move"' in red.cure
    )
    with pytest.raises(AtlasError):
        report.require_ok()

    moving_it = begun()
    plan = moving_it.plan_maintenance("move").plan
    assert moving_it.report().verdict is Verdict.PLANNED, "what this plan cures does not make it red"
    with pytest.raises(AtlasError, match="more than add"):
        begun("additive").execute(plan)
    done = begun(plan.digest)
    done.execute(done.plan_maintenance("move"))
    assert done.report().verdict is Verdict.OK
    assert ops.value(note, "SELECT count(*) FROM partitions.note_2024_03") == 2
    assert begun().report().verdict is Verdict.NOTHING_TO_DO


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("everything",), "what is 'everything'"),
        (("move", 0), "rows_at_once is 0"),
        (("move", True), "rows_at_once is True"),
        (("move", "2000"), "rows_at_once is '2000'"),
        (("schedule", 2000, "hourly"), "cron is 'hourly'"),
        (("schedule", 2000, "17 * * * *; DROP TABLE note"), "cron is"),
        (("schedule", 2000, "17 * * * *"), "pg_cron cannot be used"),
    ],
)
def test_a_parameter_that_is_none_stops_before_anything(
    note: Any, enter: Any, arguments: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(AtlasError, match=words):
        enter(MaintainPartitions, note, **COPY).plan_maintenance(*arguments)


def test_without_a_partitioned_table_it_says_where_to_begin(empty: Any, ops: Any, enter: Any) -> None:
    ops.run(empty, *NOTE)
    with pytest.raises(AtlasError, match="no partitioned table of note"):
        enter(MaintainPartitions, empty, **COPY).state()


def test_a_copy_that_is_not_whole_is_left_alone(empty: Any, ops: Any, enter: Any) -> None:
    ops.run(empty, *NOTE)
    ops.migrate(empty, ops.spec())
    ops.run(empty, "UPDATE atlas_ops.partitioned_table SET ready = false", "DROP TABLE partitions.note_2024_02")
    stage = enter(MaintainPartitions, empty, **COPY)
    assert stage.plan_maintenance().plan.steps == ()
    assert [check.name for check in stage.report().checks if check.severity is Severity.STOP] == ["care"]


def test_what_the_specification_says_now_reaches_the_function(note: Any, ops: Any) -> None:
    spec = ops.spec(ahead=3, keep=12, lock_timeout="70ms")
    steps = maintain.plan_ahead(*read(note, ops, spec), ops.as_of).steps
    assert steps[0].name == "note what the specification of note says" and len(steps) == 3
    ops.carry_out(note, maintain.plan_ahead(*read(note, ops, spec), ops.as_of))
    with note.connect() as conn:
        assert conn.execute("SELECT ahead, keep, lock_timeout_ms FROM atlas_ops.partitioned_table").fetchone() == (
            3,
            12,
            70,
        )
    assert "note_2024_04" in ops.bounds(note)
    assert maintain.plan_ahead(*read(note, ops, spec), ops.as_of).steps == ()


def test_functions_of_an_older_version_are_renewed_first(note: Any, ops: Any) -> None:
    ops.run(
        note,
        "UPDATE atlas_ops.installed_object SET digest = 'old'",
        "ALTER TABLE atlas_ops.partitioned_table DROP COLUMN keep, DROP COLUMN lock_timeout_ms, DROP COLUMN name_form, DROP COLUMN made, "
        "DROP COLUMN made_at, DROP COLUMN made_by, DROP COLUMN whole_at, DROP COLUMN whole_by",
        "DROP FUNCTION atlas_ops.create_partition",
    )
    day = date(2024, 2, 15)
    plan = maintain.plan_ahead(*read(note, ops, ops.spec()), day)
    assert plan.steps[0].name.startswith("install ") and plan.additive
    ops.carry_out(note, plan)
    assert "note_2024_03" in ops.bounds(note)


def test_a_schedule_that_runs_the_notebook_leaves_behind_when_all_was_there(empty: Any, ops: Any) -> None:
    """As one that calls the function does: with what it makes, and twice a day where nothing was to be made."""
    today = datetime.now(UTC).date()
    this = period_of(Every.month, today)
    now, spec = replace(ops, as_of=today), ops.spec(until=None, **{"from": this.lower.date().isoformat()})
    ops.run(empty, "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    now.migrate(empty, spec)
    following = f"note_{this.next().suffix}"
    ops.run(empty, f"DROP TABLE IF EXISTS partitions.{following}")

    def names(as_of: date = today) -> list[str]:
        return [step.name for step in maintain.plan_ahead(*read(empty, now, spec), as_of).steps]

    def noted() -> Any:
        care = read(empty, now, spec)[2].care
        assert care is not None
        return care.whole_at, care.whole_by

    note = "note that every partition of note is there"
    assert names() == [f"make partitions.{following}", note]
    assert noted()[0] is None
    plan = maintain.plan_ahead(*read(empty, now, spec), today)
    assert plan.additive
    ops.carry_out(empty, plan)
    assert noted()[0] is not None and noted()[1] and names() == []
    old = "UPDATE atlas_ops.partitioned_table SET whole_at = now() - interval '13 hours', whole_by = 'another'"
    ops.run(empty, old)
    before = noted()
    assert names() == [note] and note not in names(today - timedelta(days=1)), "a day of the past says nothing of today"
    plan = maintain.plan_ahead(*read(empty, now, spec), today)
    ops.run(empty, f"DROP TABLE partitions.{following}")
    ops.carry_out(empty, plan)
    assert noted() == before, "it has gone since the plan was read"
    ops.run(empty, f"CREATE VIEW partitions.{following} AS SELECT 1 AS one")
    assert names() == [], "what cannot be made is not there"
    ops.run(empty, f"DROP VIEW partitions.{following}")
    ops.carry_out(empty, maintain.plan_ahead(*read(empty, now, spec), today))
    assert noted()[0] > before[0] and noted()[1] != "another"


# ANALYZE


def test_the_partitioned_table_is_analyzed_when_it_is_due_and_not_again(note: Any, ops: Any) -> None:
    assert not [
        step
        for step in maintain.plan_ahead(*read(note, ops, ops.spec()), ops.as_of).steps
        if step.name.startswith("analyze")
    ]
    ops.run(
        note,
        "INSERT INTO note_partitioned SELECT 10000 + n, 1, '2024-01-20'::timestamptz + n * interval '1 second' FROM generate_series(1, 500) n",
    )
    ops.run(
        note, "ANALYZE partitions.note_2024_01"
    )  # on a connection of its own: the counters of the INSERT have come in by then
    plan = maintain.plan_ahead(*read(note, ops, ops.spec()), ops.as_of)
    [step] = plan.steps
    assert (
        step.name == "analyze public.note_partitioned"
        and "its rows have changed by 42%" in step.why
        and step.autocommit
    )
    assert (" ONLY " in step.statements[0]) is (note.version >= 18)
    ops.carry_out(note, plan)
    spec, snapshot, upkeep = read(note, ops, ops.spec())
    assert (
        snapshot.partitioned is not None
        and snapshot.partitioned.table.estimated_rows == 1700
        and upkeep.analyzed_at is not None
    )
    assert maintain.plan_ahead(spec, snapshot, upkeep, ops.as_of).steps == ()
    never = replace(snapshot.partitioned, table=replace(snapshot.partitioned.table, estimated_rows=-1))
    assert maintain.analyze_reason(snapshot, never, upkeep) == "It was never analyzed."


# Sets of others


CONTINUED = [one for one in SETS if one.following and one.name != "pgslice before its swap"]


@pytest.mark.parametrize("others", CONTINUED, ids=lambda one: one.name)
def test_a_set_of_others_is_registered_continued_as_it_is_called_and_left_again(
    empty: Any, ops: Any, others: Others
) -> None:
    ops.run(empty, *others.made, *(["DELETE FROM partman.part_config"] if "partman" in others.name else []), "ANALYZE")
    spec = ops.spec(**others.keys)
    before, names = ops.dump(empty, "--schema-only"), everywhere(empty, ops)
    plan = adopt.plan_register(*read(empty, ops, spec))
    assert [step.name.split()[0] for step in plan.steps] == ["install", "register"] and plan.additive
    ops.carry_out(empty, plan)
    assert adopt.plan_register(*read(empty, ops, spec)).steps == ()
    told = {check.name: check for check in inspection.checks(spec, ops.snapshot(empty, spec), ops.as_of)}
    assert "others" not in told["runway"].cure and (
        "create_future_partitions" in told["runway"].sql or told["runway"].severity is Severity.OK
    )

    steps = maintain.plan_ahead(*read(empty, ops, spec), ops.as_of).steps
    assert any(others.following in step.name for step in steps), steps
    # the same by the function: one name, whoever makes it
    made = {row for (row,) in _rows(empty, "SELECT partition_name FROM create_future_partitions('2024-01-15')")}
    assert others.following in made and f"{len(made)}" == f"{sum(step.name.startswith('make') for step in steps)}"
    assert maintain.missing(*read(empty, ops, spec), ops.as_of) == ()
    after = everywhere(empty, ops)
    assert names.items() <= after.items(), "nothing that was there is renamed or changed"
    assert made == set(after) - set(names)

    for name in made:
        ops.run(
            empty, f"DROP TABLE {ops.value(empty, 'SELECT oid::regclass::text FROM pg_class WHERE relname = %s', name)}"
        )
    gone = adopt.plan_unregister(*read(empty, ops, spec))
    assert not gone.additive
    ops.carry_out(empty, gone)
    assert ops.dump(empty, "--schema-only") == before
    assert adopt.plan_unregister(*read(empty, ops, spec)).steps == ()


def everywhere(db: Any, ops: Any) -> dict[str, str]:
    """The bounds of every partition, whichever schema it lies in."""
    schemas = ops.value(
        db, "SELECT array_agg(DISTINCT relnamespace::regnamespace::text) FROM pg_class WHERE relispartition"
    )
    return {name: bound for schema in schemas for name, bound in ops.bounds(db, schema).items()}


def _rows(db: Any, query: str) -> list[Any]:
    with psycopg.connect(db.conninfo, autocommit=True) as conn:
        return conn.execute(query).fetchall()


REFUSED = {one.name: one for one in SETS}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pg_partman", "pg_partman has it"),
        ("drifting", "ends in the middle of a month"),
        ("without a first or a last bound", "has no end"),
    ],
)
def test_a_set_that_the_calendar_cannot_continue_is_not_registered(
    empty: Any, ops: Any, enter: Any, name: str, words: str
) -> None:
    ops.run(empty, *REFUSED[name].made, "ANALYZE")
    keys = dict(REFUSED[name].keys)
    assert adopt.plan_register(*read(empty, ops, ops.spec(**keys))).steps == ()
    stage = enter(MaintainPartitions, empty, **{**COPY, **keys})
    with pytest.raises(AtlasError, match=words):
        stage.plan_maintenance("register")
    assert stage.plan_maintenance("ahead").plan.steps == ()
    assert repr(stage.findings())


@pytest.mark.parametrize(
    ("by", "bound"),
    [
        ("LIST (role)", "FOR VALUES IN ('user')"),
        ("HASH (id)", "FOR VALUES WITH (modulus 1, remainder 0)"),
        ("RANGE (at, id)", "FOR VALUES FROM ('2024-01-01', 1) TO ('2024-02-01', 1)"),
    ],
)
def test_a_set_by_another_key_is_not_registered(empty: Any, ops: Any, enter: Any, by: str, bound: str) -> None:
    ops.run(
        empty,
        f"CREATE TABLE message (id int, role text, at timestamptz) PARTITION BY {by}",
        f"CREATE TABLE message_1 PARTITION OF message {bound}",
    )
    with pytest.raises(AtlasError, match="It is partitioned by"):
        enter(MaintainPartitions, empty, **{**KEYS, **COPY}).plan_maintenance("register")


def test_a_table_of_the_migration_is_neither_registered_nor_unregistered(note: Any, ops: Any, enter: Any) -> None:
    stage = enter(MaintainPartitions, note, **COPY)
    assert stage.plan_maintenance("register").plan.steps == ()
    assert stage.plan_maintenance("unregister").plan.steps == ()
    assert [check.severity for check in adopt.checks(*read(note, ops, ops.spec()))] == [Severity.STOP]


def test_an_archived_month_of_a_set_is_not_made_anew(note: Any, ops: Any) -> None:
    spec = ops.spec(keep=1)
    day = replace(ops, as_of=date(2024, 4, 10))
    ops.run(note, "SELECT create_future_partitions('2024-04-10')")
    ops.carry_out(note, archive.plan_archive(spec, day.snapshot(note, spec), day.as_of))
    assert set(ops.bounds(note)) == {"note_2024_03", "note_2024_04", "note_2024_05", "note_default"}
    assert maintain.missing(*read(note, day, spec), day.as_of) == ()
    assert _rows(note, "SELECT partition_name FROM create_future_partitions('2024-04-10')") == []
    assert moving.plan_move(*read(note, day, spec), day.as_of, 1000).steps == ()


def test_a_plan_for_a_scheduler_only_adds_whatever_there_is_to_do(note: Any, ops: Any) -> None:
    ops.run(
        note,
        "UPDATE atlas_ops.installed_object SET digest = 'old'",
        "INSERT INTO note_partitioned SELECT 5000 + n, 1, '2024-02-02' FROM generate_series(1, 900) n",
    )
    ops.run(note, "ANALYZE partitions.note_2024_02")
    plan = maintain.plan_ahead(*read(note, ops, ops.spec(ahead=2)), date(2024, 3, 3))
    assert [step.name.split()[0] for step in plan.steps] == ["install", "note", "make", "make", "make", "analyze"]
    assert confirmed(plan, "additive", demo=False)
    ops.carry_out(note, plan)
    assert maintain.plan_ahead(*read(note, ops, ops.spec(ahead=2)), date(2024, 3, 3)).steps == ()
