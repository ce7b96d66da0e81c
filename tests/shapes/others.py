"""Partition sets that others made, as their tools make them; each with one row a day from its first bound to the 14th of January 2024."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Others:
    """A set: how it is made, how it is specified, and what the next partition is called in it."""

    name: str
    made: tuple[str, ...]
    keys: Mapping[str, Any]
    partitions: tuple[str, ...]  # attached, in the order of time
    old: tuple[str, ...]  # those that ended two whole periods ago
    following: str = ""  # the next one, in the set's own words; empty: none can be made
    told: frozenset[str] = frozenset()  # what 04 has to say of its bounds


def _months(pattern: str, *lower: str) -> list[str]:
    edges = [f"{month}-01" for month in lower]
    return [
        f"CREATE TABLE {pattern.format(y=low[:4], m=low[5:7], d=low[8:])} PARTITION OF message FOR VALUES FROM ('{low} 00:00:00+00') TO ('{high} 00:00:00+00')"
        for low, high in pairwise(edges)
    ]


def _table(key: str = "at timestamptz NOT NULL") -> list[str]:
    return [
        f"CREATE TABLE message (id bigint GENERATED ALWAYS AS IDENTITY, {key}, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE INDEX ON message (at)",
        "GRANT SELECT, INSERT ON message TO authenticated",
        "ALTER TABLE message ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY all_of_it ON message TO authenticated USING (true)",
    ]


def _rows(first: str) -> str:
    return f"INSERT INTO message (at, body) SELECT d, 'x' FROM generate_series('{first}'::timestamptz, '2024-01-14', '1 day') AS d"


MONTHS = ("2023-10", "2023-11", "2023-12", "2024-01", "2024-02")
KEYS = {"table": "message", "partition_key": "at", "from": "2023-10-01", "until": None, "ahead": 2, "keep": 1}

# What create_partition() of pg_partman 5 leaves behind: its settings, the template, the default partition, and names by the day
# (its naming since 5.0 for a month too).
PARTMAN = (
    "CREATE SCHEMA partman",
    "CREATE TABLE partman.part_config (parent_table text PRIMARY KEY, control text NOT NULL, partition_interval text NOT NULL, premake int NOT NULL "
    "DEFAULT 4, automatic_maintenance text NOT NULL DEFAULT 'on', template_table text, retention text, datetime_string text)",
    *_table(),
    "CREATE TABLE partman.template_public_message (LIKE message)",
    "ALTER TABLE partman.template_public_message ADD PRIMARY KEY (id)",
    "INSERT INTO partman.part_config VALUES ('public.message', 'at', '1 mon', 4, 'on', 'partman.template_public_message', NULL, 'YYYYMMDD')",
    *_months("message_p{y}{m}{d}", *MONTHS),
    "CREATE TABLE message_default PARTITION OF message DEFAULT",
    _rows("2023-10-01"),
)

# After `pgslice prep message at month`, add_partitions, fill, swap: the retired table, and the settings in a comment.
PGSLICE = (
    "CREATE TABLE message_retired (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text)",
    *_table(),
    "COMMENT ON TABLE message IS 'column:at,period:month,cast:timestamptz,version:3'",
    *_months("message_{y}{m}", *MONTHS),
    _rows("2023-10-01"),
)


def _named(pattern: str, months: Sequence[str]) -> tuple[str, ...]:
    return tuple(pattern.format(y=month[:4], m=month[5:], d="01") for month in months[:-1])


SETS = (
    Others("pg_partman", PARTMAN, KEYS, (*_named("message_p{y}{m}{d}", MONTHS), "message_default"), ("message_p20231001", "message_p20231101"),
           "message_p20240201"),
    Others("pgslice", PGSLICE, {**KEYS, "default_partition": False}, _named("message_{y}{m}", MONTHS), ("message_202310", "message_202311"), "message_202402"),
    Others("pgslice before its swap", tuple(one.replace("message ", "message_intermediate ") if "PARTITION" in one else one for one in (
               "CREATE TABLE message_intermediate (id bigint, at timestamptz NOT NULL, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
               "CREATE TABLE message (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text)",
               *_months("message_{y}{m}", *MONTHS),
           )), {**KEYS, "partitioned_table": "message_intermediate", "default_partition": False}, _named("message_{y}{m}", MONTHS),
           ("message_202310", "message_202311"), "message_202402"),
    Others("monthly by hand", (*_table(), "CREATE SCHEMA old", *_months("old.\"Message of {y}-{m}\"", *MONTHS), _rows("2023-10-01")), KEYS,
           _named("Message of {y}-{m}", MONTHS), ("Message of 2023-10", "Message of 2023-11"), "Message of 2024-02"),
    Others("ISO weeks with a 53rd", (
               *_table("at date NOT NULL"),
               *(f"CREATE TABLE message_{name} PARTITION OF message FOR VALUES FROM ('{low}') TO ('{high}')" for name, low, high in (
                   ("2020w53", "2020-12-28", "2021-01-04"), ("2021w01", "2021-01-04", "2021-01-11"), ("2024w02", "2024-01-08", "2024-01-15"),
                   ("2024w03", "2024-01-15", "2024-01-22"))),
               "INSERT INTO message (at, body) VALUES ('2021-01-03', 'x'), ('2024-01-14', 'x')"),
           {**KEYS, "every": "week", "from": "2020-12-28"}, ("message_2020w53", "message_2021w01", "message_2024w02", "message_2024w03"),
           ("message_2020w53", "message_2021w01"), "message_2024w04", frozenset({"gaps"})),
    Others("drifting", (
               *_table(),
               *(f"CREATE TABLE {name} PARTITION OF message FOR VALUES FROM ('{low}') TO ('{high}')" for name, low, high in (
                   ("m1", "2023-09-30 22:00+00", "2023-10-31 22:00+00"), ("m2", "2023-10-31 22:00+00", "2023-12-05 00:00+00"),
                   ("m3", "2023-12-05 00:00+00", "2024-01-31 22:00+00"))),
               _rows("2023-10-01")),
           KEYS, ("m1", "m2", "m3"), ("m1",), "", frozenset({"bounds"})),
    Others("without a first or a last bound", (
               *_table("at timestamp NOT NULL"),
               "CREATE TABLE message_before PARTITION OF message FOR VALUES FROM (MINVALUE) TO ('2023-11-01')",
               "CREATE TABLE message_2023_11 PARTITION OF message FOR VALUES FROM ('2023-11-01') TO ('2023-12-01')",
               "CREATE TABLE message_2023_12 PARTITION OF message FOR VALUES FROM ('2023-12-01') TO ('2024-01-01')",
               "CREATE TABLE message_after PARTITION OF message FOR VALUES FROM ('2024-01-01') TO (MAXVALUE)",
               "CREATE TABLE message_default PARTITION OF message DEFAULT", _rows("2023-10-01")),
           KEYS, ("message_before", "message_2023_11", "message_2023_12", "message_after", "message_default"), ("message_before", "message_2023_11"), "",
           frozenset({"bounds"})),
)  # fmt: skip
