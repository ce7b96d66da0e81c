"""pg_cron for real: a server of the test's own whose job makes a partition without us; jobs made, mended and taken back by plans."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import care as reads
from atlas_ops import catalog, cutover, database, division, execute, maintain, migration, scheduling
from atlas_ops.bounds import Every, period_of
from atlas_ops.embedded import Cluster
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
PG_CRON = Path("/usr/share/postgresql/15/extension/pg_cron.control")
TODAY = datetime.now(UTC).date()
THIS = period_of(Every.month, TODAY)
EVERY_MINUTE = "* * * * *"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On Debian's 15 with its postgresql-15-cron; the header of the run says where that is not installed."""
    if "cron_server" in metafunc.fixturenames:
        metafunc.parametrize(
            "cron_server",
            ["15"] if PG_CRON.exists() else [],
            ids=lambda version: f"pg{version}",
            indirect=True,
            scope="module",
        )


@dataclass
class Cron:
    """The database that pg_cron runs in; `conninfo` is of postgres, who is no superuser."""

    conninfo: str
    superuser: str
    version: int = 15

    @property
    def superuser_conninfo(self) -> str:
        return self.superuser

    def rows(self, query: str) -> list[Any]:
        """What the last of these statements answers, as superuser."""
        with psycopg.connect(self.superuser, autocommit=True) as conn:
            cursor = conn.execute(query)
            while cursor.nextset():
                pass
            return cursor.fetchall()


@pytest.fixture(scope="module")
def cron_server(request: pytest.FixtureRequest, clusters: Path) -> Iterator[Cluster]:
    settings = {
        "shared_preload_libraries": "pg_cron",
        "cron.database_name": "postgres",
        "cron.use_background_workers": "on",
        "max_worker_processes": "20",
        "fsync": "off",
    }
    cluster = Cluster(clusters / "cron" / "data", DEBIAN_15, 300.0, settings)
    yield cluster
    cluster.stop()


@pytest.fixture
def cron(cron_server: Cluster, ops: Any) -> Iterator[Cron]:
    """`note` under care in the database of pg_cron, with this month and the next."""
    found = Cron(cron_server.conninfo("postgres", "postgres"), cron_server.conninfo("postgres", "supabase_admin"))
    found.rows("ALTER DATABASE postgres OWNER TO postgres; SELECT 1")
    ops.run(found, "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL)")
    plan_and_do(found, ops)
    yield found
    found.rows("DROP EXTENSION IF EXISTS pg_cron CASCADE; DROP OWNED BY postgres CASCADE; SELECT 1")


def the_spec() -> TableSpec:
    [spec] = tables_from(
        [{"table": "note", "partition_key": "at", "from": str(THIS.lower.date()), "ahead": 1, "copy": "by_partition"}]
    )
    return spec


def plan_and_do(db: Cron, ops: Any) -> None:
    spec, snapshot, _ = one_set(db)
    made = migration.plan_migration(spec, snapshot, TODAY)
    execute.execute(ops.session(db), made, made.digest)


def one_set(db: Cron, as_of: date = TODAY, conninfo: str = "") -> scheduling.Set:
    spec = the_spec()
    with database.connect(database.Session("test", conninfo or db.conninfo, "test")) as conn:
        snapshot = catalog.snapshot(conn, spec, division.names_needed(spec, as_of))
        return spec, snapshot, reads.upkeep(conn, spec, snapshot, as_of)


def schedule(db: Cron, conninfo: str, at: str = EVERY_MINUTE) -> Any:
    found = one_set(db, conninfo=conninfo)
    made = scheduling.plan_schedule(found[1].server, [found], at)
    execute.execute(database.Session("test", conninfo, "test"), made, made.digest)
    return made


def unschedule(db: Cron, conninfo: str) -> Any:
    found = one_set(db, conninfo=conninfo)
    made = scheduling.plan_unschedule(found[1].server, found[2].jobs)
    execute.execute(database.Session("test", conninfo, "test"), made, made.digest)
    return made


def states(db: Cron, as_of: date = TODAY, conninfo: str = "") -> dict[str, tuple[Severity, str]]:
    return {
        check.name: (check.severity, check.what) for check in scheduling.checks([one_set(db, as_of, conninfo)], as_of)
    }


