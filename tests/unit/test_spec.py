"""A parameters file is read, or refused in words a DBA can act on. No database."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_ops.bounds import Every, period_of
from atlas_ops.errors import AtlasError
from atlas_ops.settings import find_specs, json_schema, load, tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.written import KeyFrom, stretch

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "parameters").glob("*.yml"))

GOOD = """\
database: demo
tables:
  - table: public.messages
    partition_key: created_at
    from: 2024-01-01
"""


def told(file: Path, text: str | bytes, also: tuple[str, ...] = ()) -> AtlasError:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AtlasError) as stop:
        load(file, also)
    return stop.value


def one(**keys: object) -> TableSpec:
    [table] = tables_from([{"table": "messages", "partition_key": "created_at", "from": "2024-01-01", **keys}])
    return table


def refused(**keys: object) -> AtlasError:
    with pytest.raises(AtlasError) as stop:
        one(**keys)
    return stop.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "demo.yml"


# what is read


@pytest.mark.parametrize(("every", "kept"), [("day", 731), ("week", 105), ("month", 24), ("quarter", 8), ("year", 2)])
def test_24_months_are_kept_unless_told_otherwise(file: Path, every: str, kept: int) -> None:
    file.write_text(f"{GOOD}    every: {every}\n")
    assert load(file).tables[0].keep == kept
    current = period_of(Every(every), date(2026, 11, 28)).lower
    oldest = current
    for _ in range(kept):
        oldest = period_of(Every(every), oldest - timedelta(days=1)).lower
    assert (current - oldest).days >= 365 + 365
    file.write_text(f"{GOOD}    every: {every}\n    keep: null\n")
    assert load(file).tables[0].keep is None


def test_a_length_that_is_none_is_one_fault_and_not_one_of_keep_as_well(file: Path) -> None:
    file.write_text(f"{GOOD}    every: monthly\n")
    with pytest.raises(AtlasError) as stop:
        load(file)
    assert "keep" not in "\n".join(stop.value.lines())


def test_the_shortest_specification_and_its_defaults(file: Path) -> None:
    file.write_text(GOOD)
    [table] = load(file).tables
    assert (table.schema, table.name) == ("public", "messages")
    assert (table.partitioned_schema, table.partitioned_name) == ("public", "messages_partitioned")
    assert (table.partition_key, table.every, table.from_, table.until) == (
        "created_at",
        Every.month,
        date(2024, 1, 1),
        None,
    )
    assert (table.ahead, table.keep, table.partition_schema, table.default_partition) == (
        3,
        24,
        "partitions",
        True,
    )
    assert (table.null_keys, table.null_value, table.unique_without_key, table.indexes) == (
        "refuse",
        None,
        "refuse",
        (),
    )
    assert (table.copy, table.workers, table.publications, table.workload) == (
        "online",
        2,
        "carry",
        None,
    )
    assert (table.lock_timeout_ms, table.statement_timeout_ms) == (100, 6 * 3600 * 1000)
    assert table.partition_name(period_of(Every.month, date(2024, 1, 5))) == "messages_2024_01"
    assert (table.default_name, table.null_keys_name) == ("messages_default", "messages_null_keys")


@pytest.mark.parametrize(
    ("written", "schema", "name"),
    [
        ("messages", "public", "messages"),
        ("Public.MESSAGES", "public", "messages"),
        ('"My Schema"."My Table"', "My Schema", "My Table"),
        ('app."Table"', "app", "Table"),
        ('"a""b"', "public", 'a"b'),
        ('"a.b".c', "a.b", "c"),
        ("ÄRGER", "public", "Ärger"),
        ("usage$logs", "public", "usage$logs"),
        ("order", "public", "order"),
        ('"x\'; DROP TABLE messages; --"', "public", "x'; DROP TABLE messages; --"),
        ('"{0} %(x)s {name}"', "public", "{0} %(x)s {name}"),
        ('"' + "é" * 25 + '"', "public", "é" * 25),
    ],
)
def test_names_are_read_as_sql_identifiers(written: str, schema: str, name: str) -> None:
    table = one(table=written)
    assert (table.schema, table.name) == (schema, name)
    assert table.partitioned_name == f"{name}_partitioned"


def test_a_quoted_column_is_parsed_once() -> None:
    table = one(partition_key='"Created ""At"""', indexes=[["User_Id", '"B"']], partition_schema='"P"')
    again = replace(table, workers=3)
    assert again.partition_key == table.partition_key == 'Created "At"'
    assert again.indexes == (("user_id", "B"),)
    assert again.partition_schema == "P"
    assert again.workers == 3


