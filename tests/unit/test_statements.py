"""Statements of pg_stat_statements, as a table and as the skeleton of a workload file. No database."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ops import skeleton, sqlfile, statements, workload
from atlas_ops.model import Column, Constraint, Index, StatementsView, TrackedStatement
from atlas_ops.settings import tables_from
from atlas_ops.skeleton import Typed
from atlas_ops.statements import Found, Tracked
from atlas_ops.tables import Table
from atlas_ops.views import Words

[SPEC] = tables_from([{"table": "messages", "partition_key": "created_at", "from": "2024-01-01"}])
VIEW = StatementsView("extensions", "1.10", True, True, True, True, "postgres", ())
SINCE = datetime(2026, 11, 1, 8, 30, tzinfo=UTC)
TYPES = {"id": "uuid", "user_id": "uuid", "n": "bigint", "slot": "integer", "content": "text",
         "created_at": "timestamp with time zone", "day": "date", "tag": "character varying(20)"}  # fmt: skip
BASE = {
    "bigint": "int8",
    "integer": "int4",
    "timestamp with time zone": "timestamptz",
    "character varying(20)": "varchar",
}


def column(name: str, kind: str) -> Column:
    return Column(name, kind, BASE.get(kind, kind), "b", False, None, "", "", None, None, None)


def index(*columns: str, unique: bool = True) -> Index:
    return Index("_".join(columns), "", columns, unique, False, True, False, False, None, None, (), 0, 0)


def tracked(*queries: str | TrackedStatement, **more: Any) -> Tracked:
    rows = [
        query if isinstance(query, TrackedStatement) else TrackedStatement(9, 0, 0, 100.0, SINCE, query, 4, 40, 10.0)
        for query in queries
    ] or [TrackedStatement(9, 0, 0, 100.0, SINCE, None, None, None, None)]
    return Tracked(SPEC, VIEW, rows=tuple(rows), columns=tuple(column(*each) for each in TYPES.items()), **more)


def row(query: str, **more: Any) -> TrackedStatement:
    return replace(TrackedStatement(9, 0, 0, 100.0, SINCE, query, 4, 40, 10.0), **more)


def typed(of: Tracked, *types: str) -> list[Typed]:
    return [Typed(one, types) for one in statements.found(of).statements]


def query(of: Tracked, *types: str, tmp_path: Path) -> workload.Query:
    """The one query of the file, read back by the loader."""
    file = tmp_path / "made.yml"
    file.write_text(skeleton.workload_file([(of, typed(of, *types))]))
    [made] = workload.load(file).queries
    return made


# Which are told


def test_the_same_statement_is_added_up_however_its_parameters_are_numbered() -> None:
    found = statements.found(
        tracked(
            row("SELECT * FROM messages WHERE id = $1 AND n = $2", calls=1, total_ms=1.0, rows=2),
            row("SELECT *  FROM messages\nWHERE id = $2 AND n = $1 -- x", calls=2, total_ms=3.0, rows=3),
            row("SELECT * FROM messages WHERE id = $1 AND n = $1", calls=5, total_ms=1.0),
        )
    )
    assert [(one.calls, one.total_ms, one.rows) for one in found.statements] == [(3, 4.0, 5), (5, 1.0, 40)]
    assert (found.statements[0].mean_ms, found.statements[0].rows_a_call) == (4 / 3, 5 / 3)


def test_our_own_are_left_out() -> None:
    ours = [
        "EXPLAIN (ANALYZE) SELECT * FROM messages",
        "SELECT * FROM messages, atlas_ops.online_copy",
        'INSERT INTO partitions.messages_2024_01 SELECT * FROM "public"."messages"',
        "SELECT * FROM messages o FULL JOIN messages_partitioned p USING (id)",
        "SELECT o.* *= p.* FROM messages o, messages_partitioned p",  # sqlglot does not read *=
        "SELECT FROM messages, partitions.messages_key_log",
    ]
    assert statements.found(tracked(*ours)) == Found((), 0)


@pytest.mark.parametrize("file", statements.OWN_READS)
def test_our_own_reads_of_the_original_alone_are_left_out(file: str) -> None:
    text = re.sub(r"\{table\}|\{rows\}", '"public"."messages"', sqlfile.text("template", file))
    text = re.sub(r"\{\w+\}", '"created_at"', text.replace("{percent}", "100"))
    for number, constant in enumerate(re.findall(r"'[^']*'", text), start=1):
        text = text.replace(constant, f"${number}", 1)
    assert statements.found(tracked(text)) == Found((), 0)


def test_what_looks_like_them_is_not() -> None:
    found = statements.found(
        tracked(
            "SELECT count(*) AS rows FROM messages GROUP BY 1 ORDER BY 1",
            "SELECT * FROM messages, other.messages_partitioned",
        )
    )
    assert len(found.statements) == 2


def test_a_text_that_cannot_be_read_is_counted_and_not_shown() -> None:
    of = tracked("SELECT * FROM messages WHERE content = 'alice", row("SELECT * FROM messages", too_long=2, hidden=3))
    of = replace(of, rows=(replace(of.rows[0], too_long=2, hidden=3), of.rows[1]))
    shown = statements.shown(of)
    assert isinstance(shown, Table)
    assert "alice" not in repr(shown) + shown._repr_html_()
    assert shown.caption == (
        "Statements on messages since 2026-11-01 08:30 UTC, their share of the time of all 9 of this database. "
        'The text of 3 is hidden from postgres: GRANT pg_read_all_stats TO "postgres"; 3 that name it could not be read for certain.'
    )


def test_only_what_may_ask_the_table_is_counted_as_unread() -> None:
    open_quote = [
        "SELECT * FROM messages_archive WHERE x = 'a",
        "CREATE FUNCTION f() AS 'SELECT FROM messages",
        "VACUUM messages '",
    ]
    assert statements.found(tracked(*open_quote)) == Found((), 0)
    assert statements.found(tracked("/* x */ (SELECT * FROM Messages WHERE x = 'a")) == Found((), 1)


def test_the_table() -> None:
    of = tracked(
        row("SELECT * FROM messages WHERE created_at > $1 /* alice */ LIMIT 10", calls=8, total_ms=20.0, rows=12),
        row("INSERT INTO messages (id) VALUES ($1)", calls=1, total_ms=30.0, rows=1),
        row("UPDATE messages SET n = 5 WHERE id = $1", calls=3, total_ms=0.0, rows=0),
        row("DELETE FROM messages", calls=0, total_ms=0.0, rows=0),
    )
    shown = statements.shown(replace(of, view=replace(VIEW, namesakes=("archive", "old"))))
    assert isinstance(shown, Table)
    assert [one.name for one in shown.columns] == [
        "statement", "calls", "mean ms", "share of time", "rows a call", "created_at in the predicate",
    ]  # fmt: skip
    assert shown.rows == (
        ("INSERT INTO messages (id) VALUES ($1)", 1, 30.0, "30.0%", 1.0, None),
        ("SELECT * FROM messages WHERE created_at > $1 LIMIT …", 8, 2.5, "20.0%", 1.5, "yes"),
        ("UPDATE messages SET n = … WHERE id = $1", 3, 0.0, "0.0%", 0.0, "no"),
    )
    assert shown.caption.endswith(
        "A bare messages was taken for public.messages; there is archive.messages, old.messages too."
    )


def test_no_time_at_all_is_no_division_by_zero() -> None:
    shown = statements.shown(tracked(row("SELECT * FROM messages", all_ms=0.0, total_ms=0.0)))
    assert isinstance(shown, Table) and shown.rows[0][3] == "—"


# Where it tells nothing


@pytest.mark.parametrize(
    ("view", "refused", "words"),
    [
        (
            replace(VIEW, schema=None, version=None, available=False), "",
            "pg_stat_statements is not on this server. Its files are missing: they come with PostgreSQL's contrib package. Install that "
            "package and add pg_stat_statements to shared_preload_libraries, or write the workload by hand: "
            "parameters/workloads/atlas.yml is an example.",
        ),
        (
            replace(VIEW, schema=None, version=None), "",
            "pg_stat_statements is not in this database. Nobody counts here how often the application asks what. "
            "CREATE EXTENSION pg_stat_statements; it counts once shared_preload_libraries names it, which takes a restart.",
        ),
        (
            VIEW, "55000",
            "pg_stat_statements is not loaded. The extension is in this database, but shared_preload_libraries does not name it: nothing is "
            "counted. Add it there (ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'), restart the server, and let the "
            "application run for a day.",
        ),
        (
            replace(VIEW, role='b"b'), "42501",
            'The role b"b may not read pg_stat_statements. It lacks USAGE on the schema extensions, or SELECT on the view there. '
            'GRANT USAGE ON SCHEMA "extensions" TO "b""b"; GRANT SELECT ON "extensions".pg_stat_statements TO "b""b"; '
            'GRANT pg_read_all_stats TO "b""b";',
        ),
    ],
)  # fmt: skip
def test_why_it_tells_nothing(view: StatementsView, refused: str, words: str) -> None:
    shown = statements.shown(Tracked(SPEC, view, refused))
    assert isinstance(shown, Words)
    assert repr(shown) == words


def test_no_statement_on_the_table() -> None:
    assert repr(statements.shown(tracked())) == (
        "pg_stat_statements knows no statement on messages. It knows 9 of this database since 2026-11-01 08:30 UTC."
    )


# The skeleton


def test_the_whole_file(tmp_path: Path) -> None:
    of = tracked(
        row(
            "SELECT * FROM messages\nWHERE user_id = $1 AND content ILIKE $2 AND created_at >= $3 LIMIT $4", calls=1200
        ),
        row("COPY messages FROM STDIN", total_ms=1.0),
    )
    [select, copy] = statements.found(of).statements
    types = ("uuid", "text", "timestamp with time zone", "bigint")
    made = skeleton.workload_file([(of, [Typed(select, types), Typed(copy, refused="COPY has no plan to measure")])])
    assert made == (
        """\
