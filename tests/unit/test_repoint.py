"""What is bound by OID, as SQL: every list as a whole, in both directions, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atlas_ops import repoint
from atlas_ops.model import Binding, Column, Comment, Constraint, Grant, Index, Policy, Publication, Relation, Table
from atlas_ops.plan import Effect
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

TABLE = Table(
    oid=1, schema="public", name="messages", kind="r", persistence="p", is_partition=False, owner="postgres",
    may_own=True, may_select=True, row_security=False, force_row_security=False, replica_identity="d",
    storage_parameters=(), tablespace=None, comment=None, estimated_rows=0, heap_bytes=0, index_bytes=0, toast_bytes=0,
    partition_key=None, has_children=False,
)  # fmt: skip


def spec(**keys: Any) -> TableSpec:
    [made] = tables_from([{"table": "messages", "partition_key": "at", "from": "2024-01-01", **keys}])
    return made


def relation(name: str = "messages", kind: str = "r", schema: str = "public", **fields: Any) -> Relation:
    return Relation(replace(TABLE, name=name, kind=kind, schema=schema), **{"columns": (), **fields})


def binding(kind: str, name: str = "x", member: str = "", definition: str = "", **fields: Any) -> Binding:
    made = Binding(kind, "public", name, member, definition, (), "postgres", True, False, False, (), "", ())
    return replace(made, **fields)


def index(name: str, *columns: str, **fields: Any) -> Index:
    made = Index(
        name, f"USING btree ({', '.join(columns)})", columns, False, False, True, False, False, None, None, (), 0, 0
    )
    return replace(made, **fields)


KEY = Constraint("messages_pkey", "p", "PRIMARY KEY (id)", ("id",), True, False, None, True)
ORIGINAL = relation(
    constraints=(KEY,),
    indexes=(
        index("messages_pkey", "id", unique=True, primary=True, constraint="messages_pkey"),
        index("author", "author"),
        index("broken", "body", valid=False),
        index("twin", "author", tail="USING hash (author)"),
        index("later", "body"),
    ),
    policies=(Policy("own", "ALL", True, (), "(id IN ( SELECT messages.id))", "true"),),
    publications=(
        Publication("realtime", True, True, ("id", "Body"), "(id > 0)", False),
        Publication("joined", True, False, (), None, False),
        Publication("everything", True, False, (), None, True),
    ),
    bindings=(
        binding("view", "v", definition="SELECT 1", options=("security_invoker='true'", "check_option='local'")),
        binding("rule", "log", 'r"', 'CREATE RULE "r""" AS ON INSERT TO public.log DO NOTHING', owner="other"),
        binding("policy", "Other", "p", "USING (a) WITH CHECK (b)"),
        binding("policy", "messages_partitioned", "own", "USING (of_the_copy)"),
        binding("function", "f", "public.messages", "CREATE OR REPLACE FUNCTION public.f(public.messages)", row_type=True,
                completion=("REVOKE", "GRANT")),
        binding("function", "g", "n bigint", "CREATE OR REPLACE FUNCTION public.g(n bigint)"),
        binding("default", "log", "of", "'public.messages'::regclass"),
        binding("identity", "messages_id_seq", "id", completion=("GRANT USAGE ON SEQUENCE public.messages_id_seq TO anon",)),
        binding("sequence", "messages_n_seq", "n"),
    ),
)  # fmt: skip
COPY = relation(
    "messages_partitioned",
    "p",
    indexes=(
        index("messages_partitioned_pkey", "id", "at", unique=True, primary=True),
        index("messages_partitioned_author_idx", "author"),
        index("messages_partitioned_author_idx1", "author", tail="USING hash (author)"),
        index("messages_partitioned_body_idx", "something", "else"),
        index("messages_partitioned_at_idx", "at"),
    ),
    publications=(Publication("joined", True, False, (), None, False),),
    bindings=(
        binding("identity", "messages_partitioned_id_seq", "id", closing="REVOKE ALL ON SEQUENCE public.messages_partitioned_id_seq FROM x"),
    ),
)  # fmt: skip


def numbers(own: str, parked: str, other: str) -> list[str]:
    return [
        f'ALTER SEQUENCE "public"."{own}" RENAME TO "{parked}"',
        f"""SELECT pg_catalog.setval('"public"."{other}"', last_value, is_called) FROM "public"."{parked}\"""",
        f'ALTER SEQUENCE "public"."{parked}" RESTART',
        "SELECT pg_catalog.setval(seqrelid, CASE WHEN seqincrement > 0 THEN seqmax ELSE seqmin END) "
        f"""FROM pg_catalog.pg_sequence WHERE seqrelid = '"public"."{parked}"'::regclass""",
    ]