def test_every_key_is_read(file: Path) -> None:
    file.write_text("""\
database: atlas_staging
confirm: "0cd57f4"
as_of: 2026-11-23
batch_rows: 500
tables:
  - table: app.messages
    partitioned_table: app.messages_new
    partition_key: created_at
    every: week
    from: 2024-01-01
    until: 2024-02-05
    ahead: 1
    keep: null
    partition_schema: parts
    default_partition: false
    null_keys: {value: "coalesce(edited_at, '2024-01-01 00:00:00+00')"}
    unique_without_key: add_key
    indexes: [[user_id], [conversation_id, created_at]]
    copy: single_transaction
    workers: 8
    lock_timeout: 2s
    statement_timeout: 90min
    workload: workloads/atlas.yml
    publications: leave
""")
    read = load(file, also=("batch_rows",))
    assert (read.database, read.confirm, read.as_of) == ("atlas_staging", "0cd57f4", "2026-11-23")
    assert read.model_extra == {"batch_rows": 500}
    [table] = read.tables
    assert table == TableSpec(
        table="app.messages",
        partitioned_table="app.messages_new",
        partition_key="created_at",
        every=Every.week,
        from_=date(2024, 1, 1),
        until=date(2024, 2, 5),
        ahead=1,
        keep=None,
        partition_schema="parts",
        default_partition=False,
        null_keys=KeyFrom("coalesce(edited_at, '2024-01-01 00:00:00+00')"),
        unique_without_key="add_key",
        indexes=(("user_id",), ("conversation_id", "created_at")),
        copy="single_transaction",
        workers=8,
        lock_timeout="2s",
        statement_timeout="90min",
        workload=str(file.parent / "workloads/atlas.yml"),
        publications="leave",
    )
    assert table.null_value == "coalesce(edited_at, '2024-01-01 00:00:00+00')"
    assert (table.lock_timeout_ms, table.statement_timeout_ms) == (2_000, 5_400_000)


@pytest.mark.parametrize(
    ("written", "first", "after"),
    [
        ("2024", "2024-01-01", "2025-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2024-12", "2024-12-01", "2025-01-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
    ],
)
def test_what_is_held_is_a_year_a_month_or_a_day(file: Path, written: str, first: str, after: str) -> None:
    """YAML makes a number of the first and a date of the last."""
    file.write_text(GOOD + f"    hold: [{written}]\n")
    [table] = load(file).tables
    assert table.hold == (written,)
    assert [str(edge.date()) for edge in stretch(*table.hold)] == [first, after]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("archive", "{folder}/archive"),
        ("../archive", "{folder.parent}/archive"),
        ("/srv/atlas_archive", "/srv/atlas_archive"),
        ("file:///srv/atlas_archive", "file:///srv/atlas_archive"),
        ("s3://bucket/production", "s3://bucket/production"),
    ],
)
def test_where_an_archive_lies_is_told_from_the_file_that_names_it(file: Path, written: str, read: str) -> None:
    file.write_text(GOOD + f"    archive_to: {written}\n    hold: all\n    prove_on: atlas_scratch\n")
    [table] = load(file).tables
    assert (table.archive_to, table.hold, table.prove_on) == (read.format(folder=file.parent), "all", "atlas_scratch")


def test_two_tables_may_share_keys_by_an_anchor(file: Path) -> None:
    file.write_text("""\
database: demo
tables:
  - &first
    table: messages
    partition_key: created_at
    from: 2024-01-01
  - <<: *first
    table: usage_logs
    partition_key: timestamp
""")
    assert [(t.name, t.partition_key, t.from_) for t in load(file).tables] == [
        ("messages", "created_at", date(2024, 1, 1)),
        ("usage_logs", "timestamp", date(2024, 1, 1)),
    ]


