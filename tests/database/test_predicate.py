"""What is foreseen of a statement is what the servers do: in the plan, and when it runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_ops import workload
from atlas_ops.predicate import foresee
from atlas_ops.predicate.value import FUNCTIONS
from tests.database import prune
from tests.database.prune import Seen

DATA = Path(__file__).parents[1] / "data"
ZONED = "timestamp with time zone"
TYPES = {
    "t": ZONED,
    "u": ZONED,
    "d": "date",
    "l": "timestamp without time zone",
    "n": "integer",
    "ts": f"{ZONED}[]",
    "ds": "date[]",
    "i": "interval",
    "nul": ZONED,
}
VALUES = {
    "t": "2025-05-01 00:00+00",
    "u": "2025-07-10 12:00+00",
    "d": "2025-05-10",
    "l": "2025-05-10 00:00",
    "n": "5",
    "ts": "{2025-05-01 00:00+00,2024-02-01 00:00+00}",
    "ds": "{2025-05-01,2024-02-03}",
    "i": "3 days",
    "nul": None,
}


@pytest.fixture(scope="module")
def connection(server: Any) -> Iterator[psycopg.Connection[Any]]:
    """A database with the tables of `prune`. Nothing here stays, so the tests share it."""
    made = server.clone("template0")
    prune.make(made.conninfo)
    with psycopg.connect(made.conninfo, options="-c TimeZone=UTC", autocommit=True) as conn:
        yield conn
    server.drop(made)


def lines(name: str) -> list[str]:
    return [line for line in (DATA / name).read_text().splitlines() if line and not line.startswith("--")]


def both(conn: psycopg.Connection[Any], sql: str, table: str = "event") -> tuple[Seen, Seen, str]:
    """What the server did, what was foreseen, and why."""
    seen = prune.seen(conn, table, workload.statement(sql, table, TYPES), VALUES)
    told = prune.told(conn, table, sql, TYPES, VALUES)
    if told.foresight.reads == "routed":
        assert seen.planned == 0
        return seen, seen, told.foresight.because
    return seen, Seen(told.planned, told.read), told.foresight.because


def test_what_is_foreseen_is_what_the_server_does(connection: psycopg.Connection[Any]) -> None:
    asked = lines("pruning.sql")
    assert len(asked) > 300
    found = [(sql, *both(connection, sql)) for sql in asked]
    assert [each for each in found if each[1] != each[2]] == []


def test_no_more_is_read_than_is_foreseen(connection: psycopg.Connection[Any]) -> None:
    found = [(sql, *both(connection, sql)) for sql in lines("pruning_at_most.sql")]
    assert len(found) >= 20
    assert [each for each in found if each[1].planned > each[2].planned or each[1].read > each[2].read] == []


BY_ZONE = (
    "at >= %(t)s AND at < %(u)s",
    "at >= %(l)s",
    "at > %(d)s",
    "at = %(d)s",
    "at < %(d)s",
    "at = %(l)s",
    "at >= '2025-05-01'",
    "at < '2025-05-01'",
    "at = '2025-05-01'",
    "at <= '2025-05-01 00:00'",
    "at < timestamptz '2025-05-01 00:00'",
    "at <= timestamptz '2025-05-01 00:00+00'",
    "at < date '2025-05-01'",
    "at < timestamp '2025-05-01' + interval '1 hour'",
    "at <= date '2025-05-01' - 1",
    "at = ANY (%(ts)s)",
    "at = ANY (%(ds)s)",
    "at IN ('2025-05-01', '2025-06-01')",
    "at IN (date '2025-05-01', timestamp '2025-06-01 00:00')",
    "at = ANY ('{2025-05-01,2025-06-01}')",
    "at >= now() - interval '600 days'",
    "at >= localtimestamp - interval '600 days'",
    "at >= current_date - 600",
    "at BETWEEN date '2025-05-01' AND date '2025-05-31'",
    "at::date >= '2025-05-01'",
    "at::timestamp >= '2025-05-01'",
    "at::timestamptz >= '2025-05-01'",
    "at >= (SELECT day FROM other WHERE id = 10)",
    "at >= (SELECT local FROM other WHERE id = 10)",
    "at >= (SELECT since FROM other WHERE id = 10)",
    "at >= greatest(date '2025-01-01', %(d)s)",
    "at > '2025-05-31' AND at < '2025-06-01'",
    "at > '2025-05-31' AND at <= '2025-05-30'",
    "at >= 'infinity'",
    "at > '-infinity'",
    "at > '0044-03-15 BC'",
    "at < '294000-01-01'",
    "at >= to_timestamp(1746057600)",
    "at >= make_date(2025, 5, 1) AND at < make_date(2025, 6, 1)",
    "at >= date_trunc('month', date '2025-05-10')",
    "at >= date_trunc('month', timestamp '2025-05-10')",
)
RANGES = {
    "event": ("tstzrange", "[)", "(]"),
    "local_event": ("tsrange", "[]", "()"),
    "day_event": ("daterange", "[]", "(]"),
}


@pytest.mark.parametrize("zone", ["UTC", "America/Havana", "Pacific/Kiritimati", "Asia/Kolkata"])
def test_every_type_of_key_in_every_time_zone(connection: psycopg.Connection[Any], zone: str) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('TimeZone', %s, true)", (zone,))
        found = [
            (table, where, *both(connection, f"SELECT * FROM {{table}} WHERE {where}", table))
            for table in ("event", "local_event", "day_event")
            for where in (*BY_ZONE, *_in_ranges(table))
        ]
    assert [each for each in found if each[2] != each[3]] == []


def _in_ranges(table: str) -> Iterator[str]:
    kind, *ends = RANGES[table]
    for each in ends:
        yield f"at <@ {kind}('2025-05-01', '2025-06-01', '{each}')"
    yield f"at <@ {kind}('2025-05-01', '2025-06-01')"
    yield f"at <@ {kind}(NULL, '2025-06-01')"


# Conditions out of a dice


_INSTANTS = st.builds(
    lambda month, day, time: f"'{2024 + (month - 1) // 12}-{(month - 1) % 12 + 1:02}-{day:02} {time}+00'",
    st.integers(0, 27),
    st.sampled_from([1, 1, 15, 28]),
    st.sampled_from(["00:00:00", "00:00:00.000001", "23:59:59.999999"]),
)
_LATE = st.one_of(
    _INSTANTS.map(lambda at: f"({at}::timestamptz + interval '3 days')"),
    _INSTANTS.map(lambda at: f"(SELECT {at}::timestamptz)"),
    st.integers(300, 1100).map(lambda days: f"(now() - interval '{days} days')"),
    st.sampled_from(["%(d)s", "%(l)s", "date '2025-02-01'"]),
)
_VALUES = st.one_of(
    _INSTANTS,
    _INSTANTS,
    _INSTANTS.map("timestamptz {}".format),
    st.just("%(t)s"),
    _LATE,
    st.sampled_from(["'-infinity'", "'infinity'", "NULL"]),
)
_OPERATORS = st.sampled_from(["<", "<=", "=", ">=", ">", "<>"])
_ARRAYS = st.one_of(
    st.lists(_INSTANTS, min_size=1, max_size=3).map(lambda each: f"(ARRAY[{', '.join(each)}]::timestamptz[])"),
    st.sampled_from(["(%(ts)s)", "(%(ds)s)"]),
)
_PLAIN = st.one_of(
    st.builds("at {} {}".format, _OPERATORS, _VALUES),
    st.builds("{1} {0} at".format, _OPERATORS, _VALUES),
    st.builds(
        "at {}BETWEEN {}{} AND {}".format,
        st.sampled_from(["", "NOT "]),
        st.sampled_from(["", "SYMMETRIC "]),
        _VALUES,
        _VALUES,
    ),
    st.builds(
        lambda no, each: f"at {no}IN ({', '.join(each)})",
        st.sampled_from(["", "NOT "]),
        st.lists(_VALUES, min_size=1, max_size=3),
    ),
    st.builds("at {} {} {}".format, _OPERATORS, st.sampled_from(["ANY", "ALL"]), _ARRAYS),
    st.builds("(at, id) {} ({}, 5)".format, st.sampled_from(["=", "<", ">"]), _VALUES),
    st.sampled_from(["at IS NULL", "at IS NOT NULL", "true", "false", "id = 5", "note = 'x'"]),
)
_CONDITIONS = st.recursive(
    _PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda each: f"({' AND '.join(each)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda each: f"({' OR '.join(each)})"),
        inner.map(lambda each: f"NOT {each}"),
    ),
    max_leaves=7,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["event", "gap_event", "local_event", "day_event"]), _CONDITIONS)
def test_no_condition_reads_more_than_is_foreseen(connection: psycopg.Connection[Any], table: str, where: str) -> None:
    try:
        seen, told, _ = both(connection, f"SELECT * FROM {{table}} WHERE {where}", table)
    except psycopg.errors.DataError:
        return  # a date that is no timestamp, such as an infinite one that is cast
    assert seen.planned <= told.planned, (where, seen, told)
    if seen.planned == told.planned:  # fewer: the planner saw a contradiction that is not looked for here
        assert seen.read <= told.read, (where, seen, told)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["event", "gap_event"]), _OPERATORS, _VALUES, st.one_of(st.none(), st.tuples(_OPERATORS, _VALUES))
)
def test_one_condition_or_two_are_foreseen_to_the_partition(
    connection: psycopg.Connection[Any], table: str, operator: str, value: str, second: tuple[str, str] | None
) -> None:
    where = f"at {operator} {value}" + (f" AND at {second[0]} {second[1]}" if second else "")
    if second and (operator == second[0] == "=" or "<>" in (operator, second[0])):
        where = f"at {operator} {value}"  # of two equal ones the planner keeps one; that = and <> exclude each other it sees, and we do not
    seen, told, _ = both(connection, f"SELECT * FROM {{table}} WHERE {where}", table)
    assert (where, seen) == (where, told)


# What follows from a wrapped key holds, where clocks turn too


TURNS = {
    "UTC": ("2025-03-01",),
    "America/Havana": ("2025-03-09", "2025-11-02"),  # back from 01:00 to 00:00
    "America/St_Johns": ("2010-03-14", "2010-11-07"),  # back from 00:01 to 23:01 of the day before
    "Atlantic/Azores": ("2025-03-30", "2025-10-26"),
    "America/Sao_Paulo": ("2018-02-18", "2018-11-04"),  # there is no midnight
    "Australia/Lord_Howe": ("2025-04-06", "2025-10-05"),  # half an hour
    "Pacific/Apia": ("2011-12-30",),  # a day that never was
    "Europe/Berlin": ("2025-03-30", "2025-10-26"),
}
WRAPPED = (
    "at::date {} {}::date",
    "date(at) {} {}",
    "date_trunc('day', at) {} {}::timestamptz",
    "date_trunc('month', at) {} {}::timestamptz",
    "date_trunc('quarter', at) {} {}::timestamptz",
    "date_trunc('hour', at) {} {}::timestamptz",
    "date_trunc('day', at) {} {}::timestamp",
    "date_trunc('week', at, 'America/Havana') {} {}::timestamptz",
    "date_trunc('day', at, 'UTC') {} {}::timestamptz",
    "at AT TIME ZONE 'America/St_Johns' {} {}::timestamp",
    "at AT TIME ZONE 'UTC' {} {}::timestamp",
    "(at AT TIME ZONE 'Pacific/Apia')::date {} {}::date",
    "date_trunc('day', at AT TIME ZONE 'Atlantic/Azores') {} {}::timestamp",
    "at + interval '3 hours' {} {}::timestamptz",
    "at + interval '3 hours' {} {}",
    "at + interval '2 days' {} {}::timestamptz",
    "at - interval '1 month' {} {}::timestamptz",
    "at + interval '1 month 3 days' {} {}",
    "at - interval '1 year' {} {}::date",
    "extract(year FROM at) {} extract(year FROM {}::date)::int",
)
OTHER_SIDES = ("%(day)s", "(%(day)s - 1)", "(%(day)s + time '00:30')", "(%(day)s::timestamp + interval '1 month')")


@cache
def followed(key_type: str, time_zone: str) -> list[tuple[str, str]]:
    """Every comparison that something follows from, and what."""
    found = []
    for wrapped, operator, value in product(WRAPPED, ("=", ">=", ">", "<", "<="), OTHER_SIDES):
        where = wrapped.format(operator, value)
        told = foresee(
            f"SELECT * FROM {{table}} WHERE {where}",
            "at",
            key_type=key_type,
            types={"day": "date"},
            time_zone=time_zone,
        )
        if told.rewrite and (key_type == ZONED or "AT TIME ZONE" not in where):
            found.append((where, told.rewrite))
    return found


@pytest.mark.parametrize("zone", TURNS)
@pytest.mark.parametrize("key_type", [ZONED, "timestamp without time zone", "date"])
def test_what_follows_from_a_wrapped_key_loses_no_row(
    connection: psycopg.Connection[Any], zone: str, key_type: str
) -> None:
    asked = followed(key_type, zone if zone == "UTC" else "")
    assert len(asked) > 100
    lost: list[tuple[str, str]] = []
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('TimeZone', %s, true)", (zone,))
        connection.execute(f"CREATE TABLE instant (at {key_type})")
        for day in TURNS[zone]:
            connection.execute(
                f"INSERT INTO instant SELECT t::{key_type} FROM generate_series(%(day)s::timestamptz - interval '70 hours', "
                "%(day)s::timestamptz + interval '70 hours', '10 minutes') AS t UNION SELECT (%(day)s::timestamptz + n * interval '1 day')::"
                f"{key_type} FROM generate_series(-70, 70) AS n",
                {"day": day},
            )
        for day in TURNS[zone]:
            missing = [f"count(*) FILTER (WHERE ({where}) AND ({follows}) IS NOT TRUE)" for where, follows in asked]
            query = f"SELECT {', '.join(missing)}, count(*) FROM instant".replace("%(day)s", f"date '{day}'")
            ((*counts, rows),) = connection.execute(query.encode()).fetchall()
            assert rows > 100
            lost += [each for each, count in zip(asked, counts, strict=True) if count]
    assert lost == []


def test_what_follows_prunes(connection: psycopg.Connection[Any]) -> None:
    before = both(connection, "SELECT * FROM {table} WHERE at::date = %(d)s")[0]
    told = foresee("SELECT * FROM {table} WHERE at::date = %(d)s", "at", types=TYPES, time_zone="UTC")
    after, foreseen, _ = both(connection, f"SELECT * FROM {{table}} WHERE at::date = %(d)s AND {told.rewrite}")
    assert (before, after, foreseen) == (Seen(24, 24), Seen(1, 1), Seen(1, 1)), "both ends are immutable"
    moved = foresee("SELECT * FROM {table} WHERE (at AT TIME ZONE 'UTC')::date = %(d)s", "at", types=TYPES)
    planned, _, _ = both(connection, f"SELECT * FROM {{table}} WHERE {moved.rewrite}")
    assert planned == Seen(1, 1), "both ends are immutable"


# What is known of functions


_BY_ARGUMENTS = {"age", "to_timestamp", "date_trunc"}
"""Told apart by their arguments."""


def test_volatilities_are_those_of_the_server(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(
        "SELECT proname::text, array_agg(DISTINCT provolatile::text) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s) "
        "GROUP BY 1",
        (list(FUNCTIONS),),
    ).fetchall()
    there = {name: set(volatile) for name, volatile in rows if name not in _BY_ARGUMENTS}
    assert len(there) > 60
    allowed = {"plan": {"i"}, "run": {"i", "s"}, "volatile": {"v"}}
    wrong = {
        name: (FUNCTIONS[name][1], found) for name, found in there.items() if not found <= allowed[FUNCTIONS[name][1]]
    }
    assert wrong == {}


# The question


def test_the_question_is_one_row_of_instants(connection: psycopg.Connection[Any]) -> None:
    sql = "SELECT * FROM {table} WHERE at > %(t)s AND at < '294000-01-01' AND at > '-infinity' AND at > '0044-03-15 BC' AND at <> ALL (%(ts)s)"
    found = foresee(sql, "at", types=TYPES)
    answer = connection.execute(
        workload.statement(found.question, "event", TYPES).encode(), VALUES, binary=True
    ).fetchall()
    assert len(answer) == 1
    assert found.partitions(prune.bounds(connection, "event"), answer[0]) == 8


def test_a_generic_plan_reads_no_more(connection: psycopg.Connection[Any]) -> None:
    """What is known while planning for these very values is known when it runs for any."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        connection.execute("PREPARE asked (timestamptz) AS SELECT * FROM event WHERE at >= $1")
        rows = connection.execute("EXPLAIN (ANALYZE) EXECUTE asked ('2025-05-01 00:00+00')").fetchall()
    assert "Subplans Removed: 16" in "\n".join(row[0] for row in rows)
