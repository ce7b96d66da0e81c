"""Rewrites on real servers: the same rows from fewer partitions, and the rows of the data for which it would not be so are found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import catalog, database, workload
from atlas_ops.index_advice import index_advice
from atlas_ops.model import ForeignTime
from atlas_ops.predicate import foresee
from atlas_ops.rewrites import Rewrite, RewriteFacts, candidates
from atlas_ops.workload import Query
from tests.database.conftest import MESSAGES, Subject

ATLAS = Path(__file__).parents[2] / "parameters" / "workloads" / "atlas.yml"
QUERIES = {query.name: query for query in workload.load(ATLAS).queries if query.table == "messages"}
BOTH = ("messages", "messages_partitioned")
_SCAN = re.compile(
    r"Scan (?:using \S+ |Backward using \S+ )?on (messages_(?:\d{4}_\d\d|default))(?: \S+)?  \(.*?(\(never executed\))?$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Asked:
    """A statement's parameters, as text and with their types."""

    values: Mapping[str, Any]
    types: Mapping[str, str]


@dataclass(frozen=True)
class Migrated:
    """The migrated Atlas and what is known of its messages."""

    subject: Subject
    facts: RewriteFacts

    def connect(self) -> psycopg.Connection[Any]:
        return self.subject.database.connect(options="-c TimeZone=UTC")

    def bound(self, query: Query) -> Asked:
        """The parameters of a query of the workload, taken from the original."""
        with self.connect() as conn:
            return _row(conn, str(query.bindings).replace("{table}", "messages"))

    def with_bindings(self, asked: Asked, rewrite: Rewrite) -> Asked:
        """The same with what the rewrite needs besides, fetched on the original."""
        if not rewrite.bindings:
            return asked
        wanted = ", ".join(f'{expression} AS "{name}"' for name, expression in rewrite.bindings)
        with self.connect() as conn:
            found = _row(conn, workload.statement(f"SELECT {wanted}", "messages", asked.types), asked.values)
        return Asked({**asked.values, **found.values}, {**asked.types, **found.types})

    def answer(self, sql: str, table: str, asked: Asked) -> Any:
        """The rows that a statement returns, or how many it changed and what of; nothing of it stays."""
        with self.connect() as conn, conn.transaction(force_rollback=True):
            cursor = conn.execute(workload.statement(sql, table, asked.types).encode(), asked.values, binary=True)
            if cursor.description:
                return cursor.fetchall()
            touched = conn.execute(
                f"SELECT id, content, deleted_by FROM {table} WHERE xmin = pg_current_xact_id()::xid ORDER BY id"
            ).fetchall()
            return cursor.rowcount, touched

    def touched(self, sql: str, asked: Asked) -> tuple[int, int]:
        """Partitions in the plan, and those that are read."""
        text = workload.statement(sql, "messages_partitioned", asked.types)
        with self.connect() as conn, conn.transaction(force_rollback=True):
            rows = conn.execute(f"EXPLAIN (ANALYZE) {text}".encode(), asked.values, binary=True).fetchall()
        plan = "\n".join(row[0] for row in rows)
        scans = _SCAN.findall(plan)
        removed = sum(int(number) for number in re.findall(r"Subplans Removed: (\d+)", plan))
        return len({name for name, _ in scans}) + removed, len({name for name, never in scans if not never})

    def counted(self, sql: str, table: str) -> int:
        with self.connect() as conn:
            row = conn.execute(workload.statement(sql, table, {}).encode()).fetchone()
        assert row is not None
        return int(row[0])


def _row(conn: psycopg.Connection[Any], sql: str, values: Mapping[str, Any] | None = None) -> Asked:
    """The first row as the server writes it: an infinite timestamp is none of Python's."""
    cursor = conn.execute(sql.encode(), values)
    assert cursor.rowcount >= 1 and cursor.description and cursor.pgresult
    raw = [cursor.pgresult.get_value(0, place) for place in range(len(cursor.description))]
    types = {
        column.name: conn.execute("SELECT format_type(%s::oid, NULL)", (column.type_code,)).fetchone()[0]  # type: ignore[index]
        for column in cursor.description
    }
    return Asked({name: None if each is None else each.decode() for name, each in zip(types, raw, strict=True)}, types)