# what is refused, and how

KEYS = "    "


@pytest.mark.parametrize(
    ("line", "what", "why", "next"),
    [
        ("every: monthly", 'every is "monthly".', "one of day, week, month, quarter, year",
         "Write every: month"),
        ("every: Quarter", 'every is "Quarter".', "one of day", "Write every: quarter"),
        ("every: 3", "every is 3.", "one of day", "Write every: month"),
        ("every:", "every is empty (null).", "one of day", "Write every: month"),
        ("evry: month", "evry is not a key", "The keys here are table,", "Did you mean every?"),
        ("premake: 4", "premake is not a key", "ahead", "Did you mean ahead?"),
        ("retention: 24", "retention is not a key", "keep", "Did you mean keep?"),
        ("zzz: 1", "zzz is not a key", "The keys here are", "Remove it."),
        ("1: 1", "1 is not a key", "The keys here are", "Remove it."),
        ("password: hunter2", "password is not a key", "records and repositories", "PGPASSFILE"),
        ('ahead: "3"', 'ahead is "3".', "a whole number", "without quotes"),
        ("ahead: 0", "ahead is 0.", "1 to 10000", "Write ahead: 3"),
        ("ahead: -1", "ahead is -1.", "1 to 10000", "Write ahead: 3"),
        ("ahead: .inf", "ahead is inf.", "a whole number", "Write ahead: 3"),
        ("ahead: .nan", "ahead is nan.", "a whole number", "Write ahead: 3"),
        ("ahead: 3.0", "ahead is 3.0.", "a whole number", "Write ahead: 3"),
        ("ahead: true", "ahead is true.", "a whole number", "Write ahead: 3"),
        ("ahead: null", "ahead is empty (null).", "a whole number", "Write ahead: 3"),
        ("ahead: 99999999999999999999999", "ahead is 999", "1 to 10000", "Write ahead: 3"),
        ("keep: 0", "keep is 0.", "null keeps all", "Write keep: 24"),
        ("keep: all", 'keep is "all".', "null keeps all", "Write keep: 24"),
        ("workers: 9", "workers is 9.", "1 to 8", "Write workers: 2"),
        ("default_partition: yes", 'default_partition is "yes".', "true or false",
         "Write default_partition: true"),
        ("default_partition: 1", "default_partition is 1.", "true or false", "Write default_partition: true"),
        ("until: 2024-02-30", 'until is "2024-02-30".', "There is no such day.", "Write until: 2027-01-01"),
        ("until: 2024-06-15", "until is 2024-06-15.", "2024-06-01 and 2024-07-01", "until: 2024-06-01, or"),
        ("until: 2024-01-01", "until is 2024-01-01.", "after from", "2024-02-01 or later"),
        ("until: 2020-01-01", "until is 2020-01-01.", "after from", "2024-02-01 or later"),
        ("until: 20240601", "until is 20240601.", "YYYY-MM-DD", "Write until: 2027-01-01"),
        ("until: 2024-06-01 00:00:00+02", 'until is "2024-06-01 00:00:00+02".', "YYYY-MM-DD", "Write until:"),
        ("until: 9999-12-31", "end of the calendar", "1 and 9999", "Check the years"),
        ("until: infinity", 'until is "infinity".', "YYYY-MM-DD", "Write until:"),
        ("null_keys: skip", 'null_keys is "skip".', "refuse, set_aside", "Write null_keys: set_aside"),
        ("null_keys: set_asid", 'null_keys is "set_asid".', "refuse, set_aside",
         "Write null_keys: set_aside"),
        ("null_keys: {}", "null_keys is an empty map.", "value and nothing else", "Write null_keys:"),
        ("null_keys: {value: 3}", "null_keys is a map.", "value and nothing else", "Write null_keys:"),
        ("null_keys: {value: 'now(); DROP TABLE x'}", "null_keys is a map.", "one whole SQL expression",
         "coalesce("),
        ("null_keys: {value: 'now()) FROM x --'}", "null_keys is a map.", "one whole SQL expression",
         "coalesce("),
        ("unique_without_key: drop", 'unique_without_key is "drop".', "refuse or add_key",
         "unique_without_key: add_key"),
        ("indexes: [user_id]", "indexes is a list.", "a list of its own", 'Write indexes: [["user_id"]'),
        ("indexes: user_id", 'indexes is "user_id".', "a list of lists", "Write indexes:"),
        ("indexes: [[]]", "indexes holds an empty list.", "a list of lists", "Write indexes:"),
        ("indexes: [[3]]", "indexes holds 3.", "a list of lists", "in quotes"),
        ("indexes: [[created_at desc]]", 'indexes holds "created_at desc".', "no SQL identifier",
         "Quote a name"),
        ("indexes: [[a, a]]", 'indexes holds "a, a"', "costs every write", "Remove one"),
        ("indexes: [[a], [b], [a]]", 'indexes holds "a"', "costs every write", "Remove one"),
        ("copy: fast", 'copy is "fast".', "by_partition", "Write copy: online"),
        ("publications: keep", 'publications is "keep".', "carry or leave", "Write publications:"),
        ("lock_timeout: 0", "lock_timeout is 0.", "1ms to 60s", "in quotes"),
        ("lock_timeout: 100", "lock_timeout is 100.", "1ms to 60s", "in quotes"),
        ("lock_timeout: 0ms", 'lock_timeout is "0ms".', "between 1ms and 60s", "Write lock_timeout: 100ms"),
        ("lock_timeout: 61s", 'lock_timeout is "61s".', "between 1ms and 60s", "Write lock_timeout: 100ms"),
        ("lock_timeout: 2 minutes", 'lock_timeout is "2 minutes".', "ms, s, min, h or d",
         "Write lock_timeout:"),
        ("lock_timeout: -1s", 'lock_timeout is "-1s".', "ms, s, min, h or d", "Write lock_timeout:"),
        ('statement_timeout: "0"', 'statement_timeout is "0".', "ms, s, min, h or d",
         "Write statement_timeout: 6h"),
        ("statement_timeout: 21d", 'statement_timeout is "21d".', "between 1s and 20d",
         "Write statement_timeout: 6h"),
        ('workload: ""', 'workload is "".', "a path", "Write workload: workloads/atlas.yml"),
        ("partitioned_table: messages", "the table itself", "swaps their names",
         "Leave partitioned_table out"),
        ('partitioned_table: "public.\\"messages\\""', "the table itself", "swaps their names",
         "Leave partitioned"),
        ("partition_schema: pg_parts", "partition_schema is", "keeps that schema for itself", "partitions"),
        ("partition_schema: a.b", 'partition_schema is "a.b".', "no SQL identifier", "Quote a name"),
        ("partition_schema: null", "partition_schema is empty (null).", "a schema's name",
         "Write partition_schema:"),
        (f"partition_schema: {'x' * 64}", "partition_schema is", "64 bytes long; PostgreSQL keeps 63",
         "63 bytes"),
        ("every: postgresql://u:hunter2@h/db", "every is a connection string (not shown).", "one of day",
         "month"),
        ("hold: yes please", 'hold is "yes please".', "all, or a list of years, months or days", "Write hold:"),
        ("hold: 2024", "hold is 2024.", "all, or a list of years, months or days", "Write hold:"),
        ("hold: null", "hold is empty (null).", "all, or a list of years, months or days", "Write hold:"),
        ("hold: [all]", "hold is a list.", '"all" is no year, month or day', "[2024-01, 2024-03-15]"),
        ("hold: [2024-13]", "hold is a list.", '"2024-13" is no year, month or day', "[2024-01, 2024-03-15]"),
        ("hold: [2024-02-30]", "hold is a list.", '"2024-02-30" is no year, month or day', "[2024-01, 2024-03-15]"),
        ("hold: [2024-01, March]", "hold is a list.", '"March" is no year, month or day', "[2024-01, 2024-03-15]"),
        ("hold: [20240131]", "hold is a list.", '"20240131" is no year, month or day', "[2024-01, 2024-03-15]"),
        ("hold: [[2024-01]]", "hold is a list.", "a list is no year, month or day", "Write hold:"),
        ('archive_to: ""', 'archive_to is "".', "a folder", "Write archive_to:"),
        ("archive_to: 3", "archive_to is 3.", "a folder", "in quotes"),
        ("archive_to: gs://bucket/x", "archive_to is", "in a folder or in s3", "s3://bucket/prefix"),
        ("archive_to: s3://", "archive_to is", "no place at all", "Write s3://bucket/prefix"),
        ("archive_to: file://srv/archive", "archive_to is", "three slashes", "file:///path"),
        ("archive_to: s3://AKIAEXAMPLE:hunter2@bucket/x", "archive_to is", "more than a place", "~/.aws"),
        ("archive_to: 's3://bucket/x?X-Amz-Signature=hunter2'", "archive_to is", "more than a place", "~/.aws"),
        ("prove_on: host=scratch password=hunter2", "prove_on is", "no libpq service name", "pg_service.conf"),
        ("prove_on: postgresql://u:hunter2@h/db", "prove_on is", "no libpq service name", "pg_service.conf"),
        ("prove_on: 5432", "prove_on is 5432.", "a libpq service", "in quotes"),
    ],
)  # fmt: skip
def test_a_bad_key_of_a_table(file: Path, line: str, what: str, why: str, next: str) -> None:
    stop = told(file, GOOD + KEYS + line + "\n")
    assert stop.what.startswith(f"{file} line 6: ")
    assert what in stop.what
    assert why in stop.why
    assert next in stop.next
    assert "hunter2" not in str(stop)