def test_a_cut_over_word_for_word() -> None:
    assert repoint.locks(ORIGINAL, COPY) == [
        'ALTER TABLE "public"."Other" OWNER TO "postgres"',
        'ALTER TABLE "public"."log" OWNER TO "postgres"',
        'ALTER TABLE "public"."v" OWNER TO "postgres"',
    ]
    assert repoint.before_exchange(spec(), ORIGINAL, COPY) == [
        'ALTER PUBLICATION "realtime" DROP TABLE "public"."messages"',
        'ALTER PUBLICATION "joined" DROP TABLE "public"."messages"',
        'ALTER SEQUENCE "public"."messages_n_seq" OWNED BY NONE',
        *numbers("messages_id_seq", "messages_retired_id_seq", "messages_partitioned_id_seq"),
        "REVOKE ALL ON SEQUENCE public.messages_partitioned_id_seq FROM x",
        'ALTER ROUTINE "public"."f"(public.messages) RENAME TO "atlas_ops_1_f"',
    ]
    assert repoint.at_exchange(spec(indexes=[["at"]]), ORIGINAL, COPY) == [
        "SET LOCAL check_function_bodies = off",
        'ALTER INDEX "public"."messages_partitioned_pkey" RENAME TO "messages_pkey"',
        'ALTER INDEX "public"."messages_partitioned_author_idx" RENAME TO "author"',
        'ALTER INDEX "public"."messages_partitioned_author_idx1" RENAME TO "twin"',
        'ALTER SEQUENCE "public"."messages_n_seq" OWNED BY "public"."messages"."n"',
        'ALTER SEQUENCE "public"."messages_partitioned_id_seq" RENAME TO "messages_id_seq"',
        "GRANT USAGE ON SEQUENCE public.messages_id_seq TO anon",
        "CREATE OR REPLACE FUNCTION public.f(public.messages)",
        "REVOKE",
        "GRANT",
        "CREATE OR REPLACE FUNCTION public.g(n bigint)",
        """ALTER TABLE ONLY "public"."log" ALTER COLUMN "of" SET DEFAULT 'public.messages'::regclass""",
        """CREATE OR REPLACE VIEW "public"."v" WITH (security_invoker='true', check_option='local') AS SELECT 1""",
        'CREATE OR REPLACE RULE "r""" AS ON INSERT TO public.log DO NOTHING',
        'ALTER POLICY "p" ON "public"."Other" USING (a) WITH CHECK (b)',
        'ALTER POLICY "own" ON "public"."messages" USING ((id IN ( SELECT messages.id))) WITH CHECK (true)',
        'DROP ROUTINE "public"."atlas_ops_1_f"',
        'ALTER PUBLICATION "realtime" ADD TABLE "public"."messages" ("id", "Body") WHERE ((id > 0))',
    ]


def test_a_roll_back_word_for_word() -> None:
    in_use = replace(
        COPY,
        table=replace(COPY.table, name="messages"),
        indexes=(
            index("messages_pkey", "id", "at"), index("author", "author"), index("broken", "since"), index("messages_partitioned_at_idx", "at")
        ),
        publications=ORIGINAL.publications[:1],
        bindings=(
            binding("view", "v", definition="SELECT 1"),
            binding("identity", "messages_id_seq", "id", completion=("COMMENT",)),
            binding("sequence", "messages_n_seq", "n"),
        ),
    )  # fmt: skip
    retired = replace(
        ORIGINAL,
        table=replace(TABLE, schema="partitions", name="messages_retired"),
        publications=(),
        bindings=(binding("identity", "messages_retired_id_seq", "id", schema="partitions"),),
    )
    assert repoint.before_exchange(spec(), in_use, retired) == [
        'ALTER PUBLICATION "realtime" DROP TABLE "public"."messages"',
        'ALTER INDEX "public"."messages_pkey" RENAME TO "messages_partitioned_pkey"',
        'ALTER INDEX "public"."author" RENAME TO "messages_partitioned_author_idx"',
        'ALTER INDEX "public"."broken" RENAME TO "messages_partitioned_broken"',
        'ALTER SEQUENCE "public"."messages_n_seq" OWNED BY NONE',
        *(
            statement.replace('"public"."messages_retired', '"partitions"."messages_retired')
            for statement in numbers("messages_id_seq", "messages_partitioned_id_seq", "messages_retired_id_seq")
        ),
    ]
    assert repoint.at_exchange(spec(), in_use, retired) == [
        'ALTER SEQUENCE "public"."messages_n_seq" OWNED BY "public"."messages"."n"',
        'ALTER SEQUENCE "public"."messages_retired_id_seq" RENAME TO "messages_id_seq"',
        "COMMENT",
        'CREATE OR REPLACE VIEW "public"."v" AS SELECT 1',
        'ALTER PUBLICATION "realtime" ADD TABLE "public"."messages" ("id", "Body") WHERE ((id > 0))',
    ]


