"""The rehearsal: no statement fails, figures are there, nothing is left behind, and the application's tables are only read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import (
    catalog,
    cutover,
    database,
    exchange,
    execute,
    installation,
    rehearsal,
    scratch,
    traffic,
)
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan, Target
from atlas_ops.rehearsal import Load

LOAD = Load(rate=200, quiet_s=0.3)
STORY = ["before", "copy", "compare", "drain", "cut over", "in use", "drain", "roll back", "after", "compare"]
OURS = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'atlas_ops_rehearsal%'"


@pytest.fixture
def installed(ops: Any) -> Callable[[Any], None]:
    """Our own database objects, as 02 makes them."""

    def install(db: Any) -> None:
        with database.connect(ops.session(db)) as conn:
            server = catalog.server(conn)
        step = installation.install_step(())
        assert step is not None
        plan = Plan("test", Target(server.system_identifier, server.database), (step,))
        execute.execute(ops.session(db), plan, plan.digest)

    return install


def _no_connection_is_left(db: Any, ops: Any) -> None:
    left = "SELECT string_agg(application_name, '; ') FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'atlas_ops%'"
    deadline = time.monotonic() + 20
    while found := ops.value(db, left):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def planned(ops: Any, db: Any, spec: Any) -> Plan:
    with database.connect(ops.session(db)) as conn:
        place = catalog.rehearsal_place(conn)
    snapshot = ops.snapshot(db, spec)
    scratch.refuse(spec, snapshot, place, ops.as_of)
    return scratch.plan_scratch(spec, snapshot, ops.as_of, left_over=bool(place.left_over))


def rehearsed(ops: Any, db: Any, spec: Any, load: Load = LOAD, **more: Any) -> traffic.Rehearsal:
    plan = planned(ops, db, spec)
    return rehearsal.on_scratch(ops.session(db), plan, spec, ops.as_of, load, **more)


NOTES = "INSERT INTO note {columns} SELECT {values} FROM generate_series(1, 300) AS n"
AT = "timestamptz '2024-01-02 00:00+00' + n * interval '3 hours'"
SHAPES = {
    "identity always": (
        {},
        "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, body text)",
        NOTES.format(columns="(at, body)", values=f"{AT}, 'x'"),
    ),
    "serial": (
        {},
        "CREATE TABLE note (id serial PRIMARY KEY, at timestamptz NOT NULL, body text)",
        NOTES.format(columns="(at, body)", values=f"{AT}, 'x'"),
    ),
    "composite key with the partition key": (
        {},
        "CREATE TABLE note (device int, at timestamptz, value numeric, PRIMARY KEY (device, at))",
        NOTES.format(columns="", values=f"n % 7, {AT}, 1.10"),
    ),
    "text key of few characters": (
        {},
        "CREATE TABLE note (id varchar(20) PRIMARY KEY, at timestamptz NOT NULL, body text)",
        NOTES.format(columns="", values=f"'note number ' || n, {AT}, 'x'"),
    ),
    "generated column": (
        {},
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL, n int, doubled int GENERATED ALWAYS AS (n * 2) STORED)",
        NOTES.format(columns="", values=f"n, {AT}, n"),
    ),
    "names that need quotes": (
        {"table": '"My ""100%"" Notes"', "partition_key": '"At %s"'},
        'CREATE TABLE "My ""100%"" Notes" ("Id %" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "At %s" timestamptz NOT NULL, "{b}" text)',
        NOTES.format(columns='("At %s", "{b}")', values=f"{AT}, '%s'").replace("note", '"My ""100%"" Notes"', 1),
    ),
    "day as the key, no default partition": (
        {"default_partition": False},
        "CREATE TABLE note (id int PRIMARY KEY, at date NOT NULL, body text)",
        NOTES.format(columns="", values="n, date '2024-01-01' + n % 60, 'x'"),
    ),
    "a second uniqueness": (
        {"unique_without_key": "add_key"},
        "CREATE TABLE note (id int PRIMARY KEY, at timestamp NOT NULL, slug text UNIQUE, code char(4) UNIQUE)",
        NOTES.format(columns="", values="n, '2024-01-02'::timestamp + n * interval '3 hours', 'slug ' || n, NULL"),
    ),
    "a check that forbids today": (
        {},
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL CHECK (at < '2024-06-01'), body text)",
        NOTES.format(columns="", values=f"n, {AT}, 'x'"),
    ),
    "keys only": (
        {},
        "CREATE TABLE note (id uuid, at timestamptz, PRIMARY KEY (id, at))",
        NOTES.format(columns="", values=f"gen_random_uuid(), {AT}"),
    ),
    "rows without a key": (
        {"null_keys": "set_aside"},
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz, body text)",
        NOTES.format(columns="", values=f"n, CASE WHEN n % 3 > 0 THEN {AT} END, 'x'"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_of_table_is_written_to_without_a_failure(empty: Any, ops: Any, installed: Any, shape: str) -> None:
    keys, *statements = SHAPES[shape]
    ops.run(empty, *statements)
    installed(empty)
    before = ops.dump(empty)
    found = rehearsed(ops, empty, ops.spec(copy="online", **keys))
    assert found.errors == {} and found.missed == 0 and found.lost == 0
    assert found.left_out == {}
    assert {one.kind for one in found.statements} >= {traffic.INSERT, traffic.UPDATE, traffic.DELETE}
    assert [one.stage for one in found.figures()] == STORY
    assert [one.stage for one in found.exchanges] == ["cut over", "roll back"]
    for one in found.exchanges:
        assert one.held_ms and one.held_ms > 0 and len(one.waits_ms) == 2
    assert ops.dump(empty) == before


def test_what_a_table_does_not_take_is_left_out_and_said(empty: Any, ops: Any, installed: Any) -> None:
    ops.run(
        empty,
        "CREATE TYPE kind AS ENUM ('a', 'b')",
        "CREATE TABLE note (kind kind, at date, body text, PRIMARY KEY (kind, at))",
        "INSERT INTO note SELECT 'a', date '2024-01-01' + n, 'x' FROM generate_series(0, 50) AS n",
    )
    installed(empty)
    found = rehearsed(ops, empty, ops.spec(copy="online"))
    assert found.whole and set(found.left_out) == {traffic.INSERT, traffic.MOVE, traffic.DELETE}
    assert {one.kind for one in found.statements} == {traffic.UPDATE}


def test_the_rate_is_kept(note: Any, ops: Any) -> None:
    found = rehearsed(ops, note, ops.spec(copy="online"), Load(rate=100, clients=3, quiet_s=1.0))
    assert found.clients == 3
    assert 80 <= found.done_rate <= 102
    _no_connection_is_left(note, ops)
    result = found.result()
    assert result["statements"] == len(found.statements) and result["errors"] == {}
    assert [stage["stage"] for stage in result["stages"]] == STORY


# -- what the application notices


def test_the_applications_tables_are_only_read(atlas: Any, now: Any, atlas_specs: Any, installed: Any) -> None:
    """ACCESS SHARE is all that goes beside EXCLUSIVE; and a whole dump, registry and sequences included, is as before."""
    spec, _ = atlas_specs(copy="online")
    plan = now.plan(atlas, spec)
    execute.execute(now.session(atlas), plan, plan.digest)
    before = now.dump(atlas)
    read = now.value(
        atlas, "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE schemaname = 'public'"
    )
    with psycopg.connect(atlas.conninfo) as holder:
        for table in ("messages", "conversations", "profiles", "usage_logs"):
            holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
        found = rehearsed(now, atlas, spec)
    assert found.whole and found.table == "messages"
    assert 4_000 <= found.rows < 4_400, "the writer has begun before the copy"
    assert now.dump(atlas) == before
    with database.connect(now.session(atlas)) as conn:
        conn.execute("SELECT pg_stat_force_next_flush()")
    assert read == now.value(
        atlas, "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables WHERE schemaname = 'public'"
    )


def test_in_place_with_foreign_keys_and_triggers(atlas: Any, now: Any, atlas_specs: Any) -> None:
    spec, _ = atlas_specs(copy="online", incoming_foreign_keys="registry")
    found = rehearsal.rehearse(now.session(atlas), spec, now.as_of, LOAD)
    assert found.whole and found.rows >= 4_000
    assert [one.stage for one in found.figures()] == [
        *STORY[:3], "prepare and drain", "cut over", "foreign keys", *STORY[5:8], "foreign keys", *STORY[8:],
    ]  # fmt: skip
    snapshot = now.snapshot(atlas, spec)
    assert not cutover.turned(snapshot)
    assert all(constraint.validated for constraint in snapshot.original.constraints)


def test_a_statement_that_fails_is_told(atlas: Any, now: Any, atlas_specs: Any) -> None:
    now.run(
        atlas,
        "CREATE SEQUENCE tries",
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF nextval('public.tries') % 20 = 0 THEN RAISE 'secret' USING ERRCODE = 'XX123'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER now_and_then BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    spec, _ = atlas_specs(copy="online", incoming_foreign_keys="registry")
    found = rehearsal.rehearse(now.session(atlas), spec, now.as_of, LOAD)
    assert not found.whole and set(found.errors) == {"XX123"} and found.missed == 0


def test_an_exchange_drains_until_few_keys_are_left_before_it_asks_for_a_lock(
    note: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is as fast as the drain: each pass finds fewer keys, and the one under the lock finds none."""
    spec = ops.spec(copy="online")
    plan = ops.plan(note, spec)
    execute.execute(ops.session(note), plan, plan.digest)
    passes: list[int] = []
    drain = exchange._transaction

    def written_meanwhile(connection: Any, statements: Any) -> int:
        for rows in (200, 80, 20)[len(passes) : len(passes) + 1]:
            ops.run(note, f"UPDATE note SET body = body WHERE id <= {rows}")
        passes.append(drain(connection, statements))
        return passes[-1]

    monkeypatch.setattr(exchange, "_transaction", written_meanwhile)
    plan = cutover.plan_cut_over(spec, ops.snapshot(note, spec), ops.as_of)
    execute.execute(ops.session(note), plan, plan.digest)
    assert len(passes) == 4, "two that find many keys, one that finds few, one under the lock"
    assert passes[0] > passes[1] > exchange.FEW_ROWS >= passes[2] > passes[3]