@pytest.mark.parametrize(
    ("keys", "what", "why"),
    [
        ({"table": "a b"}, 'table is "a b".', "no table's name"),
        ({"table": "a.b.c"}, 'table is "a.b.c".', "no table's name"),
        ({"table": "messages; DROP TABLE messages"}, "table is", "no table's name"),
        ({"table": '""'}, "table is", "no table's name"),
        ({"table": "1st"}, "table is", "no table's name"),
        ({"table": '"a'}, "table is", "no table's name"),
        ({"table": 'U&"\\0061"'}, "table is", "no table's name"),
        ({"table": '"a\0b"'}, 'table is "\\"a\\u0000b\\"".', "no table's name"),
        ({"table": '"\ud800"'}, 'table is "\\"\\ud800\\"".', "half a character"),
        ({"table": "messages\n"}, "table is", "no table's name"),
        ({"table": ""}, 'table is "".', "no table's name"),
        ({"table": None}, "table is empty (null).", "the table to partition"),
        ({"table": ["messages"]}, "table is a list.", "the table to partition"),
        ({"table": "x" * 64}, "table is", "64 bytes long; PostgreSQL keeps 63"),
        ({"table": '"' + "é" * 32 + '"'}, "table is", "64 bytes long"),
        ({"table": "x" * 56}, "_partitioned\" is 68 bytes long", "PostgreSQL keeps 63"),
        ({"table": "x" * 56, "partitioned_table": "p", "default_partition": False}, "_2024", "would cut"),
        ({"table": "x" * 54, "partitioned_table": "p", "null_keys": "set_aside"}, "_null_keys", "would cut"),
        ({"table": "postgresql://u:hunter2@host/db"}, "a connection string (not shown)", "no table's name"),
        ({"partition_key": "password = 'hunter2'"}, "a connection string (not shown)", "no SQL identifier"),
        ({"partition_key": "date_trunc('month', created_at)"}, "partition_key is", "no SQL identifier"),
        ({"from": "2024-01-15"}, "from is 2024-01-15.", "2024-01-01 and 2024-02-01"),
        ({"from": "9999-12-01"}, "end of the calendar", "1 and 9999"),
        ({"from": "0204-01-01", "every": "day", "until": "2024-01-01"}, "more than 10,000", "not pruned"),
        ({"from": date(2024, 1, 15)}, "from is 2024-01-15.", "2024-01-01 and 2024-02-01"),
        ({"from": 45000}, "from is 45000.", "YYYY-MM-DD"),
        ({"every": "week", "from": "2024-01-02"}, "from is 2024-01-02.", "2024-01-01 and 2024-01-08"),
    ],
)  # fmt: skip
def test_a_bad_value_from_a_notebook(keys: dict[str, object], what: str, why: str) -> None:
    stop = refused(**keys)
    assert what in str(stop)
    assert why in str(stop)
    assert "hunter2" not in str(stop)
    str(stop).encode()


