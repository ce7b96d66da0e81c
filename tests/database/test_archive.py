"""The archive plan, run on real servers: it takes the partitions it names, whole, and no other."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
import pytest

from atlas_ops import archive, catalog, database, division, execute, migration
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)


def session(atlas: Any) -> database.Session:
    return database.Session("test", atlas.conninfo, "test")


def spec(**keys: Any) -> TableSpec:
    """34 whole past months; the oldest is one too many."""
    written = {"table": "messages", "partition_key": "created_at", "from": "2024-01-01", "keep": 33}
    [found] = tables_from([{**written, "null_keys": "set_aside", **keys}])
    return found


WITHOUT_DEFAULT = {"default_partition": False, "from": "2014-01-01", "every": "year", "keep": 11, "until": "2033-01-01"}


def snapshot(atlas: Any, table: TableSpec) -> Snapshot:
    with database.connect(session(atlas)) as conn:
        return catalog.snapshot(conn, table, division.names_needed(table, AS_OF))


def migrate(atlas: Any, table: TableSpec) -> None:
    plan = migration.plan_migration(table, snapshot(atlas, table), AS_OF)
    execute.execute(session(atlas), plan, plan.digest)


def planned(atlas: Any, table: TableSpec) -> Plan:
    return archive.plan_archive(table, snapshot(atlas, table), AS_OF)


def names(atlas: Any, table: TableSpec) -> set[str]:
    return {each.name for each in snapshot(atlas, table).partitions if each.bound is not None}


def rows(atlas: Any, relation: str) -> int:
    with atlas.connect() as conn:
        [(found,)] = conn.execute(f"SELECT count(*) FROM {relation}").fetchall()
    return int(found)


def outsiders(atlas: Any, relation: str) -> list[str]:
    """Roles of the application that hold any privilege on a table, and whether its row security is off."""
    with atlas.connect() as conn:
        held = conn.execute(
            "SELECT role FROM unnest(ARRAY['anon', 'authenticated', 'service_role']) role"
            " WHERE has_table_privilege(role, %s, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')",
            (relation,),
        ).fetchall()
        [(guarded,)] = conn.execute(
            "SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass", (relation,)
        ).fetchall()
    return [role for (role,) in held] + ([] if guarded else ["row security is off"])


def comment(atlas: Any, relation: str) -> str:
    with atlas.connect() as conn:
        [(found,)] = conn.execute("SELECT obj_description(%s::regclass, 'pg_class')", (relation,)).fetchall()
    return str(found)


@pytest.mark.parametrize(("keys", "old"), [({}, "messages_2024_01"), (WITHOUT_DEFAULT, "messages_2014")])
def test_the_plan_takes_one_partition_whole_and_no_other(atlas: Any, keys: dict[str, Any], old: str) -> None:
    table = spec(**keys)
    migrate(atlas, table)
    before, total = names(atlas, table), rows(atlas, "messages_partitioned")
    inside = rows(atlas, f"partitions.{old}")
    plan = planned(atlas, table)
    assert {step.autocommit for step in plan.steps if "detach" in step.name} == {bool(keys)}
    execute.execute(session(atlas), plan, plan.digest)
    assert before - names(atlas, table) == {old}
    assert rows(atlas, f"partitions.{old}") == inside
    assert rows(atlas, "messages_partitioned") == total - inside
    assert outsiders(atlas, f"partitions.{old}") == []
    assert comment(atlas, f"partitions.{old}").startswith(archive.quarantine_mark(table) + "FOR VALUES FROM ('20")
    assert planned(atlas, table).steps == ()


def test_an_open_partition_of_others_is_closed_before_it_stands_alone(atlas: Any) -> None:
    table = spec(**WITHOUT_DEFAULT)
    migrate(atlas, table)
    with atlas.connect() as conn:
        conn.execute("GRANT ALL ON partitions.messages_2014 TO PUBLIC, anon")
        conn.execute("ALTER TABLE partitions.messages_2014 DISABLE ROW LEVEL SECURITY")
        conn.execute("COMMENT ON TABLE partitions.messages_2014 IS 'ask Ana'")
    plan = planned(atlas, table)
    execute.execute(session(atlas), plan, plan.digest)
    assert outsiders(atlas, "partitions.messages_2014") == []
    assert comment(atlas, "partitions.messages_2014").endswith("; before: ask Ana")


def test_the_comment_holds_the_way_back(atlas: Any) -> None:
    migrate(atlas, spec())
    total = rows(atlas, "messages_partitioned")
    plan = planned(atlas, spec())
    execute.execute(session(atlas), plan, plan.digest)
    bound = (
        comment(atlas, "partitions.messages_2024_01").removeprefix(archive.quarantine_mark(spec())).partition(", ")[0]
    )
    with atlas.connect() as conn:
        conn.execute(f"ALTER TABLE messages_partitioned ATTACH PARTITION partitions.messages_2024_01 {bound}")
    assert rows(atlas, "messages_partitioned") == total


def test_a_migration_does_not_take_an_archived_table_for_its_own(atlas: Any) -> None:
    migrate(atlas, spec())
    plan = planned(atlas, spec())
    execute.execute(session(atlas), plan, plan.digest)
    found = snapshot(atlas, spec())
    assert "messages_2024_01" not in {each.name for each in found.partitions}
    assert "messages_2024_01" in {taken.name for taken in found.taken}


def test_another_digest_detaches_nothing(atlas: Any) -> None:
    migrate(atlas, spec())
    before = names(atlas, spec())
    other = planned(atlas, spec(keep=30)).digest
    plan = planned(atlas, spec())
    for confirm, stops in ((other, True), ("additive", True), ("", False)):
        if stops:
            with pytest.raises(AtlasError):
                execute.execute(session(atlas), plan, confirm)
        else:
            assert execute.execute(session(atlas), plan, confirm) == ()
    assert names(atlas, spec()) == before


def interrupt_the_detach(atlas: Any, table: TableSpec, plan: Plan) -> None:
    """Run the plan beside a reader, with no patience: it leaves a pending detach."""
    impatient = tuple(
        replace(step, statements=tuple(each.replace("10min", "200ms") for each in step.statements))
        for step in plan.steps
    )
    hurried = replace(plan, steps=impatient)
    with atlas.connect() as reader:
        reader.execute("SELECT count(*) FROM messages_partitioned")
        with pytest.raises(AtlasError, match="lock_timeout"):
            execute.execute(session(atlas), hurried, hurried.digest)
    assert [each.name for each in snapshot(atlas, table).partitions if each.detach_pending] == ["messages_2014"]


def test_an_interrupted_detach_is_finalized_by_the_next_plan_and_nothing_else(atlas: Any) -> None:
    table = spec(**{**WITHOUT_DEFAULT, "keep": 10})
    migrate(atlas, table)
    before = names(atlas, table)
    first = planned(atlas, table)
    assert [step.name for step in first.steps if step.autocommit] == ["detach messages_2014", "detach messages_2015"]
    interrupt_the_detach(atlas, table, first)

    plan = planned(atlas, table)
    assert [step.statements for step in plan.steps] == [
        ('ALTER TABLE "public"."messages_partitioned" DETACH PARTITION "partitions"."messages_2014" FINALIZE',)
    ]
    execute.execute(session(atlas), plan, plan.digest)
    assert before - names(atlas, table) == {"messages_2014"}
    assert comment(atlas, "partitions.messages_2014").startswith(archive.quarantine_mark(table))
    assert outsiders(atlas, "partitions.messages_2014") == []

    rest = planned(atlas, table)
    execute.execute(session(atlas), rest, rest.digest)
    assert before - names(atlas, table) == {"messages_2014", "messages_2015"}


def test_a_finalize_waits_for_a_reader_and_is_tried_again(atlas: Any) -> None:
    table = spec(**WITHOUT_DEFAULT)
    migrate(atlas, table)
    interrupt_the_detach(atlas, table, planned(atlas, table))
    plan = planned(atlas, table)
    with atlas.connect() as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM messages_partitioned")
        reader.execute("SELECT count(*) FROM partitions.messages_2014")
        leaves = threading.Timer(0.7, reader.rollback)
        leaves.start()
        [line] = execute.execute(session(atlas), plan, plan.digest)
        leaves.join()
    assert line.attempts > 1 and set(line.sqlstates) == {"55P03"}
    assert "messages_2014" not in names(atlas, table)


def test_a_row_that_refers_to_an_old_one_refuses_the_detach(atlas: Any) -> None:
    migrate(atlas, spec())
    with atlas.connect() as conn:
        conn.execute(
            "CREATE TABLE notes (id uuid, created_at timestamptz, FOREIGN KEY (id, created_at) REFERENCES messages_partitioned)"
        )
        conn.execute("INSERT INTO notes SELECT id, created_at FROM partitions.messages_2024_01 LIMIT 1")
    found = archive.checks(spec(), snapshot(atlas, spec()), AS_OF)
    told = next(check for check in found if check.name == "incoming foreign keys")
    assert "public.notes" in told.what
    plan = planned(atlas, spec())
    with pytest.raises(AtlasError, match="23503"):
        execute.execute(session(atlas), plan, plan.digest)
    assert "messages_2024_01" in names(atlas, spec())
    with atlas.connect() as conn:
        conn.execute(told.sql)
    plan = planned(atlas, spec())
    execute.execute(session(atlas), plan, plan.digest)
    assert "messages_2024_01" not in names(atlas, spec())


@pytest.mark.parametrize("keys", [{}, WITHOUT_DEFAULT])
def test_the_locks_are_those_the_plan_names(atlas: Any, keys: dict[str, Any]) -> None:
    """Of what runs in a transaction: every lock on a table is among those told."""
    table = spec(**keys)
    migrate(atlas, table)
    plan = planned(atlas, table)
    strong = {"ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE", "AccessExclusiveLock": "ACCESS EXCLUSIVE"}
    for step in plan.steps:
        if step.autocommit:
            continue
        with psycopg.connect(atlas.conninfo) as conn:
            for statement in step.statements:
                conn.execute(statement)
            held = conn.execute(
                "SELECT format('%I.%I', n.nspname, c.relname), l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                " JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'partitions')"
            ).fetchall()
            conn.rollback()
        said = step.on.replace('"', "")
        for relation, mode in held:
            if mode == "AccessExclusiveLock":
                assert step.lock == strong[mode] and relation in said.split(", ")
            elif mode == "ShareRowExclusiveLock":
                assert f"SHARE ROW EXCLUSIVE on {relation}" in said
