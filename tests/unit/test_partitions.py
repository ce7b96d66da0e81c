"""A partition set described by hand, ours or another's, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from atlas_ops import charts, inspection, partitions
from atlas_ops.bounds import Every, Period, covered, literal, period_of
from atlas_ops.model import Column, Partition, Relation, Server, Snapshot, Table
from atlas_ops.partitions import Counted, Kind
from atlas_ops.report import Check, Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)
MARK = 'atlas_ops: rows of "public"."messages" '
SERVER = Server(
    version=180004, version_text="18.4", system_identifier="1", database="atlas", role="postgres",
    superuser=False, bypasses_row_security=True, may_create_schema=True, may_create_in_public=True,
    time_zone="UTC", in_recovery=False, read_only=False, wal_level="replica", max_locks=6400,
    has_pg_stat_statements=False, now=datetime(2026, 11, 23, 18, tzinfo=UTC),
)  # fmt: skip


def utc(year: int, month: int = 1, day: int = 1, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def spec(**keys: Any) -> TableSpec:
    [found] = tables_from(
        [
            {
                "table": "messages",
                "partition_key": "created_at",
                "from": "2024-01-01",
                "until": "2027-01-01",
                **keys,
            }
        ]
    )
    return found


def relation(name: str = "messages_partitioned", kind: str = "p", **fields: Any) -> Relation:
    key = Column("created_at", "timestamp with time zone", "timestamptz", "b", True, None, "", "", None, None, None)
    table = Table(
        oid=1, schema="public", name=name, kind=kind, persistence="p", is_partition=False, owner="postgres",
        may_own=True, may_select=True, row_security=True, force_row_security=False, replica_identity="f",
        storage_parameters=(), tablespace=None, comment=None, estimated_rows=1000, heap_bytes=0,
        index_bytes=0, toast_bytes=0, partition_key="RANGE (created_at)" if kind == "p" else None,
        has_children=True,
    )  # fmt: skip
    return Relation(replace(table, **fields), (key,))


def partition(name: str, bound: str | None, **fields: Any) -> Partition:
    """A healthy one with 100 rows."""
    found = Partition(
        oid=2, schema="partitions", name=name, bound=bound, detach_pending=False, kind="r",
        comment=MARK + (bound or ""), owner="postgres", row_security=True, open_to=(), estimated_rows=100,
        live_rows=100, dead_rows=0, heap_bytes=8192, index_bytes=16384, toast_bytes=0, indexes=5,
        invalid_indexes=0, foreign_keys=(), unvalidated=(), checks=(), bloat_bytes=0, seq_scans=0,
        index_scans=0, last_vacuum=utc(2026, 11, 1), last_analyze=utc(2026, 11, 1),
    )  # fmt: skip
    return replace(found, **fields)


def ranged(lower: str, upper: str) -> str:
    def end(value: str) -> str:
        return value if value in ("MINVALUE", "MAXVALUE") else f"'{value}'"

    return f"FOR VALUES FROM ({end(lower)}) TO ({end(upper)})"


def month(period: Period, **fields: Any) -> Partition:
    lower, upper = (literal(edge, "timestamptz") for edge in (period.lower, period.upper))
    return partition(f"messages_{period.suffix}", ranged(lower, upper), **fields)


MONTHS = covered(Every.month, date(2024, 1, 1), date(2027, 1, 1), 3, AS_OF)
DEFAULT = partition("messages_default", "DEFAULT", live_rows=0, estimated_rows=0, heap_bytes=0)
SET_ASIDE = partition("messages_null_keys", None, comment=MARK + 'set aside WHERE "created_at" IS NULL', live_rows=7)
HEALTHY = (*(month(period) for period in MONTHS), DEFAULT)


def snapshot(*found: Partition, **fields: Any) -> Snapshot:
    whole = Snapshot(SERVER, relation("messages", "r"), relation(), found, closed_to=("anon", "authenticated"))
    return replace(whole, **fields)


def changed(name: str, **fields: Any) -> tuple[Partition, ...]:
    """The healthy set with one partition otherwise."""
    assert any(each.name == name for each in HEALTHY)
    return tuple(replace(each, **fields) if each.name == name else each for each in HEALTHY)


def said(question: str, *found: Partition, as_of: date = AS_OF, keys: Any = None, **fields: Any) -> list[Check]:
    """What is said of one question."""
    checks = inspection.checks(spec(**keys or {}), snapshot(*found, **fields), as_of)
    return [check for check in checks if check.name == question]


def one(question: str, *found: Partition, as_of: date = AS_OF, keys: Any = None, **fields: Any) -> Check:
    [check] = said(question, *found, as_of=as_of, keys=keys, **fields)
    return check


# the overview


def test_the_overview_is_in_the_order_of_time_whatever_the_names() -> None:
    found = partitions.overview(spec(), snapshot(SET_ASIDE, DEFAULT, *reversed(HEALTHY[:-1])), AS_OF)
    assert [row.partition for row in found] == [
        *(f"messages_{period.suffix}" for period in MONTHS),
        "messages_default",
        "messages_null_keys",
    ]
    assert [row.lower for row in found[:38]] == [period.lower for period in MONTHS]
    assert [row.kind for row in found] == (
        [Kind.HOLDS_ROWS] * 34 + [Kind.CURRENT] + [Kind.FUTURE] * 3 + [Kind.DEFAULT, Kind.SET_ASIDE]
    )


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, Kind.HOLDS_ROWS),
        ({"heap_bytes": 0}, Kind.EMPTY),
        ({"live_rows": 0}, Kind.EMPTY),
        ({"detach_pending": True}, Kind.DETACH_PENDING),
        ({"bound": None}, Kind.NOT_ATTACHED),
        ({"bound": None, "comment": MARK + "set aside WHERE x"}, Kind.SET_ASIDE),
        ({"bound": "FOR VALUES IN ('a')"}, Kind.HOLDS_ROWS),
        ({"bound": "DEFAULT"}, Kind.DEFAULT),
        ({"bound": ranged("MINVALUE", "MAXVALUE")}, Kind.CURRENT),
        ({"bound": ranged("2026-12-01", "MAXVALUE")}, Kind.FUTURE),
        ({"bound": ranged("MINVALUE", "2026-11-01")}, Kind.HOLDS_ROWS),
        ({"bound": ranged("2026-11-16", "2026-11-23")}, Kind.CURRENT),
    ],
)
def test_kinds(fields: dict[str, Any], kind: Kind) -> None:
    given = partition("p", **{"bound": ranged("2024-01-01", "2024-02-01"), **fields})
    [row] = partitions.overview(spec(), snapshot(given), AS_OF)
    assert row.kind is kind
    inspection.checks(spec(), snapshot(given), AS_OF)
    partitions.runway_rows([row])


@pytest.mark.parametrize(
    ("fields", "rows", "counted"),
    [
        ({}, 100, Counted.COUNTER),
        ({"heap_bytes": 0}, 0, Counted.NO_PAGE),
        ({"live_rows": 3, "estimated_rows": 90}, 3, Counted.COUNTER),
        # statistics were lost: nothing on record
        (
            {"live_rows": 3, "estimated_rows": 90, "last_vacuum": None, "last_analyze": None},
            90,
            Counted.ESTIMATE,
        ),
        (
            {"live_rows": 3, "estimated_rows": -1, "last_vacuum": None, "last_analyze": None},
            3,
            Counted.COUNTER,
        ),
        ({"live_rows": 0, "estimated_rows": -1, "last_vacuum": None, "last_analyze": None}, None, Counted.UNKNOWN),
        ({"live_rows": 0, "estimated_rows": 90}, 0, Counted.COUNTER),
        # a partition that is partitioned has neither pages nor a counter
        ({"kind": "p", "heap_bytes": 0, "live_rows": 0, "estimated_rows": 90}, 90, Counted.ESTIMATE),
        ({"kind": "p", "heap_bytes": 0, "live_rows": 0, "estimated_rows": -1}, None, Counted.UNKNOWN),
    ],
)
def test_rows_and_where_the_figure_comes_from(fields: dict[str, Any], rows: int | None, counted: Counted) -> None:
    assert partitions.rows_of(partition("p", "DEFAULT", **fields)) == (rows, counted)


def test_the_share_of_dead_rows_is_of_all_versions() -> None:
    rows = partitions.overview(spec(), snapshot(partition("p", "DEFAULT", dead_rows=300)), AS_OF)
    assert rows[0].dead_share == 0.75
    assert partitions.overview(spec(), snapshot(DEFAULT), AS_OF)[0].dead_share is None


def test_the_table_shows_every_row() -> None:
    rows = partitions.overview(spec(), snapshot(*HEALTHY, SET_ASIDE), AS_OF)
    table = partitions.as_table([*rows, *rows], "Twice")
    assert len(table) == 80
    assert "more" not in repr(table) and "2024-01-01" in repr(table)
    endless = partitions.overview(spec(), snapshot(partition("p", ranged("MINVALUE", "2024-01-01 12:00:00+00"))), AS_OF)
    assert partitions.as_table(endless).rows[0][2:4] == ("MINVALUE", "2024-01-01 12:00:00")


# charts


def test_sizes_count_toast_to_the_rows_and_leave_out_what_is_not_attached() -> None:
    rows = partitions.overview(spec(), snapshot(partition("p", "DEFAULT", toast_bytes=8192), SET_ASIDE), AS_OF)
    assert partitions.size_rows(rows) == [("messages", "p", 16384, 16384)]


def test_the_runway_is_drawn_with_its_gaps_and_ends() -> None:
    given = (
        partition("old", ranged("MINVALUE", "2026-09-01")),
        partition("messages_2026_10", ranged("2026-10-01", "2026-11-01"), detach_pending=True),
        partition("messages_2026_11", ranged("2026-11-01", "2026-12-01"), heap_bytes=0),
        partition("last", ranged("2026-12-01", "MAXVALUE")),
        partition("hashed", "FOR VALUES WITH (modulus 4, remainder 0)"),
        DEFAULT,
    )
    rows = partitions.runway_rows(partitions.overview(spec(), snapshot(*given, SET_ASIDE), AS_OF))
    assert rows == [
        ("messages", "old", utc(2025, 8, 31), utc(2026, 9), "holds rows"),
        ("messages", "messages_2026_10", utc(2026, 10), utc(2026, 11), "gap"),
        ("messages", "messages_2026_11", utc(2026, 11), utc(2026, 12), "empty"),
        ("messages", "last", utc(2026, 12), utc(2027, 12, 2), "holds rows"),
        ("messages", "messages_default", None, None, "default"),
        ("messages", "gap", utc(2026, 9), utc(2026, 10), "gap"),
    ]
    assert "2026-11-23" in charts.runway(rows, AS_OF).summary


def test_charts_of_nothing() -> None:
    assert partitions.size_rows([]) == [] and partitions.runway_rows([]) == []
    alone = partitions.overview(spec(), snapshot(partition("p", ranged("MINVALUE", "MAXVALUE"))), AS_OF)
    assert partitions.runway_rows(alone) == [("messages", "p", None, None, "holds rows")]


# checks


def test_a_healthy_set_is_green_on_every_line() -> None:
    found = inspection.checks(spec(), snapshot(*HEALTHY), AS_OF)
    assert {check.severity for check in found} == {Severity.OK}
    assert len({check.name for check in found}) == len(found) == 13
    assert all(check.what and not check.sql for check in found)


def test_without_a_partitioned_table_there_is_one_red_line() -> None:
    [check] = inspection.checks(spec(), snapshot(partitioned=None), AS_OF)
    assert (check.severity, check.what) == (
        Severity.STOP,
        "There is no partitioned table public.messages_partitioned.",
    )
    assert "02_apply_migration" in check.cure
    [check] = inspection.checks(spec(), snapshot(partitioned=relation(kind="v")), AS_OF)
    assert (check.severity, check.what) == (
        Severity.STOP,
        "public.messages_partitioned is no partitioned table.",
    )


def test_after_the_cut_over_the_original_is_the_partitioned_table() -> None:
    found = snapshot(*HEALTHY, original=relation("messages"), partitioned=None)
    assert partitions.partitioned_table(found) == found.original
    assert {check.severity for check in inspection.checks(spec(), found, AS_OF)} == {Severity.OK}


@pytest.mark.parametrize(
    ("printed", "column"),
    [
        ('RANGE ("Created At")', '"Created At"'),
        ('RANGE ("a""b")', '"a""b"'),
        ("RANGE (created_at)", "created_at"),
    ],
)
def test_the_key_is_read_as_postgresql_prints_it(printed: str, column: str) -> None:
    check = one("partition key", *HEALTHY, keys={"partition_key": column}, partitioned=relation(partition_key=printed))
    assert check.severity is Severity.OK


@pytest.mark.parametrize("printed", ["LIST (region)", "RANGE (created_at, id)", "RANGE (timestamp)", None])
def test_another_key_is_told(printed: str | None) -> None:
    check = one("partition key", *HEALTHY, partitioned=relation(partition_key=printed))
    assert check.severity is Severity.WARN and "not by RANGE (created_at)" in check.what


@pytest.mark.parametrize(
    ("ahead", "as_of", "severity", "told"),
    [
        (3, AS_OF, Severity.OK, "98 days, up to 2027-03-01; whole months ahead: 3."),
        (3, date(2026, 12, 31), Severity.OK, "60 days, up to 2027-03-01; whole months ahead: 2."),
        (3, date(2027, 1, 1), Severity.WARN, "59 days, up to 2027-03-01; whole months ahead: 1."),
        (3, date(2027, 2, 28), Severity.WARN, "1 days, up to 2027-03-01; whole months ahead: 0."),
        (3, date(2027, 3, 1), Severity.STOP, "No partition holds 2027-03-01."),
        (3, date(2023, 12, 31), Severity.STOP, "No partition holds 2023-12-31."),
        (1, date(2027, 1, 31), Severity.OK, "29 days, up to 2027-03-01; whole months ahead: 1."),
        (1, date(2027, 2, 1), Severity.WARN, "28 days, up to 2027-03-01; whole months ahead: 0."),
    ],
)
def test_the_runway(ahead: int, as_of: date, severity: Severity, told: str) -> None:
    check = one("runway", *HEALTHY, as_of=as_of, keys={"ahead": ahead}, registered=True)
    assert (check.severity, check.what) == (severity, told)
    assert (check.sql == "SELECT * FROM public.create_future_partitions();") == (severity is not Severity.OK)


def test_the_end_of_the_runway_depends_on_a_default_partition() -> None:
    assert "default partition" in one("runway", *HEALTHY, as_of=date(2030, 1, 1)).why
    assert "23514" in one("runway", *HEALTHY[:-1], as_of=date(2030, 1, 1)).why


def test_a_pending_detach_ends_the_runway_and_is_to_be_finalized() -> None:
    given = changed("messages_2026_11", detach_pending=True)
    check = one("detach pending", *given)
    assert check.severity is Severity.STOP
    assert check.sql == (
        'ALTER TABLE "public"."messages_partitioned" DETACH PARTITION "partitions"."messages_2026_11" FINALIZE;'
    )
    assert one("runway", *given).severity is Severity.STOP
    assert one("gaps", *given).severity is Severity.OK


def test_rows_in_the_default_partition() -> None:
    check = one("default partition", *changed("messages_default", heap_bytes=8192, live_rows=12_345))
    assert (check.severity, check.what) == (Severity.WARN, "messages_default holds 12,345 rows (counter).")
    assert check.sql == (
        "SELECT date_trunc('month', \"created_at\", 'UTC') AS period, count(*) "
        'FROM "partitions"."messages_default" GROUP BY 1 ORDER BY 1;'
    )
    assert one("default partition", *HEALTHY[:-1]).severity is Severity.NOTE
    assert one("default partition", *HEALTHY[:-1], keys={"default_partition": False}).severity is Severity.OK


def test_what_was_really_counted_wins_over_statistics() -> None:
    counts = {"messages_default": 4, "messages_null_keys": 9}
    found = inspection.checks(spec(), snapshot(*HEALTHY, SET_ASIDE), AS_OF, counts)
    told = [check.what for check in found if "counted" in check.what]
    assert told == [
        "messages_default holds 4 rows (counted).",
        "messages_null_keys keeps 9 rows (counted) without created_at.",
    ]


def test_a_gap_is_named_with_the_ddl_of_the_missing_partitions() -> None:
    given = [each for each in HEALTHY if each.name not in ("messages_2024_05", "messages_2024_06", "messages_2025_03")]
    check = one("gaps", *given)
    assert check.severity is Severity.WARN
    assert check.what == "No partition covers 2024-05-01 to 2024-07-01, 2025-03-01 to 2025-04-01."
    assert check.sql.count("ATTACH PARTITION") == 3
    assert (
        'ALTER TABLE "public"."messages_partitioned" ATTACH PARTITION "partitions"."messages_2025_03" '
        "FOR VALUES FROM ('2025-03-01 00:00:00+00') TO ('2025-04-01 00:00:00+00');"
    ) in check.sql
    assert 'REVOKE ALL ON TABLE "partitions"."messages_2025_03" FROM PUBLIC, "anon", "authenticated";' in check.sql


def test_a_long_gap_does_not_flood_the_table() -> None:
    check = one("gaps", HEALTHY[0], partition("far", ranged("2400-01-01", "MAXVALUE")))
    assert check.sql.count("\n") == 60 and check.sql.endswith("-- and so on: inspect again after these")


def test_a_gap_that_is_no_whole_period_gets_no_ddl() -> None:
    given = (
        partition("a", ranged("2024-01-01", "2024-01-15")),
        partition("b", ranged("2024-01-20", "2024-02-01")),
    )
    assert one("gaps", *given).sql == ""


def test_an_unattached_table_that_overlaps() -> None:
    stale = partition("messages_old", None, comment=MARK + ranged("2024-01-15", "2024-03-01"))
    check = one("overlaps", *HEALTHY, stale)
    assert check.severity is Severity.WARN
    assert "2024-01-15 to 2024-02-01, 2024-02-01 to 2024-03-01" in check.what
    assert "messages_old" in one("not attached", *HEALTHY, stale).what
    assert one("overlaps", *HEALTHY, SET_ASIDE).severity is Severity.OK


def test_a_table_that_waits_in_its_own_gap_overlaps_nothing() -> None:
    waiting = replace(HEALTHY[3], bound=None)
    given = (*HEALTHY[:3], waiting, *HEALTHY[4:])
    assert one("overlaps", *given).severity is Severity.OK
    assert one("not attached", *given).severity is Severity.WARN
    assert one("gaps", *given).severity is Severity.WARN


@pytest.mark.parametrize(
    ("lower", "upper", "aligned"),
    [
        ("2024-01-01 00:00:00+00", "2024-02-01 00:00:00+00", True),
        ("2024-01-01", "2024-02-01", True),
        ("2024-01-01 00:00:00+01", "2024-02-01 00:00:00+01", False),
        ("2024-01-01", "2024-01-31", False),
        ("2024-01-01", "2024-01-08", False),
        ("2024-01-01", "2024-03-01", False),
        ("9999-12-05", "9999-12-20", False),
    ],
)
def test_alignment(lower: str, upper: str, aligned: bool) -> None:
    check = one("bounds", partition("p", ranged(lower, upper)))
    assert check.severity is (Severity.OK if aligned else Severity.WARN)
    assert aligned or "p from " in check.what


def test_sets_of_others_are_read_without_failing() -> None:
    weeks = [period_of(Every.week, date(2026, 11, 23))]
    for _ in range(9):
        weeks.append(weeks[-1].previous())
    given = [month(week) for week in weeks]
    given += [
        partition("first", ranged("MINVALUE", "2000-01-01")),
        partition("last", ranged("2030-01-01", "MAXVALUE")),
    ]
    given += [
        partition("listed", "FOR VALUES IN ('a')"),
        partition("hashed", "FOR VALUES WITH (modulus 2, remainder 1)"),
    ]
    given += [partition("ancient", ranged("0044-03-15 00:00:00+00 BC", "0043-03-15 00:00:00+00 BC"), comment=None)]
    found = said("bounds", *given)
    assert [check.severity for check in found] == [Severity.WARN, Severity.NOTE, Severity.WARN]
    assert "10 of 13 are no whole month in UTC" in found[0].what and "and 5 more" in found[0].what
    assert found[1].what == "Without a first or a last bound: ancient, first, last."
    assert "listed FOR VALUES IN ('a')" in found[2].what
    assert one("runway", *given, keys={"every": "week", "until": None}).severity is Severity.WARN


@pytest.mark.parametrize(
    ("open_to", "guarded", "severity"),
    [((), True, Severity.WARN), (("anon",), True, Severity.STOP), (("anon",), False, Severity.NOTE)],
)
def test_a_partition_without_row_security(open_to: tuple[str, ...], guarded: bool, severity: Severity) -> None:
    given = changed("messages_2024_07", row_security=False, open_to=open_to)
    check = one("row security", *given, partitioned=relation(row_security=guarded))
    assert check.severity is severity
    assert check.sql == 'ALTER TABLE "partitions"."messages_2024_07" ENABLE ROW LEVEL SECURITY;'
    assert ("anon" in check.what) == bool(open_to)


def test_open_partitions_name_roles_and_the_revoke() -> None:
    check = one("privileges", *changed("messages_2024_07", open_to=("PUBLIC", "anon")))
    assert check.severity is Severity.WARN and "1 of 39 are open to PUBLIC, anon" in check.what
    assert check.sql == 'REVOKE ALL ON TABLE "partitions"."messages_2024_07" FROM PUBLIC, "anon";'


def test_the_table_of_rows_set_aside_must_be_closed_too() -> None:
    given = replace(SET_ASIDE, row_security=False, open_to=("anon",))
    assert one("row security", *HEALTHY, given).severity is Severity.STOP
    assert one("privileges", *HEALTHY, given).severity is Severity.WARN


def test_indexes_are_compared_with_the_siblings() -> None:
    given = changed("messages_2024_07", indexes=4, invalid_indexes=1)
    invalid, fewer = said("indexes", *given)
    assert invalid.sql.startswith("SELECT indexrelid::regclass") and '"messages_2024_07"' in invalid.sql
    assert fewer.what == "Most partitions have 5, these fewer: messages_2024_07 (4)."


def test_what_was_never_analyzed() -> None:
    given = changed("messages_2024_07", estimated_rows=-1, last_analyze=None)
    never, whole = said("statistics", *given, partitioned=relation(estimated_rows=-1))
    assert never.sql == 'ANALYZE "partitions"."messages_2024_07";'
    assert whole.sql == 'ANALYZE "public"."messages_partitioned";'
    empty = changed("messages_2024_07", estimated_rows=-1, last_analyze=None, heap_bytes=0)
    assert one("statistics", *empty).severity is Severity.OK


def test_a_thousand_partitions_pass_and_one_more_is_told() -> None:
    day = period_of(Every.day, AS_OF)
    days: list[Partition] = []
    while len(days) <= inspection.MOST_PARTITIONS:
        days.append(month(day))
        day = day.next()
    assert one("number of partitions", *days[:-1], keys={"every": "day"}).severity is Severity.OK
    assert one("number of partitions", *days, keys={"every": "day"}).severity is Severity.WARN


def test_names_are_quoted() -> None:
    nasty = 'x"; DROP TABLE y; --'
    check = one("row security", *HEALTHY, partition(nasty, ranged("2020-01-01", "2020-02-01"), row_security=False))
    assert check.sql == 'ALTER TABLE "partitions"."x""; DROP TABLE y; --" ENABLE ROW LEVEL SECURITY;'


def test_a_set_without_partitions() -> None:
    found = {check.name: check.severity for check in inspection.checks(spec(), snapshot(), AS_OF)}
    assert found["runway"] is Severity.STOP
    assert {severity for name, severity in found.items() if name not in ("runway", "default partition")} == {
        Severity.OK
    }
