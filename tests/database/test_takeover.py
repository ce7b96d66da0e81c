"""A copy that follows nothing: the application reads it and does not write it before 06 opens it, nor after 10 has closed it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import advice, cutover, measure, takeover, verify, workload
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity, Verdict
from atlas_ops.spec import TableSpec
from atlas_ops.stages.cut_over import CutOver
from atlas_ops.stages.roll_back import RollBack
from atlas_ops.stages.start_here import StartHere
from atlas_ops.stages.verify_counts import VerifyCounts
from tests.database.conftest import FOLLOWED

COPY = "note_partitioned"
REFERS = "CREATE TABLE tag (note bigint REFERENCES note ON DELETE CASCADE)"
WRITES = (
    "INSERT INTO {} (id, at) VALUES (900, '2024-01-05')",
    "INSERT INTO {} (id, at) VALUES (1, '2023-12-31') ON CONFLICT DO NOTHING",
    "UPDATE {} SET body = 'x'",
    "UPDATE {} SET body = 'x' WHERE false",
    "DELETE FROM {}",
    "MERGE INTO {} AS n USING (SELECT 1 AS id) AS s ON n.id = s.id WHEN MATCHED THEN DELETE",
    "COPY {} (id, at) FROM STDIN",
    "TRUNCATE {}",
    "TRUNCATE {} CASCADE",
)
ATLAS = Path(__file__).parents[2] / "parameters" / "workloads" / "atlas.yml"
SIDE_BY_SIDE = {"copy": "by_partition", "cut_over": "side_by_side"}


@pytest.fixture
def copied(empty: Any, ops: Any) -> Any:
    """`note`, to which `tag` refers, with its copy, whole."""
    ops.run(empty, *FOLLOWED, REFERS, "GRANT SELECT, DELETE ON topic TO authenticated")
    ops.migrate(empty, ops.spec(**SIDE_BY_SIDE))
    return empty


def tried(db: Any, statement: str, *before: str, role: str = "authenticated", **login: str) -> str:
    """The SQLSTATE of a statement that is rolled back, or ''; by the login of the application, unless told otherwise."""
    settings = {"user": "authenticator", "options": "-c search_path=public", **login}
    with psycopg.connect(db.conninfo, **settings) as conn, conn.transaction(force_rollback=True):
        for one in before:
            conn.execute(one)
        conn.execute(f"SET LOCAL ROLE {role}")
        try:
            if statement.startswith("COPY"):
                with conn.cursor().copy(statement) as rows:
                    rows.write_row((900, "2024-01-05"))
            else:
                conn.execute(statement)
        except psycopg.Error as error:
            return error.sqlstate or "?"
    return ""


def refused(db: Any, table: str = COPY) -> set[str]:
    """What becomes of everything that the application could write, its own settings and all."""
    return {tried(db, write.format(table), "SET LOCAL atlas_ops.writes = 'allowed'") for write in WRITES}


def test_the_application_reads_it_and_does_not_write_it(copied: Any, ops: Any) -> None:
    assert tried(copied, f"SELECT count(*) FROM {COPY}") == ""
    assert refused(copied) == {"55000"}
    assert tried(copied, "DELETE FROM note") == ""
    replica = "SET LOCAL session_replication_role = replica"
    assert tried(copied, f"DELETE FROM {COPY}", replica, user="supabase_admin") == "55000"
    # who has no right at all is told so, and not of a guard
    assert tried(copied, f"DELETE FROM {COPY}", role="anon") == "42501"


def test_the_owner_and_what_acts_as_the_owner_write_it(copied: Any, ops: Any) -> None:
    assert tried(copied, f"DELETE FROM {COPY}", user="postgres", role="postgres") == ""
    # our own measurement of the application's writes, which is rolled back
    ours = "SET LOCAL atlas_ops.writes = 'allowed'"
    assert tried(copied, f"UPDATE {COPY} SET body = 'x'", ours, user="postgres") == ""
    assert tried(copied, f"UPDATE {COPY} SET body = 'x'", user="postgres") == "55000"
    # a foreign key that cascades does so on both tables, whoever deletes
    with psycopg.connect(copied.conninfo, user="authenticator", autocommit=True) as conn:
        conn.execute("SET ROLE authenticated")
        conn.execute("DELETE FROM topic WHERE id = 2")
    left = "SELECT count(*) FROM {} WHERE topic = 2"
    assert [ops.value(copied, left.format(table)) for table in ("note", COPY)] == [0, 0]
    spec = ops.spec(**SIDE_BY_SIDE)
    assert ops.prove(copied, spec) == 60
    # and a repair of 03 is the owner's
    ops.run(copied, f"DELETE FROM {COPY} WHERE id = 5")
    found = ops.snapshot(copied, spec)
    parts = ops.parts(copied, spec)
    ops.carry_out(copied, verify.plan_repair(spec, found, parts, [part.label for part in parts]))
    assert ops.prove(copied, spec) == 60


def test_05_asks_all_that_the_application_asks_of_it_while_it_is_closed(migrated: Any) -> None:
    """Its writes too, by whoever logs in for it, in transactions that are rolled back; and it stays closed."""
    queries = workload.load(ATLAS).queries
    claims = "json_build_object('role', 'authenticated', 'sub', %(user)s)"
    as_user = [
        replace(query, name=f"{query.name}_as_user", role="authenticated", claims=claims)
        for query in queries
        if query.writes
    ]
    digest = "SELECT sum(hash_record_extended(t, 0)::numeric) FROM messages_partitioned AS t"
    before = migrated.value(digest)
    results = [
        result
        for spec in migrated.specs
        for result in measure.workload(migrated.where, spec, [*queries, *as_user], pairs=1)
    ]
    assert [advice.why(result) for result in results if result.verdict == "failed"] == []
    assert [result.name for result in results if not result.same_rows] == []
    assert len(results) == 16 + 4 and len(as_user) == 4
    wrote = [result.partitioned.figures for result in results if result.query.writes]
    assert all(figures and figures.wal_bytes > 0 for figures in wrote)
    assert migrated.value(digest) == before
    delete = "DELETE FROM messages_partitioned"
    assert tried(migrated.database, delete, "SET LOCAL atlas_ops.writes = 'allowed'") == "55000"


def test_06_opens_it_once_both_are_proven_equal_and_10_closes_it(
    copied: Any, ops: Any, enter: Callable[..., Any]
) -> None:
    schema = ops.dump(copied, "-s", "--table=note")
    assert "closed to the application" in repr(enter(CutOver, copied, **SIDE_BY_SIDE).state())
    assert "06 Cut over" in repr(enter(StartHere, copied, **SIDE_BY_SIDE).tables())
    shown = enter(CutOver, copied, **SIDE_BY_SIDE)
    plan = shown.plan_cut_over().plan
    assert [step.name for step in plan.steps] == ["open public.note_partitioned"] and not plan.additive
    assert shown.report().verdict is Verdict.PLANNED and refused(copied) == {"55000"}

    ops.run(copied, "INSERT INTO note VALUES (500, '2024-01-20', 1, 'came after the copy', 1)")
    run = enter(CutOver, copied, confirm=plan.digest, **SIDE_BY_SIDE)
    with pytest.raises(AtlasError, match=r"1 parts differ: note 2024-01\."):
        run.execute(run.plan_cut_over())
    assert refused(copied) == {"55000"}
    ops.run(copied, "DELETE FROM note WHERE id = 500")

    run = enter(CutOver, copied, confirm=plan.digest, **SIDE_BY_SIDE)
    run.execute(run.plan_cut_over())
    run.ledger()
    assert (
        run.report().verdict is Verdict.OK
        and [check.name for check in run.checks if check.severity is Severity.STOP] == []
    )
    again = enter(CutOver, copied, **SIDE_BY_SIDE)
    assert "open to the application" in repr(again.state()) and "Nothing to prove" in repr(again.proof())
    assert again.report().verdict is Verdict.NOTHING_TO_DO

    ops.run(copied, f"INSERT INTO {COPY} VALUES (600, '2024-01-21', 1, 'written after the move', 1)")
    looked = enter(VerifyCounts, copied, **SIDE_BY_SIDE)
    assert looked.report().verdict is Verdict.STOPPED and looked.plan_repair().plan.steps == ()
    with pytest.raises(AtlasError, match="the application writes to the partitioned table"):
        enter(RollBack, copied, **SIDE_BY_SIDE).plan_roll_back("abandon")

    back = enter(RollBack, copied, **SIDE_BY_SIDE).plan_roll_back().plan
    assert [step.name for step in back.steps] == ["close public.note_partitioned"]
    run = enter(RollBack, copied, confirm=back.digest, **SIDE_BY_SIDE)
    run.execute(run.plan_roll_back())
    assert refused(copied) == {"55000"}
    looked = enter(VerifyCounts, copied, **SIDE_BY_SIDE)
    assert [step.name for step in looked.plan_repair().plan.steps] == ["repair note 2024-01"]
    gone = enter(RollBack, copied, **SIDE_BY_SIDE).plan_roll_back("abandon").plan
    run = enter(RollBack, copied, confirm=gone.digest, **SIDE_BY_SIDE)
    run.execute(run.plan_roll_back("abandon"))
    assert ops.dump(copied, "-s", "--table=note") == schema
    assert ops.value(copied, "SELECT to_regnamespace('atlas_ops') IS NULL AND to_regclass('note_partitioned') IS NULL")


def opened(ops: Any, db: Any, spec: TableSpec) -> None:
    ops.cut_over(db, spec)
    assert ops.cut_over_plan(db, spec).steps == ()


def test_once_it_is_open_it_gives_what_the_original_gives_truncate_aside(copied: Any, ops: Any) -> None:
    opened(ops, copied, ops.spec(**SIDE_BY_SIDE))
    for write in WRITES[:-2]:
        assert (write, tried(copied, write.format(COPY))) == (write, "")
    for write, on_the_original in zip(WRITES[-2:], ("0A000", ""), strict=True):
        assert tried(copied, write.format("note")) == on_the_original
        for who in ({}, {"user": "postgres", "role": "postgres"}):
            assert tried(copied, write.format(COPY), **who) == "55006"


@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
@pytest.mark.parametrize("referred", [True, False])
def test_truncate_is_refused_as_on_the_original(empty: Any, ops: Any, copy: str, referred: bool) -> None:
    ops.run(empty, *FOLLOWED, *([REFERS] if referred else []))
    spec = ops.spec(copy=copy, cut_over="side_by_side")
    ops.follow(empty, spec)
    if copy == "by_partition":
        opened(ops, empty, spec)
    assert tried(empty, "TRUNCATE note") == ("0A000" if referred else "")
    assert tried(empty, f"TRUNCATE {COPY}") == ("55006" if referred else "")
    assert tried(empty, f"UPDATE {COPY} SET body = 'x'") == ""


def test_a_swap_is_refused_with_the_two_cures(copied: Any, ops: Any) -> None:
    spec = ops.spec()
    [red] = [check for check in cutover.checks(*ops.placed(copied, spec)) if check.severity is Severity.STOP]
    assert red.name == "copy" and "cut_over: side_by_side" in red.cure and "copy: online" in red.cure
    [warned] = [check for check in ops.checks(copied, spec) if check.name == "cut over"]
    assert warned.severity is Severity.WARN and "side_by_side" in warned.cure


def test_a_copy_that_is_not_whole_is_closed_and_is_not_opened(empty: Any, ops: Any) -> None:
    ops.run(empty, *FOLLOWED)
    spec = ops.spec(**SIDE_BY_SIDE)
    plan = ops.plan(empty, spec)
    half = next(number for number, step in enumerate(plan.steps) if step.name.startswith("attach")) + 1
    ops.carry_out(empty, replace(plan, steps=plan.steps[:half]))
    assert refused(empty) == {"55000"}
    assert ops.bars(empty, spec) == ["whole"] and ops.cut_over_plan(empty, spec).steps == ()
    ops.migrate(empty, spec)
    assert refused(empty) == {"55000"}
    opened(ops, empty, spec)
    assert tried(empty, WRITES[0].format(COPY)) == ""


def test_a_column_that_one_of_the_two_lacks_stops_the_opening(copied: Any, ops: Any) -> None:
    ops.run(copied, "ALTER TABLE note ADD late int")
    assert ops.bars(copied, ops.spec(**SIDE_BY_SIDE)) == ["columns"]


def test_months_that_are_added_later_leave_it_open(copied: Any, ops: Any) -> None:
    opened(ops, copied, ops.spec(**SIDE_BY_SIDE))
    ops.run(copied, *(f"DELETE FROM {table} WHERE at >= '2024-03-01'" for table in ("note", COPY)))
    later = ops.spec(**SIDE_BY_SIDE, ahead=6)
    ops.migrate(copied, later)
    assert tried(copied, f"INSERT INTO {COPY} (id, at) VALUES (901, '2024-06-05')") == ""
    assert takeover.opened(*ops.placed(copied, later))


def test_a_trigger_of_that_name_is_not_taken_for_ours(copied: Any, ops: Any) -> None:
    spec = ops.spec(**SIDE_BY_SIDE)
    opened(ops, copied, spec)
    ops.run(
        copied, f"CREATE TRIGGER atlas_ops_closed AFTER INSERT ON {COPY} FOR EACH STATEMENT EXECUTE FUNCTION hear()"
    )
    assert takeover.opened(*ops.placed(copied, spec))
    with pytest.raises(AtlasError, match="cannot be abandoned"):
        cutover.plan_abandon(*ops.placed(copied, spec))


def test_the_original_may_go_once_the_application_has_moved(copied: Any, ops: Any) -> None:
    spec = ops.spec(**SIDE_BY_SIDE)
    opened(ops, copied, spec)
    ops.run(copied, "DROP TABLE note CASCADE")
    assert ops.bars(copied, spec) == [] and ops.cut_over_plan(copied, spec).steps == ()


@pytest.mark.parametrize("name", ['"No ""te"', '"it\'s $do$"', '"a;\n-- b"'])
def test_names_with_quotes_and_the_like(empty: Any, ops: Any, name: str) -> None:
    ops.run(
        empty,
        f"CREATE TABLE {name} (id int PRIMARY KEY, at timestamptz NOT NULL)",
        f"INSERT INTO {name} SELECT n, '2024-01-01'::timestamptz + n * interval '1 day' FROM generate_series(1, 20) n",
        f"GRANT ALL ON {name} TO authenticated",
        f"CREATE TABLE refers (note int REFERENCES {name})",
    )
    spec = ops.spec(table=name, **SIDE_BY_SIDE)
    ops.migrate(empty, spec)
    copy = name[:-1] + '_partitioned"'
    assert tried(empty, f"DELETE FROM {copy}") == "55000"
    opened(ops, empty, spec)
    assert [tried(empty, f"{verb} {copy}") for verb in ("DELETE FROM", "TRUNCATE")] == ["", "55006"]
    ops.roll_back(empty, spec)
    assert tried(empty, f"DELETE FROM {copy}") == "55000"
    assert takeover.waits(*ops.placed(empty, spec))
