"""Times the export and the proof of a sample of one partition, in memory and in a temporary table that is rolled back."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg
import pyarrow as pa
import pyarrow.parquet
from psycopg import sql

from atlas_ops import contents, exports, forecast, parquet
from atlas_ops.database import Session, connect, translate
from atlas_ops.definition import name, names
from atlas_ops.export import ZSTD_LEVEL, read_csv
from atlas_ops.forecast import ArchiveSample
from atlas_ops.model import Relation
from atlas_ops.parquet import Field

TIMEOUT_MS = 60_000
SAMPLE_BYTES = 64 << 20  # of a table, whose rows are held in memory
FEW_ROWS = 500
Done = TypeVar("Done")


def timed(where: Session, relation: Relation) -> ArchiveSample:
    """At most 50,000 rows of a table: hashed, copied out, written as Parquet and compressed as a dump is, and copied into a temporary table.

    Raises AtlasError where it takes over a minute or the role may not make temporary tables.
    """
    # a time beyond the calendar would not parse as one: of a sample, times are text
    fields = parquet.fields_of(relation.columns, [column.name for column in parquet.times(relation.columns)])
    listed = names(field.name for field in fields)
    rows = sql.SQL("(SELECT {} FROM {} LIMIT {})").format(
        listed, name(relation.table.schema, relation.table.name), sql.Literal(_limit(relation))
    )
    columns = sql.SQL(", ").join(sql.SQL("{} {}").format(name(field.name), sql.SQL(field.type)) for field in fields)
    target = sql.Identifier("pg_temp", exports.TEMPORARY)
    try:
        with connect(where, write=True) as connection, connection.transaction(force_rollback=True):
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (f"{TIMEOUT_MS}ms",))
            digest = sql.SQL("SELECT sum({}) FROM {} AS r").format(contents.hashed(fields), rows)
            hashed, _ = _seconds(lambda: connection.execute(digest))
            copied, text = _seconds(lambda: _out(connection, sql.SQL("COPY {} TO STDOUT (FORMAT csv)").format(rows)))
            written, (count, parquet_bytes) = _seconds(lambda: _parquet(text, fields))
            compressed, dump = _seconds(lambda: pa.compress(text, "zstd", asbytes=True))
            create = sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP")
            connection.execute(create.format(sql.Identifier(exports.TEMPORARY), columns))
            load = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(target, listed)
            loaded, _ = _seconds(lambda: _in(connection, load, text))
    except psycopg.Error as error:
        raise translate(error, f"Timing a sample of {relation.table.name}") from None
    return ArchiveSample(count, hashed, copied + written, copied + compressed, loaded, parquet_bytes, len(dump))


def _limit(relation: Relation) -> int:
    """So many rows that they fit into memory, by the average of their width."""
    table = relation.table
    if not table.bytes or table.estimated_rows <= 0:
        return FEW_ROWS
    return max(FEW_ROWS, min(forecast.SAMPLE_ROWS, SAMPLE_BYTES * table.estimated_rows // table.bytes))


def _seconds(act: Callable[[], Done]) -> tuple[float, Done]:
    started = time.perf_counter()
    done = act()
    return time.perf_counter() - started, done


def _out(connection: psycopg.Connection, copied: sql.Composed) -> bytes:
    with connection.cursor() as cursor, cursor.copy(copied) as copy:
        return b"".join(copy)


def _in(connection: psycopg.Connection, load: sql.Composed, text: bytes) -> None:
    with connection.cursor() as cursor, cursor.copy(load) as copy:
        copy.write(text)


def _parquet(text: bytes, fields: Sequence[Field]) -> tuple[int, int]:
    """Rows, and the bytes of their file."""
    if not text:
        return 0, 0
    table, out = read_csv(text, fields), io.BytesIO()
    pyarrow.parquet.write_table(table, out, compression="zstd", compression_level=ZSTD_LEVEL)
    return table.num_rows, len(out.getvalue())
