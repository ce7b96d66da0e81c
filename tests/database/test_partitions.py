"""The overview and the checks on real servers: our own set after a migration, and sets of others."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg
import pytest

from atlas_ops import catalog, database, division, execute, inspection, migration, partitions
from atlas_ops.model import Snapshot
from atlas_ops.partitions import Kind
from atlas_ops.plan import Plan
from atlas_ops.report import Check, Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)


def session(atlas: Any) -> database.Session:
    return database.Session("test", atlas.conninfo, "test")


def spec(**keys: Any) -> TableSpec:
    written = {"table": "messages", "partition_key": "created_at", "from": "2024-01-01", "until": "2027-01-01"}
    [found] = tables_from([{**written, "null_keys": "set_aside", **keys}])
    return found


def snapshot(atlas: Any, table: TableSpec) -> Snapshot:
    with database.connect(session(atlas)) as conn:
        return catalog.snapshot(conn, table, division.names_needed(table, AS_OF))


def migrate(atlas: Any, table: TableSpec) -> Snapshot:
    plan = migration.plan_migration(table, snapshot(atlas, table), AS_OF)
    execute.execute(session(atlas), plan, plan.digest)
    return snapshot(atlas, table)


def run(atlas: Any, statements: str) -> None:
    with atlas.connect(autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        conn.execute(statements)


def findings(atlas: Any, table: TableSpec, as_of: date = AS_OF) -> dict[str, Check]:
    """What is not OK, by question."""
    found = inspection.checks(table, snapshot(atlas, table), as_of)
    return {check.name: check for check in found if check.severity is not Severity.OK}


def test_after_a_migration_forty_tables_are_listed_and_nothing_is_red(atlas: Any) -> None:
    found = migrate(atlas, spec())
    rows = partitions.overview(spec(), found, AS_OF)
    assert len(rows) == 40
    assert (rows[0].partition, rows[37].partition) == ("messages_2024_01", "messages_2027_02")
    assert [row.kind for row in rows[34:]] == [Kind.CURRENT, *[Kind.FUTURE] * 3, Kind.DEFAULT, Kind.SET_ASIDE]
    with atlas.connect() as conn:
        counted = conn.execute(
            "SELECT (SELECT count(*) FROM messages_partitioned), (SELECT count(*) FROM partitions.messages_null_keys)"
        ).fetchone()
    assert (sum(row.rows or 0 for row in rows[:39]), rows[39].rows) == counted
    assert all(row.row_security and not row.open_to and not row.invalid_indexes for row in rows)
    assert len({row.indexes for row in rows[:39]}) == 1
    told = {check.name: check.severity for check in inspection.checks(spec(), found, AS_OF)}
    expected = {"default partition": Severity.WARN, "rows without a key": Severity.NOTE}
    assert {name: severity for name, severity in told.items() if severity is not Severity.OK} == expected


def test_an_interrupted_migration_is_told(atlas: Any) -> None:
    plan = migration.plan_migration(spec(), snapshot(atlas, spec()), AS_OF)
    first = next(number for number, step in enumerate(plan.steps) if step.name.startswith("attach"))
    cut = Plan(plan.stage, plan.target, plan.steps[: first + 1])
    execute.execute(session(atlas), cut, cut.digest)
    found = findings(atlas, spec())
    assert "messages_2024_02, " in found["not attached"].what and "and 33 more." in found["not attached"].what
    assert found["runway"].severity is Severity.STOP
    kinds = [row.kind for row in partitions.overview(spec(), snapshot(atlas, spec()), AS_OF)]
    assert kinds.count(Kind.NOT_ATTACHED) == 38 and kinds.count(Kind.SET_ASIDE) == 1


def test_before_the_migration_there_is_one_red_line(atlas: Any) -> None:
    [check] = findings(atlas, spec()).values()
    assert check.severity is Severity.STOP and "02_apply_migration" in check.cure
    run(atlas, "CREATE VIEW public.messages_partitioned AS SELECT 1 AS one")
    [check] = findings(atlas, spec()).values()
    assert check.severity is Severity.STOP and "01_preflight" in check.cure


def test_what_goes_wrong_is_found_and_its_sql_cures_it(atlas: Any) -> None:
    migrate(atlas, spec())
    run(
        atlas,
        """
        DROP TABLE partitions.messages_2024_05;
        DROP TABLE partitions.messages_2025_02;
        DELETE FROM partitions.messages_default;
        ALTER TABLE partitions.messages_2024_07 DISABLE ROW LEVEL SECURITY;
        GRANT SELECT ON partitions.messages_2024_07 TO anon;
        GRANT ALL ON partitions.messages_2024_08 TO PUBLIC;
        CREATE INDEX ON partitions.messages_2024_09 (content);
        CREATE TABLE partitions.late (LIKE messages_partitioned INCLUDING ALL);
        INSERT INTO partitions.late SELECT * FROM messages_partitioned
            WHERE created_at >= '2024-06-01' AND created_at < '2024-06-08';
        UPDATE partitions.late SET created_at = created_at - interval '10 years';
        ALTER TABLE messages_partitioned ATTACH PARTITION partitions.late
            FOR VALUES FROM ('2014-06-01') TO ('2014-07-01');
        ALTER TABLE partitions.late ENABLE ROW LEVEL SECURITY;
        REVOKE ALL ON partitions.late FROM PUBLIC, anon, authenticated, service_role;
        """,
    )
    run(atlas, "VACUUM partitions.messages_default")
    found = findings(atlas, spec())
    assert {name: check.severity for name, check in found.items()} == {
        "gaps": Severity.WARN,
        "row security": Severity.STOP,
        "privileges": Severity.WARN,
        "statistics": Severity.WARN,
        "rows without a key": Severity.NOTE,
    }
    assert "anon" in found["row security"].what and "PUBLIC, anon" in found["privileges"].what
    assert "partitions" in found["statistics"].sql and "late" in found["statistics"].what
    # the gap between 2014 and 2024 is more than one check cures
    for question in ("row security", "privileges", "statistics", "gaps"):
        run(atlas, found[question].sql)
    left = findings(atlas, spec())
    assert set(left) == {"gaps", "rows without a key"}
    rows = partitions.overview(spec(), snapshot(atlas, spec()), AS_OF)
    assert all(row.row_security and not row.open_to for row in rows)
    assert (
        len({row.indexes for row in rows if row.kind is not Kind.SET_ASIDE and row.partition != "messages_2024_09"})
        == 1
    )


def test_rows_in_the_default_partition_are_counted_by_period(atlas: Any) -> None:
    migrate(atlas, spec(until="2026-01-01", **{"from": "2025-01-01"}))
    [check] = [
        each for each in inspection.checks(spec(), snapshot(atlas, spec()), AS_OF) if each.name == "default partition"
    ]
    assert check.severity is Severity.WARN
    with atlas.connect() as conn:
        # one of the periods is infinity, which Python cannot say
        periods = conn.execute(f"SELECT period::text, count FROM ({check.sql.rstrip(';')}) found").fetchall()
        [(total,)] = conn.execute("SELECT count(*) FROM partitions.messages_default").fetchall()
    assert sum(rows for _, rows in periods) == total > 0


FOREIGN = {"partition key", "bounds", "runway", "default partition"}


@pytest.mark.parametrize(
    ("by", "bounds", "drawn", "told"),
    [
        ("LIST (role)", ["FOR VALUES IN ('user')"], [], FOREIGN),
        ("HASH (id)", ["FOR VALUES WITH (modulus 1, remainder 0)"], [], FOREIGN),
        ("RANGE (created_at, id)", ["FOR VALUES FROM ('2026-11-01', 1) TO ('2026-12-01', 1)"], [], FOREIGN),
        ("RANGE (created_at)", [], [], {"runway", "default partition"}),
        ("RANGE (created_at)", ["DEFAULT"], ["default"], {"runway"}),
        (
            "RANGE (created_at)",
            ["FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"],
            ["empty"],
            {"bounds", "default partition"},
        ),
        (
            "RANGE (created_at)",
            [
                "FOR VALUES FROM ('2026-11-23') TO ('2026-11-30')",
                "FOR VALUES FROM ('2026-12-02') TO ('2026-12-09') PARTITION BY RANGE (created_at)",
            ],
            ["empty", "holds rows", "gap"],
            {"bounds", "gaps", "runway", "default partition"},
        ),
    ],
)
def test_sets_of_others_are_read(empty: Any, by: str, bounds: list[str], drawn: list[str], told: set[str]) -> None:
    run(empty, f"CREATE TABLE messages_partitioned (id int, role text, created_at timestamptz) PARTITION BY {by}")
    for number, bound in enumerate(bounds):
        run(empty, f"CREATE TABLE p{number} PARTITION OF messages_partitioned {bound}")
    assert set(findings(empty, spec())) - {"row security", "privileges"} == told
    rows = partitions.overview(spec(), snapshot(empty, spec()), AS_OF)
    assert [row.partition for row in rows] == [f"p{number}" for number in range(len(bounds))]
    assert [kind for *_, kind in partitions.runway_rows(rows)] == drawn


def test_a_pending_detach_is_red_and_its_sql_completes_it(atlas: Any) -> None:
    table = spec(default_partition=False, every="year", until="2032-01-01", **{"from": "2014-01-01"})
    migrate(atlas, table)
    with atlas.connect() as reader, atlas.connect(autocommit=True) as other:
        reader.execute("SELECT count(*) FROM messages_partitioned")
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("ALTER TABLE messages_partitioned DETACH PARTITION partitions.messages_2026 CONCURRENTLY")
    found = findings(atlas, table)
    assert found["detach pending"].severity is found["runway"].severity is Severity.STOP
    run(atlas, found["detach pending"].sql)
    assert "detach pending" not in findings(atlas, table)
