"""DDL from what the catalogs say: every word of PostgreSQL's own definition is kept, and names fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops import definition
from atlas_ops.definition import IndexPlan, fit, index_plans
from atlas_ops.model import Column, Constraint, Grant, Index, Policy, Relation, Table, Trigger

TABLE = Table(
    oid=1, schema="public", name="messages", kind="r", persistence="p", is_partition=False, owner="postgres",
    may_own=True, may_select=True, row_security=False, force_row_security=False, replica_identity="d",
    storage_parameters=(), tablespace=None, comment=None, estimated_rows=0, heap_bytes=0, index_bytes=0, toast_bytes=0,
    partition_key=None, has_children=False,
)  # fmt: skip


def table(**fields: Any) -> Relation:
    own = {name: fields.pop(name) for name in list(fields) if hasattr(TABLE, name)}
    return Relation(replace(TABLE, **own), **{"columns": (), **fields})


def key(kind: str, definition: str, *columns: str, deferrable: bool = False) -> Constraint:
    return Constraint(f"messages_{kind}", kind, definition, columns, True, deferrable, None, True)


def index(tail: str, *columns: str, **fields: Any) -> Index:
    made = Index("i", tail, columns, False, False, True, False, False, None, None, (), 8192, 0)
    return replace(made, **fields)


def trigger(**fields: Any) -> Trigger:
    made = Trigger(
        "touch", "AFTER INSERT", "FOR EACH ROW EXECUTE FUNCTION public.touch()", "O", True, "AFTER", False, False
    )
    return replace(made, **fields)


# Keys and indexes


@pytest.mark.parametrize(
    ("constraint", "made"),
    [
        (key("p", "PRIMARY KEY (id)", "id"), 'PRIMARY KEY (id, "created_at")'),
        (key("p", "PRIMARY KEY (created_at, id)", "created_at", "id"), "PRIMARY KEY (created_at, id)"),
        (
            key("p", 'PRIMARY KEY ("Id", "order", b)', "Id", "order", "b"),
            'PRIMARY KEY ("Id", "order", b, "created_at")',
        ),
        (key("p", 'PRIMARY KEY ("a"")b")', 'a")b'), 'PRIMARY KEY ("a"")b", "created_at")'),
        (key("p", "PRIMARY KEY (id) INCLUDE (role)", "id"), 'PRIMARY KEY (id, "created_at") INCLUDE (role)'),
        (
            key("p", "PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED", "id", deferrable=True),
            'PRIMARY KEY (id, "created_at") DEFERRABLE INITIALLY DEFERRED',
        ),
    ],
)
def test_the_primary_key_gets_the_partition_key_once_and_keeps_the_rest(constraint: Constraint, made: str) -> None:
    [plan] = index_plans(table(constraints=(constraint,)), "created_at", [])
    assert plan == IndexPlan("pkey", constraint=made, of=constraint.name)
    assert plan.statements("s", "t") == [f'ALTER TABLE "s"."t" ADD CONSTRAINT "t_pkey" {made}']
    assert '"later_pkey"' in plan.statements("s", "t", named_after="later")[0]


@pytest.mark.parametrize(
    ("constraint", "made"),
    [
        (key("u", "UNIQUE (email)", "email"), 'UNIQUE (email, "created_at")'),
        (key("u", "UNIQUE NULLS NOT DISTINCT (a, b)", "a", "b"), 'UNIQUE NULLS NOT DISTINCT (a, b, "created_at")'),
        (key("u", "UNIQUE (a, created_at) DEFERRABLE", "a", "created_at"), "UNIQUE (a, created_at) DEFERRABLE"),
    ],
)
def test_a_unique_constraint_gets_the_partition_key(constraint: Constraint, made: str) -> None:
    [plan] = index_plans(table(constraints=(constraint,)), "created_at", [])
    assert plan.constraint == made and plan.suffix == "_".join([*constraint.columns, "key"])


@pytest.mark.parametrize(
    ("tail", "columns", "made"),
    [
        ("USING btree (email)", ["email"], 'USING btree (email, "at")'),
        (
            "USING btree (a DESC NULLS LAST, b) INCLUDE (c)",
            ["a", "b"],
            'USING btree (a DESC NULLS LAST, b, "at") INCLUDE (c)',
        ),
        ("USING btree (lower(a))", ["expr"], "USING btree (lower(a))"),
        ("USING btree (a) NULLS NOT DISTINCT", ["a"], 'USING btree (a, "at") NULLS NOT DISTINCT'),
        ("USING btree (a, at) WHERE (b IS NULL)", ["a", "at"], "USING btree (a, at) WHERE (b IS NULL)"),
    ],
)
def test_a_unique_index_gets_the_partition_key(tail: str, columns: list[str], made: str) -> None:
    [plan] = index_plans(table(indexes=(index(tail, *columns, unique=True),)), "at", [])
    [statement] = plan.statements("s", "t")
    assert statement.startswith('CREATE UNIQUE INDEX "t_') and statement.endswith(made)


TAILS = [
    ("USING btree (deleted_at) WHERE (deleted_at IS NULL)", ["deleted_at"]),
    ("USING btree (conversation_id, created_at DESC) WHERE (deleted_at IS NULL)", ["conversation_id", "created_at"]),
    ("USING gin (metadata jsonb_path_ops)", ["metadata"]),
    ("USING btree (lower(content), ((metadata ->> 'a ON b'::text)))", ["expr", "expr"]),
    ("USING btree (role) INCLUDE (user_id) WITH (fillfactor='70')", ["role"]),
]


@pytest.mark.parametrize(("tail", "columns"), TAILS)
def test_the_tail_of_an_index_is_kept_word_for_word(tail: str, columns: list[str]) -> None:
    [plan] = index_plans(table(indexes=(index(tail, *columns),)), "created_at", [])
    assert plan.statements("s", "t") == [f'CREATE INDEX "t_{"_".join(columns)}_idx" ON "s"."t" {tail}']


def test_names_that_would_be_twins_are_numbered() -> None:
    twins = [
        index("USING btree (a)", "a"),
        index("USING btree (a) WHERE (b > 0)", "a"),
        index("USING btree (a DESC)", "a"),
    ]
    plans = index_plans(table(indexes=tuple(twins)), "created_at", [["a"], ["b"]])
    assert [plan.suffix for plan in plans] == ["a_idx", "a_idx1", "a_idx2", "b_idx"]


def test_a_wanted_index_is_left_out_where_the_table_has_it() -> None:
    have = (index("USING btree (user_id)", "user_id"), index('USING btree ("Role", "order")', "Role", "order"))
    assert len(index_plans(table(indexes=have), "created_at", [["user_id"], ["Role", "order"]])) == 2
    partly = (index("USING btree (user_id) WHERE (role IS NULL)", "user_id"), index("USING hash (role)", "role"))
    plans = index_plans(table(indexes=partly), "created_at", [["user_id"], ["role"]])
    assert [plan.tail for plan in plans[2:]] == ['USING btree ("user_id")', 'USING btree ("role")']
    plans = index_plans(table(indexes=(index('USING btree ("a, b")', "a, b"),)), "created_at", [["a", "b"]])
    assert len(plans) == 2


def test_invalid_indexes_and_those_of_constraints_are_left_behind() -> None:
    left = (index("USING btree (a)", "a", valid=False), index("USING btree (id)", "id", constraint="messages_pkey"))
    assert index_plans(table(indexes=left), "created_at", []) == ()


# Names


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_a_fitted_name_has_at_most_63_bytes_and_a_short_one_stays(name: str) -> None:
    fitted = fit(name)
    assert len(fitted.encode()) <= 63
    assert (fitted == name) is (len(name.encode()) <= 63)


def test_a_long_name_is_never_cut_to_a_twin_nor_inside_a_letter() -> None:
    longest = "ü" * 31 + "x"
    assert fit(longest) == longest
    one, two = fit("ü" * 31 + "xx"), fit("ü" * 31 + "xy")
    assert one != two and one[:27] == two[:27] == "ü" * 27 and len(one.encode()) == 63
    assert IndexPlan("role_idx").name_on("m" * 60) != IndexPlan("user_idx").name_on("m" * 60)


def test_names_for_people_are_quoted_only_where_sql_needs_it() -> None:
    assert definition.plainly("public", "messages_2024") == "public.messages_2024"
    assert definition.plainly("App", 'a"b') == '"App"."a""b"'


# What hangs on a table


def test_grants_by_role_by_option_and_by_column() -> None:
    given_to = (
        Grant("anon", "SELECT", False, None),
        Grant("anon", "INSERT", False, None),
        Grant("anon", "DELETE", True, None),
        Grant(None, "SELECT", False, None),
        Grant('o"x', "UPDATE", True, "Body"),
        Grant('o"x', "SELECT", True, "Body"),
    )
    assert definition.grants("s", "t", table(grants=given_to)) == [
        'GRANT SELECT, INSERT ON TABLE "s"."t" TO "anon"',
        'GRANT DELETE ON TABLE "s"."t" TO "anon" WITH GRANT OPTION',
        'GRANT SELECT ON TABLE "s"."t" TO PUBLIC',
        'GRANT UPDATE ("Body"), SELECT ("Body") ON TABLE "s"."t" TO "o""x" WITH GRANT OPTION',
    ]


def test_policies_keep_kind_command_roles_and_both_expressions() -> None:
    hung = table(
        policies=(
            Policy("own rows", "SELECT", True, (), "(id = 1)", None),
            Policy('no "x"', "ALL", False, ("anon", "b c"), "true", "(id > 0)"),
            Policy("add", "INSERT", True, ("anon",), None, "(id = 2)"),
        ),
        row_security=True,
        force_row_security=True,
    )
    assert definition.policies("s", "t", hung) == [
        'ALTER TABLE "s"."t" ENABLE ROW LEVEL SECURITY',
        'ALTER TABLE "s"."t" FORCE ROW LEVEL SECURITY',
        'CREATE POLICY "own rows" ON "s"."t" AS PERMISSIVE FOR SELECT TO PUBLIC USING ((id = 1))',
        'CREATE POLICY "no ""x""" ON "s"."t" AS RESTRICTIVE FOR ALL TO "anon", "b c" USING (true) WITH CHECK ((id > 0))',
        'CREATE POLICY "add" ON "s"."t" AS PERMISSIVE FOR INSERT TO "anon" WITH CHECK ((id = 2))',
    ]
    assert definition.policies("s", "t", table()) == []