@pytest.mark.parametrize(
    "expression",
    ["created_at", "(a)", "coalesce(a, 'it''s; -- fine')", "\"odd;name\" + interval '1 day'", "a - 1"],
)
def test_expressions_that_pass(expression: str) -> None:
    assert one(null_keys={"value": expression}).null_value == expression


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        "a;",
        "a -- b",
        "a /* b",
        ")",
        "(a",
        "a) OR (b",
        "'a",
        '"a',
        "$$a$$",
        "$1",
        "E'\\' || ';--'",
        "a\0",
    ],
)
def test_expressions_that_could_end_early(expression: str) -> None:
    assert "one whole SQL expression" in refused(null_keys={"value": expression}).why


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ("", "is empty.", "a map whose keys"),
        ("# nothing\n", "is empty.", "a map whose keys"),
        ("- a\n", "is not a map of keys.", "a map whose keys"),
        ("demo\n", "is not a map of keys.", "a map whose keys"),
        ("database: demo\ntables:\n\t- table: a\n", "line 3: a tab.", "no tab"),
        ("database: demo\ndatabase: prod\n", 'line 2: the key "database" stands there twice.', "Only one"),
        ("database: [demo\ntables: 3\n", "this is not YAML.", ""),
        ("database: *demo\n", "line 1: this is not YAML.", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "this is not YAML.", ""),
        ("database: de\0mo\n", "cannot be read as YAML.", "a character or a value"),
        (b"database: d\xe9mo\n", "line 1: this is not UTF-8.", "another encoding"),
        ("database: demo\n".encode("utf-16"), "line 1: this is not UTF-8.", "another encoding"),
        ("database: demo\ntables: &t [*t]\n", "line 2: a table is", "a map of keys"),
        ("a: &a {b: *a}\n", "", ""),
        ("[" * 5000, "", ""),
        ("a: " + "9" * 5000 + "\n", "cannot be read as YAML.", "a character or a value"),
        ("#" * 1_000_001, "is too large", "1,000,000 bytes"),
        ("database: demo\n", "line 1: tables is missing.", "a list of table specifications"),
        ("database: demo\ntables: []\n", "line 2: tables is an empty list.", "a list of table"),
        ("database: demo\ntables:\n", "line 2: tables is empty (null).", "a list of table"),
        ("database: demo\ntables: {table: a}\n", "line 2: tables is a map.", "a list of table"),
        ("database: demo\ntables: [messages]\n", 'line 2: a table is "messages".', "a map of keys"),
        ("database: demo\ntables: [null]\n", "line 2: a table is empty (null).", "a map of keys"),
        (GOOD.replace("demo", "3"), "line 1: database is 3.", "a libpq service name"),
        (GOOD.replace("demo", "../../etc/passwd"), "line 1: database is", "a libpq service name"),
        (GOOD.replace("demo", "postgresql://u:hunter2@h/d"), "(not shown)", "a libpq service name"),
        (GOOD.replace("demo", '"host=h password=hunter2"'), "(not shown)", "a libpq service name"),
        (GOOD + "tabels: []\n", "line 6: tabels is not a key",
         "The keys here are database, tables, confirm, as_of"),
        (GOOD + "every: month\n", "line 6: every is not a key", "The keys here are database"),
        (GOOD + "PGPASSWORD: hunter2\n", "line 6: PGPASSWORD is not a key", "no password"),
        (GOOD + "confirm: 12345678\n", "line 6: confirm is 12345678.", "in quotes"),
        (GOOD + "as_of: 2026-02-30\n", 'line 6: as_of is "2026-02-30".', "no such day"),
        (GOOD + "as_of: yesterday\n", 'line 6: as_of is "yesterday".', "YYYY-MM-DD"),
        (GOOD + GOOD.split("tables:\n")[1], 'line 6: table is "public.messages", and so',
         "one specification"),
        (GOOD + GOOD.split("tables:\n")[1].replace("public", "app"), "one of the same name",
         "the same names in schema"),
        (GOOD + "? [a]\n: 1\n", "is not a key", "The keys here are"),
        ("!!python/object:os.system {}\n", "", ""),
        ("a: !!bool x\n", "cannot be read as YAML.", "a character or a value"),
        ("!!str \n- ", "is not a map of keys.", "a map whose keys"),
        ("a: !!set x\n", "cannot be read as YAML.", "a character or a value"),
    ],
)  # fmt: skip
def test_a_bad_file(file: Path, text: str | bytes, what: str, why: str) -> None:
    stop = told(file, text)
    assert stop.what.startswith(str(file))
    assert what in stop.what
    assert why in stop.why
    assert stop.next
    assert "hunter2" not in str(stop)