def test_a_table_on_which_nothing_hangs_needs_nothing() -> None:
    bare, copy = relation(), relation("messages_partitioned", "p")
    assert repoint.locks(bare, copy) == []
    assert repoint.before_exchange(spec(), bare, copy) == []
    assert repoint.at_exchange(spec(), bare, copy) == []
    assert repoint.after_exchange(spec(), bare, copy) == ()
    assert list(repoint.checks(spec(), bare, copy)) == []


def test_publications_are_left_alone_where_the_specification_says_so() -> None:
    left = spec(publications="leave")
    told = [*repoint.before_exchange(left, ORIGINAL, COPY), *repoint.at_exchange(left, ORIGINAL, COPY)]
    assert [statement for statement in told if "PUBLICATION" in statement] == []
    assert [check.severity for check in repoint.checks(left, ORIGINAL) if check.name == "publication"] == [
        Severity.WARN
    ] * 3


def test_the_partitioned_table_may_come_from_another_schema() -> None:
    other = spec(partitioned_table="beside.copy")
    copy = replace(
        COPY,
        table=replace(COPY.table, schema="beside", name="copy"),
        indexes=(index("copy_pkey", "id", "at"),),
        bindings=(binding("identity", "copy_id_seq", "id", schema="beside"),),
    )
    assert """SELECT pg_catalog.setval('"beside"."copy_id_seq"', last_value""" in "\n".join(
        repoint.before_exchange(other, ORIGINAL, copy)
    )
    told = repoint.at_exchange(other, ORIGINAL, copy)
    assert 'ALTER SEQUENCE "public"."copy_id_seq" RENAME TO "messages_id_seq"' in told
    assert 'ALTER INDEX "public"."copy_pkey" RENAME TO "messages_pkey"' in told


# Materialized views and comments

QUERY = "SELECT count(*) AS count FROM public.messages"
VIEW = relation(
    "Daily",
    "m",
    "api",
    columns=(Column("count", "bigint", "int8", "b", False, None, "", "", "how many", None, None),),
    indexes=(index("one", "count", unique=True), index("two", "count", clustered=True)),
    grants=(Grant("anon", "SELECT", False, None),),
    comments=(Comment("INDEX", "one", "first"),),
)
BOUND = binding("materialized view", "Daily", definition=QUERY, schema="api", options=("fillfactor='70'",), owner="service_role",
                completion=("REVOKE ALL",))  # fmt: skip
MARK = 'atlas_ops: to take the place of api."Daily"'
SUCCESSOR = relation("api_Daily", "m", "partitions", indexes=(index("two", "count"),))
SUCCESSOR = replace(SUCCESSOR, table=replace(SUCCESSOR.table, comment=MARK))


def test_a_materialized_view_gets_an_empty_successor_which_is_filled_and_takes_its_place() -> None:
    leaving = relation(bindings=(BOUND,), materialized_views=(VIEW,))
    at = '"partitions"."api_Daily"'
    assert repoint.at_exchange(spec(), leaving, COPY) == [
        f"CREATE MATERIALIZED VIEW {at} WITH (fillfactor='70') AS {QUERY} WITH NO DATA",
        f"COMMENT ON MATERIALIZED VIEW {at} IS '{MARK}'",
    ]
    in_use = relation(kind="p", materialized_views=(SUCCESSOR, VIEW))
    fill, exchange = repoint.after_exchange(spec(), leaving, in_use)
    assert (fill.lock, fill.on, fill.effect) == ("ACCESS SHARE", "public.messages", Effect.ADDS)
    assert list(fill.statements) == [
        f"REFRESH MATERIALIZED VIEW {at}",
        f'CREATE UNIQUE INDEX "one" ON {at} USING btree (count)',
        f'ALTER MATERIALIZED VIEW {at} CLUSTER ON "two"',
        f"""COMMENT ON COLUMN {at}."count" IS 'how many'""",
        """COMMENT ON INDEX "partitions"."one" IS 'first'""",
        f"ANALYZE {at}",
    ]
    assert (exchange.lock, exchange.on, exchange.effect) == ("ACCESS EXCLUSIVE", 'api."Daily"', Effect.REMOVES)
    assert list(exchange.statements) == [
        'DROP MATERIALIZED VIEW "api"."Daily"',
        f'ALTER MATERIALIZED VIEW {at} SET SCHEMA "api"',
        'ALTER MATERIALIZED VIEW "api"."api_Daily" RENAME TO "Daily"',
        "REVOKE ALL",
        'ALTER MATERIALIZED VIEW "api"."Daily" OWNER TO "service_role"',
        'GRANT SELECT ON TABLE "api"."Daily" TO "anon"',
        'COMMENT ON MATERIALIZED VIEW "api"."Daily" IS NULL',
    ]


