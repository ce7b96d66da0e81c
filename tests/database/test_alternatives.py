"""What 05 finds by itself, on a real server and a table of 39 partitions: a query that gains nothing as it is written, faster as it is rewritten; and
what speaks against a rewrite, in the original and in the copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from atlas_ops import advice, measure
from atlas_ops.comparison import QueryResult, Variant, judged
from atlas_ops.settings import tables_from
from atlas_ops.workload import Query
from tests.database.conftest import MONTHS, Subject

THERE = 39
ROWS = 150_000
EVENT = {"table": "event", "partition_key": "at", **MONTHS}
MADE = (
    "CREATE TABLE author (id int PRIMARY KEY, joined timestamptz NOT NULL)",
    "INSERT INTO author SELECT n, '2024-01-01' FROM generate_series(0, 49) AS n",
    "CREATE TABLE event (id bigint PRIMARY KEY, at timestamptz, author int REFERENCES author, body text)",
    "INSERT INTO event SELECT n, '2024-01-01'::timestamptz + n * interval '10 minutes', n % 50, repeat('x', 100) "
    f"FROM generate_series(1, {ROWS}) AS n",  # until November 2026
    "CREATE INDEX ON event (at)",
    "CREATE INDEX ON event (author, at DESC)",
)
REPORT = "SELECT author, count(*) FROM {table} WHERE at::date = %(day)s GROUP BY author"
DAY = "SELECT '2025-03-05'::date AS day"
TRUNCATED = "SELECT author, count(*) FROM {table} WHERE date_trunc('day', at) = %(day)s GROUP BY author"
MIDNIGHT = "SELECT '2025-03-05'::timestamptz AS day"
PAGE = "SELECT id, at FROM {table} WHERE author = %(author)s ORDER BY at DESC LIMIT 10"
AUTHOR = "SELECT 7 AS author"


@pytest.fixture(scope="module")
def made(server: Any) -> Iterator[str]:
    """The name of a database with the migrated table, without connections."""
    database = server.clone("template0")
    with database.connect() as conn:
        conn.execute("SET TimeZone = 'UTC'")
        for statement in MADE:
            conn.execute(statement)
    subject = Subject(database, tables_from([EVENT]))
    subject.migrate()
    # Swept, so that autovacuum changes no plan meanwhile; the benchmark says which of the two is faster, which is the machine's to say.
    with database.connect(autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE event, event_partitioned, author")
    yield subject.value("SELECT current_database()")
    server.drop(database)


@pytest.fixture
def events(server: Any, made: str) -> Iterator[Subject]:
    """A copy of it, for one test."""
    database = server.clone(made)
    yield Subject(database, tables_from([EVENT]))
    server.drop(database)


def ask(subject: Subject, sql: str, bindings: str, pairs: int = 1) -> QueryResult:
    query = Query(name="asked", description="a test asks", table="event", sql=sql, bindings=bindings)
    [result] = measure.workload(subject.where, subject.spec, [query], pairs)
    return result


def named(result: QueryResult) -> dict[str, Variant]:
    return {each.name: each for each in result.rewrites}


def read(side: Any) -> tuple[int, int]:
    """Partitions and blocks."""
    assert side.figures is not None, side.failure
    return side.figures.touched, side.figures.hit_blocks + side.figures.read_blocks


# The whole story


@pytest.mark.parametrize(
    ("sql", "bindings"),
    [
        (REPORT, DAY),
        (TRUNCATED, MIDNIGHT),
        ("SELECT count(*) FROM {table} AS e WHERE e.at::date BETWEEN %(day)s AND %(day)s + 6", DAY),
    ],
)  # fmt: skip
def test_a_report_that_reads_every_month_as_written_is_faster_rewritten(
    events: Subject, sql: str, bindings: str
) -> None:
    """No hand in it: the range is found in the text, searched for rows that speak against it, measured, compared and named."""
    result = ask(events, sql, bindings, pairs=20)
    partitions, blocks = read(result.partitioned)
    assert partitions == THERE
    assert blocks * 2 > read(result.original)[1], "all months instead of one table"
    rewrite = named(result)["bare_key"]
    assert result.rewrite is rewrite and rewrite.holds
    assert read(rewrite.side)[0] == 1
    assert read(rewrite.side)[1] * 10 < min(blocks, read(result.original)[1])
    assert judged(rewrite.timing) == "faster"
    assert rewrite.timing is not None and rewrite.timing.high < 0.5
    told = advice.what_to_do(result)
    assert told.startswith("Adds ") and "(bare_key): 0." in told and ", faster." in told


def test_a_page_that_reads_every_month_reads_few_when_it_says_within_which(events: Subject) -> None:
    result = ask(events, PAGE, AUTHOR, pairs=20)
    assert read(result.partitioned)[0] == THERE
    rewrite = named(result)["within_partitions"]
    assert rewrite.holds
    assert read(rewrite.side)[0] <= 4, "the months to come are empty: three, and the one with the rows"
    assert read(rewrite.side)[1] * 3 < read(result.partitioned)[1]


# What speaks against a stretch


def test_a_row_in_the_default_partition_speaks_against_the_stretch(events: Subject) -> None:
    late = "INSERT INTO {} VALUES (900001, '2031-01-01', 7, 'a clock that is wrong')"
    events.run(late.format("event_partitioned"))
    result = ask(events, PAGE, AUTHOR)
    assert named(result)["within_partitions"].counterexamples == 1, "though the original has no such row"
    events.run(late.format("event"))
    result = ask(events, PAGE, AUTHOR)
    assert named(result)["within_partitions"].counterexamples == 1
    assert not named(result)["within_partitions"].holds
    assert "within_partitions is no way: 1 rows" in advice.what_to_do(result)
    events.run("DELETE FROM event_partitioned WHERE id = 900001")
    assert named(ask(events, PAGE, AUTHOR))["within_partitions"].counterexamples == 1, "it is still to be copied"


def test_months_with_a_gap_are_no_stretch(events: Subject) -> None:
    events.run("ALTER TABLE event_partitioned DETACH PARTITION partitions.event_2025_06")
    assert "within_partitions" not in named(ask(events, PAGE, AUTHOR))


def test_without_a_default_partition_nothing_needs_to_be_bounded(events: Subject) -> None:
    events.run("ALTER TABLE event_partitioned DETACH PARTITION partitions.event_default")
    result = ask(events, PAGE, AUTHOR)
    assert "within_partitions" not in named(result)
    assert read(result.partitioned)[0] <= 4
    assert result.partitioned.unordered == ""
    assert "default partition" not in advice.why(result) + advice.what_to_do(result)


def test_the_default_partition_is_named_as_the_cause(events: Subject) -> None:
    """One row in it keeps the stretch from being the way, so that nothing else is left to say."""
    events.run(
        "INSERT INTO event_partitioned VALUES (900001, 'infinity', 7, 'endless')",
        "INSERT INTO event VALUES (900001, 'infinity', 7, 'endless')",
    )
    result = replace(ask(events, PAGE, AUTHOR), rewrites=())
    assert result.partitioned.unordered == "event_default"
    assert "event_default is the default partition and may hold any row" in advice.why(result)
    if result.verdict != "faster":
        assert "default_partition: false" in advice.what_to_do(result)
    one_end = ask(
        events,
        PAGE.replace("ORDER", "AND at >= %(since)s ORDER"),
        "SELECT 7 AS author, '2024-01-01'::timestamptz AS since",
    )
    assert one_end.partitioned.unordered == "event_default", "a lower bound alone leaves it in"


# Time zones


@pytest.mark.parametrize(
    "setting",
    ["ALTER DATABASE {database} SET TimeZone = 'America/New_York'", "ALTER ROLE postgres IN DATABASE {database} SET TimeZone = 'Africa/Cairo'"],
)  # fmt: skip
def test_where_a_session_may_have_another_zone_a_day_is_not_taken_for_known(events: Subject, setting: str) -> None:
    exact = named(ask(events, TRUNCATED, MIDNIGHT))["bare_key"]
    assert "at >= %(day)s AND at < %(day)s + interval '1 day' " in exact.sql
    assert "It is so for sessions with TimeZone UTC." in exact.description
    with events.database.connect(autocommit=True) as conn:
        conn.execute(setting.format(database=events.value("SELECT current_database()")).encode())
    wide = named(ask(events, TRUNCATED, MIDNIGHT))["bare_key"]
    assert "at >= %(day)s - interval '1 day' AND at < %(day)s + interval '1 day' + interval '1 day' " in wide.sql
    assert "TimeZone" not in wide.description
    assert wide.holds and read(wide.side)[0] == 1


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Pacific/Auckland", "Pacific/Kiritimati", "Etc/GMT+12", "America/Havana"]
)
def test_a_day_is_found_whatever_zone_the_session_is_in(events: Subject, zone: str) -> None:
    """A driver may set a zone that no catalog tells of: the range of the report holds the day of any."""
    rewritten = named(ask(events, REPORT, DAY))["bare_key"]
    assert rewritten.side.figures is not None and rewritten.side.figures.planned == 1, "known while planning"
    for day in (date(2025, 3, 9), date(2025, 3, 1), date(2025, 4, 6), date(2025, 9, 28), date(2025, 11, 2)):
        with events.database.connect(options=f"-c TimeZone={zone}") as conn:
            asked = [
                conn.execute(
                    f"SELECT array_agg(r ORDER BY r) FROM ({text.replace('{table}', 'event_partitioned')}) AS r".encode(),
                    {"day": day},
                ).fetchone()
                for text in (REPORT, rewritten.sql)
            ]
        assert asked[0] == asked[1] and asked[0] != (None,)


# Rows without a key


@pytest.fixture
def keyless(bare: Subject) -> Subject:
    bare.run(
        "CREATE TABLE author (id int PRIMARY KEY, joined timestamptz NOT NULL)",
        "INSERT INTO author SELECT n, '2024-02-01' FROM generate_series(0, 9) AS n",
        "CREATE TABLE event (id bigint PRIMARY KEY, at timestamptz, author int REFERENCES author, body text)",
        "INSERT INTO event SELECT n, CASE WHEN n % 50 > 0 THEN '2024-02-01'::timestamptz + n * interval '9 hours' END, n % 10, 'row ' || n "
        "FROM generate_series(1, 2000) AS n",
        "CREATE INDEX ON event (author)",
    )
    return bare


BY_ID = "SELECT body FROM {table} WHERE id = %(id)s"
OF_AUTHOR = "SELECT count(*) FROM {table} WHERE author = %(author)s"


def test_a_row_that_was_given_a_key_speaks_against_what_would_lose_it(keyless: Subject) -> None:
    """The application read NULL, and sends it; and the key that was given is before the author joined."""
    keyless.specify({**EVENT, "null_keys": {"value": "'2024-01-15 00:00+00'::timestamptz"}})
    keyless.migrate()
    by_id = ask(keyless, BY_ID, "SELECT 7 AS id UNION SELECT 9")
    sent = named(by_id)["send_at"]
    assert sent.same_rows is True, "the rows of the bindings have a key: the whole table tells what they do not"
    assert (sent.counterexamples, by_id.rewrite) == (40, None)
    of_author = ask(keyless, OF_AUTHOR, "SELECT 1 AS author UNION SELECT 0")
    assert of_author.same_rows is True
    bounded = named(of_author)["bound_by_author"]
    assert (bounded.counterexamples, bounded.same_rows, bounded.holds) == (40, False, False)
    assert of_author.rewrite is None
    keyless.run("UPDATE event SET at = '2024-03-01' WHERE at IS NULL")
    assert named(ask(keyless, OF_AUTHOR, "SELECT 1 AS author"))["bound_by_author"].counterexamples == 40, "in the copy"


def test_rows_that_are_set_aside_are_asked_for_by_nobody(keyless: Subject) -> None:
    keyless.specify({**EVENT, "null_keys": "set_aside"})
    keyless.migrate()
    assert named(ask(keyless, BY_ID, "SELECT 7 AS id"))["send_at"].holds
    assert named(ask(keyless, OF_AUTHOR, "SELECT 1 AS author"))["bound_by_author"].holds


def test_a_rewrite_is_compared_with_the_query_on_the_same_table(keyless: Subject) -> None:
    """Where the copy answers otherwise than the original, that is the copy's, and told of the query."""
    keyless.specify({**EVENT, "null_keys": {"value": "'2026-01-15 00:00+00'::timestamptz"}})
    keyless.migrate()
    result = ask(keyless, "SELECT count(*) FROM {table} WHERE at::date = %(day)s", "SELECT '2026-01-15'::date AS day")
    assert result.same_rows is False
    assert named(result)["bare_key"].holds