def test_every_fault_of_a_file_is_told_at_once_in_the_order_of_its_lines(file: Path) -> None:
    stop = told(file, GOOD + "    every: monthly\n    ahead: 0\nbatch: 3\n  \n")
    assert stop.what == f"{file} has 3 faults."
    assert [line.partition(":")[0] for line in stop.why.splitlines()] == ["line 6", "line 7", "line 8"]
    assert stop.next.splitlines() == [
        "line 6: Write every: month",
        "line 7: Write ahead: 3",
        "line 8: Remove it.",
    ]


def test_faults_between_keys_are_told_together() -> None:
    stop = refused(**{"from": "2024-01-15", "until": "2024-02-12"})
    assert stop.what == "the tables parameter has 2 faults."
    assert "2024-01-01 and 2024-02-01" in stop.why and "2024-02-01 and 2024-03-01" in stop.why


def test_a_key_of_another_notebook_is_refused_unless_named(file: Path) -> None:
    stop = told(file, GOOD + "batch_row: 5\n", also=("batch_rows",))
    assert stop.next == "Did you mean batch_rows?"
    assert stop.why == "The keys here are database, tables, confirm, as_of, batch_rows."


def test_a_tree_of_aliases_is_refused_before_it_grows(file: Path) -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert "is too large" in told(file, "l0: &l0 [1]\n" + levels).what


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AtlasError) as stop:
        load(tmp_path / "none.yml")
    assert stop.value.why == "No such file or directory"
    with pytest.raises(AtlasError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(AtlasError, match="cannot be read"):
        load(tmp_path / "a\0b")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab: -\n[]{}&*!|>'\"%@,#?\t.0<~é\x07"), max_size=40) | st.text(max_size=20))
def test_no_text_of_a_file_crashes(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(AtlasError):
        load(file)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*json_schema()["$defs"]["TableSpec"]["properties"], "other"]), JSON)