def test_one_without_rows_stays_without_and_a_leftover_goes() -> None:
    empty = replace(BOUND, definition=f"{QUERY} WITH NO DATA")
    leaving = relation(bindings=(empty,), materialized_views=(VIEW,))
    assert f"AS {QUERY} WITH NO DATA" in repoint.at_exchange(spec(), leaving, COPY)[0]
    fill, _ = repoint.after_exchange(spec(), leaving, relation(kind="p", materialized_views=(SUCCESSOR,)))
    assert not fill.statements[0].startswith("REFRESH")
    copy = relation(
        kind="p", materialized_views=(SUCCESSOR,), bindings=(replace(BOUND, schema="partitions", name="api_Daily"),)
    )
    assert repoint.at_exchange(spec(), copy, ORIGINAL) == ['DROP MATERIALIZED VIEW "partitions"."api_Daily"']
    assert repoint.after_exchange(spec(), copy, ORIGINAL) == ()
    assert list(repoint.checks(spec(), copy)) == []


def test_comments_go_to_what_has_the_same_name_and_none_yet() -> None:
    left = relation(
        comments=tuple(
            Comment(kind, name, "it's")
            for kind in ("CONSTRAINT", "INDEX", "TRIGGER", "POLICY")
            for name in ("a", "own")
        )
    )
    in_use = relation(
        policies=ORIGINAL.policies,
        indexes=(index("own", "x"),),
        constraints=(replace(KEY, name="own"),),
        comments=(Comment("INDEX", "own", "x"),),
    )
    [step] = repoint.after_exchange(spec(), left, in_use)
    assert step.statements == (
        """COMMENT ON CONSTRAINT "own" ON "public"."messages" IS 'it''s'""",
        """COMMENT ON POLICY "own" ON "public"."messages" IS 'it''s'""",
    )


# Checks


@pytest.mark.parametrize(
    ("found", "severity", "cure"),
    [
        (binding("own rule", "messages", 'r"'), Severity.STOP, 'DROP RULE "r""" ON "public"."messages";'),
        (
            binding("column", "T", "c", "messages"),
            Severity.STOP,
            'ALTER TABLE "public"."T" ALTER COLUMN "c" TYPE jsonb USING to_jsonb("c");',
        ),
        (binding("temporary", "view x", schema=""), Severity.WARN, ""),
        (binding("other", "cast x", schema=""), Severity.STOP, ""),
        (binding("view", "v", row_type=True), Severity.STOP, """SELECT pg_get_viewdef('"public"."v"'::regclass);"""),
        (binding("view", "v", rests_on_key=True), Severity.STOP, ""),
        (
            binding("view", "v", may_make=False, owner="x"),
            Severity.STOP,
            'GRANT "x" TO CURRENT_USER;\nGRANT CREATE ON SCHEMA "public" TO "x";',
        ),
        (binding("policy", "t", "p", may_make=False, owner="x"), Severity.STOP, 'GRANT "x" TO CURRENT_USER;'),
        (binding("function", "f", row_type=True), Severity.NOTE, ""),
        (binding("function", "f", row_type=True, dependents=("view v",)), Severity.STOP, ""),
        (
            binding("policy", "messages_partitioned", "p"),
            Severity.STOP,
            'DROP POLICY "p" ON "public"."messages_partitioned";',
        ),
        (binding("identity", "s", "elsewhere"), Severity.STOP, ""),
    ],
)
def test_a_finding_has_its_reason_and_cure(found: Binding, severity: Severity, cure: str) -> None:
    [check] = repoint.checks(spec(), relation(bindings=(found,)), COPY)
    assert (check.severity, check.name, check.sql) == (severity, found.kind, cure)
    assert check.what and check.why and (check.cure or severity is Severity.NOTE)


@pytest.mark.parametrize(
    "found",
    [binding("view", "v"), binding("rule", "t", "r"), binding("sequence", "s", "n"), binding("default", "t", "c")],
)
def test_what_can_be_bound_is_no_finding(found: Binding) -> None:
    assert list(repoint.checks(spec(), relation(bindings=(found,)), COPY)) == []


def test_a_key_that_does_not_grow_may_be_rested_on() -> None:
    grouped = binding("view", "v", rests_on_key=True)
    whole = replace(KEY, columns=("at", "id"))
    assert list(repoint.checks(spec(), relation(constraints=(whole,), bindings=(grouped,)))) == []
    assert list(repoint.checks(spec(), relation(kind="p", constraints=(KEY,), bindings=(grouped,)))) == []
    assert len(list(repoint.checks(spec(), relation(constraints=(KEY,), bindings=(grouped,))))) == 1
