"""What is missing on a day, what becomes of rows in the default partition, and what is seen of a schedule: decided from values alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ops import maintain, moving, partitions, scheduling
from atlas_ops.bounds import Every, Period, covered, literal, period_of
from atlas_ops.model import Column, Constraint, Partition, Relation, Server, Snapshot, Table, Taken
from atlas_ops.moving import Answer
from atlas_ops.plan import Effect
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.upkeep import ARCHIVED_MARK, Care, CronPlace, Job, Upkeep, Waiting

AS_OF = date(2026, 11, 23)
SERVER = Server(
    version=180004, version_text="18.4", system_identifier="1", database="atlas", role="postgres", superuser=False, bypasses_row_security=True,
    may_create_schema=True, may_create_in_public=True, time_zone="UTC", in_recovery=False, read_only=False, wal_level="replica", max_locks=6400,
    has_pg_stat_statements=False, now=datetime(2026, 11, 23, 18, tzinfo=UTC),
)  # fmt: skip
CARE = Care(
    "public",
    "messages_partitioned",
    "month",
    3,
    None,
    100,
    "partitions",
    "messages",
    None,
    True,
    None,
    None,
    None,
    None,
    None,
)


def spec(**keys: Any) -> TableSpec:
    """Of messages, of which all is kept unless `keys` say otherwise."""
    said = {"table": "messages", "partition_key": "created_at", "from": "2024-01-01", "keep": None}
    [found] = tables_from([{**said, **keys}])
    return found


def relation(**fields: Any) -> Relation:
    key = Column("created_at", "timestamp with time zone", "timestamptz", "b", True, None, "", "", None, None, None)
    table = Table(
        oid=1, schema="public", name="messages_partitioned", kind="p", persistence="p", is_partition=False, owner="postgres", may_own=True,
        may_select=True, row_security=True, force_row_security=False, replica_identity="f", storage_parameters=(), tablespace=None, comment=None,
        estimated_rows=3800, heap_bytes=0, index_bytes=0, toast_bytes=0, partition_key="RANGE (created_at)", has_children=True,
    )  # fmt: skip
    author = Constraint(
        "fk", "f", "FOREIGN KEY (author) REFERENCES profiles(id)", ("author",), True, False, "public.profiles", True
    )
    return Relation(replace(table, **fields), (key,), (author,))


def partition(name: str, bound: str, **fields: Any) -> Partition:
    found = Partition(
        oid=2, schema="partitions", name=name, bound=bound, detach_pending=False, kind="r", comment=None, owner="postgres",
        row_security=True, open_to=(), estimated_rows=100, live_rows=100, dead_rows=0, heap_bytes=8192, index_bytes=16384, toast_bytes=0, indexes=5,
        invalid_indexes=0, foreign_keys=(), unvalidated=(), checks=(), bloat_bytes=0, seq_scans=0, index_scans=0,
        last_vacuum=SERVER.now, last_analyze=SERVER.now,
    )  # fmt: skip
    return replace(found, **fields)


def month(period: Period) -> Partition:
    lower, upper = (literal(edge, "timestamptz") for edge in (period.lower, period.upper))
    return partition(f"messages_{period.suffix}", f"FOR VALUES FROM ('{lower}') TO ('{upper}')")


def snapshot(*found: Partition, **fields: Any) -> Snapshot:
    return replace(Snapshot(SERVER, None, relation(), found, registered=True, ready=True, cared_for=True), **fields)


DEFAULT = partition("messages_default", "DEFAULT")
MONTHS = tuple(month(one) for one in covered(Every.month, date(2024, 1, 1), None, 3, AS_OF))
WHOLE = snapshot(*MONTHS, DEFAULT)


def of(year: int, number: int) -> Period:
    return period_of(Every.month, date(year, number, 1))


def labels(found: Any) -> list[str]:
    return [period.label for period in found]


# What is missing


def test_a_whole_set_misses_nothing_on_its_day_and_one_month_a_month_later() -> None:
    assert maintain.missing(spec(), WHOLE, Upkeep(CARE), AS_OF) == ()
    assert labels(maintain.missing(spec(), WHOLE, Upkeep(CARE), date(2026, 12, 1))) == ["2027-03"]
    assert labels(maintain.missing(spec(), WHOLE, Upkeep(CARE), date(2026, 11, 30))) == []


def test_gaps_are_missing_whatever_the_day_but_not_those_that_keep_gave_away() -> None:
    torn = snapshot(*(one for one in MONTHS if one.name not in ("messages_2024_05", "messages_2027_01")), DEFAULT)
    assert labels(maintain.missing(spec(), torn, Upkeep(CARE), AS_OF)) == ["2024-05", "2027-01"]
    assert labels(maintain.missing(spec(), torn, Upkeep(CARE), date(2024, 1, 1))) == ["2024-05", "2027-01"]
    assert labels(maintain.missing(spec(keep=24), torn, Upkeep(CARE), AS_OF)) == ["2027-01"]


@settings(deadline=None)
@given(
    st.sampled_from(list(Every)),
    st.dates(date(1, 1, 1), date(9999, 12, 31)),
    st.integers(1, 12),
    st.integers(0, 40),
    st.none() | st.integers(1, 60),
)
def test_what_is_wanted_is_a_run_of_neighbours_that_ends_where_ahead_says(
    every: Every, day: date, ahead: int, back: int, keep: int | None
) -> None:
    period = period_of(every, day) if day.year > 100 and day.year < 9900 else period_of(every, date(2024, 1, 1))
    first = period
    for _ in range(back):
        first = first.previous()
    edges = [literal(edge, "timestamptz") for edge in (first.lower, first.upper)]
    there = snapshot(partition("one", f"FOR VALUES FROM ('{edges[0]}') TO ('{edges[1]}')"))
    written = spec(
        every=str(every), ahead=ahead, keep=keep, **{"from": str(period_of(every, date(2024, 1, 1)).lower.date())}
    )
    found = list(maintain.wanted(written, there, period.lower))
    assert all(one.upper == two.lower for one, two in pairwise(found))
    assert found[0] == (first if keep is None or keep >= back else maintain._before(period, keep))
    assert found.index(period) == len(found) - 1 - ahead


def test_at_the_end_of_the_calendar_nothing_breaks() -> None:
    assert labels(maintain.missing(spec(keep=3), snapshot(DEFAULT), Upkeep(CARE), date(2024, 1, 1)))[:1] == ["2024-01"]


def test_what_is_in_the_way_is_named() -> None:
    later = date(2026, 12, 1)
    rows = Upkeep(CARE, waiting=(Waiting(of(2027, 3), 7),))
    assert maintain.in_the_way(spec(), WHOLE, rows, of(2027, 3)) == "7 rows of 2027-03 lie in the default partition"
    taken = Upkeep(CARE, taken=(Taken("partitions", "messages_2027_03", "view", None, None),))
    assert (
        maintain.in_the_way(spec(), WHOLE, taken, of(2027, 3))
        == "the name partitions.messages_2027_03 is taken by a view"
    )
    for upkeep in (rows, taken):
        assert [
            step.name
            for step in maintain.plan_ahead(spec(), WHOLE, upkeep, later, install=False).steps
            if step.name.startswith("make")
        ] == []
        [red] = [check for check in maintain.checks(spec(), WHOLE, upkeep, later) if check.severity is Severity.STOP]
        assert red.name == "ahead" and red.what.startswith("2027-03 cannot be made")
    archived = Upkeep(CARE, taken=(Taken("partitions", "messages_2027_03", "table", ARCHIVED_MARK + "x", None),))
    assert maintain.missing(spec(), WHOLE, archived, later) == ()


def test_the_plan_ahead_is_one_step_a_month_and_tells_its_locks() -> None:
    plan = maintain.plan_ahead(spec(ahead=3), WHOLE, Upkeep(CARE), date(2027, 1, 5), install=False)
    assert [step.name for step in plan.steps] == [
        "make partitions.messages_2027_03",
        "make partitions.messages_2027_04",
        "note that every partition of messages is there",
    ]
    step = plan.steps[0]
    assert step.statements == (
        "SELECT atlas_ops.create_partition('public', 'messages_partitioned', '2027-03-01 00:00:00+00')",
    )
    assert (step.lock, step.effect) == ("ACCESS EXCLUSIVE", Effect.ADDS) and plan.additive
    assert (
        step.on
        == "partitions.messages_default; SHARE UPDATE EXCLUSIVE on public.messages_partitioned; SHARE ROW EXCLUSIVE on public.profiles"
    )
    missed = maintain.plan_ahead(spec(), snapshot(*MONTHS[:-5], DEFAULT), Upkeep(CARE), AS_OF, install=False).steps[0]
    assert "SHARE ROW EXCLUSIVE on public.messages_partitioned" in missed.on, "a month that has begun"
    without = maintain.plan_ahead(spec(), snapshot(*MONTHS), Upkeep(CARE), date(2027, 1, 5), install=False).steps[0]
    assert without.lock == "SHARE UPDATE EXCLUSIVE"
    for upkeep in (Upkeep(), Upkeep(CARE, elsewhere=True), Upkeep(replace(CARE, ready=False))):
        assert maintain.plan_ahead(spec(), WHOLE, upkeep, date(2027, 1, 5)).steps == ()


# ANALYZE


@pytest.mark.parametrize(
    ("then", "live", "days", "due"),
    [(-1, 100, None, "never"), (1000, 100, 1, "changed by 280%"), (3800, 100, 1, ""), (3600, 100, 1, ""), (3400, 100, 1, "changed by 12%"),
     (4300, 100, 1, "changed by 12%"), (3800, 100, 30, "older than 30 days"), (3800, 100, None, "")],
)  # fmt: skip
def test_an_analyze_is_due_by_share_or_age(then: int, live: int, days: int | None, due: str) -> None:
    filled = [replace(one, live_rows=live) for one in MONTHS]
    analyzed = SERVER.now - timedelta(days=days) if days is not None else None
    reason = maintain.analyze_reason(
        snapshot(*filled), relation(estimated_rows=then), Upkeep(CARE, analyzed_at=analyzed)
    )
    assert (due in reason) is True and bool(reason) is bool(due), reason


def test_an_empty_set_is_never_due() -> None:
    assert (
        maintain.analyze_reason(
            snapshot(*(replace(one, heap_bytes=0) for one in MONTHS)), relation(estimated_rows=-1), Upkeep(CARE)
        )
        == ""
    )


# Rows in the default partition


def answers(upkeep: Upkeep, found: Snapshot = WHOLE, **keys: Any) -> list[tuple[str | None, Answer]]:
    return [
        (one.period.label if one.period else None, one.answer)
        for one in moving.rows(spec(**keys), found, upkeep, AS_OF)
    ]


def test_every_row_of_a_default_partition_has_an_answer() -> None:
    torn = snapshot(*(one for one in MONTHS if one.name not in ("messages_2024_05", "messages_2026_10")), DEFAULT)
    waiting = (
        Waiting(of(2023, 12), 1), Waiting(of(2024, 5), 2), Waiting(of(2026, 10), 3), Waiting(of(2027, 9), 4), Waiting(None, 5),
        Waiting(None, 6, keyless=True),
    )  # fmt: skip
    upkeep = Upkeep(CARE, waiting=waiting)
    assert answers(upkeep, torn) == [
        ("2023-12", Answer.OUTSIDE), ("2024-05", Answer.MOVED), ("2026-10", Answer.MOVED), ("2027-09", Answer.OUTSIDE), (None, Answer.BEYOND),
        (None, Answer.KEYLESS),
    ]  # fmt: skip
    assert answers(upkeep, torn, keep=24)[1] == ("2024-05", Answer.CAME_BACK)
    assert [answer for _, answer in answers(upkeep, torn, out_of_range="extend")][:4] == [Answer.MOVED] * 4
    plan = moving.plan_move(spec(), torn, upkeep, AS_OF, 2000, install=False)
    assert [step.name for step in plan.steps] == [
        "move rows of 2026-10 out of partitions.messages_default", "move rows of 2024-05 out of partitions.messages_default",
        "vacuum partitions.messages_default",
    ]  # fmt: skip
    assert not plan.additive and plan.steps[0].again and not plan.steps[-1].again


def test_the_digest_of_a_move_does_not_follow_the_rows_that_come_in() -> None:
    torn = snapshot(*(one for one in MONTHS if one.name != "messages_2026_10"), DEFAULT)
    few, many = (
        moving.plan_move(spec(), torn, Upkeep(CARE, waiting=(Waiting(of(2026, 10), rows),)), AS_OF, 2000, install=False)
        for rows in (10, 10**7)
    )
    assert few.digest == many.digest and many.steps[0].again > 10_000
    assert (
        "public.messages_partitioned and its default partition" in many.steps[0].on
        and "In one transaction" in few.steps[0].why
    )


# Schedules, by outcome


SEEN = replace(CARE, whole_at=SERVER.now, whole_by="pg_cron")


def job(**fields: Any) -> Job:
    return replace(
        Job(scheduling.MAKE_JOB, "17 * * * *", scheduling.MAKE, True, "atlas", "postgres", "succeeded", SERVER.now),
        **fields,
    )


@pytest.mark.parametrize(
    ("fields", "severity", "words"),
    [({}, Severity.OK, "runs at"), ({"active": False}, Severity.WARN, "switched off"), ({"command": "SELECT 1"}, Severity.WARN, "another command"),
     ({"last_status": "failed"}, Severity.WARN, "its last run failed"), ({"name": "atlas_ops other"}, Severity.NOTE, "No job of pg_cron")],
)  # fmt: skip
def test_a_job_is_told_as_it_is(fields: dict[str, Any], severity: Severity, words: str) -> None:
    found = {
        check.name: check for check in scheduling.checks([(spec(), WHOLE, Upkeep(SEEN, jobs=(job(**fields),)))], AS_OF)
    }
    assert found["pg_cron"].severity is severity and words in found["pg_cron"].what
    assert found["schedule"].severity is Severity.OK


def test_a_schedule_is_well_once_somebody_was_seen_at_work_whatever_jobs_there_are() -> None:
    def schedule(care: Care) -> tuple[Severity, str]:
        [found] = [
            one
            for one in scheduling.checks([(spec(), WHOLE, Upkeep(care, jobs=(job(),)))], AS_OF)
            if one.name == "schedule"
        ]
        return found.severity, found.what.partition("; ")[2]

    earlier = SERVER.now - timedelta(days=3)
    assert schedule(CARE) == (Severity.NOTE, "no schedule has been seen at work yet.")
    at = f"{SERVER.now:%Y-%m-%d %H:%M} UTC"
    for care, by in (
        (SEEN, "pg_cron"),
        (replace(SEEN, made_at=earlier, made_by="another"), "pg_cron"),
        (replace(CARE, whole_at=earlier, whole_by="pg_cron", made_at=SERVER.now, made_by="atlas_ops"), "atlas_ops"),
        (replace(CARE, made_at=SERVER.now), "by whom is not known"),
    ):
        assert schedule(care) == (Severity.OK, f"last seen at work at {at}: {by}.")


@pytest.mark.parametrize(
    ("day", "late"),
    [
        (date(2026, 12, 1), 0),
        (date(2026, 12, 2), 1),
        (date(2026, 12, 4), 3),
        (date(2027, 1, 3), 33),
        (date(2027, 2, 1), 62),
    ],
)
def test_a_schedule_that_does_nothing_is_late_from_the_day_on_which_a_month_was_asked_for(day: date, late: int) -> None:
    sets = [(spec(), WHOLE, Upkeep(SEEN, jobs=(job(),)))]
    assert maintain.overdue(*sets[0], day) == late
    warned = [check for check in scheduling.checks(sets, day) if check.name == "schedule"]
    assert [check.severity for check in warned] == [Severity.WARN if late > 1 else Severity.OK], (
        "whatever the status of the job"
    )
    left = (partitions.midnight(date(2027, 3, 1)) - partitions.midnight(day)).days
    assert late <= 1 or left >= 28, "while two whole months, or most of them, are left"


def test_the_plan_of_a_schedule_names_what_is_missing_or_different_only() -> None:
    place = CronPlace(available=True, installed=True, database=None)
    analyze = 'ANALYZE (SKIP_LOCKED) ONLY "public"."messages_partitioned"'
    both = (
        job(),
        job(name="atlas_ops analyze public.messages_partitioned", schedule=scheduling.ANALYZE_AT, command=analyze),
    )

    def names(jobs: tuple[Job, ...], at: str = "17 * * * *") -> list[str]:
        plan = scheduling.plan_schedule(SERVER, [(spec(), WHOLE, Upkeep(CARE, cron=place, jobs=jobs))], at)
        assert plan.additive
        return [step.name.split('"')[1] for step in plan.steps if step.name.startswith("schedule")]

    assert names(()) == [both[0].name, both[1].name]
    assert names(both) == [] and names(both, "5 * * * *") == [both[0].name]
    assert names((replace(both[0], active=False), both[1])) == [both[0].name]
    gone = scheduling.plan_unschedule(SERVER, (*both, replace(both[0], role="another")))
    assert len(gone.steps) == 2 and all(step.effect is Effect.REMOVES for step in gone.steps)


@pytest.mark.parametrize(
    ("place", "role", "words"),
    [
        (CronPlace(False, False, None), {}, "not installed on the server"),
        (CronPlace(True, False, "postgres"), {}, "runs in database postgres"),
        (CronPlace(True, False, None), {}, "no superuser"),
        (CronPlace(True, False, None), {"superuser": True}, "shared_preload_libraries"),
    ],
)
def test_where_pg_cron_cannot_be_used_it_is_said_why(place: CronPlace, role: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match="pg_cron cannot be used") as stop:
        scheduling.plan_schedule(replace(SERVER, **role), [(spec(), WHOLE, Upkeep(CARE, cron=place))], "17 * * * *")
    assert words in str(stop.value)