def facts_of(subject: Subject, table: str = "messages", key: str = "created_at", **others: Any) -> RewriteFacts:
    with database.connect(subject.where) as conn:
        relation = catalog.relation(conn, "public", table)
        assert relation is not None
        foreign = catalog.rows(conn, "foreign_times", ForeignTime, oid=relation.table.oid)
    return RewriteFacts.of(relation, key, foreign, **others)


@pytest.fixture(scope="module")
def atlas_migrated(server: Any, migrated_template: str) -> Iterator[Migrated]:
    """Without the rows that are older than their conversation or their user, which Atlas has for a trap. Nothing else is changed in it, so the
    tests share it. Rows without a key are set aside there: a rewrite loses none of them."""
    made = server.clone(migrated_template)
    subject = Subject(made)
    older = (
        "EXISTS (SELECT FROM conversations AS c WHERE c.id = m.conversation_id AND m.created_at < c.created_at) OR "
        "EXISTS (SELECT FROM profiles AS p WHERE p.id = m.user_id AND m.created_at < p.created_at)"
    )
    subject.run(*(f"DELETE FROM {table} AS m WHERE {older}" for table in BOTH))
    covered = ("2024-01-01 00:00:00+00", "2027-03-01 00:00:00+00")
    subject.run(
        *(f"DELETE FROM {table} WHERE created_at < '{covered[0]}' OR created_at >= '{covered[1]}'" for table in BOTH)
    )
    yield Migrated(subject, facts_of(subject, key_not_null=True, version=server.version * 10_000, covered=covered))
    server.drop(made)


def test_the_catalogs_tell_what_a_rewrite_needs(atlas_migrated: Migrated) -> None:
    facts = atlas_migrated.facts
    assert (facts.key, facts.key_type, facts.unique, facts.table) == (
        "created_at",
        "timestamptz",
        (("id",),),
        "messages",
    )
    zoned = "timestamp with time zone"
    assert facts.foreign_keys == (
        *(
            ForeignTime("conversation_id", "public", "conversations", "id", time, zoned)
            for time in ("created_at", "updated_at", "deleted_at")
        ),
        ForeignTime("user_id", "public", "profiles", "id", "created_at", zoned),
    )


@pytest.mark.parametrize("name", QUERIES)
def test_a_rewrite_answers_as_the_query_does_from_fewer_partitions(atlas_migrated: Migrated, name: str) -> None:
    query = QUERIES[name]
    asked = atlas_migrated.bound(query)
    found = candidates(query.sql, atlas_migrated.facts, types=asked.types, taken=asked.types)
    told = foresee(query.sql, "created_at", types=asked.types, columns=atlas_migrated.facts.columns)
    assert bool(found) is (told.reads == "all" or told.ordered)
    if not found:
        return
    before = {table: atlas_migrated.answer(query.sql, table, asked) for table in BOTH}
    planned, _ = atlas_migrated.touched(query.sql, asked)
    for rewrite in found:
        own = atlas_migrated.with_bindings(asked, rewrite)
        if rewrite.counterexamples is not None:
            assert atlas_migrated.counted(rewrite.counterexamples, "messages_partitioned") == 0
        assert {table: atlas_migrated.answer(rewrite.sql, table, own) for table in BOTH} == before, rewrite.name
        after, read = atlas_migrated.touched(rewrite.sql, own)
        if rewrite.bindings:
            assert after < planned, (rewrite.name, "the planner knows what the application sends")
        assert read < planned, rewrite.name
        seen = foresee(rewrite.sql, "created_at", types=own.types)
        assert (seen.reads in ("one", "some"), seen.when) == (True, "plan" if rewrite.bindings else "run")


def test_the_traps_of_atlas_are_counterexamples(migrated: Subject) -> None:
    """Messages that are older than their conversation: where they are, nobody is told to ask only from there on."""
    facts = facts_of(migrated, key_not_null=True, covered=("2024-01-01 00:00:00+00", "2027-03-01 00:00:00+00"))
    counts = {
        rewrite.name: migrated.value(workload.statement(rewrite.counterexamples, "messages_partitioned", {}))
        for name in ("history_page", "pull", "one_message")
        for rewrite in candidates(QUERIES[name].sql, facts)
        if rewrite.counterexamples is not None
    }
    older = "SELECT count(*) FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id WHERE m.created_at < c.created_at"
    outside = (
        "SELECT count(*) FROM messages WHERE created_at < '2024-01-01 00:00+00' OR created_at >= '2027-03-01 00:00+00'"
    )
    assert counts == {
        **dict.fromkeys(("bound_by_conversations", "send_conversations"), migrated.value(older)),
        **dict.fromkeys(("bound_by_profiles", "send_profiles"), 9),
        "within_partitions": migrated.value(outside),
    }
    assert all(count > 0 for count in counts.values())


