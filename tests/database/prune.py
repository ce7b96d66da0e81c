"""Small partitioned tables to ask, and what EXPLAIN (ANALYZE) says of a statement: which partitions are in its plan, and which it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from atlas_ops import workload
from atlas_ops.bounds import Bound, parse_bound
from atlas_ops.predicate import Foresight, foresee

MONTHS = 24
KEY_TYPES = {
    "event": "timestamp with time zone",
    "local_event": "timestamp without time zone",
    "day_event": "date",
    "gap_event": "timestamp with time zone",
}
"""Tables from 2024-01 on for 24 months, each with the type of its key, `at`; the last lacks some, and has ends and a default partition."""

_GAPS = """
DROP TABLE gap_event_2024_03, gap_event_2025_06, gap_event_2025_07, gap_event_2025_12;
CREATE TABLE gap_event_1900_01 PARTITION OF gap_event FOR VALUES FROM (MINVALUE) TO ('2023-12-01 00:00+00');
CREATE TABLE gap_event_2999_01 PARTITION OF gap_event FOR VALUES FROM ('2026-01-01 00:00+00') TO (MAXVALUE);
CREATE TABLE gap_event_0000_00 PARTITION OF gap_event DEFAULT;
INSERT INTO gap_event (id, part, at) VALUES (9001, 1, '-infinity'), (9002, 1, 'infinity'), (9003, 1, '2024-03-05'), (9004, 1, '2025-12-31');
"""

_TABLES = """
CREATE TABLE other (id int PRIMARY KEY, since timestamptz, at timestamptz, local timestamp, day date, x int);
INSERT INTO other SELECT n, at, at, at AT TIME ZONE 'UTC', (at AT TIME ZONE 'UTC')::date, n
FROM generate_series(1, 30) AS n, LATERAL (SELECT timestamptz '2024-01-01 00:00+00' + n * interval '20 days' AS at) AS t;
CREATE FUNCTION mine() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT timestamptz '2025-05-01 00:00+00' $$;
"""
_KEYED = """
CREATE TABLE {table} (id int, part int, at {type} NOT NULL, "Odd Key" int, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
DO $$
BEGIN
    FOR month IN 0..{months} - 1 LOOP
        EXECUTE format('CREATE TABLE {table}_%s PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)',
            to_char(date '2024-01-01' + make_interval(months => month), 'YYYY_MM'),
            (date '2024-01-01' + make_interval(months => month))::date || '{zone}',
            (date '2024-01-01' + make_interval(months => month + 1))::date || '{zone}');
    END LOOP;
END $$;
INSERT INTO {table} SELECT n, n % 30 + 1, t, n, 'note' FROM generate_series(1, 5000) AS n,
LATERAL (SELECT (timestamp '2024-01-01' + n * interval '200 minutes') {cast} AS t) AS made ON CONFLICT DO NOTHING;
CREATE INDEX ON {table} (part, at);
CREATE INDEX ON {table} (at);
"""


def make(conninfo: str) -> None:
    """Make the tables in an empty database."""
    with psycopg.connect(conninfo, options="-c TimeZone=UTC", autocommit=True) as conn:
        conn.execute(_TABLES)
        for table, key_type in KEY_TYPES.items():
            zoned = key_type.endswith("with time zone")
            conn.execute(
                _KEYED.format(
                    table=table,
                    type=key_type,
                    months=MONTHS,
                    zone=" 00:00:00+00" if zoned else "",
                    cast="AT TIME ZONE 'UTC'" if zoned else f"::{key_type}",
                )
            )
        conn.execute(_GAPS)
        conn.execute("ANALYZE")


def bounds(conn: psycopg.Connection[Any], table: str) -> list[Bound]:
    """The bounds of its partitions."""
    found = conn.execute(
        "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = %s::regclass",
        (table,),
    ).fetchall()
    return [parse_bound(expr) for (expr,) in found]


@dataclass(frozen=True)
class Seen:
    """Partitions in the plan, and those of them that were read."""

    planned: int
    read: int


_SCAN = re.compile(
    r"Scan (?:using \S+ |Backward using \S+ )?on (?P<name>\w+)(?: \S+)?  \(.*?(?P<never>\(never executed\))?$",
    re.MULTILINE,
)


def seen(conn: psycopg.Connection[Any], table: str, statement: str, values: Mapping[str, Any]) -> Seen:
    """What the server does for these very values, as it does for a statement that nobody prepared; nothing of it stays."""
    with conn.transaction(force_rollback=True):
        rows = conn.execute(
            f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {statement}".encode(), values, binary=True
        ).fetchall()
    plan = "\n".join(row[0] for row in rows)
    scans = [found for found in _SCAN.finditer(plan) if re.fullmatch(rf"{table}_\d{{4}}_\d\d", found["name"])]
    removed = sum(int(number) for number in re.findall(r"Subplans Removed: (\d+)", plan))
    read = {found["name"] for found in scans if not found["never"]}
    return Seen(len({found["name"] for found in scans}) + removed, len(read))


@dataclass(frozen=True)
class Told:
    """What was foreseen, and in partitions."""

    foresight: Foresight
    planned: int
    read: int


def told(
    conn: psycopg.Connection[Any],
    table: str,
    sql: str,
    types: Mapping[str, str],
    values: Mapping[str, Any],
    **keys: Any,
) -> Told:
    """What `foresee` says, its question answered by the server."""
    found = foresee(sql, "at", key_type=KEY_TYPES[table], types=types, version=conn.info.server_version, **keys)
    answer: tuple[Any, ...] = ()
    if found.question:
        asked = conn.execute(workload.statement(found.question, table, types).encode(), values, binary=True)
        answer = asked.fetchone() or ()
    there = bounds(conn, table)
    return Told(found, found.partitions(there, answer, planned=True), found.partitions(there, answer))