@pytest.mark.parametrize(
    ("enabled", "state"), [("O", None), ("D", "DISABLE"), ("R", "ENABLE REPLICA"), ("A", "ENABLE ALWAYS")]
)
def test_triggers_keep_their_state(enabled: str, state: str | None) -> None:
    create = 'CREATE TRIGGER "touch" AFTER INSERT ON "s"."t" FOR EACH ROW EXECUTE FUNCTION public.touch()'
    expected = [create, *([f'ALTER TABLE "s"."t" {state} TRIGGER "touch"'] if state else [])]
    assert definition.triggers("s", "t", table(triggers=(trigger(enabled=enabled),))) == expected


def test_a_constraint_trigger_stays_one() -> None:
    [made] = definition.triggers("s", "t", table(triggers=(trigger(constraint=True, tail="DEFERRABLE FOR EACH ROW"),)))
    assert made == 'CREATE CONSTRAINT TRIGGER "touch" AFTER INSERT ON "s"."t" DEFERRABLE FOR EACH ROW'


@pytest.mark.parametrize(("identity", "words"), [("f", "FULL"), ("n", "NOTHING"), ("d", None), ("i", None)])
def test_full_and_no_replica_identity_are_carried(identity: str, words: str | None) -> None:
    expected = [f'ALTER TABLE "s"."t" REPLICA IDENTITY {words}'] if words else []
    assert definition.replica_identity("s", "t", table(replica_identity=identity), ()) == expected


