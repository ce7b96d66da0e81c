"""Rewrites and the index to go with them: whole texts, and statements of which nothing certain can be said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ops import workload
from atlas_ops.index_advice import IndexAdvice, index_advice
from atlas_ops.model import Column, Constraint, ForeignTime, Index, Relation, Table
from atlas_ops.rewrites import Rewrite, RewriteFacts, candidates

ATLAS = Path(__file__).parents[2] / "parameters" / "workloads" / "atlas.yml"
ZONED = "timestamp with time zone"
COLUMNS = {
    **dict.fromkeys(("id", "conversation_id", "user_id"), "uuid"),
    **dict.fromkeys(("role", "content"), "text"),
    **dict.fromkeys(("created_at", "deleted_at", "edited_at"), ZONED),
}
CONVERSATIONS = ForeignTime("conversation_id", "public", "conversations", "id", "created_at", ZONED)
PROFILES = ForeignTime("user_id", "public", "profiles", "id", "created_at", ZONED)
FACTS = RewriteFacts(
    "created_at",
    ZONED,
    COLUMNS,
    (("id",),),
    (
        CONVERSATIONS,
        replace(CONVERSATIONS, time="updated_at"),
        replace(CONVERSATIONS, time="deleted_on", type="date"),
        PROFILES,
    ),
    key_not_null=True,
    table="messages",
)


def names(sql: str, facts: RewriteFacts = FACTS, **keys: Any) -> list[str]:
    return [each.name for each in candidates(sql, facts, **keys)]


def only(sql: str, facts: RewriteFacts = FACTS, **keys: Any) -> Rewrite:
    [found] = candidates(sql, facts, **keys)
    return found


# The application's queries


def test_the_rewrites_of_the_shipped_workload() -> None:
    queries = [query for query in workload.load(ATLAS).queries if query.table == "messages"]
    conversation, profile = ["bound_by_conversations", "send_conversations"], ["bound_by_profiles", "send_profiles"]
    assert {query.name: names(query.sql) for query in queries} == {
        "history_page": conversation,
        "history_page_as_user": conversation,
        "model_context": conversation,
        "monthly_count": [],
        "delta_sync": [],
        "pull": profile,
        "one_message": ["send_created_at", *conversation],
        "search": profile,
        "conversation_count": [*conversation, *profile],
        "new_since": [],
        "edit": ["send_created_at"],
        "soft_delete": ["send_created_at", *conversation],
        "upsert": [],
        "insert": [],
    }


def test_a_conversation_begins_where_it_was_made() -> None:
    sql = "SELECT * FROM {table}\nWHERE conversation_id = %(conversation)s\nORDER BY created_at DESC\nLIMIT 50"
    since = (
        'coalesce((SELECT referenced."created_at" FROM "public"."conversations" AS referenced '
        "WHERE referenced.\"id\" = %(conversation)s), '-infinity')"
    )
    counterexamples = (
        'SELECT count(*) FROM {table} AS counted LEFT JOIN "public"."conversations" AS referenced '
        'ON referenced."id" = counted."conversation_id" WHERE counted."conversation_id" IS NOT NULL '
        'AND (counted."created_at" < referenced."created_at")'
    )
    assert candidates(sql, FACTS) == (
        Rewrite(
            "bound_by_conversations",
            "Looks up created_at in conversations and reads from there on. Only the text changes; the role that asks must be allowed to read "
            "conversations. No row may ever be older than created_at of its row in conversations.",
            f"SELECT * FROM {{table}}\nWHERE conversation_id = %(conversation)s AND created_at >= {since}\nORDER BY created_at DESC\nLIMIT 50",
            (),
            counterexamples,
        ),
        Rewrite(
            "send_conversations",
            "The application sends created_at of the row in conversations along, or -infinity where it does not know it. "
            "No row may ever be older than created_at of its row in conversations.",
            "SELECT * FROM {table}\nWHERE conversation_id = %(conversation)s AND created_at >= %(conversations_created_at)s\n"
            "ORDER BY created_at DESC\nLIMIT 50",
            (("conversations_created_at", since),),
            counterexamples,
        ),
    )


def test_a_row_is_asked_for_with_its_key() -> None:
    assert only("UPDATE {table} SET content = 'x'\nWHERE id = %(id)s -- the primary key\nRETURNING *") == Rewrite(
        "send_created_at",
        "The application sends created_at of the row along, exactly as it read it: all six digits of a second, which a JavaScript Date does not keep. "
        "Who sends another value gets no row.",
        "UPDATE {table} SET content = 'x'\nWHERE id = %(id)s AND \"created_at\" = %(created_at)s -- the primary key\nRETURNING *",
        (("created_at", '(SELECT "created_at" FROM {table} WHERE "id" = %(id)s)'),),
        None,
    )


def test_rows_without_a_key_are_counterexamples_unless_there_are_none() -> None:
    nullable = replace(FACTS, key_not_null=False)
    found = only("DELETE FROM {table} WHERE id = %(id)s", nullable)
    assert found.counterexamples == 'SELECT count(*) FROM {table} WHERE "created_at" IS NULL'
    for each in candidates("SELECT * FROM {table} WHERE conversation_id = %(c)s", nullable):
        assert each.counterexamples is not None
        assert each.counterexamples.endswith(
            '(counted."created_at" < referenced."created_at" OR counted."created_at" IS NULL)'
        )


def test_clocks_may_differ() -> None:
    facts = replace(FACTS, foreign_keys=(CONVERSATIONS,), margin_s=90)
    by_lookup, by_parameter = candidates("SELECT * FROM {table} WHERE conversation_id = %(c)s", facts)
    assert "(SELECT referenced.\"created_at\" - interval '90 seconds' FROM" in by_lookup.sql
    assert by_lookup.counterexamples is not None
    assert by_lookup.counterexamples.endswith(
        '(counted."created_at" < referenced."created_at" - interval \'90 seconds\')'
    )
    assert by_parameter.description == (
        "The application sends created_at of the row in conversations along, 90 seconds earlier, or -infinity where it does not know it. "
        "No row may ever be older by more than 90 seconds than created_at of its row in conversations."
    )


COVERED = replace(FACTS, foreign_keys=(), covered=("2024-01-01 00:00:00+00", "2027-03-01 00:00:00+00"))


def test_the_first_rows_in_order_are_asked_for_within_the_partitions() -> None:
    sql = "SELECT * FROM {table} WHERE role = %(r)s ORDER BY created_at DESC LIMIT 50"
    assert only(sql, COVERED) == Rewrite(
        "within_partitions",
        "The application sends created_at_from and created_at_until: a stretch that holds every row, within 2024-01-01 00:00:00+00 and "
        "2027-03-01 00:00:00+00, such as until tomorrow. The default partition is left out, so the query stops as soon as it has enough.",
        "SELECT * FROM {table} WHERE role = %(r)s AND created_at >= %(created_at_from)s AND created_at < %(created_at_until)s "
        "ORDER BY created_at DESC LIMIT 50",
        (
            ("created_at_from", "'2024-01-01 00:00:00+00'::timestamptz"),
            ("created_at_until", "'2027-03-01 00:00:00+00'::timestamptz"),
        ),
        "SELECT count(*) FROM {table} WHERE \"created_at\" < '2024-01-01 00:00:00+00' OR \"created_at\" >= '2027-03-01 00:00:00+00'",
    )
    assert names(sql.replace(" LIMIT 50", ""), COVERED) == []
    assert names(sql.replace("created_at DESC", "id"), COVERED) == []
    assert names(sql) == []
    bounded = sql.replace("%(r)s", "%(r)s AND created_at > %(t)s")
    assert only(bounded, COVERED).bindings == (("created_at_until", "'2027-03-01 00:00:00+00'::timestamptz"),)
    assert names(bounded.replace("ORDER", "AND created_at < %(u)s ORDER"), COVERED) == []
    assert names(bounded.replace("%(t)s", "now()"), COVERED) == ["within_partitions"]


UUID7 = "('x' || lpad(left(replace((%(id)s)::uuid::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0"


def test_an_id_that_carries_its_time() -> None:
    facts = replace(FACTS, time_ordered={"id": "uuid7"}, tolerance_s=60)
    found = {each.name: each for each in candidates("SELECT * FROM {table} WHERE id = %(id)s", facts)}
    assert list(found) == ["send_created_at", "time_of_id"]
    of_column = UUID7.replace("%(id)s", '"id"')
    assert found["time_of_id"] == Rewrite(
        "time_of_id",
        "Only the text changes. created_at must always be within 60 seconds of the time in id.",
        f'SELECT * FROM {{table}} WHERE id = %(id)s AND "created_at" BETWEEN to_timestamp({UUID7} - 60) AND to_timestamp({UUID7} + 60)',
        (),
        f'SELECT count(*) FROM {{table}} WHERE "id" IS NOT NULL AND ("created_at" NOT BETWEEN '
        f"to_timestamp({of_column} - 60) AND to_timestamp({of_column} + 60))",
    )


def test_an_id_of_the_referenced_row_that_carries_its_time() -> None:
    facts = replace(
        FACTS, time_ordered={"conversation_id": "uuid7"}, foreign_keys=(replace(CONVERSATIONS, time=None, type=None),)
    )
    found = only("SELECT count(*) FROM {table} AS m WHERE m.conversation_id = %(id)s", facts)
    assert found.name == "time_of_conversation_id"
    assert found.sql == (
        "SELECT count(*) FROM {table} AS m WHERE m.conversation_id = %(id)s "
        f'AND m."created_at" >= to_timestamp({UUID7} - 3600)'
    )
    assert found.description == (
        "Only the text changes. created_at must never be more than 3600 seconds before the time in conversation_id."
    )


def test_a_ulid_is_read_by_the_application() -> None:
    facts = replace(
        FACTS, columns={**COLUMNS, "id": "text"}, time_ordered={"id": "ulid"}, key_type="timestamp without time zone"
    )
    found = candidates("SELECT * FROM {table} WHERE id = %(id)s", facts)[-1]
    assert found.sql == (
        'SELECT * FROM {table} WHERE id = %(id)s AND "created_at" BETWEEN %(created_at_from)s AND %(created_at_until)s'
    )
    assert [name for name, _ in found.bindings] == ["created_at_from", "created_at_until"]
    assert found.bindings[0][1] == (
        "((SELECT to_timestamp(sum((strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', upper(substr((%(id)s)::text, place, 1))) - 1) "
        "* power(32, 10 - place)) / 1000 - 3600) FROM generate_series(1, 10) AS place) AT TIME ZONE 'UTC')"
    )


def test_a_uuid_that_is_kept_as_text_tells_no_time() -> None:
    facts = replace(FACTS, columns={**COLUMNS, "id": "text"}, time_ordered={"id": "uuid7"})
    assert names("SELECT * FROM {table} WHERE id = %(id)s", facts) == ["send_created_at"]


def test_a_wrapped_key_gets_the_bare_one_beside_it() -> None:
    """A day by the clock of any session; where the end follows the session, its zone is told."""
    sql = "SELECT count(*) FROM {table} AS m WHERE m.created_at::date = %(day)s GROUP BY role"
    bare = "m.created_at >= (%(day)s - 1)::timestamp AT TIME ZONE 'UTC' AND m.created_at < (%(day)s + 2)::timestamp AT TIME ZONE 'UTC'"
    for zone in ("", "UTC"):
        assert only(sql, replace(FACTS, time_zone=zone), types={"day": "date"}) == Rewrite(
            "bare_key",
            f"Adds {bare}, which follows from the condition that is there. Only the text changes.",
            sql.replace(" GROUP", f" AND {bare} GROUP"),
        )
    by_month = "SELECT count(*) FROM {table} WHERE date_trunc('month', created_at) = %(at)s"
    assert only(by_month, types={"at": "timestamptz"}).description.endswith("Only the text changes.")
    assert only(by_month, replace(FACTS, time_zone="UTC"), types={"at": "timestamptz"}).description.endswith(
        "Only the text changes. It is so for sessions with TimeZone UTC."
    )


def test_a_page_by_row_gets_its_first_column_beside_it() -> None:
    sql = "SELECT * FROM {table} WHERE role = 'user' AND (created_at, id) < (%(at)s, %(id)s) ORDER BY created_at DESC, id DESC LIMIT 50"
    assert only(sql).sql == sql.replace("%(id)s)", "%(id)s) AND created_at <= %(at)s")


# Where the text is put, and how things are named


@pytest.mark.parametrize(
    ("sql", "rewritten"),
    [
        ("DELETE FROM {table} WHERE id=%(i)s", 'DELETE FROM {table} WHERE id=%(i)s AND "created_at" = %(created_at)s'),
        (
            "select * from {table} m where (m.id) = %(i)s\n  -- order by\nfor update of m",
            'select * from {table} m where (m.id) = %(i)s AND m."created_at" = %(created_at)s\n  -- order by\nfor update of m',
        ),
        (
            'SELECT \'  WHERE \', "where" FROM {table} AS "M m" WHERE "M m".id = %(i)s',
            'SELECT \'  WHERE \', "where" FROM {table} AS "M m" WHERE "M m".id = %(i)s AND "M m"."created_at" = %(created_at)s',
        ),
        (
            "SELECT (SELECT 1 FROM c WHERE true LIMIT 1) FROM {table}, c WHERE {table}.id = %(i)s GROUP BY 1",
            'SELECT (SELECT 1 FROM c WHERE true LIMIT 1) FROM {table}, c WHERE {table}.id = %(i)s AND {table}."created_at" = %(created_at)s GROUP BY 1',
        ),
        (
            "SELECT * FROM c WHERE c.id IN (SELECT conversation_id FROM {table} WHERE id = %(i)s) ORDER BY created_at",
            'SELECT * FROM c WHERE c.id IN (SELECT conversation_id FROM {table} WHERE id = %(i)s AND "created_at" = %(created_at)s) ORDER BY created_at',
        ),
        (
            "WITH x AS (SELECT * FROM {table} WHERE id = %(i)s AND role LIKE '100%') SELECT * FROM x WHERE true",
            "WITH x AS (SELECT * FROM {table} WHERE id = %(i)s AND role LIKE '100%' AND \"created_at\" = %(created_at)s) SELECT * FROM x WHERE true",
        ),
        (
            "INSERT INTO log SELECT id FROM {table} WHERE id = %(i)s ON CONFLICT DO NOTHING",
            'INSERT INTO log SELECT id FROM {table} WHERE id = %(i)s AND "created_at" = %(created_at)s ON CONFLICT DO NOTHING',
        ),
        (
            "SELECT * FROM {table} WHERE id = '{00000000-0000-7000-8000-000000000000}'::uuid AND (role = 'a' OR role = 'b')",
            "SELECT * FROM {table} WHERE id = '{00000000-0000-7000-8000-000000000000}'::uuid AND (role = 'a' OR role = 'b') "
            'AND "created_at" = %(created_at)s',
        ),
        (
            "SELECT c.created_at FROM {table} AS m JOIN c ON c.id = m.conversation_id WHERE m.id = %(i)s ORDER BY created_at",
            "SELECT c.created_at FROM {table} AS m JOIN c ON c.id = m.conversation_id WHERE m.id = %(i)s "
            'AND m."created_at" = %(created_at)s ORDER BY created_at',
        ),
        (
            "UPDATE {table} AS m SET role = c.role FROM c WHERE c.id = m.conversation_id AND %(i)s = m.id",
            "UPDATE {table} AS m SET role = c.role FROM c WHERE c.id = m.conversation_id AND %(i)s = m.id "
            'AND m."created_at" = %(created_at)s',
        ),
        (
            "SELECT é, 'ü' FROM {table} WHERE 'ß' = content AND id = %(ключ)s",
            "SELECT é, 'ü' FROM {table} WHERE 'ß' = content AND id = %(ключ)s AND \"created_at\" = %(created_at)s",
        ),
    ],
)
def test_the_condition_is_put_in_and_nothing_else_changes(sql: str, rewritten: str) -> None:
    found = [each for each in candidates(sql, replace(FACTS, foreign_keys=())) if each.name == "send_created_at"]
    assert [each.sql for each in found] == [rewritten]


def test_the_key_is_written_as_the_statement_writes_it() -> None:
    assert only("SELECT * FROM {table} WHERE id = %(i)s AND (Created_At > now() OR role = 'x')").sql.endswith(
        "AND Created_At = %(created_at)s"
    )


def test_a_further_parameter_takes_no_name_that_is_taken() -> None:
    sql = "SELECT %(created_at)s FROM {table} WHERE id = %(i)s"
    assert only(sql).bindings[0][0] == "created_at_2"
    assert only(sql, taken=("created_at_2", "created_at_3")).bindings[0][0] == "created_at_4"


def test_hostile_names_are_quoted_and_names_of_ours_are_plain() -> None:
    facts = RewriteFacts(
        'at"; DROP',
        "date",
        {'at"; DROP': "date", "of %(x)s {table}": "int8", "id": "int8"},
        (("id",),),
        (ForeignTime("of %(x)s {table}", "a.b", 'c"d', "é", "Made At", "date"),),
    )
    found = {
        each.name: each
        for each in candidates('SELECT * FROM {table} WHERE "of %(x)s {table}" = %(x)s', facts, types={"x": "bigint"})
    }
    assert list(found) == ["bound_by_c_d", "send_c_d"]
    assert found["send_c_d"].bindings == (
        (
            "c_d_made_at",
            'coalesce((SELECT referenced."Made At" FROM "a.b"."c""d" AS referenced WHERE referenced."é" = %(x)s), \'-infinity\')',
        ),
    )
    assert (
        found["send_c_d"].sql
        == 'SELECT * FROM {table} WHERE "of %(x)s {table}" = %(x)s AND "at""; DROP" >= %(c_d_made_at)s'
    )
    assert found["send_c_d"].counterexamples == (
        'SELECT count(*) FROM {table} AS counted LEFT JOIN "a.b"."c""d" AS referenced ON referenced."é" = counted."of %(x)s {table}" '
        'WHERE counted."of %(x)s {table}" IS NOT NULL AND (counted."at""; DROP" < referenced."Made At" OR counted."at""; DROP" IS NULL)'
    )


# Nothing rather than something wrong


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {table} WHERE id = %(i)s OR role = 'x'",
        "SELECT * FROM {table} WHERE NOT id = %(i)s",
        "SELECT * FROM {table} WHERE id <> %(i)s",
        "SELECT * FROM {table} WHERE id = ANY (%(i)s)",
        "SELECT * FROM {table} WHERE id = (SELECT %(i)s)",
        "SELECT * FROM {table} WHERE id = gen_random_uuid()",
        "SELECT * FROM {table} WHERE id = conversation_id",
        "SELECT * FROM {table} WHERE id::text = %(i)s",
        "SELECT * FROM {table} WHERE lower(id) = %(i)s",
        'SELECT * FROM {table} WHERE "ID" = %(i)s',
        "SELECT * FROM {table} AS m JOIN other AS o ON m.id = %(i)s",
        "SELECT * FROM other AS o LEFT JOIN {table} AS m ON m.id = %(i)s",
        "SELECT * FROM other AS o WHERE o.id = %(i)s AND EXISTS (SELECT FROM {table})",
        "SELECT * FROM other AS m WHERE m.id IN (SELECT id FROM {table} AS n WHERE m.id = %(i)s)",
        "SELECT id FROM {table} GROUP BY id HAVING id = %(i)s",
        "SELECT * FROM {table} WHERE id = %(i)s AND created_at = %(at)s",
        "SELECT * FROM {table} WHERE id = %(i)s UNION ALL SELECT * FROM {table}",
        "SELECT * FROM {table} AS a, {table} AS b WHERE a.id = %(i)s",
        "SELECT * FROM ONLY {table} WHERE id = %(i)s",
        "SELECT * FROM {table} TABLESAMPLE SYSTEM (10) WHERE id = %(i)s",
        "SELECT * FROM {table} AS m (id) WHERE id = %(i)s",
        "SELECT * FROM {table} WHERE id = %(i)s AND created_at > mine()",
        "SELECT * FROM c LEFT JOIN {table} AS m ON m.created_at::date = '2026-11-23' WHERE c.id = 5",
        "SELECT * FROM {table} AS m JOIN c ON m.created_at::date = '2026-11-23' WHERE c.id = 5",
        "SELECT * FROM (SELECT * FROM {table} WHERE role = 'x') AS s WHERE s.created_at::date = '2026-11-23'",
        "SELECT * FROM (SELECT id, created_at AS role FROM {table} WHERE true) AS s WHERE role::date = '2026-11-23'",
        "SELECT created_at FROM {table} WHERE true GROUP BY created_at HAVING created_at::date = '2026-11-23'",
        "SELECT * FROM {table} WHERE created_at::date = '2026-11-23' OR role = 'x'",
        "SELECT * FROM {table} WHERE NOT created_at::date = '2026-11-23'",
        "SELECT * FROM {table} WHERE id = %(i)s AND false",
        "SELECT * FROM {table} ORDER BY created_at DESC LIMIT 50",
        "SELECT * FROM {table} WHERE role = 'x' ORDER BY created_at DESC LIMIT 50",
        "INSERT INTO {table} (id) VALUES (%(i)s)",
        "MERGE INTO {table} AS m USING x ON m.id = %(i)s WHEN MATCHED THEN DELETE",
        "SELECT * FROM {table} WHERE id = %(i)s; DELETE FROM {table}",
        "SELECT * FROM {table} WHERE id = %(i)s /* /* */ */",
        "SELECT 1",
        "",
        "WHERE",
    ],
)
def test_nothing_is_said_where_nothing_is_certain(sql: str) -> None:
    assert candidates(sql, FACTS) == ()
    assert candidates(sql, replace(FACTS, time_ordered={"id": "uuid7"})) == ()


def test_a_bound_from_above_alone_gets_one_from_below() -> None:
    sql = "SELECT * FROM {table} WHERE conversation_id = %(c)s AND created_at < %(before)s ORDER BY created_at DESC LIMIT 50"
    assert names(sql) == ["bound_by_conversations", "send_conversations"]
    assert names(sql.replace("<", ">")) == []
    assert names(sql.replace("<", "="), FACTS) == []


def test_only_a_time_of_the_keys_own_type_bounds_it() -> None:
    sql = "SELECT * FROM {table} WHERE conversation_id = %(c)s"
    dated = replace(FACTS, foreign_keys=(replace(CONVERSATIONS, type="date"),))
    assert names(sql, dated) == []
    updated = replace(FACTS, foreign_keys=tuple(replace(CONVERSATIONS, time=time) for time in ("begun_at", "seen_at")))
    assert names(sql, updated) == [
        "bound_by_conversations_begun_at",
        "send_conversations_begun_at",
        "bound_by_conversations_seen_at",
        "send_conversations_seen_at",
    ]


def test_every_column_of_a_unique_key_must_be_there() -> None:
    facts = replace(FACTS, unique=(("user_id", "conversation_id"), ("id", "created_at")), foreign_keys=())
    assert names("SELECT * FROM {table} WHERE user_id = %(u)s", facts) == []
    found = only("SELECT * FROM {table} WHERE user_id = %(u)s AND conversation_id = %(c)s", facts)
    assert found.bindings[0][1] == (
        '(SELECT "created_at" FROM {table} WHERE "user_id" = %(u)s AND "conversation_id" = %(c)s)'
    )
    assert names("SELECT * FROM {table} WHERE id = %(i)s", facts) == []


_WORDS = (
    "WHERE AND OR NOT id = %(i)s conversation_id = %(c)s created_at < %(t)s ( ) m. {table} AS m SELECT * FROM other UNION ALL ORDER BY created_at LIMIT 5 "
    "GROUP HAVING 'WHERE' \"where\" -- /* */ , CASE WHEN THEN END IS NULL EXISTS IN JOIN ON true FOR UPDATE RETURNING created_at::date = '2026-01-01'"
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [
            "{}",
            "SELECT * FROM {{table}} AS m WHERE m.id = %(i)s {}",
            "UPDATE {{table}} SET role = 'x' WHERE {}",
            "SELECT * FROM ({}) AS x",
        ]
    ),
    st.lists(st.sampled_from(_WORDS.split()), max_size=14).map(" ".join),
)
def test_whatever_is_sent_the_text_is_kept(frame: str, words: str) -> None:
    sql = frame.format(words)
    for found in candidates(sql, FACTS):
        added = len(found.sql) - len(sql)
        splits = ((sql[:i], found.sql[i : i + added], sql[i:]) for i in range(len(sql) + 1))
        assert any("".join(split) == found.sql and split[1].startswith(" AND ") for split in splits)


# Facts out of the catalogs


def test_facts_of_a_relation() -> None:
    def constraint(kind: str, *columns: str, deferrable: bool = False) -> Constraint:
        return Constraint("c", kind, "", columns, True, deferrable, None, False)

    relation = Relation(
        Table(
            1,
            "public",
            "messages",
            "r",
            "p",
            False,
            "o",
            True,
            True,
            False,
            False,
            "d",
            (),
            None,
            None,
            0,
            0,
            0,
            0,
            None,
            False,
        ),
        tuple(
            Column(name, kind, kind, "b", name == "id", None, "", "", None, None, None)
            for name, kind in (("id", "uuid"), ("created_at", "timestamptz"), ("code", "text"))
        ),
        (constraint("p", "id"), constraint("u", "code", deferrable=True), constraint("f", "code")),
        (
            index("btree (id)", "id", unique=True, constraint="messages_pkey"),
            index("btree (code, id)", "code", "id", unique=True),
            index("btree (code) WHERE (code IS NOT NULL)", "code", unique=True),
            index("btree (lower(code))", "expr", unique=True),
            index("btree (created_at)", "created_at"),
        ),
    )
    assert RewriteFacts.of(relation, "created_at", [CONVERSATIONS], time_zone="UTC") == RewriteFacts(
        "created_at",
        "timestamptz",
        {"id": "uuid", "created_at": "timestamptz", "code": "text"},
        (("id",), ("code", "id")),
        (CONVERSATIONS,),
        key_not_null=False,
        table="messages",
        time_zone="UTC",
    )
    with pytest.raises(KeyError):
        RewriteFacts.of(relation, "made_at", [])


# The index


def index(tail: str, *columns: str, unique: bool = False, valid: bool = True, constraint: str | None = None) -> Index:
    return Index("i", f"USING {tail}", columns, unique, False, valid, False, False, constraint, None, (), 0, 0)


AT = ("public", "messages_partitioned")
HISTORY = "SELECT * FROM {table} WHERE conversation_id = %(c)s ORDER BY created_at DESC LIMIT 50"


def test_the_index_of_a_history_page() -> None:
    assert index_advice(HISTORY, FACTS, [], AT) == IndexAdvice(
        ("conversation_id", "created_at"),
        'CREATE INDEX ON "public"."messages_partitioned" ("conversation_id", "created_at" DESC)',
        "For each conversation_id it gives the rows in order of created_at. The query stops at its LIMIT and reads as many partitions as that takes; "
        "while a default partition is among them, it looks for the first row of each.",
    )


def test_the_index_of_the_shipped_workload() -> None:
    queries = [query for query in workload.load(ATLAS).queries if query.table == "messages"]
    found = {query.name: index_advice(query.sql, FACTS, [], AT) for query in queries}
    assert {name: each.columns for name, each in found.items() if each} == {
        "history_page": ("conversation_id", "created_at"),
        "history_page_as_user": ("conversation_id", "created_at"),
        "model_context": ("conversation_id", "created_at"),
        "delta_sync": ("created_at",),
        "pull": ("user_id", "created_at"),
        "search": ("user_id", "created_at"),
    }


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        (
            "SELECT * FROM {table} AS m WHERE m.role = 'user' AND m.user_id = %(u)s ORDER BY m.created_at NULLS FIRST, m.id DESC LIMIT 5",
            '("role", "user_id", "created_at" NULLS FIRST, "id" DESC)',
        ),
        ("SELECT * FROM {table} ORDER BY created_at DESC NULLS LAST LIMIT 5", '("created_at" DESC NULLS LAST)'),
        ("SELECT * FROM {table} ORDER BY created_at, lower(role), id FETCH FIRST 5 ROWS ONLY", '("created_at")'),
        (
            "SELECT * FROM {table} WHERE created_at < %(t)s AND role = 'x' ORDER BY created_at LIMIT 5",
            '("role", "created_at")',
        ),
    ],
)
def test_the_order_of_the_query_is_that_of_the_index(sql: str, statement: str) -> None:
    found = index_advice(sql, FACTS, [], AT)
    assert found is not None
    assert found.statement == f'CREATE INDEX ON "public"."messages_partitioned" {statement}'


@pytest.mark.parametrize(
    "serves",
    [
        index("btree (conversation_id, created_at DESC)", "conversation_id", "created_at"),
        index("btree (conversation_id, created_at)", "conversation_id", "created_at"),  # read backwards
        index("btree (conversation_id DESC, created_at) INCLUDE (role)", "conversation_id", "created_at"),
        index("btree (conversation_id, created_at, id)", "conversation_id", "created_at", "id"),
        index('btree ("conversation_id", "created_at")', "conversation_id", "created_at"),
        index("btree (conversation_id, created_at DESC) WHERE (deleted_at IS NULL)", "conversation_id", "created_at"),
        index("btree (conversation_id, created_at) WHERE (role = 'user'::text)", "conversation_id", "created_at"),
        index("btree (role, conversation_id, created_at)", "role", "conversation_id", "created_at"),
    ],
)
def test_an_index_that_is_there_serves(serves: Index) -> None:
    sql = "SELECT * FROM {table} AS m WHERE m.conversation_id = %(c)s AND m.deleted_at IS NULL AND m.role = 'user' ORDER BY m.created_at DESC LIMIT 50"
    assert index_advice(sql, FACTS, [serves], AT) is None


@pytest.mark.parametrize(
    "other",
    [
        index("btree (conversation_id)", "conversation_id"),
        index("btree (created_at)", "created_at"),
        index("btree (created_at, conversation_id)", "created_at", "conversation_id"),
        index("btree (conversation_id, id, created_at)", "conversation_id", "id", "created_at"),
        index("btree (conversation_id, created_at DESC NULLS LAST)", "conversation_id", "created_at"),
        index("btree (conversation_id, created_at) WHERE (deleted_at IS NULL)", "conversation_id", "created_at"),
        index("btree (conversation_id, date(created_at))", "conversation_id", "expr"),
        index("hash (conversation_id)", "conversation_id"),
        index("gin (conversation_id, created_at)", "conversation_id", "created_at"),
        index("btree (conversation_id, created_at)", "conversation_id", "created_at", valid=False),
        index("btree (conversation_id,", "conversation_id"),
    ],
)
def test_an_index_that_is_there_does_not_serve(other: Index) -> None:
    assert index_advice(HISTORY, FACTS, [other], AT) is not None


def test_a_column_of_few_values_is_not_enough() -> None:
    sql = "SELECT * FROM {table} WHERE role = 'user' AND user_id = %(u)s ORDER BY created_at LIMIT 5"
    assert index_advice(sql, FACTS, [index("btree (role, created_at)", "role", "created_at")], AT) is not None
    assert index_advice(sql, FACTS, [index("btree (user_id, created_at)", "user_id", "created_at")], AT) is None
    assert (
        index_advice(
            sql.replace("AND user_id = %(u)s", ""), FACTS, [index("btree (role, created_at)", "role", "created_at")], AT
        )
        is None
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {table} WHERE conversation_id = %(c)s ORDER BY created_at",
        "SELECT * FROM {table} WHERE conversation_id = %(c)s LIMIT 50",
        "SELECT * FROM {table} WHERE conversation_id = %(c)s ORDER BY id, created_at LIMIT 50",
        "SELECT * FROM {table} WHERE conversation_id = %(c)s ORDER BY date(created_at) LIMIT 50",
        "SELECT count(*) FROM {table} WHERE conversation_id = %(c)s GROUP BY created_at ORDER BY created_at LIMIT 50",
        "SELECT DISTINCT role, created_at FROM {table} ORDER BY created_at LIMIT 50",
        "SELECT row_number() OVER (), * FROM {table} ORDER BY created_at LIMIT 50",
        "SELECT edited_at AS created_at FROM {table} ORDER BY created_at LIMIT 50",
        "SELECT m.id, c.created_at FROM {table} AS m JOIN conversations AS c ON true ORDER BY created_at LIMIT 50",
        "SELECT * FROM {table} AS m JOIN {table} AS n ON n.id = m.id ORDER BY m.created_at LIMIT 50",
        "UPDATE {table} SET role = 'x' WHERE id = 5",
        "SELECT * FROM {table} ORDER BY",
    ],
)
def test_no_index_is_named_where_none_stops_early(sql: str) -> None:
    assert index_advice(sql, FACTS, [], AT) is None


def test_hostile_names_in_an_index() -> None:
    facts = RewriteFacts('at"', ZONED, {'at"': ZONED, "a b": "uuid"})
    found = index_advice(
        'SELECT * FROM {table} WHERE "a b" = %(x)s ORDER BY "at""" LIMIT 5', facts, [], ("s", 'x"; DROP')
    )
    assert found is not None
    assert found.statement == 'CREATE INDEX ON "s"."x""; DROP" ("a b", "at""")'
