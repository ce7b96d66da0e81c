"""Times the copy of a sample of a table into a temporary table, which is rolled back: the one thing a preflight writes."""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

from atlas_ops import forecast
from atlas_ops.database import Session, connect, translate
from atlas_ops.definition import indexed_by
from atlas_ops.forecast import Sample
from atlas_ops.model import Relation
from atlas_ops.spec import TableSpec

TIMEOUT_MS = 60_000


def timed(where: Session, spec: TableSpec, original: Relation) -> Sample:
    """Copy at most 50,000 rows into a temporary table, index them, roll back.

    Raises AtlasError where it takes over a minute or the role may not make temporary tables.
    """
    estimated = max(original.table.estimated_rows, 1)
    # twice the pages wanted, since pages are not equally full; LIMIT ends the read
    percent = min(100.0, 200.0 * forecast.SAMPLE_ROWS / estimated)
    copy, indexes = forecast.sample_statements(spec, original, percent)
    try:
        with connect(where, write=True) as connection, connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (f"{TIMEOUT_MS}ms",))
            started = time.perf_counter()
            rows = connection.execute(copy).rowcount
            copied = time.perf_counter()
            for index in indexes:
                connection.execute(index)
            indexed = time.perf_counter()
            scan = _scan(connection, spec) if not indexed_by(original, spec.partition_key) else 0.0
            sizes = connection.execute(
                "SELECT pg_table_size(%(t)s::regclass), pg_indexes_size(%(t)s::regclass)",
                {"t": f"pg_temp.{forecast.SAMPLE_TABLE}"},
            ).fetchone()
    except psycopg.Error as error:
        raise translate(error, f"Timing a sample of {spec.table}") from None
    assert sizes is not None
    heap_bytes, index_bytes = sizes
    return Sample(rows, copied - started, indexed - copied, heap_bytes, index_bytes, len(indexes), scan)


def _scan(connection: psycopg.Connection, spec: TableSpec) -> float:
    """Seconds of one read of the whole table."""
    started = time.perf_counter()
    connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*spec.original_at)))
    return time.perf_counter() - started
