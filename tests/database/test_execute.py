"""The one writer: retries, a second run, another target, Ctrl-C, and errors that never quote a row."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from atlas_ops import catalog, database, execute
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Effect, Plan, Step, Target


def step(name: str, *statements: str, **fields: Any) -> Step:
    return replace(Step(name, statements, "ACCESS EXCLUSIVE", "public.note", "A test."), **fields)


@pytest.fixture
def note(empty: Any, ops: Any) -> Any:
    """A database with the table `note`, which holds one row."""
    ops.run(
        empty,
        "CREATE TABLE note (id int PRIMARY KEY, body text CHECK (body <> ''))",
        "INSERT INTO note VALUES (1, 'x')",
    )
    return empty


@pytest.fixture
def plan_of(note: Any, ops: Any) -> Callable[..., Plan]:
    """A plan for `note`'s database."""
    with database.connect(ops.session(note)) as conn:
        found = catalog.server(conn)

    def made(*steps: Step, **fields: Any) -> Plan:
        return replace(Plan("test", Target(found.system_identifier, found.database), steps), **fields)

    return made


def wait_until(reached: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def backends(db: Any, where: str = "true") -> int:
    """Backends of ours on the database."""
    with psycopg.connect(db.superuser_conninfo, autocommit=True) as conn:
        row = conn.execute(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'atlas_ops%' AND {where}"
        ).fetchone()
    return int(row[0]) if row else 0


# Attempts


def test_a_lock_that_comes_free_is_waited_for_and_every_attempt_is_told(note: Any, ops: Any, plan_of: Any) -> None:
    plan = plan_of(
        step("add", "CREATE TABLE public.made (id int)", "ALTER TABLE public.note ADD COLUMN more int"),
        lock_timeout_ms=50,
    )
    lines: list[Any] = []
    with psycopg.connect(note.conninfo) as holder:
        holder.execute("LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
        run = threading.Thread(target=lambda: lines.extend(execute.execute(ops.session(note), plan, plan.digest)))
        run.start()
        time.sleep(0.5)
        holder.rollback()
        run.join()
    [line] = lines
    assert line.attempts > 1 and line.sqlstates == ("55P03",) * (line.attempts - 1)
    assert line.seconds > 0.4 and ops.value(note, "SELECT to_regclass('made') IS NOT NULL")


def test_it_gives_up_in_three_lines_and_leaves_nothing_half_done(
    note: Any, ops: Any, plan_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "ATTEMPTS", 3)
    plan = plan_of(
        step("first", "CREATE TABLE public.first (id int)"),
        step("second", "CREATE TABLE public.second (id int)", "ALTER TABLE public.note ADD COLUMN more int"),
        lock_timeout_ms=20,
    )
    attempts: list[int] = []
    pause = execute._pause
    monkeypatch.setattr(execute, "_pause", lambda attempt: (attempts.append(attempt), pause(attempt))[1])
    with psycopg.connect(note.conninfo) as holder:
        holder.execute("LOCK TABLE note")
        with pytest.raises(AtlasError) as stop:
            execute.execute(ops.session(note), plan, plan.digest)
    assert attempts == [1, 2]
    lines = stop.value.lines()
    assert len("\n".join(lines).splitlines()) == 3
    assert 'Step "second"' in lines[0] and "55P03" in lines[1] and "01 Preflight" in lines[2]
    assert ops.value(note, "SELECT to_regclass('second') IS NULL AND to_regclass('first') IS NOT NULL")


def test_a_deadlock_is_tried_again_and_any_other_error_is_not(note: Any, ops: Any, plan_of: Any) -> None:
    once = "DO $$ BEGIN IF nextval('public.tries') < 3 THEN RAISE deadlock_detected; END IF; END $$"
    ops.run(note, "CREATE SEQUENCE tries")
    plan = plan_of(step("again", once))
    [line] = execute.execute(ops.session(note), plan, plan.digest)
    assert (line.attempts, line.sqlstates) == (3, ("40P01", "40P01"))
    ops.run(note, "ALTER SEQUENCE tries RESTART")
    plan = plan_of(step("not again", once.replace("deadlock_detected", "serialization_failure")))
    with pytest.raises(AtlasError, match="40001"):
        execute.execute(ops.session(note), plan, plan.digest)
    assert ops.value(note, "SELECT last_value FROM tries") == 1


def test_a_step_outside_of_a_transaction_is_never_tried_again(note: Any, ops: Any, plan_of: Any) -> None:
    plan = plan_of(step("vacuum", "VACUUM public.note", autocommit=True), lock_timeout_ms=20)
    with psycopg.connect(note.conninfo) as holder:
        holder.execute("LOCK TABLE note")
        started = time.monotonic()
        with pytest.raises(AtlasError, match="55P03"):
            execute.execute(ops.session(note), plan, plan.digest)
    assert time.monotonic() - started < 1
    [line] = execute.execute(ops.session(note), plan, plan.digest)
    assert line.attempts == 1


def test_rows_progress_and_lines_are_told_in_the_order_of_the_plan(note: Any, ops: Any, plan_of: Any) -> None:
    insert = "INSERT INTO public.note SELECT n, 'y' FROM generate_series({}, {}) n"
    plan = plan_of(
        step("one", insert.format(2, 11), "SELECT 1", "UPDATE public.note SET body = 'z' WHERE id < 4", weight=10),
        step("slow", "SELECT pg_sleep(0.3)", insert.format(12, 16), lane="a", weight=5),
        step("quick", insert.format(17, 17), lane="b"),
        step("after quick", "DELETE FROM public.note WHERE id = 17", lane="b"),
        step("last", "CREATE TABLE public.last AS SELECT 1"),
    )
    told: list[tuple[int, int, str]] = []
    lines = execute.execute(ops.session(note), plan, plan.digest, lambda *seen: told.append(seen))
    assert [(line.step, line.rows) for line in lines] == [
        ("one", 13),
        ("slow", 5),
        ("quick", 1),
        ("after quick", 1),
        ("last", 0),
    ]
    assert [label for *_, label in told] == ["one", "quick", "after quick", "slow", "last"]
    assert [done for done, *_ in told] == [10, 11, 12, 17, 18] and {total for _, total, _ in told} == {18}
    assert all(line.ended >= line.started for line in lines)


# What must not run


def test_nothing_runs_without_the_digest_of_the_plan(note: Any, ops: Any, plan_of: Any) -> None:
    plan = plan_of(
        step("add", "CREATE TABLE public.made (id int)"), step("drop", "DROP TABLE public.note", effect=Effect.REMOVES)
    )
    assert execute.execute(ops.session(note), plan, "") == ()
    for confirm, said in [
        ("deadbeef", "but deadbeef was confirmed"),
        ("additive", "more than add"),
        ("demo", "not the embedded"),
    ]:
        with pytest.raises(AtlasError, match=said) as stop:
            execute.execute(ops.session(note), plan, confirm)
        assert len(str(stop.value).splitlines()) == 3
    assert ops.value(note, "SELECT to_regclass('made') IS NULL AND to_regclass('note') IS NOT NULL")
    added = plan_of(step("add", "CREATE TABLE public.made (id int)"))
    assert len(execute.execute(ops.session(note), added, "additive")) == 1


@pytest.mark.parametrize("field", ["system_identifier", "database"])
def test_a_plan_for_another_target_is_refused(note: Any, ops: Any, plan_of: Any, field: str) -> None:
    made = plan_of(step("add", "CREATE TABLE public.made (id int)"))
    plan = replace(made, target=replace(made.target, **{field: "7300000000000000001"}))
    with pytest.raises(AtlasError, match="made for another database"):
        execute.execute(ops.session(note), plan, plan.digest)
    assert ops.value(note, "SELECT to_regclass('made') IS NULL")


def test_a_second_run_at_once_is_told_who_runs(note: Any, ops: Any, plan_of: Any) -> None:
    plan = plan_of(step("sleep", "SELECT pg_sleep(30)"))
    first = threading.Thread(target=lambda: contained(lambda: execute.execute(ops.session(note), plan, plan.digest)))
    first.start()
    try:
        wait_until(lambda: backends(note, "query LIKE '%pg_sleep%' AND state = 'active'") == 1)
        with pytest.raises(AtlasError, match="Another run is changing") as stop:
            execute.execute(ops.session(note), plan, plan.digest)
        lock = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        holder = ops.value(note, lock)
        assert f"process {holder} (atlas_ops test {plan.digest}, role postgres)" in stop.value.why
        assert (
            ops.value(
                note,
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'atlas_ops test ' || %s",
                plan.digest,
            )
            == 2
        )
    finally:
        ops.run(note, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%'")
        first.join()
    quick = plan_of(step("quick", "SELECT 1"))
    assert len(execute.execute(ops.session(note), quick, quick.digest)) == 1


def contained(run: Callable[[], Any]) -> AtlasError | None:
    try:
        run()
    except AtlasError as stop:
        return stop
    return None


# Side by side


def test_the_first_failure_is_told_and_the_other_lanes_are_cancelled(note: Any, ops: Any, plan_of: Any) -> None:
    plan = plan_of(
        step("long", "CREATE TABLE public.made (id int)", "SELECT pg_sleep(30)", lane="a"),
        step("wrong", "SELECT pg_sleep(0.3)", "SELECT 1 / 0", lane="b"),
        step("never", "CREATE TABLE public.never (id int)", lane="b"),
        step("later", "CREATE TABLE public.never (id int)", lane="c"),
        step("after", "CREATE TABLE public.never (id int)"),
    )
    started = time.monotonic()
    with pytest.raises(AtlasError, match='Step "wrong"') as stop:
        execute.execute(ops.session(note), plan, plan.digest)
    assert "22012" in stop.value.why and time.monotonic() - started < 10
    assert ops.value(note, "SELECT to_regclass('made') IS NULL AND to_regclass('never') IS NULL")
    wait_until(lambda: backends(note) == 0)


def test_a_step_between_two_statements_is_cancelled_too(note: Any, ops: Any, plan_of: Any) -> None:
    quick = ["SELECT pg_sleep(0.01)"] * 2_000
    plan = plan_of(step("many", *quick, lane="a"), step("wrong", "SELECT pg_sleep(0.2)", "SELECT 1 / 0", lane="b"))
    started = time.monotonic()
    with pytest.raises(AtlasError, match='Step "wrong"'):
        execute.execute(ops.session(note), plan, plan.digest)
    assert time.monotonic() - started < 10


CHILD = """
import json, sys
from atlas_ops import database, execute
from atlas_ops.plan import Plan, Step, Target
conninfo, target, lanes = json.loads(sys.argv[1])
steps = [
    Step(f"lane {n}", (f"CREATE TABLE public.made_{n} (id int)", "SELECT pg_sleep(30)"), "-", "-", "-", lane=lane)
    for n, lane in enumerate(lanes)
]
plan = Plan("test", Target(*target), tuple(steps))
execute.execute(database.Session("test", conninfo, "test"), plan, plan.digest)
"""


@pytest.mark.parametrize("lanes", [["a", "b", "c"], [""]])
def test_ctrl_c_cancels_what_runs_and_leaves_no_backend(note: Any, ops: Any, plan_of: Any, lanes: list[str]) -> None:
    target = plan_of().target
    arguments = json.dumps([note.conninfo, [target.system_identifier, target.database], lanes])
    child = subprocess.Popen([sys.executable, "-c", CHILD, arguments], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: backends(note, "query LIKE '%pg_sleep%' AND state = 'active'") == min(len(lanes), 2))
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=15)
    finally:
        child.kill()
    assert "KeyboardInterrupt" in errors
    assert backends(note) == 0
    assert ops.value(note, "SELECT count(*) FROM pg_class WHERE relname LIKE 'made%'") == 0


def test_a_server_that_ends_the_connection_is_told_as_such(note: Any, ops: Any, plan_of: Any) -> None:
    plan = plan_of(step("die", "SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(AtlasError) as stop:
        execute.execute(ops.session(note), plan, plan.digest)
    assert "57P01" in stop.value.why and "Run again" in stop.value.next


# What an error may say


SECRET = "janedoe"
QUOTING = [
    ("23505", "INSERT INTO public.quoted (id, body) VALUES (1, '{}'), (2, '{}')"),
    ("23514", "INSERT INTO public.quoted (id, body, n) VALUES (3, '{}', -1)"),
    ("23502", "INSERT INTO public.quoted (id, body) VALUES (NULL, '{}')"),
    ("23503", "INSERT INTO public.quoted (id, body, other) VALUES (4, 'x', '{}')"),
    ("22P02", "INSERT INTO public.quoted (id) VALUES ('{}'::int)"),
    ("22P02", "SELECT '{}'::jsonb"),
    ("22007", "SELECT '{}'::timestamptz"),
    ("P0001", "SELECT public.refuse('{}')"),
    ("23514", "SELECT public.refuse_as('{}')"),
    ("23514", "INSERT INTO public.parted VALUES (1, '{}')"),
]


def test_no_error_quotes_a_row(note: Any, ops: Any, plan_of: Any) -> None:
    ops.run(
        note,
        "CREATE TABLE others (id text PRIMARY KEY)",
        "CREATE TABLE quoted (id int PRIMARY KEY, body text UNIQUE, n int CHECK (n > 0), other text REFERENCES others)",
        "CREATE TABLE parted (id int, body text) PARTITION BY LIST (body)",
        "CREATE FUNCTION refuse(v text) RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'bad row %', v USING HINT = 'Look at ' || v, DETAIL = v; END $$",
        "CREATE FUNCTION refuse_as(v text) RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE check_violation USING MESSAGE = 'bad row ' || v, HINT = 'Look at ' || v; END $$",
    )
    for state, statement in QUOTING:
        quoting = statement.replace("{}", SECRET)
        with pytest.raises(psycopg.Error) as said, psycopg.connect(note.conninfo) as conn:
            conn.execute(quoting)
        diagnosis = said.value.diag
        whole = f"{diagnosis.message_primary} {diagnosis.message_detail} {diagnosis.message_hint}"
        assert SECRET in whole, f"the server itself quotes it, otherwise this proves nothing: {statement}"
        plan = plan_of(step("quote", quoting))
        with pytest.raises(AtlasError) as stop:
            execute.execute(ops.session(note), plan, plan.digest)
        told = "\n".join([*stop.value.lines(), repr(stop.value), str(stop.value.__cause__), repr(stop.value.args)])
        assert SECRET not in told and 'Step "quote"' in told
        assert stop.value.why.startswith(state) and len(told.splitlines()) == 6
