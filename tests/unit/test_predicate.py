"""What a statement says of the partition key: whole sentences, partitions counted by hand, and text that nobody should send."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ops.bounds import Bound, Every, parse_bound, period_of, periods
from atlas_ops.predicate import Foresight, foresee
from atlas_ops.predicate.statement import STRANGE, Unreadable, guarded, parse

ZONED = "timestamp with time zone"
TYPES = {
    "t": ZONED,
    "u": ZONED,
    "d": "date",
    "l": "timestamp without time zone",
    "n": "integer",
    "ts": f"{ZONED}[]",
    "txt": "text",
}
COLUMNS = ("id", "created_at", "conversation_id", "role")


def told(sql: str, **keys: Any) -> Foresight:
    return foresee(sql, "created_at", **{"types": TYPES, "columns": COLUMNS, "table": "messages", **keys})


TOLD: list[tuple[str, tuple[str, str, tuple[str, ...], tuple[str, ...]], str]] = [
    (
        "SELECT * FROM {table} WHERE conversation_id = 5",
        ("all", "", (), ()),
        "created_at is not bounded.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at = %(t)s",
        ("one", "plan", ("%(t)s",), ("%(t)s",)),
        "created_at = %(t)s names one partition.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at > %(t)s ORDER BY created_at LIMIT 20",
        ("some", "plan", ("%(t)s",), ()),
        "created_at > %(t)s bounds it from below. With ORDER BY created_at and LIMIT it may have enough before it reaches the last one, if no default partition remains.",
    ),
    (
        "SELECT * FROM {table} AS m WHERE m.created_at >= %(t)s AND m.created_at < %(u)s",
        ("some", "plan", ("%(t)s",), ("%(u)s",)),
        "created_at >= %(t)s and created_at < %(u)s bound it on both sides.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at <= %(t)s",
        ("some", "plan", (), ("%(t)s",)),
        "created_at <= %(t)s bounds it from above.",
    ),
    (
        "SELECT * FROM {table} WHERE %(t)s > created_at",
        ("some", "plan", (), ("%(t)s",)),
        "created_at < %(t)s bounds it from above.",
    ),
    (
        "SELECT * FROM {table} WHERE messages.created_at BETWEEN %(t)s AND %(u)s",
        ("some", "plan", ("%(t)s",), ("%(u)s",)),
        "created_at >= %(t)s and created_at <= %(u)s bound it on both sides.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at IN (%(t)s, %(u)s)",
        ("some", "plan", ("least(%(t)s, %(u)s)",), ("greatest(%(t)s, %(u)s)",)),
        "created_at is one of 2 values.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at = ANY (%(ts)s)",
        ("some", "plan", (), ()),
        "created_at = ANY (%(ts)s) names some partitions.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at >= now() - interval '4 hours'",
        ("some", "run", ("CURRENT_TIMESTAMP - INTERVAL '4 HOURS'",), ()),
        "created_at >= CURRENT_TIMESTAMP - INTERVAL '4 HOURS' bounds it from below; known only when it runs: now() is stable.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at >= %(d)s",
        ("some", "run", ("%(d)s",), ()),
        "created_at >= %(d)s bounds it from below; known only when it runs: timestamp with time zone and date are compared by the session's TimeZone.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at >= %(l)s AND created_at < %(u)s",
        ("some", "run", ("%(l)s",), ("%(u)s",)),
        "created_at >= %(l)s and created_at < %(u)s bound it on both sides; known only when it runs: timestamp with time zone and timestamp are compared by the session's TimeZone.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at >= (SELECT max(at) FROM seen)",
        ("some", "run", ("(SELECT MAX(at) FROM seen)",), ()),
        "created_at >= (SELECT MAX(at) FROM seen) bounds it from below; known only when it runs: a sub-select is known once it ran.",
    ),
    (
        "SELECT * FROM {table} AS m JOIN conversations AS c ON m.created_at >= c.created_at",
        ("some", "run", (), ()),
        "created_at >= c.created_at bounds it from below; a column of another table is known row by row: partitions are skipped only by a nested loop over them.",
    ),
    (
        "SELECT * FROM {table} AS m WHERE m.created_at IN (SELECT at FROM seen)",
        ("some", "run", (), ()),
        "created_at is joined; what a sub-select returns is known row by row: partitions are skipped only by a nested loop over them.",
    ),
    (
        "SELECT * FROM {table} JOIN other USING (created_at)",
        ("some", "run", (), ()),
        "created_at is joined; what USING joins is known row by row: partitions are skipped only by a nested loop over them.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at > clock_timestamp() - interval '1 day'",
        ("all", "", (), ()),
        "clock_timestamp() is volatile: a value that may change from row to row never prunes.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at > my.since(id)",
        ("all", "", (), ()),
        "created_at is compared with another column of the same row.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at > deleted_at OR id = 5",
        ("all", "", (), ()),
        "One branch of an OR does not bound the key.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at < %(t)s OR id = 5",
        ("all", "", (), ()),
        "One branch of an OR does not bound the key.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at < %(t)s OR created_at >= %(u)s AND id = 5",
        ("some", "plan", (), ()),
        "created_at is bounded in each branch of an OR.",
    ),
    (
        "SELECT * FROM {table} WHERE NOT (created_at < %(t)s OR id = 5)",
        ("some", "plan", ("%(t)s",), ()),
        "created_at >= %(t)s bounds it from below.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at <> %(t)s",
        ("all", "", (), ()),
        "created_at <> a value leaves every partition.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at IS NULL",
        ("none", "plan", (), ()),
        "Only a default partition can hold a row without created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at IS NOT NULL",
        ("all", "", (), ()),
        "created_at is not bounded.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at = NULL",
        ("none", "plan", (), ()),
        "No row can match.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at IS NOT DISTINCT FROM %(t)s",
        ("all", "", (), ()),
        "created_at is compared by IS DISTINCT FROM, which no partition bound can match.",
    ),
    (
        "SELECT * FROM {table} WHERE (created_at > %(t)s) IS TRUE",
        ("all", "", (), ()),
        "a condition on created_at is inside IS, which no partition bound can match.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at::date = %(d)s",
        ("all", "", (), ()),
        "created_at is cast to date, which no partition bound can match. created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < (%(d)s + 2)::timestamp AT TIME ZONE 'UTC' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE date(created_at) = '2026-11-23'",
        ("all", "", (), ()),
        "created_at is cast to date, which no partition bound can match. created_at >= ('2026-11-23'::date - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < ('2026-11-23'::date + 2)::timestamp AT TIME ZONE 'UTC' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at::date BETWEEN %(d)s AND %(d)s + 6",
        ("all", "", (), ()),
        "created_at is cast to date, which no partition bound can match. created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < ((%(d)s + 6) + 2)::timestamp AT TIME ZONE 'UTC' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE date_trunc('month', created_at) = %(t)s",
        ("all", "", (), ()),
        "created_at is inside date_trunc(), which no partition bound can match. created_at >= %(t)s - interval '1 day' AND created_at < %(t)s + interval '1 month' + interval '1 day' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE date_trunc('month', created_at, 'UTC') = %(t)s",
        ("all", "", (), ()),
        "created_at is inside date_trunc(), which no partition bound can match. created_at >= ((%(t)s AT TIME ZONE 'UTC'))::timestamp AT TIME ZONE 'UTC' AND created_at < ((%(t)s AT TIME ZONE 'UTC') + interval '1 month')::timestamp AT TIME ZONE 'UTC' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at AT TIME ZONE 'UTC' >= %(l)s",
        ("all", "", (), ()),
        "created_at is moved by AT TIME ZONE, which no partition bound can match. created_at >= (%(l)s)::timestamp AT TIME ZONE 'UTC' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE (created_at AT TIME ZONE 'Europe/Berlin')::date = %(d)s",
        ("all", "", (), ()),
        "created_at is cast to date, which no partition bound can match. created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'Europe/Berlin' AND created_at < (%(d)s + 2)::timestamp AT TIME ZONE 'Europe/Berlin' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at + interval '30 days' > now()",
        ("all", "", (), ()),
        "created_at is part of a sum, which no partition bound can match. created_at >= CURRENT_TIMESTAMP - INTERVAL '30 DAYS' - interval '1 day' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at - interval '1 hour' <= %(t)s",
        ("all", "", (), ()),
        "created_at is part of a sum, which no partition bound can match. created_at <= %(t)s + INTERVAL '1 HOUR' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE extract(year FROM created_at) = 2026",
        ("all", "", (), ()),
        "created_at is inside extract(), which no partition bound can match. created_at >= make_date(2026, 1, 1) - interval '1 day' AND created_at < make_date(2026 + 1, 1, 1) + interval '1 day' follows from it, and would bound created_at.",
    ),
    (
        "SELECT * FROM {table} WHERE to_char(created_at, 'YYYY-MM') = '2026-11'",
        ("all", "", (), ()),
        "created_at is inside to_char(), which no partition bound can match.",
    ),
    (
        "SELECT * FROM {table} WHERE coalesce(created_at, now()) > %(t)s",
        ("all", "", (), ()),
        "created_at is inside coalesce(), which no partition bound can match.",
    ),
    (
        "SELECT * FROM {table} WHERE (created_at, id) < (%(t)s, %(n)s) ORDER BY created_at DESC, id DESC LIMIT 50",
        ("all", "", (), ()),
        "created_at is compared as part of a row, which no partition bound can match. created_at <= %(t)s follows from it, and would bound created_at. With ORDER BY created_at and LIMIT it may have enough before it reaches the last one, if no default partition remains.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at > %(txt)s",
        ("unknown", "", (), ()),
        "It cannot be told: created_at is compared with text.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at <@ tstzrange(%(t)s, %(u)s)",
        ("all", "", (), ()),
        "created_at is compared with a range, which prunes from PostgreSQL 17 on.",
    ),
    (
        "SELECT role FROM {table} GROUP BY role HAVING max(created_at) > %(t)s",
        ("all", "", (), ()),
        "created_at is not bounded.",
    ),
    (
        "WITH x AS MATERIALIZED (SELECT * FROM {table}) SELECT * FROM x WHERE created_at > %(t)s",
        ("all", "", (), ()),
        "created_at is bounded outside of a CTE that is materialized, and so reads everything first.",
    ),
    (
        "WITH x AS (SELECT * FROM {table}) SELECT * FROM x WHERE created_at > %(t)s",
        ("some", "plan", ("%(t)s",), ()),
        "created_at > %(t)s bounds it from below.",
    ),
    (
        "WITH x AS (SELECT id, mine(id), created_at FROM {table}) SELECT * FROM x WHERE created_at > %(t)s",
        ("unknown", "", (), ()),
        "It cannot be told: mine may be volatile, and a CTE that is volatile is not merged.",
    ),
    (
        "SELECT * FROM (SELECT * FROM {table} LIMIT 10) AS x WHERE created_at > %(t)s",
        ("all", "", (), ()),
        "created_at is bounded outside of a sub-select that counts or keeps some of its rows, and reads all of them first.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at >= %(t)s UNION ALL SELECT * FROM {table} WHERE id = 5",
        ("all", "", (), ()),
        "It reads {table} in 2 places. created_at is not bounded.",
    ),
    (
        "SELECT * FROM conversations AS c WHERE EXISTS (SELECT FROM {table} AS m WHERE m.conversation_id = c.id AND m.created_at > %(t)s)",
        ("some", "plan", ("%(t)s",), ()),
        "created_at > %(t)s bounds it from below.",
    ),
    (
        "SELECT * FROM conversations AS c, LATERAL (SELECT * FROM {table} AS m WHERE m.created_at > c.created_at) AS x",
        ("some", "run", (), ()),
        "created_at > c.created_at bounds it from below; a column of the query around it is known row by row: partitions are skipped only by a nested loop over them.",
    ),
    (
        "UPDATE {table} SET role = 'user' WHERE id = 5",
        ("all", "", (), ()),
        "created_at is not bounded.",
    ),
    (
        "UPDATE {table} SET created_at = now() WHERE created_at = %(t)s",
        ("one", "plan", ("%(t)s",), ("%(t)s",)),
        "created_at = %(t)s names one partition. A row whose created_at changes may move to another partition.",
    ),
    (
        "DELETE FROM {table} AS m USING conversations AS c WHERE c.id = m.conversation_id AND m.created_at < %(t)s",
        ("some", "plan", (), ("%(t)s",)),
        "created_at < %(t)s bounds it from above.",
    ),
    (
        "INSERT INTO {table} (id) VALUES (5)",
        ("routed", "", (), ()),
        "A new row goes to the partition of its own created_at.",
    ),
    (
        "INSERT INTO {table} (id, created_at) VALUES (5, %(t)s) ON CONFLICT (id) DO NOTHING",
        ("routed", "", (), ()),
        "ON CONFLICT (id) lacks created_at: no unique constraint of the partitioned table fits.",
    ),
    (
        "INSERT INTO {table} (id, created_at) VALUES (5, %(t)s) ON CONFLICT (id, created_at) DO NOTHING",
        ("routed", "", (), ()),
        "A new row goes to the partition of its own created_at.",
    ),
    (
        "INSERT INTO {table} SELECT * FROM {table} WHERE created_at < %(t)s",
        ("some", "plan", (), ("%(t)s",)),
        "created_at < %(t)s bounds it from above.",
    ),
    (
        'SELECT * FROM {table} WHERE "created_at" > %(t)s AND "Created_At" > %(u)s AND CREATED_AT < %(u)s',
        ("some", "plan", ("%(t)s",), ("%(u)s",)),
        "created_at > %(t)s and created_at < %(u)s bound it on both sides.",
    ),
    (
        "SELECT * FROM ONLY {table}",
        ("none", "plan", (), ()),
        "ONLY reads the partitioned table itself, which holds no row.",
    ),
    (
        "SELECT 1",
        ("unknown", "", (), ()),
        "It does not read {table}.",
    ),
    (
        "SELECT * FROM {table} AS m (a, b) WHERE b > %(t)s",
        ("unknown", "", (), ()),
        "It could not be read: the columns of {table} are renamed.",
    ),
    (
        "SELECT * FROM {table} WHERE created_at >= $1",
        ("unknown", "", (), ()),
        "It could not be read: '$1' has no place in a workload's statement.",
    ),
    (
        "SELECT * FROM {table}; DROP TABLE x",
        ("unknown", "", (), ()),
        "It could not be read: ';' has no place in a workload's statement.",
    ),
    (
        "EXPLAIN SELECT * FROM {table}",
        ("unknown", "", (), ()),
        "It could not be read: it is no SELECT, INSERT, UPDATE, DELETE or MERGE.",
    ),
    (
        "SELECT * FROM {table} WHERE ((created_at > %(t)s)",
        ("unknown", "", (), ()),
        "It could not be read: it could not be parsed at line 1, column 49.",
    ),
    (
        "SELECT * FROM {table} WHERE CURRENT OF held",
        ("unknown", "", (), ()),
        "It could not be read: it could not be parsed at line 1, column 38.",
    ),
    (
        "WITH x AS (SELECT * FROM {table}) SELECT * FROM x AS a JOIN x AS b ON a.id = b.id WHERE a.created_at > %(t)s",
        ("all", "", (), ()),
        "created_at is bounded outside of a CTE that is read more than once, and so reads everything first.",
    ),
    (
        "WITH x AS (SELECT * FROM {table}) SELECT 1",
        ("none", "plan", (), ()),
        "A CTE that nothing reads is not run.",
    ),
    (
        "WITH since AS (SELECT now() - interval '30 days' AS at) SELECT count(*) FROM {table}, since WHERE created_at >= since.at",
        ("some", "run", ("CURRENT_TIMESTAMP - INTERVAL '30 DAYS'",), ()),
        "created_at >= CURRENT_TIMESTAMP - INTERVAL '30 DAYS' bounds it from below; known only when it runs: now() is stable.",
    ),
    (
        "SELECT * FROM conversations AS c LEFT JOIN {table} AS m ON m.conversation_id = c.id AND m.created_at > %(t)s",
        ("some", "plan", ("%(t)s",), ()),
        "created_at > %(t)s bounds it from below.",
    ),
    (
        "SELECT * FROM {table} AS m LEFT JOIN conversations AS c ON m.conversation_id = c.id AND m.created_at > %(t)s",
        ("all", "", (), ()),
        "created_at is bounded outside of an outer join, which keeps the rows that do not match.",
    ),
    (
        "SELECT * FROM conversations AS c LEFT JOIN {table} AS m ON m.conversation_id = c.id WHERE m.created_at > %(t)s OR m.created_at IS NULL",
        ("all", "", (), ()),
        "created_at is bounded outside of an outer join, which keeps the rows that do not match.",
    ),
    (
        "SELECT * FROM {table} NATURAL JOIN conversations",
        ("unknown", "", (), ()),
        "It could not be read: NATURAL JOIN does not say which columns it compares.",
    ),
    (
        "SELECT m.id FROM {table} AS m, conversations AS c WHERE m.created_at > %(t)s ORDER BY m.created_at LIMIT 5",
        ("some", "plan", ("%(t)s",), ()),
        "created_at > %(t)s bounds it from below. With ORDER BY created_at and LIMIT it may have enough before it reaches the last one, if no default partition remains.",
    ),
]


@pytest.mark.parametrize(("sql", "found", "because"), TOLD, ids=[sql for sql, _, _ in TOLD])
def test_what_is_told_of_a_statement(sql: str, found: tuple[Any, ...], because: str) -> None:
    seen = told(sql)
    assert ((seen.reads, seen.when, seen.lower, seen.upper), seen.because) == (found, because)


FOLLOWS = [
    # a date in the time zone of the session, which may be any, also where the others are known: a day more at both ends by UTC, which the planner knows
    (
        "created_at::date = %(d)s",
        "",
        "created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < (%(d)s + 2)::timestamp AT TIME ZONE 'UTC'",
    ),
    (
        "created_at::date = %(d)s",
        "UTC",
        "created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < (%(d)s + 2)::timestamp AT TIME ZONE 'UTC'",
    ),
    (
        "%(d)s = created_at::date",
        "UTC",
        "created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < (%(d)s + 2)::timestamp AT TIME ZONE 'UTC'",
    ),
    (
        "date(created_at) > '2026-11-23'",
        "UTC",
        "created_at >= ('2026-11-23'::date + 1 - 1)::timestamp AT TIME ZONE 'UTC'",
    ),
    ("cast(created_at AS date) < %(d)s", "UTC", "created_at < (%(d)s + 1)::timestamp AT TIME ZONE 'UTC'"),
    ("cast(created_at AS date) < %(d)s", "Europe/Berlin", "created_at < (%(d)s + 1)::timestamp AT TIME ZONE 'UTC'"),
    ("created_at::date <= %(d)s", "UTC", "created_at < (%(d)s + 2)::timestamp AT TIME ZONE 'UTC'"),
    (
        "created_at::date BETWEEN %(d)s AND current_date",
        "UTC",
        "created_at >= (%(d)s - 1)::timestamp AT TIME ZONE 'UTC' AND created_at < (CURRENT_DATE + 2)::timestamp AT TIME ZONE 'UTC'",
    ),
    ("created_at::date <> %(d)s", "UTC", ""),
    ("created_at::date IN (%(d)s, '2026-11-23')", "UTC", ""),
    ("created_at::date = %(t)s", "UTC", ""),  # compared as timestamps
    ("created_at::timestamp >= %(l)s", "UTC", ""),
    (
        "date_trunc('month', created_at) = %(t)s",
        "UTC",
        "created_at >= %(t)s AND created_at < %(t)s + interval '1 month'",
    ),
    (
        "date_trunc('quarter', created_at) = '2026-10-01'",
        "",
        "created_at >= '2026-10-01'::timestamptz - interval '1 day' "
        "AND created_at < '2026-10-01'::timestamptz + interval '3 months' + interval '1 day'",
    ),
    ("date_trunc('month', created_at) < %(t)s", "UTC", "created_at < %(t)s + interval '1 month'"),
    ("date_trunc(role, created_at) = %(t)s", "UTC", ""),
    ("date_trunc('century', created_at) = %(t)s", "UTC", ""),
    (
        "created_at AT TIME ZONE 'UTC' >= %(l)s AND created_at AT TIME ZONE 'utc' < '2026-12-01'",
        "",
        "created_at >= (%(l)s)::timestamp AT TIME ZONE 'UTC' AND "
        "created_at <= ('2026-12-01'::timestamp)::timestamp AT TIME ZONE 'utc'",
    ),
    (
        "created_at AT TIME ZONE 'Europe/Berlin' >= %(l)s",
        "",
        "created_at >= (%(l)s - interval '1 day')::timestamp AT TIME ZONE 'Europe/Berlin'",
    ),
    ("created_at AT TIME ZONE role >= %(l)s", "UTC", ""),
    (
        "(created_at AT TIME ZONE 'UTC')::date = %(d)s",
        "",
        "created_at >= (%(d)s)::timestamp AT TIME ZONE 'UTC' AND created_at < (%(d)s + 1)::timestamp AT TIME ZONE 'UTC'",
    ),
    ("created_at + interval '3 hours' > now()", "", "created_at >= CURRENT_TIMESTAMP - INTERVAL '3 HOURS'"),
    (
        "created_at + interval '30 days' > %(t)s",
        "",
        "created_at >= %(t)s - INTERVAL '30 DAYS' - interval '1 day'",
    ),
    ("created_at + interval '30 days' > %(t)s", "UTC", "created_at >= %(t)s - INTERVAL '30 DAYS'"),
    (
        "created_at - interval '1 month' < '2026-11-23'",
        "UTC",
        "created_at <= '2026-11-23'::timestamptz + INTERVAL '1 MONTH' + interval '5 days'",
    ),
    ("interval '3 hours' + created_at > now()", "", "created_at >= CURRENT_TIMESTAMP - INTERVAL '3 HOURS'"),
    ("created_at - %(t)s > interval '3 hours'", "", ""),
    ("%(t)s - created_at > interval '3 hours'", "", ""),
    ("created_at + role::interval > now()", "", ""),
    (
        "extract(year FROM created_at) = 2026",
        "UTC",
        "created_at >= make_date(2026, 1, 1) AND created_at < make_date(2026 + 1, 1, 1)",
    ),
    ("date_part('year', created_at) > %(n)s", "UTC", "created_at >= make_date(%(n)s + 1, 1, 1)"),
    ("extract(month FROM created_at) = 11", "UTC", ""),
    ("(created_at, id) < (%(t)s, %(n)s)", "", "created_at <= %(t)s"),
    ("(created_at, id) >= (%(t)s, %(n)s)", "", "created_at >= %(t)s"),
    ("(id, created_at) < (%(n)s, %(t)s)", "", ""),
    ("NOT (created_at, id) < (%(t)s, %(n)s)", "", ""),
    ("created_at::date = %(d)s OR id = 5", "UTC", ""),
    ("created_at::date = deleted_on", "UTC", ""),
    ("coalesce(created_at, now())::date = %(d)s", "UTC", ""),
]


@pytest.mark.parametrize(("where", "zone", "follows"), FOLLOWS)
def test_what_follows_from_a_wrapped_key(where: str, zone: str, follows: str) -> None:
    seen = told(f"SELECT * FROM {{table}} WHERE {where}", time_zone=zone)
    assert (seen.reads, seen.rewrite) == ("all", follows)
    assert (f" {follows} follows from it" in seen.because) is bool(follows)


def test_what_follows_is_said_as_the_statement_names_the_key() -> None:
    seen = foresee(
        'SELECT * FROM {table} AS "M" WHERE "M"."Made At"::date = %(d)s',
        "Made At",
        key_type="timestamp without time zone",
        types=TYPES,
    )
    assert seen.rewrite == '"M"."Made At" >= %(d)s AND "M"."Made At" < %(d)s + 1'


# Counting

MONTHS = periods(Every.month, date(2026, 1, 1), date(2027, 1, 1))


def at(month: int, day: int = 15) -> datetime:
    return datetime(2026, month, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("where", "answer", "count"),
    [
        ("created_at >= %(t)s", [at(11)], 2),
        ("created_at > %(t)s", [at(12, 31)], 1),
        ("created_at >= %(t)s AND created_at < %(u)s", [at(3), at(6, 1)], 3),
        ("created_at >= %(t)s AND created_at <= %(u)s", [at(3), at(6, 1)], 4),
        ("created_at = %(t)s", [at(3, 1)], 1),
        ("created_at = %(t)s", [datetime(2027, 1, 1, tzinfo=UTC)], 0),
        ("created_at = %(t)s", [None], 0),
        ("created_at IN (%(t)s, %(u)s)", [at(3), at(6)], 2),
        ("created_at = ANY (%(ts)s)", [[at(3), at(3, 2), None, at(9)]], 2),
        ("created_at > ALL (%(ts)s)", [[at(3), at(9)]], 4),
        ("created_at > ALL (%(ts)s)", [[at(3), None]], 0),
        ("created_at < %(t)s OR created_at > %(u)s", [at(2), at(11)], 4),
        (
            "created_at = %(t)s AND created_at = %(u)s",
            [at(3), at(6)],
            2,
        ),  # the planner keeps one of them, nobody knows which
        (
            "created_at > %(t)s AND created_at < %(u)s",
            [at(5), at(5, 2)],
            0,
        ),  # they exclude each other: it is planned away
        ("id = 5", [], 12),
        ("false", [], 0),
        ("created_at >= %(t)s", [Decimal("Infinity")], 0),
        ("created_at >= %(t)s", [Decimal("-Infinity")], 12),
        ("created_at >= %(t)s", [Decimal(1_780_000_000)], 8),  # 2026-05-28
    ],
)
def test_partitions_that_remain(where: str, answer: list[Any], count: int) -> None:
    seen = told(f"SELECT * FROM {{table}} WHERE {where}")
    assert seen.partitions(MONTHS, answer) == count


def test_what_is_known_late_is_planned_for_all() -> None:
    seen = told("SELECT * FROM {table} WHERE created_at >= now() - interval '1 day' AND created_at < %(t)s")
    assert seen.question == (
        "SELECT extract(epoch FROM (CURRENT_TIMESTAMP - INTERVAL '1 DAY')::timestamptz), "
        "extract(epoch FROM (%(t)s)::timestamptz)"
    )
    assert seen.partitions(MONTHS, [at(3), at(6)], planned=True) == 6
    assert seen.partitions(MONTHS, [at(3), at(6)]) == 4


def test_one_partition_in_the_plan_is_read_whatever_comes_later() -> None:
    seen = told("SELECT * FROM {table} WHERE created_at = %(t)s AND created_at > now()")
    assert seen.partitions(MONTHS, [at(3), at(6)]) == 1


def test_without_an_answer_all_remain() -> None:
    assert told("SELECT * FROM {table} WHERE created_at = %(t)s").partitions(MONTHS) == 12
    assert told("SELECT * FROM {table} AS m, c WHERE m.created_at = c.at").partitions(MONTHS) == 12
    assert told("INSERT INTO {table} (id) VALUES (1)").partitions(MONTHS) == 1
    assert told("SELECT * FROM").partitions(MONTHS) == 12


def test_an_answer_that_is_none() -> None:
    seen = told("SELECT * FROM {table} WHERE created_at >= %(t)s")
    with pytest.raises(ValueError, match="2 values for 1 bounds"):
        seen.partitions(MONTHS, [at(3), at(4)])
    with pytest.raises(TypeError, match="bytes is no instant"):
        seen.partitions(MONTHS, [b"2026"])
    with pytest.raises(TypeError, match="int is no array"):
        told("SELECT * FROM {table} WHERE created_at = ANY (%(ts)s)").partitions(MONTHS, [5])


def test_several_places_are_counted_together() -> None:
    seen = told(
        "SELECT * FROM {table} WHERE created_at >= %(t)s AND created_at < %(u)s UNION ALL SELECT * FROM {table} WHERE created_at = %(t)s"
    )
    assert seen.because == "It reads {table} in 2 places. created_at is bounded in each branch of an OR."
    assert seen.partitions(MONTHS, [at(3), at(5, 1)]) == 2


def test_a_default_partition_remains_where_a_stretch_is_left_to_it() -> None:
    there = [*MONTHS[:2], *MONTHS[3:], parse_bound("DEFAULT")]
    within = told("SELECT * FROM {table} WHERE created_at >= %(t)s AND created_at < %(u)s")
    assert within.partitions(there, [at(5), at(6)]) == 2
    assert within.partitions(there, [at(2), at(4)]) == 3
    assert told("SELECT * FROM {table} WHERE created_at IS NULL").partitions(there) == 1
    assert told("SELECT * FROM {table} WHERE created_at IS NULL").partitions(MONTHS) == 0
    assert told("SELECT * FROM {table} WHERE created_at >= %(t)s").partitions(there, [at(12)]) == 2


def test_bounds_without_an_end_and_bounds_that_cannot_be_read() -> None:
    there = [
        Bound(None, at(1, 1), is_default=False, text=""),
        period_of(Every.month, at(1)),
        Bound(at(2, 1), None, is_default=False, text=""),
        parse_bound("FOR VALUES IN (5)"),
    ]
    seen = told("SELECT * FROM {table} WHERE created_at < %(t)s")
    assert seen.partitions(there, [at(1, 1)]) == 2
    assert seen.partitions(there, [Decimal("Infinity")]) == 4
    assert told("SELECT * FROM {table} WHERE created_at = %(t)s").partitions(there, [Decimal("Infinity")]) == 2


def test_it_stops_early_where_no_default_partition_remains() -> None:
    default = parse_bound("DEFAULT")
    latest = told("SELECT * FROM {table} ORDER BY created_at DESC LIMIT 50")
    assert (latest.ordered, latest.stops_early(MONTHS), latest.stops_early([*MONTHS, default])) == (True, True, False)
    since = told("SELECT * FROM {table} WHERE created_at >= %(t)s ORDER BY created_at DESC LIMIT 50")
    assert (since.stops_early(MONTHS, [at(3)]), since.stops_early([*MONTHS, default], [at(3)])) == (True, False)
    within = told("SELECT * FROM {table} WHERE created_at >= %(t)s AND created_at < %(u)s ORDER BY created_at LIMIT 50")
    assert within.stops_early([*MONTHS, default], [at(3), at(9)])
    assert not within.stops_early([*MONTHS, default], [at(3), datetime(2027, 2, 1, tzinfo=UTC)])
    assert not told("SELECT * FROM {table} WHERE created_at >= %(t)s LIMIT 50").stops_early(MONTHS, [at(3)])
    assert not told("SELECT * FROM {table} ORDER BY id LIMIT 50").ordered


# Types and versions


def test_a_parameter_without_a_type_is_of_the_keys_own() -> None:
    assert told("SELECT * FROM {table} WHERE created_at >= %(unknown)s").when == "plan"


@pytest.mark.parametrize(
    ("key_type", "value", "when"),
    [
        (ZONED, "timestamptz '2026-11-01'", "plan"),
        (ZONED, "date '2026-11-01'", "run"),
        (ZONED, "timestamp '2026-11-01'", "run"),
        ("timestamp(3) without time zone", "date '2026-11-01'", "plan"),
        ("timestamp without time zone", "timestamptz '2026-11-01'", "run"),
        ("date", "timestamp '2026-11-01'", "plan"),
        ("date", "timestamptz '2026-11-01'", "run"),
        ("date", "date '2026-11-01' - 30", "plan"),
        (ZONED, "'2026-11-01'::text::timestamptz", "run"),
        (ZONED, "timestamptz '2026-11-01' - interval '1 day'", "run"),
        ("timestamp", "timestamp '2026-11-01' - interval '1 day'", "plan"),
        (ZONED, "timestamp '2026-11-01' AT TIME ZONE 'UTC'", "plan"),
        (ZONED, "to_timestamp(1780000000)", "plan"),
        (ZONED, "date_trunc('month', %(t)s, 'UTC')", "run"),
    ],
)
def test_types_of_time_are_compared_while_planning_or_by_the_session(key_type: str, value: str, when: str) -> None:
    assert told(f"SELECT * FROM {{table}} WHERE created_at >= {value}", key_type=key_type).when == when


def test_what_a_version_adds() -> None:
    in_range = "SELECT * FROM {table} WHERE created_at <@ tstzrange(%(t)s, %(u)s)"
    assert [told(in_range, version=v).reads for v in (0, 150_000, 170_000)] == ["all", "all", "some"]
    truncated = "SELECT * FROM {table} WHERE created_at >= date_trunc('month', %(t)s, 'UTC')"
    assert [told(truncated, version=v).when for v in (0, 150_000, 160_000)] == ["run", "run", "plan"]


def test_a_key_that_is_no_time() -> None:
    with pytest.raises(ValueError, match="uuid is no type of time"):
        foresee("SELECT 1", "id", key_type="uuid")


def test_whose_a_column_is() -> None:
    joined = (
        "SELECT * FROM {table} AS m JOIN conversations AS c ON c.id = m.conversation_id WHERE m.created_at > edited_at"
    )
    assert told(joined).because.startswith("created_at > edited_at bounds it from below; a column of another table")
    assert told(joined, columns=(*COLUMNS, "edited_at")).because == (
        "created_at is compared with another column of the same row."
    )
    assert told(joined, columns=()).because == (
        "It cannot be told: nothing says whose column edited_at is, which: only what is stable or immutable prunes."
    )


# Text that nobody should send


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("", "it is no SELECT"),
        (";", "has no place"),
        ("SELECT * FROM {table} WHERE a = 'x", "the parser gave up on it (TokenError)"),
        ("SELECT * FROM {table} WHERE created_at > date %(d)s", "it could not be parsed at line 1, column 50"),
        ("SELECT %(t)s.x FROM {table}", "%(t)s stands where no value can"),
        ("SELECT '{table}' FROM x", ""),
        ("SELECT * FROM {table} /* /* */ */ WHERE created_at > %(t)s", "a comment in a comment"),
        ("SELECT * FROM {table} WHERE U&'x' = 'y'", "has no place"),
        ("SELECT * FROM {table} WHERE created_at > \0", "has no place"),
        ("SELECT " + "ARRAY[" * 20 + "1" + "]" * 20 + " FROM {table}", "more than 6 arrays in arrays"),
        ("SELECT * FROM {table} WHERE " + "(" * 500 + "created_at > %(t)s" + ")" * 500, "it is nested too deeply"),
        ("SELECT * FROM {table} WHERE " + "NOT " * 900 + "created_at > %(t)s", "it is nested too deeply"),
        ("SELECT 1" + " " * 20_000 + "FROM {table}", "longer than 20,000 characters"),
        ("DELETE {table} WHERE created_at > %(t)s", ""),
        ("SELECT * FROM {table}, _table_, _tablex, xtable_, xtablex", "leave none for our own marks"),
        (
            "SELECT * FROM ({table} AS m JOIN c ON true) AS j (a, b) WHERE b > %(t)s",
            "the columns of a join are renamed",
        ),
        (
            "SELECT * FROM (SELECT * FROM {table}) AS j (a, b) WHERE b > %(t)s",
            "the columns of a sub-select are renamed",
        ),
        ("COPY {table} TO STDOUT", "it is no SELECT"),
        ("SELECT * FROM {table} WHERE created_at > %(t", "has no place"),
    ],
)
def test_what_cannot_be_read_is_unknown(sql: str, why: str) -> None:
    seen = told(sql)
    assert seen.reads == "unknown"
    assert why in seen.because
    assert STRANGE not in seen.because


def test_text_that_only_looks_like_ours_is_left_alone() -> None:
    seen = told(
        "SELECT '%(t)s {table}', \"{table}\" FROM {table} -- {table} %(u)s\nWHERE created_at > %(t)s AND role LIKE '%' || $$%(u)s$$ || '\\'"
    )
    assert (seen.reads, seen.lower) == ("some", ("%(t)s",))


def test_a_long_chain_is_no_depth() -> None:
    seen = told("SELECT * FROM {table} WHERE id = 5" + " AND id <> 6" * 900 + " AND created_at > %(t)s")
    assert seen.reads == "some"
    assert told("SELECT * FROM {table} WHERE id = 5" + " OR created_at > %(t)s" * 500).reads == "all"


_WORDS = (
    "SELECT FROM WHERE {table} {table} AND OR NOT created_at created_at > >= = <> ( ) , * %(t)s %(d)s '2026-01-01' now() - interval '1 day' IN BETWEEN "
    "AS m m. x. ::date ANY ALL ARRAY [ ] EXISTS JOIN LEFT RIGHT FULL ON USING (created_at) UNION EXCEPT WITH x AS MATERIALIZED GROUP BY HAVING ORDER LIMIT 3 "
    "CASE WHEN THEN END IS NULL TRUE LATERAL VALUES UPDATE SET DELETE INSERT INTO MERGE RETURNING other id = 5 date_trunc('month',created_at) count(*) OVER "
    "DISTINCT <@ tstzrange( $$a$$ -- /* */ AT TIME ZONE 'UTC' FOR ONLY ROLLUP MATCHED CONFLICT DO NOTHING NATURAL row(created_at) -> f( . % {x} {"
)
_FRAMES = (
    "{}",
    "SELECT * FROM {{table}} WHERE {}",
    "SELECT {} FROM {{table}} AS m, other AS o",
    "SELECT * FROM ({}) AS x WHERE created_at > %(t)s",
    "WITH x AS ({}) SELECT * FROM x WHERE created_at > %(t)s",
    "SELECT * FROM {{table}} AS m LEFT JOIN {} ON true",
    "UPDATE {{table}} SET {}",
    "DELETE FROM {{table}} USING {}",
    "MERGE INTO {{table}} {}",
    "INSERT INTO {{table}} {}",
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(_FRAMES),
    st.sampled_from(_FRAMES),
    st.lists(st.sampled_from(_WORDS.split()), max_size=14).map(" ".join),
)
def test_no_text_raises_or_surprises_us(outer: str, inner: str, words: str) -> None:
    seen = told(outer.format(inner.format(words)))
    assert STRANGE not in seen.because
    assert seen.partitions(MONTHS) <= 12
    assert seen.question == "" or foresee(seen.question, "x").reads == "unknown"


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_at_all(text: str) -> None:
    assert told(text).because.endswith(".")
    assert told(f"SELECT * FROM {{table}} WHERE {text}").because.endswith(".")


def test_a_part_of_a_statement_is_written_as_it_was_meant() -> None:
    with guarded():
        read = parse("SELECT %(a)s::date, '%(a)s' FROM {table} WHERE {table}.x = %(b)s")
        assert read.written(read.tree) == "SELECT CAST(%(a)s AS DATE), '%(a)s' FROM {table} WHERE {table}.x = %(b)s"


def test_nothing_of_the_text_is_told_when_the_parser_warns(capfd: pytest.CaptureFixture[str]) -> None:
    assert told("WITH x AS (SET secret TO 'told') SELECT * FROM {table}").reads == "unknown"
    assert capfd.readouterr() == ("", "")


def test_what_goes_wrong_with_a_tree_is_unreadable() -> None:
    with pytest.raises(Unreadable, match=r"not known here \(KeyError\)"), guarded():
        raise KeyError("x")