def wait_for(db: Cron, query: str, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not db.rows(query)[0][0]:
        assert time.monotonic() < deadline, db.rows(
            "SELECT jobid, status, return_message FROM cron.job_run_details ORDER BY runid DESC LIMIT 5"
        )
        time.sleep(0.5)


def test_a_job_makes_the_partition_without_us_and_goes_again_without_a_trace(cron: Cron, ops: Any) -> None:
    before = ops.dump(cron, "--schema-only", "--no-comments")
    following = f"note_{THIS.next().suffix}"
    # a role that is no superuser is told who can make the extension; nothing is there yet
    with pytest.raises(AtlasError, match="cannot be used") as stop:
        schedule(cron, cron.conninfo)
    assert "no superuser" in stop.value.why and one_set(cron)[2].jobs == ()
    assert states(cron)["pg_cron"][0] is Severity.NOTE
    assert states(cron)["schedule"] == (
        Severity.NOTE,
        "Nothing has been missing for longer than a day; no schedule has been seen at work yet.",
    )

    made = schedule(cron, cron.superuser)
    assert [step.name for step in made.steps] == [
        "install pg_cron",
        'schedule "atlas_ops partitions"',
        'schedule "atlas_ops analyze public.note_partitioned"',
    ]
    assert made.additive
    again = one_set(cron, conninfo=cron.superuser)
    assert scheduling.plan_schedule(again[1].server, [again], EVERY_MINUTE).steps == ()

    # the month that the job is to make: dropped once the jobs are there, so that nobody else can have made it
    ops.run(cron, f"DROP TABLE partitions.{following}")
    wait_for(cron, f"SELECT to_regclass('partitions.{following}') IS NOT NULL")
    wait_for(
        cron,
        "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded' AND command LIKE '%create_future_partitions%'",
    )
    found = one_set(cron, conninfo=cron.superuser)
    assert found[2].care is not None
    assert found[2].care.made == following and found[2].care.made_at is not None and found[2].care.made_by == "pg_cron"
    assert found[2].care.whole_by == "pg_cron" and found[2].care.whole_at >= found[2].care.made_at
    told = {check.name: check for check in scheduling.checks([found], TODAY)}
    assert told["pg_cron"].severity is Severity.OK and told["schedule"].severity is Severity.OK
    assert re.search(r"last seen at work at [-\d]+ [:\d]+ UTC: pg_cron\.", told["schedule"].what)
    assert maintain.missing(*found, TODAY) == ()
    outcome = scheduling.outcome(*found, TODAY)
    assert (outcome.made, outcome.missing, outcome.until) == (following, 0, THIS.next().upper.date())

    cron.rows("SELECT cron.schedule('of somebody else', '0 0 1 1 *', 'SELECT 1')")
    gone = unschedule(cron, cron.superuser)
    assert len(gone.steps) == 2 and not gone.additive
    assert cron.rows("SELECT jobname FROM cron.job") == [("of somebody else",)]
    assert unschedule(cron, cron.superuser).steps == ()
    cron.rows("DROP EXTENSION pg_cron; SELECT 1")
    assert ops.dump(cron, "--schema-only", "--no-comments") == before, "what the job has made is like what was there"


def test_what_is_wrong_with_a_job_is_told_by_outcome_and_mended(cron: Cron, ops: Any) -> None:
    cron.rows("CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO postgres; SELECT 1")
    cron.rows(
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cron TO postgres; GRANT SELECT ON cron.job, cron.job_run_details TO postgres; SELECT 1"
    )
    made = schedule(cron, cron.conninfo)
    assert [step.name.split('"')[1] for step in made.steps] == [
        "atlas_ops partitions",
        "atlas_ops analyze public.note_partitioned",
    ], "postgres may, once it is there"
    # switched off: said, mended
    cron.rows("SELECT cron.alter_job(jobid, active => false) FROM cron.job WHERE jobname = 'atlas_ops partitions'")
    assert states(cron)["pg_cron"][0] is Severity.WARN and "switched off" in states(cron)["pg_cron"][1]
    schedule(cron, cron.conninfo)
    assert states(cron)["pg_cron"][0] is Severity.OK
    # a job that fails, and one whose status is well and which does nothing: the outcome tells
    ops.run(cron, "INSERT INTO note_partitioned SELECT 1, now() + interval '50 years'")
    following = f"note_{THIS.next().suffix}"
    ops.run(cron, f"DROP TABLE partitions.{following}", f"CREATE VIEW partitions.{following} AS SELECT 1 AS one")
    wait_for(cron, "SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'failed'")
    assert "its last run failed" in states(cron)["pg_cron"][1]
    cron.rows("UPDATE cron.job SET command = 'SELECT 1' WHERE jobname = 'atlas_ops partitions'; SELECT 1")
    late = THIS.lower.date() + timedelta(days=4)
    assert "another command" in states(cron)["pg_cron"][1]
    assert states(cron, late)["schedule"] == (
        Severity.WARN,
        "A partition has been missing for 4 days: no schedule has made it.",
    )
    assert states(cron, THIS.lower.date())["schedule"][0] is not Severity.WARN
    # what is abandoned takes its jobs along
    spec, snapshot, _ = one_set(cron)
    ops.carry_out(cron, cutover.plan_abandon(spec, snapshot))
    assert cron.rows("SELECT count(*) FROM cron.job") == [(0,)]