# Made from pg_stat_statements; weight is the number of calls since 2026-11-01. Read it before you measure by it:
# - a value that a comment asks for stands as NULL; until it is filled in, the query asks for nothing
# - values come from the newest row of the table, spans of time are a day around it: bindings, edit them freely
# - where the application asks as a role under row security, add role and claims
# - expects: {prunes_to: 1} makes a promise of what a query reads
queries:
  - name: select_by_user_id_created_at
    description: SELECT, 1,200 calls of 0.008 ms, 0.0 rows each
    table: messages
    weight: 1200
    sql: |-
      SELECT * FROM {table}
      WHERE user_id = %(p1)s AND content ILIKE %(p2)s AND created_at >= %(p3)s LIMIT %(p4)s
    # p2: fill in what the application sends here (text): no column tells
    bindings: |-
      SELECT "user_id" AS p1,
             NULL::text AS p2,
             ("created_at" - interval '1 day')::timestamp with time zone AS p3,
             1::bigint AS p4
      FROM {table}
      WHERE isfinite("created_at") AND "user_id" IS NOT NULL
      ORDER BY "created_at" DESC
      LIMIT 1
# messages: left out (COPY has no plan to measure): COPY messages FROM STDIN
"""
    )
    (tmp_path / "made.yml").write_text(made)
    [read] = workload.load(tmp_path / "made.yml").queries
    assert (read.name, read.weight, read.writes) == ("select_by_user_id_created_at", 1200, False)
    assert workload.parameters(read.sql) == ("p1", "p2", "p3", "p4")


@pytest.mark.parametrize(
    ("text", "types", "bindings"),
    [
        ("SELECT * FROM messages WHERE tag = $1", ["text"], ['"tag"::text AS p1']),
        ("SELECT * FROM messages WHERE tag = $1", ["character varying(20)"], ['"tag" AS p1']),
        ("SELECT * FROM messages WHERE id = ANY($1)", ["uuid[]"], ['ARRAY["id"]::uuid[] AS p1']),
        ("SELECT * FROM messages WHERE day < $1", ["date"], ["(\"day\" + interval '1 day')::date AS p1"]),
        ("SELECT * FROM messages WHERE n > $1", ["bigint"], ['"n" AS p1']),
        ("SELECT * FROM messages WHERE n > $1 OFFSET $2", ["bigint"] * 2, ['"n" AS p1', "0::bigint AS p2"]),
        ("SELECT extract($1 FROM created_at) FROM messages", ["text"], ["'epoch'::text AS p1"]),
        ("SELECT $1 FROM messages", ["public.mood"], ["NULL::public.mood AS p1"]),
        # what is inserted must not be there yet, if an index says so
        ("INSERT INTO messages (id, n) VALUES ($1, $2)", ["uuid", "bigint"],
         ["gen_random_uuid()::uuid AS p1", '"n" AS p2']),
        ("INSERT INTO messages (n, slot) VALUES ($1, $2)", ["bigint", "integer"],
         ['"n" AS p1', '(SELECT max("slot") + 1 FROM {table})::integer AS p2']),
        ("INSERT INTO messages (slot) VALUES ($1)", ["integer"], ['"slot" AS p1']),  # the other column has a default
        ("INSERT INTO messages (tag) VALUES ($1)", ["text"], ["NULL::text AS p1"]),
        ("INSERT INTO messages (id) VALUES ($1) ON CONFLICT (id) DO NOTHING", ["uuid"], ['"id" AS p1']),
        ("UPDATE messages SET tag = $1 WHERE id = $2", ["text", "uuid"], ['"tag"::text AS p1', '"id" AS p2']),
    ],
)  # fmt: skip
def test_where_the_values_come_from(text: str, types: list[str], bindings: list[str], tmp_path: Path) -> None:
    of = tracked(
        text,
        indexes=(index("id"), index("n", "slot"), index("tag"), index("user_id", unique=False)),
        constraints=(Constraint("fk", "f", "", ("n",), True, False, None, True),),
    )
    made = query(of, *types, tmp_path=tmp_path).bindings
    assert made is not None
    listed = made.partition("\nFROM {table}\nWHERE")[0].removeprefix("SELECT ").split(",\n       ")
    assert listed == bindings


def test_only_what_a_condition_needs_must_not_be_null(tmp_path: Path) -> None:
    of = tracked("UPDATE messages SET tag = $1 WHERE id = $2 AND created_at = $3")
    made = query(of, "text", "uuid", "timestamp with time zone", tmp_path=tmp_path)
    assert 'WHERE isfinite("created_at") AND "id" IS NOT NULL\n' in str(made.bindings)
    assert made.writes


@pytest.mark.parametrize(
    ("rows", "calls", "limit"), [(0, 5, 1), (5, 5, 1), (6, 5, 10), (5_000, 10, 500), (10**9, 1, 10_000)]
)
def test_a_limit_lets_through_what_a_call_returned(rows: int, calls: int, limit: int, tmp_path: Path) -> None:
    of = tracked(row("SELECT * FROM (SELECT * FROM messages LIMIT $1) m LIMIT $2", rows=rows, calls=calls))
    assert (
        query(of, "bigint", "bigint", tmp_path=tmp_path).bindings
        == f"SELECT 100::bigint AS p1,\n       {limit}::bigint AS p2"
    )


def test_on_conflict_without_the_partition_key_is_remarked() -> None:
    for arbiter, remarked in (("id", True), ("id, created_at", False)):
        of = tracked(f"INSERT INTO messages (id) VALUES ($1) ON CONFLICT ({arbiter}) DO NOTHING")
        made = skeleton.workload_file([(of, typed(of, "uuid"))])
        assert ("    # on the partitioned table ON CONFLICT must name the partition key too" in made) is remarked


def test_names_are_told_apart_and_fit(tmp_path: Path) -> None:
    conditions = [
        "user_id = $1",
        "user_id = $1 ORDER BY 1",
        "(user_id, content, created_at, day, tag) = ($1, $2, $3, $4, $5)",
    ] * 2
    of = tracked(*(f"SELECT {number}, n FROM messages WHERE {each}" for number, each in enumerate(conditions)))
    of = replace(of, rows=tuple(replace(one, total_ms=100.0 - number) for number, one in enumerate(of.rows)))
    file = tmp_path / "made.yml"
    file.write_text(skeleton.workload_file([(of, typed(of, *["text"] * 6))]))
    names = [one.name for one in workload.load(file).queries]
    assert names[:2] == ["select_by_user_id", "select_by_user_id_2"]
    assert "select_by_user_id_content_created_at_day" in names[2] and max(map(len, names)) <= 41


def test_the_most_costly_only_and_none_that_is_too_long(tmp_path: Path) -> None:
    long = f'SELECT n AS "{"n" * workload.LONGEST_SQL}" FROM messages'
    of = tracked(*(f"SELECT n AS n{number} FROM messages" for number in range(60)), long)
    text = skeleton.workload_file([(of, typed(of))])
    (tmp_path / "made.yml").write_text(text)
    assert len(workload.load(tmp_path / "made.yml").queries) == skeleton.MOST_QUERIES
    assert "# messages: 10 more statements took less time and are left out.\n" in text
    assert '# messages: left out (it is too long): SELECT n AS "nnn' in text


def test_two_tables_in_one_file(tmp_path: Path) -> None:
    one = tracked("SELECT * FROM messages WHERE id = $1")
    [spec] = tables_from([{"table": '"My Schema"."Log %(x)s"', "partition_key": "created_at", "from": "2024-01-01"}])
    other = replace(tracked('SELECT * FROM "My Schema"."Log %(x)s" WHERE id = $1'), spec=spec)
    file = tmp_path / "made.yml"
    file.write_text(skeleton.workload_file([(one, typed(one, "uuid")), (other, typed(other, "uuid"))]))
    read = workload.load(file)
    assert [each.name for each in read.queries] == ["select_by_id", "select_by_id_2"]
    assert [len(read.of(each)) for each in (SPEC, spec)] == [1, 1]


HOSTILE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(deadline=None, max_examples=50)
@given(HOSTILE, HOSTILE)
def test_the_loader_takes_any_name_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, alias: str, name: str
) -> None:
    quoted = [f'"{each.replace(chr(34), chr(34) * 2)}"' for each in (alias, name)]
    of = replace(
        tracked(f"SELECT n AS {quoted[0]} FROM messages WHERE {quoted[1]} = $1"), columns=(column(name, "text"),)
    )
    if not statements.found(of).statements:
        assert "atlas_ops" in (alias + name).lower()
        return
    text = skeleton.workload_file([(of, typed(of, "text"))])
    file = tmp_path_factory.mktemp("made") / "made.yml"
    file.write_text(text, encoding="utf-8")
    [read] = workload.load(file).queries
    assert quoted[0] in read.sql