# -- nothing is left behind


@pytest.fixture
def note(empty: Any, ops: Any, installed: Any) -> Any:
    _, *statements = SHAPES["serial"]
    ops.run(empty, *statements)
    installed(empty)
    return empty


class _Interrupted(BaseException):
    pass


@pytest.mark.parametrize("at", ["before", "compare", "in use", "roll back"])
def test_an_interrupted_rehearsal_drops_everything(note: Any, ops: Any, at: str) -> None:
    before = ops.dump(note)

    def interrupt(done: int, total: int, label: str = "") -> None:
        if label.endswith(at):
            raise _Interrupted

    with pytest.raises(_Interrupted):
        rehearsed(ops, note, ops.spec(copy="online"), progress=interrupt)
    assert ops.dump(note) == before


def test_what_a_killed_rehearsal_left_goes_with_the_next_one(note: Any, ops: Any, tmp_path: Path) -> None:
    spec = ops.spec(copy="online")
    script = tmp_path / "killed.py"
    script.write_text(
        "import sys, time\nfrom datetime import date\nfrom atlas_ops import catalog, database, division, rehearsal, scratch\n"
        "from atlas_ops.settings import tables_from\n"
        f"(spec,) = tables_from([{dict(table='note', partition_key='at', until='2024-03-01', ahead=1, copy='online', **{'from': '2024-01-01'})!r}])\n"
        f"where, day = database.Session('test', {note.conninfo!r}, 'test'), date(2024, 1, 15)\n"
        "with database.connect(where) as conn:\n"
        "    snapshot = catalog.snapshot(conn, spec, division.names_needed(spec, day))\n"
        "plan = scratch.plan_scratch(spec, snapshot, day)\n"
        "rehearsal.on_scratch(where, plan, spec, day, rehearsal.Load(50, 2, 5.0), lambda done, total, label: print(label, flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip().endswith("in use"):
                break
        busy = planned(ops, note, spec)
        with pytest.raises(AtlasError, match="Another rehearsal"):
            rehearsal.on_scratch(ops.session(note), busy, spec, ops.as_of, LOAD)
        assert ops.value(note, OURS) == 2, "what another one uses is not dropped"
        child.send_signal(signal.SIGKILL)
    _no_connection_is_left(note, ops)
    assert ops.value(note, OURS) == 2
    plan = planned(ops, note, spec)
    assert plan.steps[0].name == "drop what a rehearsal left"
    found = rehearsed(ops, note, spec)
    assert found.whole and ops.value(note, OURS) == 0
    assert ops.value(note, "SELECT count(*) FROM atlas_ops.online_copy") == 0
    assert ops.value(note, "SELECT count(*) FROM atlas_ops.partitioned_table") == 0


# -- where there is none


def test_it_is_refused_where_it_would_be_noticed(note: Any, ops: Any) -> None:
    spec = ops.spec(copy="online")
    with pytest.raises(AtlasError, match="nothing to rehearse"):
        planned(ops, note, replace(spec, cut_over="side_by_side"))
    with pytest.raises(AtlasError, match="cannot be rehearsed"):
        planned(ops, note, replace(spec, table="nothing"))
    snapshot = ops.snapshot(note, spec)
    with database.connect(ops.session(note)) as conn:
        place = catalog.rehearsal_place(conn)
    with pytest.raises(AtlasError, match="too many partitions"):
        scratch.refuse(spec, replace(snapshot, server=replace(snapshot.server, max_locks=15)), place, ops.as_of)
    ops.run(note, "CREATE SCHEMA atlas_ops_rehearsal", "CREATE TABLE atlas_ops_rehearsal.kept (id int)")
    with pytest.raises(AtlasError, match="not ours"):
        planned(ops, note, spec)
    assert ops.value(note, "SELECT to_regclass('atlas_ops_rehearsal.kept') IS NOT NULL")
    ops.run(note, "DROP SCHEMA atlas_ops_rehearsal CASCADE")
    with psycopg.connect(note.superuser_conninfo) as conn:
        conn.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    with pytest.raises(AtlasError, match="everything carries every table"):
        planned(ops, note, spec)


def test_our_own_objects_must_be_there(empty: Any, ops: Any) -> None:
    _, *statements = SHAPES["serial"]
    ops.run(empty, *statements)
    with pytest.raises(AtlasError, match="Our own objects are not in this database"):
        planned(ops, empty, ops.spec(copy="online"))


def test_a_table_without_rows_is_refused_and_nothing_is_left(empty: Any, ops: Any, installed: Any) -> None:
    ops.run(empty, "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL)")
    installed(empty)
    with pytest.raises(AtlasError, match="no row with a partition key"):
        rehearsed(ops, empty, ops.spec(copy="online"))
    assert ops.value(empty, OURS) == 0