def test_one_row_is_read_from_one_partition(atlas_migrated: Migrated) -> None:
    asked = atlas_migrated.bound(QUERIES["edit"])
    [rewrite] = candidates(QUERIES["edit"].sql, atlas_migrated.facts, types=asked.types, taken=asked.types)
    assert rewrite.name == "send_created_at"
    assert atlas_migrated.touched(rewrite.sql, atlas_migrated.with_bindings(asked, rewrite)) == (1, 1)


def test_whoever_does_not_exist_has_no_rows_either_way(atlas_migrated: Migrated) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    for name in ("history_page", "one_message", "pull"):
        asked = atlas_migrated.bound(QUERIES[name])
        for value in (nobody, None):
            own = Asked({**asked.values, "conversation": value, "user": value, "id": value}, asked.types)
            for rewrite in candidates(QUERIES[name].sql, atlas_migrated.facts, types=asked.types, taken=asked.types):
                assert (
                    atlas_migrated.answer(
                        rewrite.sql, "messages_partitioned", atlas_migrated.with_bindings(own, rewrite)
                    )
                    == []
                )


def test_row_security_hides_the_referenced_row_and_the_query_still_answers(atlas_migrated: Migrated) -> None:
    """Who may not see the conversation reads everything, as before."""
    asked = atlas_migrated.bound(QUERIES["history_page"])
    rewrite = candidates(QUERIES["history_page"].sql, atlas_migrated.facts, types=asked.types, taken=asked.types)[0]
    assert rewrite.name == "bound_by_conversations"
    with atlas_migrated.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute("CREATE POLICY every_message ON messages_partitioned FOR SELECT TO authenticated USING (true)")
        conn.execute("SET LOCAL ROLE authenticated")
        conn.execute('SET LOCAL request.jwt.claims = \'{"role": "authenticated"}\'')
        assert conn.execute("SELECT count(*) FROM conversations").fetchone() == (0,)
        answers = [
            conn.execute(
                workload.statement(sql, "messages_partitioned", asked.types).encode(), asked.values, binary=True
            ).fetchall()
            for sql in (QUERIES["history_page"].sql, rewrite.sql)
        ]
    assert answers[0] == answers[1]
    assert len(answers[0]) > 0


# Counterexamples


@pytest.fixture
def planted(bare: Subject) -> Subject:
    """A table with rows of every kind that a rewrite must ask about."""
    bare.run(
        "CREATE TABLE parent (id int PRIMARY KEY, made timestamptz)",
        "CREATE TABLE child (id uuid UNIQUE, parent int, at timestamptz, body text)",
        "INSERT INTO parent VALUES (1, '2025-03-10'), (2, NULL), (3, '2025-03-10')",
        "INSERT INTO child (parent, at, body) VALUES (1, '2025-03-10', 'with it'), (1, '2025-06-01', 'later'), (2, '2020-01-01', 'of one without time'), "
        "(NULL, '2020-01-01', 'of none'), (9, '2020-01-01', 'of one that is gone'), (3, 'infinity', 'endless')",
        "ALTER TABLE child ADD FOREIGN KEY (parent) REFERENCES parent NOT VALID",
    )
    bare.specify({**MESSAGES, "table": "child", "partition_key": "at", "indexes": []})
    return bare


def counted(subject: Subject, sql: str) -> int:
    return int(subject.value(workload.statement(sql, "child", {})))


def rows(subject: Subject, sql: str, values: Mapping[str, Any], types: Mapping[str, str]) -> list[str]:
    with subject.database.connect(options="-c TimeZone=UTC") as conn:
        found = conn.execute(workload.statement(sql, "child", types).encode(), values, binary=True).fetchall()
    return sorted(row[0] for row in found)