def test_no_value_of_a_key_crashes(key: str, value: object) -> None:
    try:
        table = one(**{key: value})
    except AtlasError as stop:
        str(stop).encode()
    else:
        assert replace(table) == table


@pytest.mark.parametrize("value", [None, 3, "messages", {}, {"table": "a"}, [3], [[]], [None]])
def test_tables_that_are_no_tables(value: object) -> None:
    with pytest.raises(AtlasError, match="the tables parameter"):
        tables_from(value)


# where specifications are found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ATLAS_OPS_PARAMETERS", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "parameters"
    made.mkdir()
    (made / "demo.yml").write_text(GOOD + "    workload: w.yml\nbatch_rows: 5\n")
    (made / "production.yml").write_text(GOOD.replace("demo", "atlas_production").replace("messages", "m"))
    (made / "broken.yml").write_text("\t")
    return made


@pytest.mark.parametrize("here", [".", "notebooks"])
def test_found_by_the_database_from_here_and_from_notebooks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, here: str
) -> None:
    monkeypatch.chdir(here)
    [table] = find_specs("demo", [])
    assert table.name == "messages"
    assert Path(table.workload or "").resolve() == folder / "w.yml"
    assert [table.name for table in find_specs("atlas_production", [])] == ["m"]


def test_the_variable_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder.parent / "other"
    other.mkdir()
    (other / "demo.yml").write_text(GOOD.replace("messages", "elsewhere"))
    monkeypatch.setenv("ATLAS_OPS_PARAMETERS", str(other))
    assert [table.name for table in find_specs("demo", [])] == ["elsewhere"]
    assert [table.name for table in find_specs("demo", [], folder)] == ["messages"]


