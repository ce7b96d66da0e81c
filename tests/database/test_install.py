"""Our own database objects: pasteable, repeatable, true, and installed anew where one is lost or old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from atlas_ops import execute, installation, sqlfile


@pytest.fixture
def copied(empty: Any, ops: Any) -> Any:
    """`note` with two months, copied, under a name that needs quotes."""
    ops.run(
        empty,
        'CREATE TABLE "Note" (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text)',
        "INSERT INTO \"Note\" SELECT n, '2023-12-30'::timestamptz + n * interval '1 day', repeat('secret', 400) FROM generate_series(1, 70) n",
    )
    ops.migrate(empty, ops.spec(table='"Note"'))
    return empty


def test_the_files_can_be_pasted_into_psql_twice(empty: Any, ops: Any) -> None:
    dumps = []
    for _ in range(2):
        for name in installation.INSTALL:
            path = sqlfile.ROOT / "install" / f"{name}.sql"
            assert ops.psql(empty, "-f", str(path)) == ""
        dumps.append(ops.dump(empty, "-s"))
    assert dumps[0] == dumps[1] and "create_future_partitions" in dumps[0]
    assert ops.psql(empty, "-At", "-c", "SELECT count(*) FROM partition_performance") == "0\n"
    for call in ("get_partition_sizes()", "create_future_partitions()"):
        assert ops.psql(empty, "-At", "-c", f"SELECT * FROM {call}") == ""


def test_what_was_opened_by_default_privileges_is_closed_again(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        *(
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO anon, PUBLIC"
            for kind in ("TABLES", "FUNCTIONS", "SCHEMAS")
        ),
    )
    for name in installation.INSTALL:
        ops.psql(empty, "-f", str(sqlfile.ROOT / "install" / f"{name}.sql"))
    open_to = (
        "SELECT (SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee <> c.relowner AND "
        "  (c.relnamespace = 'atlas_ops'::regnamespace OR c.relname = 'partition_performance'))"
        "+ (SELECT count(*) FROM pg_proc f, aclexplode(f.proacl) a WHERE a.grantee <> f.proowner AND f.pronamespace = 'public'::regnamespace)"
        "+ (SELECT count(*) FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee <> n.nspowner AND n.nspname = 'atlas_ops')"
    )
    assert ops.value(empty, open_to) == 0
    assert ops.value(
        empty, "SELECT bool_and(proacl IS NOT NULL) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )


def test_sizes_and_rows_are_true(copied: Any, ops: Any) -> None:
    with copied.connect() as conn:
        exact = conn.execute(
            "SELECT partitioned_table, partition_name, row_count, total_bytes, size FROM get_partition_sizes()"
        ).fetchall()
        guessed = conn.execute("SELECT partition_name, row_count FROM get_partition_sizes(exact := false)").fetchall()
        for _, name, rows, total, size in exact:
            known = conn.execute(
                f"SELECT count(*), pg_total_relation_size('partitions.\"{name}\"'), "
                f'pg_size_pretty(pg_total_relation_size(\'partitions."{name}"\')) FROM partitions."{name}"'
            ).fetchone()
            assert (rows, total, size) == known
    assert [(table, name, rows) for table, name, rows, *_ in exact] == [
        ('public."Note_partitioned"', "Note_2024_01", 31),
        ('public."Note_partitioned"', "Note_2024_02", 29),
        ('public."Note_partitioned"', "Note_default", 10),
    ]
    assert guessed == [(name, rows) for _, name, rows, *_ in exact]


def test_performance_has_a_line_a_partition_and_no_value_of_a_user(copied: Any, ops: Any) -> None:
    with copied.connect() as conn:
        cursor = conn.execute("SELECT * FROM partition_performance")
        columns = [column.name for column in cursor.description or ()]
        rows = cursor.fetchall()
    assert [row[1] for row in rows] == ["Note_2024_01", "Note_2024_02", "Note_default"]
    assert "secret" not in str(rows) and not {"most_common_vals", "histogram_bounds"} & set(columns)
    by_name = [dict(zip(columns, row, strict=True)) for row in rows]
    assert all(row["last_vacuum"] and row["last_analyze"] and row["dead_rows"] == 0 for row in by_name)
    # statistics only: the view reads no table of the user and none of pg_stats
    read = (
        "SELECT array_agg(DISTINCT d.refobjid::regclass::text) FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid "
        "WHERE w.ev_class = 'partition_performance'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class"
    )
    system = {"pg_class", "pg_stat_all_tables", "pg_statio_all_tables"}
    assert set(ops.value(copied, read)) - system == {"atlas_ops.partitioned_table"}


LOSSES = {
    "public.get_partition_sizes": "DROP FUNCTION get_partition_sizes(boolean)",
    "public.create_future_partitions": "DROP FUNCTION create_future_partitions(timestamptz)",
    "public.partition_performance": "DROP VIEW partition_performance",
}


@pytest.mark.parametrize("name", LOSSES)
def test_only_what_is_lost_or_old_is_installed_again(copied: Any, ops: Any, name: str) -> None:
    spec = ops.spec(table='"Note"')

    def installed_again(change: str) -> None:
        ops.run(copied, change)
        plan = ops.plan(copied, spec)
        assert [step.name for step in plan.steps] == [f"install {name}"]
        execute.execute(ops.session(copied), plan, plan.digest)
        assert ops.plan(copied, spec).steps == ()

    installed_again(LOSSES[name])
    installed_again(f"UPDATE atlas_ops.installed_object SET digest = 'older' WHERE name = '{name}'")


def test_two_tables_share_one_installation(atlas: Any, now: Any, atlas_specs: Callable[..., Any]) -> None:
    plan = now.plan(atlas, *atlas_specs())
    assert [step.name for step in plan.steps if step.name.startswith("install")] == [
        f"install {', '.join(installation.INSTALL)}"
    ]