def test_older_rows_are_counted_and_rows_of_nobody_are_not(planted: Subject) -> None:
    facts = facts_of(planted, "child", "at")
    sql = "SELECT body FROM {table} WHERE parent = %(parent)s"
    by_lookup, by_parameter = candidates(sql, facts, types={"parent": "integer"})
    assert (by_lookup.name, by_parameter.name) == ("bound_by_parent", "send_parent")
    assert by_lookup.counterexamples == by_parameter.counterexamples
    assert by_lookup.counterexamples is not None
    assert counted(planted, by_lookup.counterexamples) == 0
    for parent in (1, 2, 3, 9, None):
        values = {"parent": parent}
        before = rows(planted, sql, values, {"parent": "integer"})
        assert rows(planted, by_lookup.sql, values, {"parent": "integer"}) == before
        [(name, expression)] = by_parameter.bindings
        with planted.database.connect(options="-c TimeZone=UTC") as conn:
            since = conn.execute(
                f"SELECT ({workload.statement(expression, 'child', {'parent': 'integer'})})::text".encode(),
                values,
                binary=True,
            )
            sent = {**values, name: (since.fetchone() or ("",))[0]}
        types = {"parent": "integer", name: "timestamp with time zone"}
        assert rows(planted, by_parameter.sql, sent, types) == before
    planted.run(
        "INSERT INTO child (parent, at, body) VALUES (1, '2025-03-09 23:59:59.999999', 'older'), (3, '-infinity', 'oldest')"
    )
    assert counted(planted, by_lookup.counterexamples) == 2
    assert "older" not in rows(planted, by_lookup.sql, {"parent": 1}, {"parent": "integer"})
    planted.run("INSERT INTO child (parent, body) VALUES (1, 'without a key'), (NULL, 'of none, without a key')")
    assert counted(planted, by_lookup.counterexamples) == 3


def test_rows_without_a_key_are_counted_where_it_is_sent(planted: Subject) -> None:
    facts = facts_of(planted, "child", "at")
    [found] = candidates("SELECT body FROM {table} WHERE id = %(id)s", facts, types={"id": "uuid"})
    assert found.counterexamples is not None
    assert counted(planted, found.counterexamples) == 0
    planted.run("INSERT INTO child (id, body) VALUES (gen_random_uuid(), 'without a key')")
    assert counted(planted, found.counterexamples) == 1


IDS = (
    "CREATE FUNCTION uuid7(at timestamptz) RETURNS uuid LANGUAGE sql AS $$ SELECT (left(t, 8) || '-' || right(t, 4) || "
    "'-7abc-8def-0123456789ab')::uuid FROM (SELECT lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS t) AS x $$",
    "CREATE FUNCTION ulid(at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', "
    "1 + ((ms >> (5 * (9 - n))) & 31)::int, 1), '' ORDER BY n) || '0123456789ABCDEF' FROM (SELECT (extract(epoch FROM at) * 1000)::bigint AS ms) AS t, "
    "generate_series(0, 9) AS n $$",
)


@pytest.mark.parametrize("kind", ["uuid7", "ulid"])
@pytest.mark.parametrize("key_type", ["timestamptz", "timestamp", "date"])
def test_an_id_tells_its_time(bare: Subject, kind: str, key_type: str) -> None:
    column = "uuid" if kind == "uuid7" else "text"
    moment = (
        "t + interval '59 minutes'" if key_type == "timestamptz" else "t AT TIME ZONE 'UTC' + interval '59 minutes'"
    )
    bare.run(
        *IDS,
        f"CREATE TABLE child (id {column} PRIMARY KEY, at {key_type}, body text) ",
        f"INSERT INTO child SELECT {kind}(t), ({moment})::{key_type}, 'row ' || n FROM generate_series(0, 40) AS n, LATERAL (SELECT timestamptz '2024-01-01 00:00:01+00' + n * interval '500 hours' AS t) AS x",
        f"CREATE TABLE child_parts (id {column}, at {key_type}, body text) PARTITION BY RANGE (at)",
        *(
            f"CREATE TABLE child_parts_{year}_{month} PARTITION OF child_parts FOR VALUES FROM ('{year}-{month}-01') TO "
            f"('{year + month // 12}-{month % 12 + 1}-01')"
            for year in (2024, 2025, 2026)
            for month in range(1, 13)
        ),
        "INSERT INTO child_parts SELECT * FROM child",
    )
    bare.specify({**MESSAGES, "table": "child", "partition_key": "at", "indexes": []})
    facts = facts_of(bare, "child", "at", time_ordered={"id": kind})
    found = candidates("SELECT body FROM {table} WHERE id = %(id)s", facts, types={"id": column})
    assert [each.name for each in found] == ["send_at", "time_of_id"]
    rewrite = found[1]
    assert rewrite.counterexamples is not None
    assert counted(bare, rewrite.counterexamples) == 0
    with bare.database.connect(options="-c TimeZone=America/Havana") as conn:
        ids = conn.execute("SELECT id::text, body FROM child ORDER BY id").fetchall()
        assert len(ids) == 41
        for id_, body in ids:
            values, types = {"id": id_}, {"id": column}
            if rewrite.bindings:
                wanted = ", ".join(f'({expression})::text AS "{name}"' for name, expression in rewrite.bindings)
                row = conn.execute(
                    workload.statement(f"SELECT {wanted}", "child", types).encode(), values, binary=True
                ).fetchone()
                values = {**values, **dict(zip((name for name, _ in rewrite.bindings), row or (), strict=True))}
                types = {**types, **{name: key_type for name, _ in rewrite.bindings}}
            text = workload.statement(rewrite.sql, "child_parts", types)
            assert conn.execute(text.encode(), values, binary=True).fetchall() == [(body,)]
            plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN {text}".encode(), values, binary=True).fetchall())
            assert 1 <= plan.count("Scan on child_parts_") <= 2, "known while planning"
    bare.run(
        f"INSERT INTO child SELECT {kind}('2025-01-01 00:00+00'), '2025-01-03', 'two days late'",
        f"INSERT INTO child SELECT {kind}('2025-01-02 00:00+00'), NULL, 'without a key'",
    )
    assert counted(bare, rewrite.counterexamples) == 2