def test_an_identity_gets_a_sequence_of_its_own_named_after_the_later_name() -> None:
    column = Column("Id", "bigint", "int8", "b", True, None, "a", "", None, None, None, "INCREMENT BY 2 CYCLE")
    plain = replace(column, name="n", identity="", identity_options="")
    assert definition.identities("s", "t", table(columns=(column, plain)), "t_p") == [
        'ALTER TABLE "s"."t" ALTER COLUMN "Id" ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME "s"."t_p_Id_seq" INCREMENT BY 2 CYCLE)'
    ]
    [made] = definition.identities("s", "t", table(columns=(replace(column, identity="d"),)), "m" * 63)
    assert "BY DEFAULT" in made and fit("m" * 63 + "_Id_seq") in made


def test_a_copy_names_every_column_but_generated_ones() -> None:
    columns = [
        Column(n, "text", "text", "b", False, None, "", g, None, None, None)
        for n, g in [("a", ""), ("b", "s"), ("c", "v")]
    ]
    assert [column.name for column in definition.insertable(table(columns=tuple(columns)))] == ["a"]


def test_a_comment_is_quoted_and_its_absence_needs_no_statement() -> None:
    assert definition.comment("s", "t", "it's \\ here") == [r"""COMMENT ON TABLE "s"."t" IS  E'it''s \\ here'"""]
    assert definition.comment("s", "t", "") == ["""COMMENT ON TABLE "s"."t" IS ''"""]
    assert definition.comment("s", "t", None) == []
