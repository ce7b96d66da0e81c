"""The partitioned copy on real servers: the whole plan, its result, what is left alone, kills, and hostile tables."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from atlas_ops import database, execute, migration
from atlas_ops.bounds import Every, period_of
from atlas_ops.errors import AtlasError
from atlas_ops.model import Policy, Relation
from atlas_ops.plan import Effect
from atlas_ops.settings import tables_from

FILL = (
    "INSERT INTO note (id, at) SELECT n, '2023-12-30'::timestamptz + n * interval '1 day' FROM generate_series(1, 70) n"
)
NOTE = "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text)"


# on one worker, which makes it once


@pytest.fixture(scope="module")
def migrated(server: Any, template: str, now: Any, atlas_specs: Callable[..., Any]) -> Iterator[Any]:
    """The Atlas database with both tables copied; what a test writes there it rolls back."""
    db = server.clone(template)
    now.migrate(db, *atlas_specs())
    yield db
    server.drop(db)


def dump_of(ops: Any, db: Any, table: str) -> str:
    """The table's definition, and a digest of its rows and their places: an UPDATE that changes nothing is seen."""
    digest = ops.value(db, f"SELECT md5(string_agg(t.ctid::text || t::text, ',' ORDER BY t.ctid)) FROM {table} t")
    return f"{ops.dump(db, '-s', '-t', table)}\n{digest}"


# The plan and what it makes


def literally(closed: str, only: str) -> list[str]:
    """The statements for `note` with two months, an index and a foreign key, each of them."""

    def filled(name: str, condition: str, check: str, bound: str) -> list[str]:
        at = f'"partitions"."note_{name}"'
        return [
            f'CREATE TABLE {at} (LIKE "public"."note_partitioned" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED '
            "INCLUDING STORAGE INCLUDING COMPRESSION) WITH (fillfactor=90)",
            f"REVOKE ALL ON TABLE {at} FROM {closed}",
            f"ALTER TABLE {at} ENABLE ROW LEVEL SECURITY",
            f'ALTER TABLE {at} ADD CONSTRAINT "atlas_ops_bound" CHECK ("at" IS NOT NULL AND {check})',
            f'INSERT INTO {at} ("id", "author", "at") SELECT "id", "author", "at" FROM "public"."note" WHERE {condition}',
            f'ALTER TABLE {at} ADD CONSTRAINT "note_{name}_pkey" PRIMARY KEY (id, "at")',
            f'CREATE INDEX "note_{name}_author_idx" ON {at} USING btree (author)',
            f'COMMENT ON TABLE {at} IS \'atlas_ops: rows of "public"."note" {bound.replace(chr(39), chr(39) * 2)} '
            f"WHERE {condition.replace(chr(39), chr(39) * 2)}'",
            f"ANALYZE {at}",
            f'ALTER TABLE {at} ADD CONSTRAINT "note_author_fkey" FOREIGN KEY (author) REFERENCES public.author(id) NOT VALID',
            f'DELETE FROM {at} AS p WHERE NOT EXISTS (SELECT FROM "public"."note" AS o WHERE "o"."id" = "p"."id" AND {condition})',
            f'ALTER TABLE {at} VALIDATE CONSTRAINT "note_author_fkey"',
        ]

    def attached(name: str, bound: str) -> list[str]:
        return [
            f'ALTER TABLE "public"."note_partitioned" ATTACH PARTITION "partitions"."note_{name}" {bound}',
            f'ALTER TABLE "partitions"."note_{name}" DROP CONSTRAINT IF EXISTS "atlas_ops_bound"',
        ]

    def registered(ready: str) -> str:
        return (
            "INSERT INTO atlas_ops.partitioned_table (schema_name, table_name, every, ahead, partition_schema, partition_prefix, "
            "storage_parameters, ready, keep, lock_timeout_ms) VALUES ('public', 'note_partitioned', 'month', 1, 'partitions', 'note', "
            f"'{{fillfactor=90}}', {ready}, 24, 100) ON CONFLICT (schema_name, table_name) DO UPDATE "
            "SET every = excluded.every, ahead = excluded.ahead, "
            "partition_schema = excluded.partition_schema, partition_prefix = excluded.partition_prefix, "
            "storage_parameters = excluded.storage_parameters, ready = excluded.ready, keep = excluded.keep, "
            "lock_timeout_ms = excluded.lock_timeout_ms"
        )

    january = """"at" >= '2024-01-01 00:00:00+00' AND "at" < '2024-02-01 00:00:00+00'"""
    february = """"at" >= '2024-02-01 00:00:00+00' AND "at" < '2024-03-01 00:00:00+00'"""
    rest = """("at" < '2024-01-01 00:00:00+00' OR "at" >= '2024-03-01 00:00:00+00')"""
    of_january = "FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')"
    of_february = "FOR VALUES FROM ('2024-02-01 00:00:00+00') TO ('2024-03-01 00:00:00+00')"
    return [
        'CREATE SCHEMA IF NOT EXISTS "partitions"',
        f'REVOKE ALL ON SCHEMA "partitions" FROM {closed}',
        "COMMENT ON SCHEMA \"partitions\" IS 'atlas_ops: partitions, closed to the roles of the application'",
        'CREATE TABLE "partitions"."note" (LIKE "public"."note" INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS) '
        'PARTITION BY RANGE ("at")',
        f'REVOKE ALL ON TABLE "partitions"."note" FROM {closed}',
        'ALTER TABLE "partitions"."note" ADD CONSTRAINT "note_partitioned_pkey" PRIMARY KEY (id, "at")',
        'CREATE INDEX "note_partitioned_author_idx" ON "partitions"."note" USING btree (author)',
        'ALTER TABLE "partitions"."note" ENABLE ROW LEVEL SECURITY',
        'CREATE POLICY "own" ON "partitions"."note" AS PERMISSIVE FOR SELECT TO "anon" USING ((author = 1))',
        'ALTER TABLE "partitions"."note" ADD CONSTRAINT "note_author_fkey" FOREIGN KEY (author) REFERENCES public.author(id)',
        'CREATE TRIGGER "atlas_ops_closed" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "partitions"."note" FOR EACH STATEMENT '
        "EXECUTE FUNCTION atlas_ops.refuse_application()",
        'ALTER TABLE "partitions"."note" ENABLE ALWAYS TRIGGER "atlas_ops_closed"',
        'ALTER TABLE "partitions"."note" RENAME TO "note_partitioned"',
        'ALTER TABLE "partitions"."note_partitioned" SET SCHEMA "public"',
        'GRANT SELECT ON TABLE "public"."note_partitioned" TO "anon"',
        registered("false"),
        *filled("2024_01", january, january, of_january),
        *filled("2024_02", february, february, of_february),
        *filled("default", rest, rest, "DEFAULT"),
        *attached("2024_01", of_january),
        *attached("2024_02", of_february),
        *attached("default", "DEFAULT"),
        'VACUUM (ANALYZE, SKIP_LOCKED) "partitions"."note_2024_01"',
        'VACUUM (ANALYZE, SKIP_LOCKED) "partitions"."note_2024_02"',
        'VACUUM (ANALYZE, SKIP_LOCKED) "partitions"."note_default"',
        f'ANALYZE (SKIP_LOCKED) {only}"public"."note_partitioned"',
        registered("true"),
    ]