def test_tables_given_win_and_find_their_workload_beside_the_files(folder: Path) -> None:
    given = {"table": "given", "partition_key": "at", "from": "2024-01-01", "workload": "w.yml"}
    [table] = find_specs("demo", [given])
    assert (table.name, table.workload) == ("given", os.path.join("parameters", "w.yml"))  # noqa: PTH118


def test_no_file_for_the_database_says_what_to_write(folder: Path) -> None:
    with pytest.raises(AtlasError) as stop:
        find_specs("atlas", [])
    assert stop.value.what == "There is no parameters/atlas.yml."
    assert 'demo.yml ("demo"), production.yml ("atlas_production")' in stop.value.why
    written = folder / "atlas.yml"
    written.write_text(stop.value.next.partition("\n")[2])
    assert [table.name for table in find_specs("atlas", [])] == ["messages"]


def test_no_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AtlasError) as stop:
        find_specs("demo", [], Path("nowhere"))
    assert stop.value.what == "There is no nowhere/demo.yml."
    assert "Files there: none." in stop.value.why


def test_a_file_for_another_database_is_refused(folder: Path) -> None:
    with pytest.raises(AtlasError) as stop:
        find_specs("production", [])
    assert stop.value.what == "parameters/production.yml is for database atlas_production, not production."
    assert 'database = "atlas_production"' in stop.value.next


@pytest.mark.parametrize("database", ["", None, 3, "../demo", "a/b", "host=h password=hunter2", "a\nb", "x" * 64])
def test_a_database_that_is_no_service_name(folder: Path, database: object) -> None:
    with pytest.raises(AtlasError) as stop:
        find_specs(database, [])  # type: ignore[arg-type]
    assert "a libpq service name" in stop.value.why
    assert "hunter2" not in str(stop.value)


def test_a_password_is_refused_where_notebooks_keys_are_let_through(folder: Path) -> None:
    (folder / "demo.yml").write_text(GOOD + "db_password: hunter2\n")
    with pytest.raises(AtlasError) as stop:
        find_specs("demo", [])
    assert "db_password" in stop.value.what and "hunter2" not in str(stop.value)


# what is shipped


def test_the_schema_file_is_in_step() -> None:
    written = json.dumps(json_schema(), indent=2) + "\n"
    assert (ROOT / "atlas_ops" / "spec.schema.json").read_text() == written, (
        "write it again: python -c 'import json; from atlas_ops.settings import json_schema; "
        "print(json.dumps(json_schema(), indent=2))' > atlas_ops/spec.schema.json"
    )


def test_every_key_is_described_and_its_example_is_accepted() -> None:
    for model in (json_schema(), json_schema()["$defs"]["TableSpec"]):
        for key, described in model["properties"].items():
            assert described["description"] and described["examples"], key
    for key, described in json_schema()["$defs"]["TableSpec"]["properties"].items():
        assert one(**{key: described["examples"][0]}), key


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_is_valid_in_every_reader(path: Path) -> None:
    first, *_ = path.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=../atlas_ops/spec.schema.json"
    read = load(path)
    assert [(table.name, table.partition_key) for table in read.tables] == [
        ("messages", "created_at"),
        ("usage_logs", "timestamp"),
    ]
    papermill = pytest.importorskip("papermill.cli").read_yaml_file(str(path))
    assert set(papermill) == {"database", "tables"}
    assert tables_from(papermill["tables"], folder=path.parent) == read.tables
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(papermill, json_schema())


def test_the_three_files_differ_in_their_numbers_and_places_only() -> None:
    def without_numbers(path: Path) -> list[TableSpec]:
        numbers = {
            "ahead": 1,
            "workers": 1,
            "pause": "1s",
            "lock_timeout": "1s",
            "statement_timeout": "1h",
            "archive_to": None,
            "alerts": None,
        }
        return [replace(table, **numbers) for table in load(path).tables]  # type: ignore[arg-type]

    assert [path.stem for path in SHIPPED] == ["demo", "production", "staging"]
    demo, production, staging = map(without_numbers, SHIPPED)
    assert demo == staging == production