# The index


def test_the_index_lets_a_query_stop_early(atlas_migrated: Migrated) -> None:
    """The latest messages of a conversation that goes on through every month."""
    facts, query = atlas_migrated.facts, QUERIES["history_page"]
    within = next(
        each
        for each in candidates(query.sql, facts, types={"conversation": "uuid"})
        if each.name == "within_partitions"
    )
    advice = index_advice(query.sql, facts, [], ("public", "messages_partitioned"))
    assert advice is not None and index_advice(within.sql, facts, [], ("public", "messages_partitioned")) == advice
    types = {
        "conversation": "uuid",
        **dict.fromkeys(("created_at_from", "created_at_until"), "timestamp with time zone"),
    }
    with atlas_migrated.connect() as conn, conn.transaction(force_rollback=True):
        (conversation,) = conn.execute("SELECT id::text FROM conversations ORDER BY created_at LIMIT 1").fetchone() or (
            "",
        )
        values = {
            "conversation": conversation,
            "created_at_from": facts.covered[0],
            "created_at_until": facts.covered[1],
        }  # type: ignore[index]
        conn.execute(
            "INSERT INTO messages_partitioned (id, conversation_id, role, content, created_at) SELECT gen_random_uuid(), %s, 'assistant', 'spread', "
            "timestamptz '2024-01-15 00:00+00' + n * interval '3 hours' FROM generate_series(1, 9000) AS n",
            (conversation,),
        )
        conn.execute("DROP INDEX messages_partitioned_conversation_id_created_at_idx")
        conn.execute("DROP INDEX messages_partitioned_created_at_idx")
        read = []
        for statement in ("SELECT", advice.statement):
            conn.execute(statement)
            conn.execute("ANALYZE messages_partitioned")
            for sql in (query.sql, within.sql):
                text = workload.statement(sql, "messages_partitioned", types)
                rows = conn.execute(f"EXPLAIN (ANALYZE) {text}".encode(), values, binary=True).fetchall()
                scans = _SCAN.findall("\n".join(row[0] for row in rows))
                read.append(len({name for name, never in scans if not never}))
    assert read[:3] == [39, 38, 39], "without the index, and as long as the default partition is asked, all of them"
    assert read[3] <= 2


def test_an_index_that_is_there_needs_no_advice(atlas_migrated: Migrated) -> None:
    with database.connect(atlas_migrated.subject.where) as conn:
        original, there = (catalog.relation(conn, "public", name) for name in BOTH)
    assert original is not None and there is not None
    for indexes in (original.indexes, there.indexes):
        found = {
            name: index_advice(query.sql, atlas_migrated.facts, indexes, ("public", "messages_partitioned"))
            for name, query in QUERIES.items()
        }
        assert {name: each.columns for name, each in found.items() if each} == {
            # (conversation_id, created_at DESC) holds only what is not deleted, which this query does not ask for
            "history_page": ("conversation_id", "created_at"),
            "history_page_as_user": ("conversation_id", "created_at"),
            "pull": ("user_id", "created_at"),
            "search": ("user_id", "created_at"),
        }