def test_the_whole_plan_of_two_months_word_for_word_and_then_it_runs(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE author (id int PRIMARY KEY)",
        "INSERT INTO author VALUES (1)",
        "CREATE TABLE note (id bigint PRIMARY KEY, author int REFERENCES author, at timestamptz NOT NULL) WITH (fillfactor=90)",
        "CREATE INDEX ON note (author)",
        "ALTER TABLE note ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON note FOR SELECT TO anon USING (author = 1)",
        "GRANT SELECT ON note TO anon",
        FILL,
    )
    spec = ops.spec(indexes=[["author"]])
    plan = ops.plan(empty, spec, install=False)
    closed = 'PUBLIC, "anon", "authenticated", "authenticator", "service_role"'
    assert [statement for step in plan.steps for statement in step.statements] == literally(
        closed, "ONLY " if empty.version >= 18 else ""
    )
    assert plan.additive
    lines = ops.migrate(empty, spec)
    assert sum(line.rows for line in lines if line.step.startswith("copy")) == ops.prove(empty, spec) == 70
    assert ops.bounds(empty) == {
        "note_2024_01": "FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')",
        "note_2024_02": "FOR VALUES FROM ('2024-02-01 00:00:00+00') TO ('2024-03-01 00:00:00+00')",
        "note_default": "DEFAULT",
    }
    counted = "SELECT count(*) FROM partitions.note_"
    assert [ops.value(empty, counted + name) for name in ("2024_01", "2024_02", "default")] == [31, 29, 10]


def open_to_the_application(db: Any, now: Any, atlas_specs: Callable[..., Any]) -> None:
    """As 06 does it: a copy that follows nothing is closed until then."""
    for spec in atlas_specs(cut_over="side_by_side"):
        now.cut_over(db, spec)


def test_both_ways_of_copying_leave_the_same_catalogs(
    migrated: Any, atlas: Any, now: Any, atlas_specs: Callable[..., Any], tmp_path: Path
) -> None:
    whole = atlas_specs(copy="single_transaction")
    path = tmp_path / "migration.sql"
    path.write_text(migration.migration_file([now.plan(atlas, *whole)]), encoding="utf-8")
    now.psql(atlas, "-1", "-f", str(path), PGTZ="America/New_York", PGCLIENTENCODING="LATIN1")
    assert now.plan(atlas, *whole).steps == ()
    assert now.plan(atlas, *atlas_specs()).steps == ()
    open_to_the_application(migrated, now, atlas_specs)
    one, two = (now.dump(db, "--schema-only").splitlines() for db in (migrated, atlas))
    assert sum(line.startswith("ALTER TABLE ONLY public.messages_partitioned ATTACH") for line in one) == 39
    assert one == two
    assert now.prove(migrated, *atlas_specs()) == now.prove(atlas, *whole) == 9_000
    registered = "SELECT string_agg(t::text, ';' ORDER BY table_name) FROM atlas_ops.partitioned_table t"
    assert now.value(migrated, registered) == now.value(atlas, registered)


def test_the_originals_stay_as_they_were(migrated: Any, atlas: Any, now: Any) -> None:
    for table in ("public.messages", "public.usage_logs", "public.conversations"):
        assert dump_of(now, migrated, table) == dump_of(now, atlas, table)


# Kills


CHILD = """
import json, sys
from dataclasses import replace
from datetime import date
from atlas_ops import catalog, database, division, execute, migration
from atlas_ops.settings import tables_from
conninfo, tables, as_of, waits = json.loads(sys.argv[1])
where = database.Session("test", conninfo, "test")
[spec] = tables_from(tables)
with database.connect(where) as conn:
    snapshot = catalog.snapshot(conn, spec, division.names_needed(spec, date.fromisoformat(as_of)))
plan = migration.plan_migration(spec, snapshot, date.fromisoformat(as_of))

def told(done, total, label):
    print(done, total, label, flush=True)
    if label == waits:
        sys.stdin.readline()

execute.execute(where, plan, plan.digest, told)
"""
MESSAGES = {
    "table": "messages", "partition_key": "created_at", "from": "2026-01-01", "until": "2027-01-01",
    "null_keys": "set_aside", "lock_timeout": "60s",
}  # fmt: skip
COPIES = [f"copy messages_2026_{month:02}" for month in range(1, 11)]


