"""09 on real servers: each fault raises exactly its own alert, and what cannot be read is a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from health.conftest import AS_OF, MADE, Watched, spec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from atlas_ops import alerts, archive, division, examination, execute, health_catalog, migration
from atlas_ops.alerts import NOT_READ, Level
from atlas_ops.errors import AtlasError
from atlas_ops.health import State
from atlas_ops.plan import Plan
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.vitals import Vitals

CLOSED = "ALTER TABLE {0} ENABLE ROW LEVEL SECURITY; ALTER TABLE {0} SET (autovacuum_enabled = false)"


def partition(name: str, lower: str, upper: str, rows: int = 0) -> tuple[str, ...]:
    """A partition as maintenance makes it, closed, with rows."""
    return (
        f"CREATE TABLE partitions.{name} (LIKE event INCLUDING DEFAULTS)",
        CLOSED.format(f"partitions.{name}"),
        f"ALTER TABLE event ATTACH PARTITION partitions.{name} FOR VALUES FROM ('{lower}') TO ('{upper}')",
        f"INSERT INTO event SELECT 90000000 + n, '{lower}'::timestamptz + n * interval '1 second', 'late' FROM generate_series(1, {rows}) n",
    )


def waiting(name: str, bound: str) -> tuple[str, ...]:
    """A table with our mark that stands beside the set."""
    return (
        f"CREATE TABLE partitions.{name} (LIKE event INCLUDING ALL)",
        CLOSED.format(f"partitions.{name}"),
        f"COMMENT ON TABLE partitions.{name} IS $${division.mark_prefix(spec())}{bound}$$",
    )


def an_interrupted_detach(watched: Watched) -> None:
    watched.run("DROP TABLE partitions.event_default")
    with watched.database.connect() as reader, watched.database.connect(autocommit=True) as other:
        reader.execute("SELECT count(*) FROM event")
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("ALTER TABLE event DETACH PARTITION partitions.event_2024_12 CONCURRENTLY")


def an_invalid_index(watched: Watched) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        watched.run("CREATE UNIQUE INDEX CONCURRENTLY doubled ON partitions.event_2025_05 (body)")


def vacuumed_and_never_analyzed(watched: Watched) -> None:
    watched.run(*partition("event_2024_11", "2024-11-01", "2024-12-01", 2000))
    watched.run("VACUUM partitions.event_2024_11")  # in a session of its own: one counts its inserts when it ends


def a_table_never_analyzed(watched: Watched) -> None:
    """As a load without an ANALYZE of the partitioned table leaves it: autovacuum has seen to the partitions."""
    with psycopg.connect(watched.database.superuser_conninfo, autocommit=True) as admin:
        admin.execute("UPDATE pg_class SET reltuples = -1 WHERE oid = 'event'::regclass")
        admin.execute("SELECT pg_stat_reset_single_table_counters('event'::regclass)")


def dead_and_analyzed(watched: Watched) -> None:
    """11,000 of 22,000 rows are dead, and autovacuum does not come by."""
    watched.run(*partition("event_2024_11", "2024-11-01", "2024-12-01", 22_000))
    watched.run("VACUUM partitions.event_2024_11")
    watched.run("DELETE FROM event WHERE id > 90011000 AND at < '2024-12-01'")
    watched.run("ANALYZE partitions.event_2024_11")


W, C = Level.WARNING, Level.CRITICAL
LATE = "INSERT INTO event SELECT 80000000 + n, '2025-05-20', 'late' FROM generate_series(1, 1000) n"
Make = tuple[str, ...] | Callable[[Watched], None]
FAULTS: list[tuple[str, Level, Make, dict[str, Any]]] = [
    ("missing", C, ("DROP TABLE event CASCADE",), {}),
    ("runway", W, ("DROP TABLE partitions.event_2027_02",), {}),
    ("runway", C, ("DROP TABLE partitions.event_2027_02, partitions.event_2027_01, partitions.event_2026_12",), {}),
    ("runway", C, ("DROP TABLE partitions.event_2026_11, partitions.event_2026_12, partitions.event_2027_01, partitions.event_2027_02",), {}),
    ("gaps", W, ("DROP TABLE partitions.event_2025_05",), {}),
    ("overlaps", W, waiting("stale", "FOR VALUES FROM ('2025-05-10 00:00:00+00') TO ('2025-06-10 00:00:00+00')"), {}),
    ("misaligned", W, partition("half", "2024-11-16", "2024-12-01"), {}),
    ("detach_pending", C, an_interrupted_detach, {}),
    ("not_attached", W, waiting("event_2024_11", "FOR VALUES FROM ('2024-11-01 00:00:00+00') TO ('2024-12-01 00:00:00+00')"), {}),
    ("row_security", C, ("ALTER TABLE partitions.event_2025_05 DISABLE ROW LEVEL SECURITY",), {}),
    ("grants", W, ("GRANT SELECT ON partitions.event_2025_05 TO anon",), {}),
    ("grants", W, ("GRANT UPDATE (body) ON partitions.event_2025_05 TO PUBLIC",), {}),
    ("indexes_missing", W, ("CREATE INDEX later ON ONLY event (body)",), {}),
    (
        "indexes_missing",
        W,
        (
            "DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'event'::regclass "
            "AND inhrelid <> 'partitions.event_2025_05'::regclass LOOP EXECUTE format('CREATE INDEX ON %s (body)', p); END LOOP; END $$",
        ),
        {},
    ),
    ("indexes_invalid", W, an_invalid_index, {}),
    ("default_rows", W, ("INSERT INTO event VALUES (70000000, '2031-05-05', 'far')",), {}),
    ("late_rows", W, (LATE,), {}),
    ("growth", W, ("INSERT INTO event SELECT 60000000 + n, '2026-11-20', 'much' FROM generate_series(1, 4000) n",), {}),
    (
        "dead_rows",
        C,
        (
            "ALTER TABLE partitions.event_2026_11 SET (autovacuum_enabled = false)",
            "INSERT INTO event SELECT 60000000 + n, '2026-11-20', 'much' FROM generate_series(1, 12000) n",
            "DELETE FROM event WHERE id >= 60000000",
        ),
        {},
    ),
    ("dead_rows", W, dead_and_analyzed, {}),
    ("vacuum_age", C, (*partition("event_2024_11", "2024-11-01", "2024-12-01", 2000), "ANALYZE partitions.event_2024_11"), {}),
    ("analyze_age", C, vacuumed_and_never_analyzed, {}),
    ("analyze_age", C, a_table_never_analyzed, {}),
    ("unpruned", W, ("DO 'BEGIN FOR n IN 1 .. 1200 LOOP PERFORM FROM event WHERE id = n; END LOOP; END'",), {}),
    ("key_log_rows", W, ("UPDATE event SET body = 'edited' WHERE at >= '2026-09-01'",), {"alerts": {"key_log_rows": {"warning": 2000}}}),
    (
        "key_log_age",
        C,
        (
            "UPDATE event SET body = 'edited' WHERE at >= '2026-11-10'",
            "UPDATE atlas_ops.online_copy SET drained_at = now() - interval '2 days'",
        ),
        {},
    ),
    ("capture", C, ("DROP TRIGGER atlas_ops_capture ON event",), {}),
    ("archive_lag", W, (), {"keep": 20}),
    (
        "unproven_archives",
        W,
        (
            "ALTER TABLE event DETACH PARTITION partitions.event_2024_12",
            f"COMMENT ON TABLE partitions.event_2024_12 IS $${archive.quarantine_mark(spec())}FOR VALUES FROM ('2024-12-01') TO ('2025-01-01')$$",
        ),
        {},
    ),
]  # fmt: skip


def test_a_set_that_is_well_raises_nothing(watched: Watched) -> None:
    health, found = watched.look()
    assert found == {}
    assert (health.state, health.partitioned_table, health.unread, health.sized) == (
        State.IN_USE,
        "public.event",
        (),
        True,
    )
    assert health.figure("runway").value == (date(2027, 3, 1) - AS_OF).days
    assert "all 3 months ahead are there" in health.figure("runway").told
    assert [month.label for month in health.months][:2] == ["2024-12", "2025-01"] and len(health.months) == 27
    assert health.bytes > 0 and sum(month.rows or 0 for month in health.months) == 24_001
    assert {name: figure.value for name in ("archive_lag", "transaction_age") if (figure := health.figure(name))}.keys()
    assert "reverse log" in health.figure("key_log_rows").told


@pytest.mark.parametrize(
    ("figure", "level", "make", "keys"), FAULTS, ids=[f"{fault[0]}-{number}" for number, fault in enumerate(FAULTS)]
)
def test_each_fault_raises_its_own_alert_and_no_other(
    watched: Watched, figure: str, level: Level, make: Make, keys: dict[str, Any]
) -> None:
    if callable(make):
        make(watched)
    else:
        watched.run(*make)
    health, found = watched.look(**keys)
    assert found == {figure: level}, [one for one in health.figures if one.value]


def test_every_figure_has_its_fault() -> None:
    assert {fault[0] for fault in FAULTS} | {"transaction_age"} == set(alerts.FIGURES)


def test_the_age_of_transactions(watched: Watched) -> None:
    before = watched.look()[0].figure("transaction_age").value
    keys = {"alerts": {"transaction_age": {"warning": (before or 0) + 0.0015, "critical": "never"}}}
    assert watched.levels(**keys) == {}
    burn = "DO 'BEGIN FOR n IN 1 .. 40000 LOOP BEGIN INSERT INTO burnt VALUES (n); EXCEPTION WHEN others THEN NULL; END; END LOOP; END'"
    watched.run("CREATE TEMP TABLE burnt (n int)", burn)
    assert watched.levels(**keys) == {"transaction_age": W}
    watched.run("VACUUM FREEZE event")
    assert watched.levels(**keys) == {}


# what cannot be read is a line, and nothing waits for it


def test_no_read_stands_behind_a_lock(watched: Watched) -> None:
    with watched.database.connect() as holder:
        tables = "event, partitions.event_key_log, atlas_ops.online_copy, atlas_ops.partitioned_table"
        holder.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        health, found = watched.look()
        seconds = time.monotonic() - started
    assert found == {NOT_READ: Level.UNKNOWN}
    locked = [unread.what for unread in health.unread]
    assert locked == ["the state of the copy", "the registry", "sizes on disk", "rows of the default partition"]
    assert all("lock" in unread.why or "ACCESS EXCLUSIVE" in unread.why for unread in health.unread)
    # two of these waited for their lock: none for longer than its timeout
    assert seconds < len(locked) * health_catalog.LOCK_TIMEOUT_MS / 1000 + 5
    assert not health.sized and health.bytes > 0, "sizes as of the last VACUUM"
    assert health.figure("runway").value == (date(2027, 3, 1) - AS_OF).days
    assert "not counted" in health.figure("default_rows").told
    assert watched.levels() == {}


def test_a_lock_on_one_partition_held_or_only_waited_for_costs_its_size_alone(watched: Watched) -> None:
    told = ["Somebody holds or waits for ACCESS EXCLUSIVE: 1 of 28 are told as of the last VACUUM or ANALYZE."]
    with (
        watched.database.connect() as reader,
        watched.database.connect(autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        reader.execute("SELECT count(*) FROM partitions.event_2025_05")
        waits = pool.submit(other.execute, "ALTER TABLE partitions.event_2025_05 FORCE ROW LEVEL SECURITY")
        with watched.database.connect(autocommit=True) as third:
            while third.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
                time.sleep(0.02)
        health, found = watched.look()
        reader.rollback()
        waits.result()
    assert (found, [unread.why for unread in health.unread]) == ({NOT_READ: Level.UNKNOWN}, told)
    with watched.database.connect() as holder:
        holder.execute("LOCK TABLE partitions.event_2025_05 IN ACCESS EXCLUSIVE MODE")
        health, found = watched.look()
    assert (found, [unread.why for unread in health.unread]) == ({NOT_READ: Level.UNKNOWN}, told)
    assert watched.levels() == {}


def test_a_role_without_rights_reads_what_is_open_and_says_what_is_not(watched: Watched) -> None:
    with psycopg.connect(watched.database.superuser_conninfo, autocommit=True) as admin:
        admin.execute("DO 'BEGIN CREATE ROLE watcher LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END'")
    where = replace(
        watched.operations.session(watched.database), conninfo=make_conninfo(watched.database.conninfo, user="watcher")
    )
    [vitals] = health_catalog.vitals(where, [spec()])
    health = examination.examine(vitals, AS_OF)
    found = alerts.judge(vitals.spec, health, AS_OF).alerts
    assert alerts.worst(found) is Level.UNKNOWN
    assert {alert.told.split(":")[0] for alert in found} == {
        "the state of the copy",
        "the registry",
        "rows of the default partition",
    }
    assert all("42501" in alert.told for alert in found)
    assert health.figure("runway").value == (date(2027, 3, 1) - AS_OF).days
    assert health.figure("default_rows").value == 0 and health.figure("row_security").value == 0


def test_a_fault_of_ours_is_no_line(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_catalog, "MOST_COUNTED", "x")
    with pytest.raises(TypeError):
        watched.look()
    monkeypatch.undo()
    monkeypatch.setattr(health_catalog, "LINES", set())
    with watched.database.connect() as holder:
        holder.execute("LOCK TABLE atlas_ops.online_copy IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(AtlasError, match="the state of the copy"):
            watched.look()


# other states, other sets


def test_a_table_that_is_not_migrated_yet_has_nothing_to_watch(atlas: Any, now: Any) -> None:
    specs = tables_from(
        [{"table": name, "partition_key": "created_at", "from": "2024-01-01"} for name in ("messages", "nowhere")]
    )
    for statement in (
        "",
        "CREATE TABLE messages_partitioned (id int, created_at timestamptz) PARTITION BY RANGE (created_at)",
    ):
        if statement:
            now.run(atlas, statement)  # an attempt of others, beside the table that is in use
        for vitals in health_catalog.vitals(now.session(atlas), specs):
            health = examination.examine(vitals, AS_OF)
            assert health.state is State.NOT_MIGRATED
            assert alerts.judge(vitals.spec, health, AS_OF).alerts == ()
            assert [check.severity for check in alerts.noted(health)] == [Severity.NOTE]


def test_a_copy_that_is_being_made_and_one_that_follows(empty: Any, now: Any) -> None:
    now.run(empty, *MADE)
    table = spec()
    found, snapshot = now.placed(empty, table)
    plan = migration.plan_migration(found, snapshot, AS_OF)
    first = next(number for number, step in enumerate(plan.steps) if step.name.startswith("attach"))
    cut = Plan(plan.stage, plan.target, plan.steps[: first + 1])
    execute.execute(now.session(empty), cut, cut.digest)
    watched = Watched(empty, now)
    health, levels = watched.look()
    assert health.state is State.FILLING
    assert levels == {}, "what is not attached yet is no fault"
    now.run(empty, "GRANT SELECT ON partitions.event_2025_05 TO anon")
    assert watched.levels() == {"grants": W}, "an open door is one"
    now.run(empty, "REVOKE ALL ON partitions.event_2025_05 FROM anon")
    now.follow(empty, table)
    now.run(empty, "VACUUM ANALYZE event_partitioned")  # the first partition was cut off before its own
    now.run(empty, "INSERT INTO event VALUES (70000000, '2026-11-05', 'new')")
    health, levels = watched.look(keep=3)
    assert (health.state, levels) == (State.FOLLOWS, {})
    assert "1 keys wait in the key log (the partitioned table follows)" in health.figure("key_log_rows").told
    for name in ("late_rows", "archive_lag", "unpruned"):
        assert health.figure(name).value is None
    # its faults, each by itself: the log grows, nobody drains it, nobody writes it
    now.run(empty, "UPDATE event SET body = 'edited' WHERE at >= '2026-11-01'")
    assert watched.levels(alerts={"key_log_rows": {"warning": 500}}) == {"key_log_rows": W}
    now.run(empty, "UPDATE atlas_ops.online_copy SET drained_at = now() - interval '2 hours'")
    assert watched.levels() == {"key_log_age": W}
    now.run(empty, "UPDATE atlas_ops.online_copy SET drained_at = now() - interval '2 days'")
    assert watched.levels() == {"key_log_age": C}
    now.drain(empty, table)
    assert watched.levels() == {}
    now.run(empty, "DROP TRIGGER atlas_ops_capture ON event")
    assert watched.levels() == {"capture": C}


def test_a_set_without_statistics(watched: Watched) -> None:
    """NULL and -1 everywhere: a fresh clone, and after pg_stat_reset()."""
    with psycopg.connect(watched.database.superuser_conninfo, autocommit=True) as admin:
        admin.execute("SELECT pg_stat_reset()")
        admin.execute(
            "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relnamespace = 'partitions'::regnamespace OR relname = 'event'"
        )
    health, levels = watched.look()
    assert levels == {}
    assert {month.rows for month in health.months} <= {0, None}
    assert health.expected == () and health.figure("growth").value is None
    assert "Nothing is on record" in health.figure("late_rows").told


HOSTILE = '"Ev""ent; %s {x} $do$ "'


@pytest.mark.parametrize(
    ("by", "bounds", "expected"),
    [
        ("LIST (body)", ["FOR VALUES IN ('a')"], {"misaligned"}),
        ("HASH (id)", ["FOR VALUES WITH (modulus 1, remainder 0)"], {"misaligned"}),
        ("RANGE (lower(body))", ["FOR VALUES FROM ('a') TO ('b')"], {"misaligned"}),
        ("RANGE (at)", [], {"runway"}),
        ("RANGE (at)", ["DEFAULT"], {"runway"}),
        ("RANGE (at)", ["FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"], set()),
        ("RANGE (at)", ["FOR VALUES FROM ('-infinity') TO ('infinity')"], set()),
        ("RANGE (at)", ["FOR VALUES FROM ('2026-11-01') TO ('2027-06-01') PARTITION BY RANGE (at)"], {"misaligned"}),
    ],
)
def test_sets_of_others_under_hostile_names_are_read(
    empty: Any, now: Any, by: str, bounds: list[str], expected: set[str]
) -> None:
    now.run(empty, f"CREATE TABLE {HOSTILE} (id int, at timestamptz, body text) PARTITION BY {by}")
    for number, bound in enumerate(bounds):
        now.run(empty, f'CREATE TABLE "p%{number}{{}}" PARTITION OF {HOSTILE} {bound}')
    health, levels = Watched(empty, now).look(table=HOSTILE)
    assert (health.state, set(levels), health.unread) == (State.IN_USE, expected, ())


# the clock


@pytest.mark.parametrize("zone", ["UTC", "Africa/Johannesburg", "America/New_York"])
def test_the_schedule_stops_and_the_alert_comes_in_time(watched: Watched, zone: str) -> None:
    """Nobody calls create_future_partitions() any more: the first row falls on 2027-03-01, whatever the clock of the server reads."""
    watched.run(
        f"ALTER ROLE postgres IN DATABASE {conninfo_to_dict(watched.database.conninfo)['dbname']} SET timezone = '{zone}'"
    )
    days = [AS_OF + timedelta(days=n) for n in range(0, 100, 1)]
    [vitals] = health_catalog.vitals(watched.operations.session(watched.database), [spec()])
    warned = [day for day in days if _runway(vitals, day) is W]
    critical = [day for day in days if _runway(vitals, day) is C]
    assert warned[0] == date(2026, 12, 3) and (critical[0], critical[-1]) == (date(2027, 1, 31), days[-1])
    assert [*warned, *critical] == days[days.index(warned[0]) :], "it does not go away by itself"
    # for real, as of these days: the schedule is well, it is not, it has run again
    assert watched.levels(date(2026, 12, 2)) == {}
    assert watched.levels(date(2026, 12, 3)) == {"runway": W}
    watched.run("SELECT public.create_future_partitions('2026-12-03')")
    assert watched.levels(date(2026, 12, 3)) == {}


def _runway(vitals: Vitals, as_of: date) -> Level:
    found = alerts.judge(vitals.spec, examination.examine(vitals, as_of), as_of)
    return next(one.level for one in found.judged if one.figure.name == "runway")


def test_a_thousand_partitions_are_looked_at_in_seconds(empty: Any, now: Any) -> None:
    now.run(
        empty,
        "CREATE TABLE event (id bigint, at timestamptz NOT NULL, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE INDEX ON event (at)",
        "CREATE SCHEMA partitions",
        """DO $$ BEGIN FOR n IN 0 .. 999 LOOP EXECUTE format('CREATE TABLE partitions.event_%s PARTITION OF event FOR VALUES FROM (%L) TO (%L)',
           to_char('2024-03-05'::date + n, 'YYYY_MM_DD'), '2024-03-05'::date + n, '2024-03-05'::date + n + 1); END LOOP; END $$""",
    )
    started = time.monotonic()
    health, levels = Watched(empty, now).look(every="day", ahead=5, keep=None, **{"from": "2024-03-05"})
    assert time.monotonic() - started < 15
    assert (len(health.rows), levels) == (1000, {})
