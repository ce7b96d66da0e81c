"""Foreign keys of other tables: every statement of either way, and of the way back. No database."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from atlas_ops import composite, incoming
from atlas_ops.definition import name
from atlas_ops.errors import AtlasError
from atlas_ops.incoming import Way
from atlas_ops.model import Column, Constraint, Reference, Relation, Table, Trigger
from atlas_ops.plan import Effect
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2024, 1, 15)
VERSION = 150000


def spec(way: str, **keys: Any) -> TableSpec:
    [found] = tables_from(
        [
            {
                "table": "messages",
                "partition_key": "created_at",
                "from": "2024-01-01",
                "until": "2024-02-01",
                "ahead": 1,
                "incoming_foreign_keys": way,
                **keys,
            }
        ]
    )
    return found


REACTIONS = Reference(
    table="public.message_reactions", constraint="reactions_fk",
    definition="FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE CASCADE", on_delete="c",
    schema="public", name="message_reactions", columns=("message_id",), referenced_columns=("id",), column_comments=(None,),
    referenced_schema="public", referenced_table="messages", delete_columns=(), on_update="a", match="s", deferrable=False,
    deferred=False, validated=True, enforced=True, not_null=True, indexed=True, self=False, partitioned=False, owner="postgres",
    may_own=True, comment=None, all_columns=("id", "message_id"), marked_columns=(), update_triggers=(), estimated_rows=10, bytes=8192,
)  # fmt: skip


def relation(*references: Reference, triggers: tuple[Trigger, ...] = ()) -> Relation:
    table = Table(
        oid=1, schema="public", name="messages", kind="r", persistence="p", is_partition=False, owner="postgres",
        may_own=True, may_select=True, row_security=True, force_row_security=False, replica_identity="f",
        storage_parameters=(), tablespace=None, comment=None, estimated_rows=1000, heap_bytes=0,
        index_bytes=0, toast_bytes=0, partition_key=None, has_children=False,
    )  # fmt: skip
    key = Column("created_at", "timestamp with time zone", "timestamptz", "b", False, None, "", "", None, None, None)
    identity = Column("id", "uuid", "uuid", "b", True, None, "", "", None, None, None)
    primary = Constraint("messages_pkey", "p", "PRIMARY KEY (id)", ("id",), True, False, None, True)
    return Relation(table, (identity, key), (primary,), references=references, triggers=triggers)


# Registry

SWITCH = '"000_atlas_ops_keys", {0} TRIGGER "zzz_atlas_ops_keys", {0} TRIGGER "atlas_ops_keys_truncate"'


def test_the_cut_over_to_the_registry_and_back() -> None:
    given, at = spec("registry"), relation(replace(REACTIONS, comment="kept"))
    comment = """COMMENT ON CONSTRAINT "reactions_fk" ON "public"."message_reactions" IS 'kept'"""
    assert incoming.at_cut_over(given, at) == [
        f'ALTER TABLE "public"."messages" ENABLE ALWAYS TRIGGER {SWITCH.format("ENABLE ALWAYS")}',
        'ALTER TABLE "public"."message_reactions" DROP CONSTRAINT "reactions_fk", ADD CONSTRAINT "reactions_fk" '
        'FOREIGN KEY ("message_id") REFERENCES "partitions"."messages_keys" ("id") ON DELETE CASCADE NOT VALID',
        comment,
    ]
    assert incoming.at_roll_back(given, at) == [
        'ALTER TABLE "public"."message_reactions" DROP CONSTRAINT "reactions_fk", ADD CONSTRAINT "reactions_fk" '
        'FOREIGN KEY ("message_id") REFERENCES "public"."messages" ("id") ON DELETE CASCADE NOT VALID',
        comment,
        f'ALTER TABLE "public"."messages_partitioned" DISABLE TRIGGER {SWITCH.format("DISABLE")}',
    ]


def test_the_registry_is_made_filled_and_kept_in_step() -> None:
    steps = incoming.prepare(spec("registry"), relation(REACTIONS), AS_OF)
    assert [step.name for step in steps] == [
        "make partitions.messages_keys",
        "fill partitions.messages_keys: 2024-01",
        "fill partitions.messages_keys: 2024-02",
        "fill partitions.messages_keys: out of range",
        "triggers for partitions.messages_keys",
        "vacuum partitions.messages_keys",
    ]
    assert all(step.effect is Effect.ADDS for step in steps)
    assert steps[1].statements == (
        'LOCK TABLE "partitions"."messages_keys" IN SHARE ROW EXCLUSIVE MODE',
        'INSERT INTO "partitions"."messages_keys" ("id", "created_at") SELECT "id", "created_at" AS "created_at" FROM "public"."messages" '
        """WHERE "created_at" >= '2024-01-01 00:00:00+00' AND "created_at" < '2024-02-01 00:00:00+00' ON CONFLICT DO NOTHING""",
    )
    assert steps[4].statements == (
        'CREATE OR REPLACE TRIGGER "000_atlas_ops_keys" AFTER INSERT OR DELETE ON "public"."messages_partitioned" '
        'FOR EACH ROW EXECUTE FUNCTION "partitions"."messages_keys"()',
        'CREATE OR REPLACE TRIGGER "zzz_atlas_ops_keys" BEFORE UPDATE ON "public"."messages_partitioned" FOR EACH ROW '
        'WHEN (ROW(OLD."id", OLD."created_at") IS DISTINCT FROM ROW(NEW."id", NEW."created_at")) '
        'EXECUTE FUNCTION "partitions"."messages_keys"()',
        'CREATE OR REPLACE TRIGGER "atlas_ops_keys_truncate" BEFORE TRUNCATE ON "public"."messages_partitioned" '
        'FOR EACH STATEMENT EXECUTE FUNCTION "partitions"."messages_keys"()',
        f'ALTER TABLE "public"."messages_partitioned" DISABLE TRIGGER {SWITCH.format("DISABLE")}',
    )
    [drain] = incoming.in_drain(spec("registry"), relation(REACTIONS), name("pg_temp", "batch"))
    assert (
        'SELECT DISTINCT "id" FROM "pg_temp"."batch"' in drain and 'DELETE FROM "partitions"."messages_keys"' in drain
    )


def test_rows_without_a_key_are_registered_too() -> None:
    names = [
        step.name for step in incoming.prepare(spec("registry", null_keys="set_aside"), relation(REACTIONS), AS_OF)
    ]
    assert "fill partitions.messages_keys: no key" in names
    names = [
        step.name for step in incoming.prepare(spec("composite", null_keys="set_aside"), relation(REACTIONS), AS_OF)
    ]
    assert not any("no key" in each for each in names)


def test_what_was_prepared_goes_whichever_way_it_was() -> None:
    def drop(table: str) -> str:
        at = f'"partitions"."{table}"'
        return (
            f"""DO $function$\nBEGIN IF obj_description(to_regclass('{at}'), 'pg_class') = """
            f"""'atlas_ops: keys of "public"."messages"' THEN DROP TABLE {at}; END IF; END\n$function$"""
        )

    ours = replace(REACTIONS, marked_columns=("message_created_at",))
    for way in ("refuse", "registry", "composite"):
        assert incoming.abandon(spec(way), relation(ours)) == [
            'DROP TRIGGER IF EXISTS "000_atlas_ops_keys" ON "public"."messages_partitioned"',
            'DROP TRIGGER IF EXISTS "zzz_atlas_ops_keys" ON "public"."messages_partitioned"',
            'DROP TRIGGER IF EXISTS "atlas_ops_keys_truncate" ON "public"."messages_partitioned"',
            drop("messages_keys"),
            'DROP FUNCTION IF EXISTS "partitions"."messages_keys"()',
            'DROP TRIGGER IF EXISTS "atlas_ops_message_created_at" ON "public"."message_reactions"',
            f"DROP FUNCTION IF EXISTS {LOG}()",
            'DROP TRIGGER IF EXISTS "zzz_atlas_ops_message_created_at" ON "public"."message_reactions"',
            f"DROP FUNCTION IF EXISTS {PAIR}()",
            'ALTER TABLE "public"."message_reactions" DROP COLUMN "message_created_at"',
            drop("messages_pairs"),
        ]
    assert not any("DROP COLUMN" in statement for statement in incoming.abandon(spec("composite"), relation(REACTIONS)))


# Composite

LOG = '"partitions"."messages_log_adcf3e23"'
PAIR = '"partitions"."messages_pair_adcf3e23"'


def test_the_cut_over_to_a_composite_key_and_back() -> None:
    given, at = spec("composite"), relation(REACTIONS)
    *ddl, drain, gone = incoming.at_cut_over(given, at)
    assert ddl == [
        'ALTER TABLE "public"."message_reactions" DROP CONSTRAINT "reactions_fk", ADD CONSTRAINT "reactions_fk" '
        'FOREIGN KEY ("message_id", "message_created_at") REFERENCES "public"."messages" ("id", "created_at") '
        "ON UPDATE CASCADE ON DELETE CASCADE NOT VALID",
        'DROP TRIGGER IF EXISTS "atlas_ops_message_created_at" ON "public"."message_reactions"',
        f"DROP FUNCTION IF EXISTS {LOG}()",
    ]
    assert "pg_temp" not in drain and 'UPDATE "public"."message_reactions" AS r SET "message_created_at"' in drain
    assert gone == 'DROP TABLE "partitions"."messages_pairs"'
    back = incoming.at_roll_back(given, at)
    assert back[:3] == [
        'ALTER TABLE "public"."message_reactions" DROP CONSTRAINT "reactions_fk", ADD CONSTRAINT "reactions_fk" '
        'FOREIGN KEY ("message_id") REFERENCES "public"."messages" ("id") ON DELETE CASCADE NOT VALID',
        'CREATE TABLE IF NOT EXISTS "partitions"."messages_pairs" AS SELECT "id" FROM "public"."messages" WITH NO DATA',
        'ALTER TABLE "partitions"."messages_pairs" REPLICA IDENTITY FULL',
    ]
    assert back[-2:] == [
        'CREATE OR REPLACE TRIGGER "atlas_ops_message_created_at" AFTER INSERT OR UPDATE OF "message_id" ON "public"."message_reactions" '
        f'FOR EACH ROW WHEN (num_nulls(NEW."message_id") = 0) EXECUTE FUNCTION {LOG}()',
        'ALTER TABLE "public"."message_reactions" ENABLE ALWAYS TRIGGER "atlas_ops_message_created_at"',
    ]


def test_rows_that_refer_to_a_row_set_aside_are_counted_and_refused_at_last() -> None:
    given, at = spec("composite", null_keys="set_aside"), relation(REACTIONS)
    joined = '"partitions"."messages_null_keys" AS a JOIN "public"."message_reactions" AS r ON r."message_id" = a."id"'
    assert incoming.of_aside(given, at) == {"public.message_reactions reactions_fk": f"SELECT count(*) FROM {joined}"}
    assert f"EXISTS (SELECT FROM {joined})" in incoming.at_cut_over(given, at)[0]
    reds = [
        check
        for check in incoming.checks(given, at, VERSION, aside={"public.message_reactions reactions_fk": 7})
        if check.severity is Severity.STOP
    ]
    assert [check.what for check in reds] == ["7 rows of public.message_reactions refer to rows without created_at."]
    assert "registry serves it" in reds[0].cure and reds[0].sql == f"SELECT count(*) FROM {joined};"
    # nothing is asked where a registry serves it, nothing is set aside, or the cut-over is over
    for other in (spec("registry", null_keys="set_aside"), spec("composite")):
        assert incoming.of_aside(other, at) == {} and "EXISTS" not in incoming.at_cut_over(other, at)[0]
    assert incoming.of_aside(given, relation(replace(REACTIONS, way="composite"))) == {}
    assert incoming.of_aside(given, relation(replace(REACTIONS, may_own=False))) == {}


def test_a_column_is_added_and_filled_part_by_part() -> None:
    steps = incoming.prepare(spec("composite"), relation(REACTIONS), AS_OF)
    assert [(step.name, step.lock) for step in steps] == [
        ("add public.message_reactions.message_created_at", "ACCESS EXCLUSIVE"),
        ("fill public.message_reactions.message_created_at: 2024-01", "ROW EXCLUSIVE"),
        ("fill public.message_reactions.message_created_at: 2024-02", "ROW EXCLUSIVE"),
        ("fill public.message_reactions.message_created_at: out of range", "ROW EXCLUSIVE"),
        ("vacuum public.message_reactions", "SHARE UPDATE EXCLUSIVE"),
    ]
    first = steps[0].statements
    assert first[:2] == (
        'ALTER TABLE "public"."message_reactions" ADD COLUMN IF NOT EXISTS "message_created_at" timestamp with time zone',
        'COMMENT ON COLUMN "public"."message_reactions"."message_created_at" IS '
        "'atlas_ops: created_at of public.messages, for reactions_fk (was ON UPDATE NO ACTION, MATCH SIMPLE)'",
    )
    assert (
        'CREATE OR REPLACE TRIGGER "zzz_atlas_ops_message_created_at" BEFORE INSERT OR UPDATE OF "message_id", '
        f'"message_created_at" ON "public"."message_reactions" FOR EACH ROW EXECUTE FUNCTION {PAIR}()'
    ) in first
    assert steps[1].statements == (
        'UPDATE "public"."message_reactions" AS r SET "message_created_at" = s."created_at" FROM '
        '(SELECT "id", "created_at" AS "created_at" FROM "public"."messages" '
        """WHERE "created_at" >= '2024-01-01 00:00:00+00' AND "created_at" < '2024-02-01 00:00:00+00') AS s """
        'WHERE r."message_id" = s."id" AND r."message_created_at" IS NULL',
    )


@pytest.mark.parametrize(
    ("column", "referenced", "added"),
    [
        ("message_id", "id", "message_created_at"),
        ("reported_message_id", "id", "reported_message_created_at"),
        ("message", "id", "message_created_at"),
        ("id", "id", "id_created_at"),
        ("Message_Id", "id", "Message_Id_created_at"),
        ("m" * 60, "id", "m" * 54 + "_" + "32fd0840"),
    ],
)
def test_the_name_of_the_added_column(column: str, referenced: str, added: str) -> None:
    reference = replace(REACTIONS, columns=(column,), referenced_columns=(referenced,))
    assert composite.added_column(spec("composite"), reference) == added


# Either


def test_every_clause_of_a_foreign_key_comes_through() -> None:
    odd = replace(
        REACTIONS, columns=("b", "a"), referenced_columns=("id", "tenant"), on_delete="n", delete_columns=("b",), on_update="d",
        match="f", deferrable=True, deferred=True,
    )  # fmt: skip
    [statement] = incoming.at_roll_back(replace(spec("registry"), incoming_foreign_keys="registry"), relation(odd))[:1]
    assert statement.partition(", ")[2] == (
        'ADD CONSTRAINT "reactions_fk" FOREIGN KEY ("b", "a") REFERENCES "public"."messages" ("id", "tenant") MATCH FULL '
        'ON UPDATE SET DEFAULT ON DELETE SET NULL ("b") DEFERRABLE INITIALLY DEFERRED NOT VALID'
    )
    composite = incoming.at_cut_over(spec("composite"), relation(replace(odd, match="s", deferrable=False)))[0]
    assert composite.endswith('ON UPDATE CASCADE ON DELETE SET NULL ("b", "a_created_at") NOT VALID')


def test_a_foreign_key_is_told_as_it_was_before_the_cut_over() -> None:
    registry = replace(REACTIONS, referenced_schema="partitions", referenced_table="messages_keys")
    assert incoming.before(spec("registry"), registry) == replace(REACTIONS, way="registry")
    # the way it is on, not the one the specification names by now
    assert incoming.before(spec("refuse"), registry) == replace(REACTIONS, way="registry")
    note = "atlas_ops: created_at of public.messages, for reactions_fk (was ON UPDATE RESTRICT, MATCH FULL)"
    composite = replace(
        REACTIONS, columns=("message_id", "message_created_at"), referenced_columns=("id", "created_at"), on_update="c",
        column_comments=(None, note), on_delete="n", delete_columns=("message_id", "message_created_at"),
    )  # fmt: skip
    assert incoming.before(spec("composite"), composite) == replace(
        REACTIONS, on_delete="n", delete_columns=("message_id",), on_update="r", match="f", way="composite"
    )
    assert incoming.before(spec("composite"), REACTIONS) == REACTIONS


@pytest.mark.parametrize("way", ["refuse", "registry", "composite"])
def test_nothing_refers_to_the_table(way: str) -> None:
    given, nothing = spec(way), relation()
    assert incoming.checks(given, nothing, VERSION) == ()
    assert incoming.prepare(given, nothing, AS_OF) == incoming.after_cut_over(given, nothing) == ()
    assert incoming.in_drain(given, nothing, name("batch")) == incoming.proofs(given, nothing) == []
    assert incoming.at_cut_over(given, nothing) == incoming.at_roll_back(given, nothing) == []


def test_what_is_refused_is_left_alone() -> None:
    given, at = spec("refuse"), relation(REACTIONS)
    assert incoming.at_cut_over(given, at) == incoming.at_roll_back(given, at) == incoming.lock_first(given, at) == []
    [check] = incoming.checks(given, at, VERSION)
    assert (check.severity, check.name) == (Severity.STOP, "incoming foreign key")
    assert check.sql == incoming.ways(given, at, VERSION)
    for statement in (
        'ALTER TABLE "public"."message_reactions" DROP CONSTRAINT "reactions_fk";',
        'REFERENCES "partitions"."messages_keys" ("id") ON DELETE CASCADE NOT VALID;',
        'REFERENCES "public"."messages" ("id", "created_at") ON UPDATE CASCADE ON DELETE CASCADE NOT VALID;',
        'ALTER TABLE "public"."message_reactions" VALIDATE CONSTRAINT "reactions_fk";',
    ):
        assert statement in check.sql


def test_a_way_that_is_not_open_says_why() -> None:
    script = incoming.ways(spec("refuse"), relation(replace(REACTIONS, deferrable=True)), VERSION)
    assert "-- composite\n--   is not possible. It is deferrable" in script and "messages_keys" in script


def test_the_check_comes_after_for_what_is_not_validated() -> None:
    given = spec("registry")
    assert incoming.after_cut_over(given, relation(REACTIONS)) == ()
    [step] = incoming.after_roll_back(given, relation(replace(REACTIONS, validated=False)))
    assert step.statements == ('ALTER TABLE "public"."message_reactions" VALIDATE CONSTRAINT "reactions_fk"',)


def test_nothing_is_abandoned_while_it_is_in_use() -> None:
    for way in (Way.REGISTRY, Way.COMPOSITE):
        with pytest.raises(AtlasError, match="10 Roll back"):
            incoming.abandon(spec(way), relation(replace(REACTIONS, way=way)))


def test_the_way_back_is_from_where_it_is_whatever_the_specification_says_by_now() -> None:
    there = relation(replace(REACTIONS, way="registry", validated=False))
    for way in ("refuse", "registry", "composite"):
        assert incoming.at_roll_back(spec(way), there) == incoming.at_roll_back(spec("registry"), relation(REACTIONS))
        assert len(incoming.after_roll_back(spec(way), there)) == 1


def test_the_referring_tables_are_locked_in_one_statement() -> None:
    twice = relation(
        replace(REACTIONS, table="a.b", schema="a", name="b"), REACTIONS, replace(REACTIONS, constraint="other")
    )
    assert incoming.lock_first(spec("registry"), twice) == [
        'LOCK TABLE "a"."b", "public"."message_reactions" IN ACCESS EXCLUSIVE MODE'
    ]


def test_triggers_of_the_table_that_the_registry_must_know_of() -> None:
    def named(trigger: str, head: str, row: bool = True) -> Trigger:
        return Trigger(trigger, head, "", "O", row, head.split(maxsplit=1)[0], False, False)

    at = relation(
        REACTIONS,
        triggers=(
            named("zzzz", "BEFORE UPDATE OF content"),
            named("zzzz", "AFTER UPDATE"),
            named("zzzz", "BEFORE UPDATE", row=False),
            named("a", "BEFORE INSERT OR UPDATE"),
            named("00", "AFTER DELETE"),
            named("00", "AFTER UPDATE"),
            named("a", "AFTER INSERT"),
            named("b", 'BEFORE UPDATE OF "DELETE"'),
        ),
    )
    found = [check for check in incoming.checks(spec("registry"), at, VERSION) if check.name == "trigger"]
    assert [(check.severity, check.what.split()[0]) for check in found] == [
        (Severity.STOP, "zzzz"),
        (Severity.WARN, "a"),
        (Severity.STOP, "00"),
    ]
    assert found[0].sql == 'ALTER TRIGGER "zzzz" ON "public"."messages" RENAME TO "z_zzzz";'