@contextmanager
def stopped_in_a_copy(db: Any, now: Any, after: str) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own that has done `after` and now waits inside of the next copy steps."""
    arguments = json.dumps([db.conninfo, [MESSAGES], now.as_of.isoformat(), after])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        for line in child.stdout:
            if line.rstrip().endswith(" " + after):
                break
        else:
            pytest.fail(f"it ended before {after}: {child.communicate()[1]}")
        with psycopg.connect(db.superuser_conninfo) as blocker:
            # granted as soon as no copy reads: the next ones have made their table and wait for their rows
            blocker.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            child.stdin.write("\n")
            child.stdin.flush()
            wait_until(lambda: waiting_pids(db) != [])
            yield child
    finally:
        child.kill()
        child.communicate()


def waiting_pids(db: Any) -> list[int]:
    with psycopg.connect(db.superuser_conninfo, autocommit=True) as conn:
        found = conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
            "AND application_name LIKE 'atlas_ops%'"
        ).fetchall()
    return [pid for (pid,) in found]


def wait_until(reached: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def nothing_is_left_over(db: Any, now: Any) -> None:
    """As many tables as parts, no CHECK of ours, no backend of ours."""
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relkind = 'r'"
    assert now.value(db, tables) == 17, "with the key log"
    assert now.value(db, "SELECT count(*) FROM pg_constraint WHERE conname = 'atlas_ops_bound'") == 0
    ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'atlas_ops%'"
    wait_until(lambda: now.value(db, ours) == 0)


def test_rows_that_a_cascade_took_while_they_were_copied_do_not_stop_the_check(empty: Any, ops: Any) -> None:
    """Copied, but their foreign keys not checked yet, when the row they refer to is deleted."""
    ops.run(
        empty,
        "CREATE TABLE author (id int PRIMARY KEY)",
        "INSERT INTO author VALUES (1), (2)",
        "CREATE TABLE note (id bigint PRIMARY KEY, author int REFERENCES author ON DELETE CASCADE, at timestamptz NOT NULL)",
        FILL,
        "UPDATE note SET author = 1 + id % 2",
    )
    spec = ops.spec()
    plan = ops.plan(empty, spec)
    copied = replace(plan, steps=tuple(s for s in plan.steps if s.name.split()[0] in ("install", "build", "copy")))
    execute.execute(ops.session(empty), copied, copied.digest)
    ops.run(empty, "DELETE FROM author WHERE id = 2")
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == ops.value(empty, "SELECT count(*) FROM note") == 35


def test_a_run_killed_in_the_middle_of_a_copy_is_completed_by_the_next(atlas: Any, now: Any) -> None:
    after = random.choice(COPIES)
    [spec] = tables_from([MESSAGES])
    with stopped_in_a_copy(atlas, now, after) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        now.value(
            atlas,
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE pid = ANY (%s)",
            waiting_pids(atlas),
        )
    left = now.plan(atlas, spec)
    names = [step.name for step in left.steps]
    assert (
        after not in names
        and f"copy {spec.null_keys_name}" in names
        and "build public.messages_partitioned" not in names
    )
    now.migrate(atlas, spec)
    assert now.prove(atlas, spec) == 4_000
    nothing_is_left_over(atlas, now)


def test_a_backend_that_is_terminated_ends_the_run_and_the_next_completes_it(atlas: Any, now: Any) -> None:
    after = random.choice(COPIES)
    [spec] = tables_from([MESSAGES])
    with stopped_in_a_copy(atlas, now, after) as child:
        now.value(atlas, "SELECT pg_terminate_backend(%s, 5000)", waiting_pids(atlas)[0])
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 1 and "57P01" in errors and "Run again" in errors, after
    now.migrate(atlas, spec)
    assert now.prove(atlas, spec) == 4_000
    nothing_is_left_over(atlas, now)


def test_an_interrupted_run_that_goes_on_in_another_month_copies_anew_what_has_other_bounds(
    empty: Any, ops: Any
) -> None:
    ops.run(empty, NOTE, FILL.replace("70", "140"))
    spec = ops.spec()
    plan = ops.plan(empty, spec)
    cut = replace(
        plan, steps=tuple(step for step in plan.steps if not step.name.startswith(("attach", "finish", "vacuum")))
    )
    execute.execute(ops.session(empty), cut, cut.digest)
    later = replace(ops, as_of=date(2024, 2, 20))  # one month more, whose rows the first run took for the rest
    again = later.plan(empty, spec)
    assert [step.name for step in again.steps if step.effect is Effect.REMOVES] == ["copy note_default"]
    later.migrate(empty, spec)
    assert later.prove(empty, spec) == 140
    assert ops.value(empty, "SELECT count(*) FROM partitions.note_2024_03") == 31
    # once it is whole nothing is dropped any more, whatever the day
    assert not any(
        step.effect is Effect.REMOVES for step in replace(ops, as_of=date(2024, 5, 1)).plan(empty, spec).steps
    )


# Rows without a key, and out of range


NULLS = (
    "CREATE TABLE note (id int PRIMARY KEY, at timestamptz, edited timestamptz)",
    "INSERT INTO note VALUES (1, '2024-01-05', NULL), (2, NULL, '2024-02-05'), (3, NULL, '2030-01-01'), (4, NULL, NULL), "
    "(5, '2024-02-29', NULL)",
)


def test_rows_without_a_key_are_refused_unless_told_otherwise(empty: Any, ops: Any) -> None:
    ops.run(empty, *NULLS)
    assert ops.reds(empty, ops.spec()) == ["null keys"]
    assert ops.reds(empty, ops.spec(null_keys={"value": "edited"})) == ["null keys"]
    [red] = [check for check in ops.checks(empty, ops.spec(null_keys={"value": "edited"})) if check.name == "null keys"]
    assert "3 rows have no at; 1 get none" in red.what
    # a plan forced past the preflight stops at the row; it does not lose it
    plan = ops.plan(empty, ops.spec(copy="single_transaction", null_keys={"value": "edited"}))
    execute.execute(ops.session(empty), plan, plan.digest)
    with pytest.raises(AssertionError, match="no key"):
        ops.prove(empty, ops.spec(null_keys={"value": "edited"}))


@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
def test_rows_without_a_key_are_set_aside(empty: Any, ops: Any, copy: str) -> None:
    ops.run(empty, *NULLS)
    spec = ops.spec(null_keys="set_aside", copy=copy)
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 5
    assert ops.value(empty, "SELECT array_agg(id ORDER BY id) FROM partitions.note_null_keys") == [2, 3, 4]
    assert ops.value(empty, "SELECT array_agg(id ORDER BY id) FROM note_partitioned") == [1, 5]


@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
def test_rows_without_a_key_get_one_from_an_expression(empty: Any, ops: Any, copy: str) -> None:
    ops.run(empty, *NULLS)
    spec = ops.spec(null_keys={"value": "coalesce(edited, '2024-01-31 23:59:59.999999+00')"}, copy=copy)
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 5
    places = "SELECT string_agg(id || ' ' || tableoid::regclass, ', ' ORDER BY id) FROM note_partitioned"
    assert ops.value(empty, places) == (
        "1 partitions.note_2024_01, 2 partitions.note_2024_02, 3 partitions.note_default, 4 partitions.note_2024_01, "
        "5 partitions.note_2024_02"
    )
    assert ops.value(empty, "SELECT count(*) FROM note WHERE at IS NULL") == 3


def test_rows_out_of_range_need_a_default_partition(empty: Any, ops: Any) -> None:
    ops.run(empty, NOTE, "INSERT INTO note VALUES (1, '2023-12-31 23:59:59.999999+00'), (2, '2024-03-01 00:00:00+00')")
    spec = ops.spec(default_partition=False)
    assert ops.reds(empty, spec) == ["out of range"]
    [red] = [check for check in ops.checks(empty, spec) if check.name == "out of range"]
    assert red.what.startswith("1 rows lie before the first partition, 1 after the last")
    ops.run(empty, "UPDATE note SET at = 'infinity' WHERE id = 1", "DELETE FROM note WHERE id = 2")
    assert set(ops.reds(empty, spec)) == {"infinite keys", "out of range"}
    ops.run(empty, "UPDATE note SET at = '2024-01-01 00:00:00+00'")
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 1
    assert set(ops.bounds(empty)) == {"note_2024_01", "note_2024_02"}


# Columns and keys of every kind


@pytest.mark.parametrize(
    ("kind", "copy"), [("ALWAYS", "by_partition"), ("ALWAYS", "single_transaction"), ("BY DEFAULT", "by_partition")]
)
def test_identities_go_on_numbering(empty: Any, ops: Any, kind: str, copy: str) -> None:
    ops.run(
        empty,
        f"CREATE TABLE note (id int GENERATED {kind} AS IDENTITY (START WITH 10 INCREMENT BY 5) PRIMARY KEY, at timestamptz)",
        "INSERT INTO note (at) SELECT '2024-01-30'::timestamptz + n * interval '1 day' FROM generate_series(1, 4) n",
    )
    spec = ops.spec(copy=copy)
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 4
    insert = "INSERT INTO {} (at) VALUES ('2024-01-01') RETURNING id"
    with empty.connect(autocommit=True) as conn:
        assert conn.execute(insert.format("note_partitioned")).fetchone() == (30,)
        assert conn.execute(insert.format("note_partitioned")).fetchone() == (35,)
        assert conn.execute(insert.format("note")).fetchone() == (30,), "the original has a sequence of its own"
    copied = ops.relation(empty, "public", "note_partitioned").column("id")
    assert copied is not None and copied.identity == kind[0].lower().replace("b", "d")
    assert copied.sequence == "public.note_partitioned_id_seq"


def test_a_serial_shares_its_sequence(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE note (id serial PRIMARY KEY, at timestamptz)",
        "INSERT INTO note (at) VALUES ('2024-01-01')",
    )
    ops.migrate(empty, ops.spec())
    insert = "INSERT INTO {} (at) VALUES ('2024-01-02') RETURNING id"
    with empty.connect(autocommit=True) as conn:
        assert conn.execute(insert.format("note_partitioned")).fetchone() == (2,)
        assert conn.execute(insert.format("note")).fetchone() == (3,)


@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
def test_generated_columns_are_computed_again(empty: Any, ops: Any, copy: str) -> None:
    virtual = ", seen text GENERATED ALWAYS AS (upper(body)) VIRTUAL" if empty.version >= 18 else ""
    ops.run(
        empty,
        "CREATE TABLE note (id bigint PRIMARY KEY, twice bigint GENERATED ALWAYS AS (id * 2) STORED, at timestamptz NOT NULL, body text"
        + virtual + ")",
        FILL,
        "UPDATE note SET body = 'x' || id",
    )  # fmt: skip
    spec = ops.spec(copy=copy)
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 70
    ops.run(empty, "INSERT INTO note_partitioned (id, at, body) VALUES (700, '2024-02-02', 'y')")
    assert ops.value(empty, "SELECT twice FROM note_partitioned WHERE id = 700") == 1400
    if virtual:
        assert ops.value(empty, "SELECT seen FROM note_partitioned WHERE id = 700") == "Y"


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("tenant int, n bigint, at timestamptz, PRIMARY KEY (tenant, n)", "PRIMARY KEY (tenant, n, at)"),
        ("n bigint, at timestamptz, PRIMARY KEY (at, n)", "PRIMARY KEY (at, n)"),
        (
            "n bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, at timestamptz",
            "PRIMARY KEY (n, at) DEFERRABLE INITIALLY DEFERRED",
        ),
    ],
)
@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
def test_primary_keys_of_every_shape(empty: Any, ops: Any, columns: str, key: str, copy: str) -> None:
    ops.run(
        empty,
        f"CREATE TABLE note ({columns})",
        "INSERT INTO note (n, at) SELECT n, '2023-12-31'::timestamptz + n * interval '9 days' FROM generate_series(1, 9) n"
        if "tenant" not in columns
        else "INSERT INTO note SELECT n % 2, n, '2023-12-31'::timestamptz + n * interval '9 days' FROM generate_series(1, 9) n",
    )
    spec = ops.spec(copy=copy)
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 9
    found = ops.relation(empty, "public", "note_partitioned").primary_key
    assert found is not None and found.definition == key


def test_unique_keys_get_weaker_only_where_the_specification_says_so(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE note (id int PRIMARY KEY, at timestamptz, mail text UNIQUE NULLS NOT DISTINCT, body text)",
        "CREATE UNIQUE INDEX once ON note (body DESC NULLS LAST) INCLUDE (mail)",
        "INSERT INTO note VALUES (1, '2024-01-05', 'a', 'x'), (2, '2024-02-05', NULL, 'y')",
    )
    assert ops.reds(empty, ops.spec()) == ["uniqueness", "uniqueness"]
    spec = ops.spec(unique_without_key="add_key")
    ops.migrate(empty, spec)
    found = ops.relation(empty, "public", "note_partitioned")
    assert {index.tail for index in found.indexes if not index.primary} == {
        "USING btree (mail, at) NULLS NOT DISTINCT",
        "USING btree (body DESC NULLS LAST, at) INCLUDE (mail)",
    }
    ops.run(
        empty,
        "CREATE UNIQUE INDEX ON note (lower(body))",
        "DROP TABLE note_partitioned",
    )
    assert ops.reds(empty, spec) == ["uniqueness"]


@pytest.mark.parametrize(
    ("every", "until", "suffixes", "key"),
    [
        ("day", "2024-01-03", ["2024_01_01", "2024_01_02"], "date"),
        ("day", "2024-01-03", ["2024_01_01", "2024_01_02"], "timestamptz"),
        ("week", "2024-01-15", ["2024w01", "2024w02"], "timestamp"),
        ("month", "2024-03-01", ["2024_01", "2024_02"], "date"),
        ("month", "2024-03-01", ["2024_01", "2024_02"], "timestamp"),
        ("quarter", "2024-07-01", ["2024q1", "2024q2"], "timestamptz"),
        ("year", "2026-01-01", ["2024", "2025"], "date"),
    ],
)
def test_periods_and_key_types(empty: Any, ops: Any, every: str, until: str, suffixes: list[str], key: str) -> None:
    ops.run(
        empty,
        f"CREATE TABLE note (id int PRIMARY KEY, at {key} NOT NULL)",
        "INSERT INTO note SELECT n, '2023-11-30'::timestamp + n * interval '5 days 7 hours' FROM generate_series(1, 200) n",
    )
    day = replace(ops, as_of=date(2024, 1, 1))
    spec = ops.spec(every=every, until=until)
    day.migrate(empty, spec)
    assert day.prove(empty, spec) == 200
    assert list(ops.bounds(empty)) == [f"note_{suffix}" for suffix in [*suffixes, "default"]]
    lower = period_of(Every(every), date(2024, 1, 1)).lower
    written = {"date": "2024-01-01", "timestamp": "2024-01-01 00:00:00", "timestamptz": "2024-01-01 00:00:00+00"}[key]
    assert (
        lower == datetime(2024, 1, 1, tzinfo=UTC) and f"FROM ('{written}')" in ops.bounds(empty)[f"note_{suffixes[0]}"]
    )
    # the function goes on where the plan ended: one more period, by the same rule
    ops.run(empty, "DELETE FROM partitions.note_default")
    following = period_of(Every(every), date.fromisoformat(until))
    with empty.connect(autocommit=True, options="-c TimeZone=Asia/Kathmandu -c DateStyle=German") as conn:
        made = conn.execute(
            "SELECT partition_name FROM create_future_partitions(%s)", (following.previous().lower,)
        ).fetchall()
    assert made == [(f"note_{following.suffix}",)]
    assert (spec.partition_name(following)) in ops.bounds(empty)


# Hostile names


HOSTILE = [
    ("public", "MixedCase", "At"),
    ("public", 'a"b', 'c"d'),
    ("public", "select", "order"),
    ("public", "'; DROP TABLE author; --", "'; DROP TABLE author; --"),
    ("public", "Größe 東京", "wörn"),
    ("My Schema", "100% {braces} \\n", "%s"),
    ("app", "note", "here"),
    ("app", "n" * 51, "k" * 63),
]


@pytest.mark.parametrize(
    ("schema", "table", "key", "copy"),
    [*((*names, "by_partition") for names in HOSTILE), *((*names, "file") for names in HOSTILE[3:6])],
)
def test_hostile_names(empty: Any, ops: Any, schema: str, table: str, key: str, copy: str, tmp_path: Path) -> None:
    at, column = sql.Identifier(schema, table), sql.Identifier(key)
    own = sql.Identifier(f"x ON {schema}.{table} USING"[:50])
    with empty.connect(autocommit=True) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        conn.execute("CREATE TABLE author (id int PRIMARY KEY)")
        for statement in (
            "CREATE TABLE {at} (r int, o int, p text, {key} timestamptz, "
            + ("" if key == "here" else "here text, ")
            + "PRIMARY KEY (r, o))",
            "CREATE INDEX {own} ON {at} ({key}, p) WHERE p <> ' USING '",
            "INSERT INTO {at} (r, o, p, {key}) SELECT n, 1, 'p', '2023-12-25'::timestamptz + n * interval '1 day' FROM generate_series(1, 80) n",
            "ALTER TABLE {at} ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY {own} ON {at} USING (EXISTS (SELECT FROM public.author a WHERE a.id = {at}.r))",
            "CREATE TRIGGER {own} BEFORE UPDATE ON {at} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "COMMENT ON TABLE {at} IS $$it's \\ {{here}} %s$$",
        ):
            conn.execute(sql.SQL(statement).format(at=at, key=column, own=own))
    quoted = '"{}"."{}"'.format(schema.replace('"', '""'), table.replace('"', '""'))
    spec = ops.spec(
        table=quoted,
        partition_key='"{}"'.format(key.replace('"', '""')),
        copy="by_partition" if copy == "by_partition" else "single_transaction",
        indexes=[["o"], ["p"]],
        null_keys="set_aside",
    )
    if copy == "by_partition":
        ops.migrate(empty, spec)
    else:
        path = tmp_path / "m.sql"
        path.write_text(migration.migration_file([ops.plan(empty, spec)]), encoding="utf-8")
        ops.psql(empty, "-1", "-f", str(path))
        assert ops.plan(empty, spec).steps == ()
    assert ops.prove(empty, spec) == 80
    assert ops.value(empty, "SELECT to_regclass('author') IS NOT NULL")
    carried(ops.relation(empty, schema, table), ops.relation(empty, schema, spec.partitioned_name), key)


@pytest.mark.parametrize("length", [52, 53, 54, 63])
def test_names_that_would_be_cut_are_refused_before_anything_is_made(empty: Any, ops: Any, length: int) -> None:
    table = "n" * length
    ops.run(empty, NOTE.replace("note", table))
    with pytest.raises(AtlasError, match="bytes long"):
        ops.plan(empty, ops.spec(table=table))
    assert ops.value(empty, "SELECT to_regnamespace('partitions') IS NULL AND to_regnamespace('atlas_ops') IS NULL")


# What hangs on a table


def carried(original: Relation, copy: Relation, key: str) -> None:
    """Everything but storage: by the catalogs of both."""
    assert [replace(c, not_null=True, sequence=None, default_sequence=None) for c in copy.columns] == [
        replace(c, not_null=True, sequence=None, default_sequence=None) for c in original.columns
    ]
    assert [c.name for c in copy.columns if not c.not_null] == [
        c.name for c in original.columns if not c.not_null and c.name != key
    ]

    def policies(relation: Relation) -> list[Policy]:
        # an expression that calls the table by its name calls the copy by its own
        table = relation.table.name
        quoted = '"{}".'.format(table.replace('"', '""'))
        return [
            replace(policy, using=(policy.using or "").replace(quoted, "?.").replace(f"{table}.", "?."))
            for policy in relation.policies
        ]

    assert policies(copy) == policies(original)
    assert copy.grants == original.grants
    assert copy.triggers == original.triggers
    assert copy.publications == original.publications

    def constraints(relation: Relation) -> list[tuple[object, ...]]:
        return [(c.name, c.definition, c.validated) for c in relation.constraints if c.kind in "fc"]

    assert constraints(copy) == constraints(original)
    for field in ("row_security", "force_row_security", "replica_identity", "comment", "owner"):
        assert getattr(copy.table, field) == getattr(original.table, field), field
    plain = {index.tail for index in original.indexes if not index.unique}
    assert plain <= {index.tail for index in copy.indexes}


EVERYTHING = (
    "CREATE SCHEMA app",
    "CREATE TABLE app.author (id int PRIMARY KEY)",
    "CREATE FUNCTION app.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TABLE app.note (id bigint PRIMARY KEY, author int DEFAULT 7, at timestamptz DEFAULT now(), body text COLLATE \"C\" NOT NULL, "
    "size int GENERATED ALWAYS AS (length(body)) STORED, CONSTRAINT \"it's\" CHECK (body <> 'a'';b'))",
    "ALTER TABLE app.note ADD CONSTRAINT fk FOREIGN KEY (author) REFERENCES app.author ON UPDATE CASCADE ON DELETE SET NULL "
    "DEFERRABLE INITIALLY DEFERRED",
    "ALTER TABLE app.note ALTER body SET STORAGE EXTERNAL, ALTER body SET COMPRESSION pglz",
    "CREATE STATISTICS app.both ON author, at FROM app.note",
    "CREATE INDEX ON app.note (at DESC) WHERE body IS NOT NULL",
    "CREATE INDEX ON app.note (lower(body), (author + 1))",
    "CREATE TRIGGER a_before BEFORE INSERT OR UPDATE OF body, \"at\" ON app.note FOR EACH ROW WHEN (NEW.body <> ' ON app.note ') "
    "EXECUTE FUNCTION app.noted('x', 'it''s')",
    "CREATE CONSTRAINT TRIGGER b_constraint AFTER DELETE ON app.note DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.noted()",
    "CREATE TRIGGER c_statement AFTER UPDATE ON app.note REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION app.noted()",
    "CREATE TRIGGER d_truncate AFTER TRUNCATE ON app.note FOR EACH STATEMENT EXECUTE FUNCTION app.noted()",
    "ALTER TABLE app.note DISABLE TRIGGER a_before",
    "ALTER TABLE app.note ENABLE REPLICA TRIGGER b_constraint",
    "ALTER TABLE app.note ENABLE ALWAYS TRIGGER d_truncate",
    "ALTER TABLE app.note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "CREATE POLICY own ON app.note FOR SELECT TO anon, authenticated USING (EXISTS (SELECT FROM app.author a WHERE a.id = note.author))",
    "CREATE POLICY never ON app.note AS RESTRICTIVE USING (body <> 'x') WITH CHECK (body <> 'y')",
    "CREATE POLICY add ON app.note FOR INSERT TO PUBLIC WITH CHECK (true)",
    "GRANT SELECT, INSERT ON app.note TO anon WITH GRANT OPTION",
    "GRANT SELECT ON app.note TO PUBLIC",
    "GRANT UPDATE (body), REFERENCES (id) ON app.note TO authenticated",
    "GRANT UPDATE (at) ON app.note TO authenticated WITH GRANT OPTION",
    "ALTER TABLE app.note REPLICA IDENTITY FULL",
    "CREATE PUBLICATION by_name FOR TABLE app.note (id, author, at, body) WHERE (author = 1) WITH (publish_via_partition_root)",
    "COMMENT ON TABLE app.note IS 'Notes; -- not a comment'",
    "COMMENT ON COLUMN app.note.body IS 'What was written'",
    "INSERT INTO app.author VALUES (1), (7)",
    "INSERT INTO app.note (id, author, at, body) SELECT n, 1, '2023-12-30'::timestamptz + n * interval '1 day', 'b' FROM generate_series(1, 70) n",
)  # fmt: skip


@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
def test_everything_that_hangs_on_a_table_is_carried(empty: Any, ops: Any, copy: str) -> None:
    ops.run(empty, *EVERYTHING)
    before = ops.dump(empty, "-s", "-t", "app.note")
    spec = ops.spec(table="app.note", copy=copy)
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 70
    original, partitioned = ops.relation(empty, "app", "note"), ops.relation(empty, "app", "note_partitioned")
    carried(original, partitioned, "at")
    assert len(original.triggers) == 4 and {t.enabled for t in original.triggers} == set("DRAO")
    assert ops.dump(empty, "-s", "-t", "app.note") == before
    # a partition has what is not inherited, and nothing of what would open it
    for name in ops.bounds(empty):
        part = ops.relation(empty, "partitions", name)
        assert (part.table.row_security, part.table.replica_identity, part.grants, part.policies) == (True, "f", (), ())
        assert [t.enabled for t in part.triggers] == [t.enabled for t in original.triggers if t.row_level]
    stored = "SELECT attstorage::text || attcompression::text FROM pg_attribute WHERE attname = 'body' AND attrelid = %s::regclass"
    assert ops.value(empty, stored, "partitions.note_2024_01") == ops.value(empty, stored, "app.note") == "ep"


def test_the_atlas_tables_carry_everything(migrated: Any, now: Any, atlas_specs: Callable[..., Any]) -> None:
    for spec in atlas_specs():
        original = now.relation(migrated, "public", spec.name)
        carried(original, now.relation(migrated, "public", spec.partitioned_name), spec.partition_key)
        for name in now.bounds(migrated):
            if name.startswith(f"{spec.name}_"):
                part = now.relation(migrated, "partitions", name)
                assert part.table.storage_parameters == original.table.storage_parameters
                assert part.table.replica_identity == original.table.replica_identity


def test_another_owner_keeps_his_table_and_the_runner_his_grant(empty: Any, ops: Any) -> None:
    owner = f"owner_{ops.value(empty, 'SELECT oid FROM pg_database WHERE datname = current_database()')}"
    ops.run(
        empty,
        f"CREATE ROLE {owner}",
        f"GRANT {owner} TO postgres",
        f"GRANT CREATE ON SCHEMA public TO {owner}",
        "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT now())",
        f"ALTER TABLE note OWNER TO {owner}",
        "GRANT SELECT, UPDATE ON note TO postgres",
    )
    try:
        ops.migrate(empty, ops.spec())
        carried(ops.relation(empty, "public", "note"), ops.relation(empty, "public", "note_partitioned"), "at")
        owners = (
            "SELECT array_agg(DISTINCT relowner::regrole::text) FROM pg_class WHERE relkind = 'r' AND relispartition"
        )
        assert ops.value(empty, owners) == [owner]
        ops.run(empty, "SELECT create_future_partitions('2024-06-15')")
        assert ops.value(empty, owners) == [owner] and len(ops.bounds(empty)) == 8, "gaps are filled"
    finally:
        ops.run(empty, f"DROP OWNED BY {owner} CASCADE", f"DROP ROLE {owner}")


def test_a_publication_of_some_rows_is_refused_before_anything_is_made(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        NOTE,
        "CREATE PUBLICATION certain FOR TABLE note WHERE (id > 5)",
        "ALTER TABLE note REPLICA IDENTITY FULL",
    )
    assert ops.reds(empty, ops.spec()) == ["publication"]
    [red] = [check for check in ops.checks(empty, ops.spec()) if check.name == "publication" and check.sql]
    ops.run(empty, red.sql)
    ops.migrate(empty, ops.spec())
    carried(ops.relation(empty, "public", "note"), ops.relation(empty, "public", "note_partitioned"), "at")


def test_constraints_a_partitioned_table_cannot_have_are_refused(empty: Any, ops: Any) -> None:
    ops.run(empty, NOTE, "ALTER TABLE note ADD CHECK (body <> '') NO INHERIT")
    assert ops.reds(empty, ops.spec()) == ["constraint"]
    ops.run(empty, "ALTER TABLE note DROP CONSTRAINT note_body_check", "ALTER TABLE note ADD EXCLUDE (id WITH =)")
    assert ops.reds(empty, ops.spec())[0] == "exclusion constraint"
    ops.run(
        empty,
        FILL,  # no author is there: on 18 the copy is as unvalidated as the original
        "ALTER TABLE note DROP CONSTRAINT note_id_excl",
        "CREATE TABLE author (id bigint PRIMARY KEY)",
        "ALTER TABLE note ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES author NOT VALID",
    )
    if empty.version < 18:
        assert ops.reds(empty, ops.spec()) == ["unvalidated"]
    else:
        ops.migrate(empty, ops.spec())
        carried(ops.relation(empty, "public", "note"), ops.relation(empty, "public", "note_partitioned"), "at")


# Time zones


@pytest.mark.parametrize("zone", ["Africa/Johannesburg", "America/New_York"])
def test_no_time_zone_changes_a_bound_or_a_digest(
    empty: Any, ops: Any, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops.run(
        empty,
        "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2024-01-01 00:00:00+00', body text)",
        "CREATE INDEX ON note (id) WHERE at >= '2024-01-01 00:00:00+00'",
        "ALTER TABLE note ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY old ON note USING (at < '2024-01-01 00:00:00+00')",
        FILL,
        "INSERT INTO note VALUES (901, '2024-02-01 00:00:00+00'), (902, '2024-01-31 23:59:59.999999+00')",
    )
    spec = ops.spec()
    plain = ops.plan(empty, spec)
    name = ops.value(empty, "SELECT current_database()")
    for statement in (
        f"ALTER DATABASE {name} SET timezone = '{zone}'",
        f"ALTER ROLE postgres IN DATABASE {name} SET timezone = '{zone}'",
        f"ALTER ROLE postgres IN DATABASE {name} SET datestyle = 'German'",
    ):
        ops.run(empty, statement)
    monkeypatch.setenv("PGTZ", zone)
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    assert ops.plan(empty, spec).digest == plain.digest
    ops.migrate(empty, spec)
    assert ops.prove(empty, spec) == 72
    assert (
        ops.bounds(empty)["note_2024_02"] == "FOR VALUES FROM ('2024-02-01 00:00:00+00') TO ('2024-03-01 00:00:00+00')"
    )
    assert (
        ops.value(empty, "SELECT tableoid::regclass::text FROM note_partitioned WHERE id = 901")
        == "partitions.note_2024_02"
    )
    assert (
        ops.value(empty, "SELECT tableoid::regclass::text FROM note_partitioned WHERE id = 902")
        == "partitions.note_2024_01"
    )


# The gate


ATTEMPTS = (
    "SELECT * FROM {at}",
    "INSERT INTO {at} DEFAULT VALUES",
    "UPDATE {at} SET {column} = {column}",
    "DELETE FROM {at}",
    "TRUNCATE {at}",
)


def test_partitions_and_our_own_objects_are_closed_to_the_application(migrated: Any) -> None:
    relations = (
        "SELECT format('%%I.%%I', n.nspname, c.relname), (SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'v') ORDER BY 1"
    )
    tried = 0
    with migrated.connect() as conn:
        names = dict(conn.execute(relations, (["partitions", "atlas_ops"],)).fetchall())
        assert len(names) == 40 + 39 + 4, "messages with its rows set aside, usage_logs, and our four tables"
        for role in ("anon", "authenticated"):
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            for name, column in names.items():
                for attempt in (statement.format(at=name, column=column) for statement in ATTEMPTS):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                        conn.execute(attempt)
                    tried += 1
            for attempt in (
                "SELECT * FROM public.partition_performance",
                "SELECT * FROM public.get_partition_sizes()",
                "SELECT * FROM public.create_future_partitions()",
                "CREATE TABLE partitions.mine (id int)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                    conn.execute(attempt)
            conn.execute("RESET ROLE")
    assert tried == 2 * 5 * len(names)


def test_a_partition_is_closed_even_in_a_schema_that_was_opened(migrated: Any) -> None:
    with migrated.connect() as conn:
        conn.execute("GRANT USAGE ON SCHEMA partitions TO anon, authenticated")
        for role in ("anon", "authenticated"):
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            for name in ("messages_2024_05", "messages_default", "messages_null_keys"):
                for statement in ATTEMPTS:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                        conn.execute(statement.format(at=f"partitions.{name}", column="id"))
            conn.execute("RESET ROLE")
        conn.rollback()


def test_the_application_sees_through_the_partitioned_table_what_it_sees_through_the_original(
    migrated: Any, now: Any, atlas_specs: Callable[..., Any]
) -> None:
    open_to_the_application(migrated, now, atlas_specs)
    busiest = "SELECT conversation_id FROM messages GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    owner = f"SELECT user_id, id FROM conversations WHERE id = ({busiest})"
    seen = "SELECT array_agg(id ORDER BY id) FROM {} WHERE created_at IS NOT NULL"
    counts = {}
    with migrated.connect() as conn:
        mine = conn.execute(owner).fetchone()
        assert mine is not None
        user, conversation = mine
        [(stranger,)] = conn.execute("SELECT id FROM conversations WHERE user_id <> %s LIMIT 1", (user,)).fetchall()
        for role in ("anon", "authenticated", "service_role"):
            with conn.transaction(force_rollback=True):
                conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                claims = json.dumps({"sub": str(user), "role": role})
                conn.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
                for table in ("messages", "usage_logs"):
                    one, two = (conn.execute(seen.format(name)).fetchone() for name in (table, f"{table}_partitioned"))
                    assert one == two and one is not None
                    counts[role, table] = len(one[0] or [])
                for table in ("messages", "messages_partitioned"):
                    insert = f"INSERT INTO {table} (conversation_id, user_id, role, content) VALUES (%s, %s, 'user', 'hello')"
                    with conn.transaction():
                        conn.execute(insert, (conversation, user))
                    if role != "service_role":
                        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
                            conn.execute(insert, (stranger, None))
                    changed = conn.execute(
                        f"UPDATE {table} SET edited_at = now() WHERE conversation_id = %s", (stranger,)
                    )
                    assert (changed.rowcount > 0) is (role == "service_role")
    assert 0 < counts["authenticated", "messages"] < counts["service_role", "messages"]


# The function that makes what will be needed


CARE = (
    "CREATE TABLE author (id int PRIMARY KEY)",
    "INSERT INTO author VALUES (1)",
    "CREATE TABLE note (id bigint PRIMARY KEY, author int DEFAULT 1 REFERENCES author, at timestamptz NOT NULL, body text) "
    "WITH (fillfactor=80, autovacuum_vacuum_scale_factor=0.05)",
    "CREATE INDEX ON note (author)",
    "ALTER TABLE note ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE note REPLICA IDENTITY FULL",
    "CREATE TRIGGER redundant BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "GRANT ALL ON note TO anon",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, PUBLIC",
    "INSERT INTO note (id, at) VALUES (1, '2024-01-05'), (2, '2024-02-05')",
)


@pytest.fixture
def care(empty: Any, ops: Any) -> Any:
    """`note`, copied: January, February and the default partition, under the care of the function."""
    ops.run(empty, *CARE)
    ops.migrate(empty, ops.spec())
    return empty


def made(db: Any, as_of: str) -> list[str]:
    with psycopg.connect(db.conninfo, autocommit=True) as conn:
        return [name for (name,) in conn.execute("SELECT partition_name FROM create_future_partitions(%s)", (as_of,))]


def test_future_partitions_are_made_once_for_every_month_that_comes(care: Any, ops: Any) -> None:
    assert made(care, "2024-01-15") == []
    assert made(care, "2024-02-15") == ["note_2024_03"]
    assert made(care, "2024-02-29 23:59:59.999999+00") == []
    assert made(care, "2024-03-01 00:00:00+14") == [], "it is still February in UTC"
    assert made(care, "2024-06-15") == [f"note_2024_0{month}" for month in (4, 5, 6, 7)], "months that were missed too"
    ops.run(care, "DROP TABLE partitions.note_2024_05")
    assert made(care, "2024-01-15") == ["note_2024_05"], "a gap is filled on any day"
    late = [f"note_2024_{month:02}" for month in range(8, 13)]
    assert made(care, "2024-12-31") == [*late, "note_2025_01"]
    assert (
        ops.bounds(care)["note_2025_01"] == "FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2025-02-01 00:00:00+00')"
    )
    ops.run(
        care,
        "INSERT INTO note_partitioned (id, at) VALUES (7, '2025-01-31 23:59:59.999999+00'), (8, '2025-02-01 00:00:00+00')",
    )
    places = "SELECT string_agg(tableoid::regclass::text, ', ' ORDER BY id) FROM note_partitioned WHERE id > 6"
    assert ops.value(care, places) == "partitions.note_2025_01, partitions.note_default"


def test_a_later_partition_is_like_its_siblings(care: Any, ops: Any) -> None:
    made(care, "2024-02-15")
    old, new = (ops.relation(care, "partitions", f"note_2024_{month}") for month in ("02", "03"))

    def shape(part: Relation) -> tuple[object, ...]:
        table = part.table
        return (
            (
                table.owner,
                table.row_security,
                table.force_row_security,
                table.replica_identity,
                table.storage_parameters,
            ),
            part.columns,
            [(c.name, c.definition, c.validated) for c in part.constraints if c.kind in "fc"],
            sorted((index.tail, index.unique, index.primary, index.valid) for index in part.indexes),
            part.triggers,
            (part.grants, part.policies, part.publications),
        )

    assert shape(new) == shape(old)
    assert len(old.indexes) == 2 and old.table.storage_parameters and old.triggers and not old.grants


def test_two_callers_at_once_make_each_partition_once(care: Any) -> None:
    results: list[list[str]] = []
    with psycopg.connect(care.conninfo) as holder:
        # both callers queue up behind a reader that is in the way of the first ATTACH
        holder.execute("LOCK TABLE author IN ROW EXCLUSIVE MODE")
        threads = [threading.Thread(target=lambda: results.append(made(care, "2024-03-15"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: blocked(care) == 2)
        holder.rollback()
        for thread in threads:
            thread.join()
    assert sorted(results) == [[], ["note_2024_03", "note_2024_04"]]


def blocked(db: Any) -> int:
    with psycopg.connect(db.superuser_conninfo, autocommit=True) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return int(row[0]) if row else 0


def test_nothing_is_made_while_rows_are_still_being_copied(empty: Any, ops: Any) -> None:
    ops.run(empty, *CARE)
    plan = ops.plan(empty, ops.spec())
    cut = replace(plan, steps=plan.steps[:-1])
    execute.execute(ops.session(empty), cut, cut.digest)
    assert made(empty, "2024-06-15") == []
    ops.migrate(empty, ops.spec())
    assert made(empty, "2024-02-15") == ["note_2024_03"]


def test_a_taken_name_is_refused_with_a_hint(care: Any, ops: Any) -> None:
    ops.run(care, "CREATE TABLE partitions.note_2024_04 (id int)")
    assert made(care, "2024-03-15") == ["note_2024_03"], "what can be made is made"
    with pytest.raises(psycopg.errors.DuplicateTable, match="note_2024_04 is taken") as stop:
        made(care, "2024-03-15")
    assert stop.value.diag.message_hint is not None and "Rename or attach" in stop.value.diag.message_hint
    assert set(ops.bounds(care)) == {"note_2024_01", "note_2024_02", "note_2024_03", "note_default"}
    assert "Rename or attach" in database.translate(stop.value, "Making partitions").next


def test_rows_in_the_default_partition_stop_one_month_and_no_other(care: Any, ops: Any) -> None:
    ops.run(care, "INSERT INTO note_partitioned (id, at, body) VALUES (9, '2024-03-05', 'secret')")
    assert made(care, "2024-03-15") == ["note_2024_04"]
    with pytest.raises(psycopg.errors.CheckViolation, match="rows of its time lie in the default partition") as stop:
        made(care, "2024-03-15")
    told = database.translate(stop.value, "Making partitions")
    assert "secret" not in str(told) and "note_2024_03" in told.why
    assert set(ops.bounds(care)) == {"note_2024_01", "note_2024_02", "note_2024_04", "note_default"}
    assert ops.value(care, "SELECT to_regclass('partitions.note_2024_03') IS NULL")


def test_a_table_that_was_dropped_is_passed_over(care: Any, ops: Any) -> None:
    ops.run(care, "DROP TABLE note_partitioned")
    assert made(care, "2024-03-15") == []
    ops.migrate(care, ops.spec())
    assert ops.prove(care, ops.spec()) == 2
