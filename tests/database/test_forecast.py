"""The forecast against the real run; and that looking leaves nothing behind and stands in nobody's way."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from atlas_ops import database, division, sample
from atlas_ops.errors import AtlasError
from atlas_ops.forecast import Forecast, Sample, forecast

WITH_OID = (
    "pg_class",
    "pg_constraint",
    "pg_type",
    "pg_proc",
    "pg_trigger",
    "pg_policy",
    "pg_attrdef",
    "pg_publication",
)
WITHOUT_OID = ("pg_attribute", "pg_index", "pg_inherits", "pg_depend")
# PostgreSQL keeps the empty schema of a session's temporary tables for the next session.
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_' ORDER BY 1"
DISK = (
    "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class "
    "WHERE relkind = 'r' AND relnamespace = to_regnamespace('partitions') AND relname ~ '^{}_'"
)


def foretold(subject: Any) -> list[Forecast]:
    found = []
    for spec in subject.specs:
        original = subject.snapshot(spec).original
        rows = subject.value(f"SELECT count(*) FROM {spec.table}")
        partitions = len(division.periods(spec, subject.as_of)) + spec.default_partition
        found.append(forecast(spec, rows, sample.timed(subject.where, spec, original), partitions))
    return found


def test_the_forecast_comes_near_the_real_run(subject: Any) -> None:
    alone = "PYTEST_XDIST_WORKER" not in os.environ  # other workers write WAL of the same server, and take its time
    slower = []
    for spec, told in zip(subject.specs, foretold(subject), strict=True):
        one = type(subject)(subject.database, (spec,))
        before, started = subject.value("SELECT pg_current_wal_lsn()"), time.monotonic()
        one.migrate()
        seconds = time.monotonic() - started
        wal = int(subject.value(f"SELECT pg_current_wal_lsn() - '{before}'"))
        disk = subject.value(DISK.format(spec.name))
        assert disk / 1.5 < told.disk_bytes < disk * 1.5
        assert told.wal_bytes < wal * 2
        assert not alone or wal / 2 < told.wal_bytes
        assert told.seconds < seconds * 4
        slower.append(seconds / told.seconds)
    assert not alone or min(slower) < 4


def test_looking_leaves_nothing_behind(subject: Any) -> None:
    def everything() -> list[list[tuple[Any, ...]]]:
        queries = [
            SCHEMAS,
            *(f"SELECT oid, xmin::text FROM {catalog} ORDER BY 1" for catalog in WITH_OID if catalog != "pg_class"),
            "SELECT oid, relfilenode FROM pg_class ORDER BY 1",
            *(f"SELECT count(*) FROM {catalog}" for catalog in WITHOUT_OID),
            *(f"SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM {spec.table} t" for spec in subject.specs),
        ]
        return [subject.rows(query) for query in queries]

    before = everything()
    foretold(subject)
    subject.checks()
    assert everything() == before


def test_looking_takes_no_lock_stronger_than_a_reader(subject: Any) -> None:
    """While somebody holds EXCLUSIVE, which lets ACCESS SHARE through and nothing else."""
    with subject.database.connect() as holder:
        holder.execute("LOCK TABLE messages, usage_logs, conversations, profiles, auth.users IN EXCLUSIVE MODE")
        assert len(foretold(subject)) == 2
        assert subject.checks()


def test_a_lock_that_is_held_is_told_and_not_waited_for(subject: Any) -> None:
    hurried = database.Session("test", subject.database.conninfo, "test", lock_timeout_ms=100)
    original = subject.snapshot(subject.spec).original
    with subject.database.connect() as holder:
        holder.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(AtlasError) as stopped:
            sample.timed(hurried, subject.spec, original)
    assert "Timing a sample of public.messages" in stopped.value.what
    assert "55P03" in stopped.value.why


def test_a_role_without_temporary_tables_is_told(subject: Any) -> None:
    original = subject.snapshot(subject.spec).original
    name = subject.value("SELECT current_database()")
    subject.run(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC, postgres")
    with pytest.raises(AtlasError) as stopped:
        sample.timed(subject.where, subject.spec, original)
    assert "42501" in stopped.value.why


def test_an_empty_table_forecasts_its_partitions_only(bare: Any) -> None:
    bare.run("CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz NOT NULL)")
    bare.specify({"table": "t", "partition_key": "at", "from": "2026-10-01", "ahead": 1})
    (told,) = foretold(bare)
    assert (told.rows, told.sampled) == (0, 0)
    assert 0 < told.seconds < 1 and 0 < told.disk_bytes < 1_000_000


def test_what_cannot_be_indexed_in_a_copy_does_not_stop_the_sample(bare: Any) -> None:
    bare.run(
        'CREATE TABLE "T" (id bigint PRIMARY KEY, "At" timestamptz NOT NULL, n int UNIQUE, twice int GENERATED ALWAYS AS (n * 2) STORED)',
        'CREATE INDEX ON "T" (twice)',
        'CREATE INDEX ON "T" (abs(n)) INCLUDE (id) WHERE n > 0',
        'CREATE INDEX ON "T" USING hash (n)',
        'CREATE INDEX ON "T" USING brin ("At")',
        """INSERT INTO "T" SELECT g, '2026-10-10', g FROM generate_series(1, 99) g""",
    )
    bare.specify(
        {"table": '"T"', "partition_key": '"At"', "from": "2026-10-01", "ahead": 1, "unique_without_key": "add_key"}
    )
    original = bare.snapshot(bare.spec).original
    timed = sample.timed(bare.where, bare.spec, original)
    assert (timed.rows, timed.heap_bytes > 0, timed.index_bytes > 0, timed.scan_seconds > 0) == (99, True, True, False)


def test_the_forecast_grows_with_the_rows_and_shrinks_with_a_second_worker(subject: Any) -> None:
    one = Sample(rows=1_000, copy_seconds=1.0, index_seconds=1.0, heap_bytes=80_000, index_bytes=20_000)
    small, big = (forecast(subject.spec, rows, one) for rows in (1_000, 10_000))
    assert (big.seconds, big.disk_bytes) == (pytest.approx(small.seconds * 10), small.disk_bytes * 10)
    assert small.disk_bytes == 100_000 < small.wal_bytes
    subject.specify({"table": "messages", "partition_key": "created_at", "from": "2024-01-01", "workers": 1})
    assert forecast(subject.spec, 1_000, one).seconds > small.seconds
