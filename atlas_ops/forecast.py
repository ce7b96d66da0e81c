"""Forecasts what a migration will take, from a timed sample of the table's own rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from atlas_ops.definition import index_plans, insertable, names, raw, text
from atlas_ops.model import Relation
from atlas_ops.spec import TableSpec

SAMPLE_ROWS = 50_000
SAMPLE_TABLE = "atlas_ops_sample"
# Two workers copied 1 million rows 2.2 times as fast as one, and 5 million 1.4 to 2.1 times (two cores, PostgreSQL 15): the lower
# half of that, and no gain is promised beyond two.
GAIN_OF_A_SECOND_WORKER = 1.6
# WAL holds each heap row and index entry with its record headers, and nothing twice: the tables are new, so there are few full pages.
WAL_PER_BYTE = 1.1
# VACUUM (ANALYZE) of every partition, checking foreign keys, ANALYZE of the whole: a third of the copy (200,000 messages, make demo).
AFTERWARDS = 1.35
# A partition's own DDL and connection: table, indexes, foreign keys, ATTACH, VACUUM (40 nearly empty partitions of messages, one worker).
SECONDS_PER_PARTITION = 0.05
# What a partition takes beyond its share of the rows, in pages: free space map 3, visibility map 1, index of the TOAST table 1 and
# half a last page; for each index its meta page, and half a last page and a root or so.
PAGE_BYTES = 8_192
PAGES_PER_PARTITION = 5.5
PAGES_PER_INDEX = 2.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What copying `rows` rows into a temporary table took; seconds and bytes."""

    rows: int
    copy_seconds: float
    index_seconds: float
    heap_bytes: int
    index_bytes: int
    indexes: int = 0
    scan_seconds: float = 0.0  # one read of the whole table, where no index begins with the partition key


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the whole table would take."""

    table: str
    rows: int
    sampled: int
    seconds: float
    disk_bytes: int
    wal_bytes: int


# pg_dump, pg_restore, connections and the manifest of one month, whatever it holds (empty months on two busy cores).
SECONDS_PER_MONTH = 2.0


@dataclass(frozen=True, slots=True)
class ArchiveSample:
    """What exporting `rows` rows and loading them again took; seconds and bytes."""

    rows: int
    digest_seconds: float
    parquet_seconds: float
    dump_seconds: float
    load_seconds: float
    parquet_bytes: int
    dump_bytes: int


@dataclass(frozen=True, slots=True)
class ArchiveForecast:
    """What the months of a table would take."""

    table: str
    months: int
    rows: int
    sampled: int
    export_seconds: float
    prove_seconds: float
    dump_bytes: int
    parquet_bytes: int


def archive_forecast(table: str, months: int, rows: int, sample: ArchiveSample) -> ArchiveForecast:
    """The sample's figures in proportion. The two forms run side by side, but for the digest: the longer of them counts."""
    scale = rows / sample.rows if sample.rows else 0.0
    export = sample.digest_seconds + max(sample.parquet_seconds, sample.dump_seconds)
    prove = sample.digest_seconds + sample.load_seconds
    return ArchiveForecast(
        table=table,
        months=months,
        rows=rows,
        sampled=sample.rows,
        export_seconds=export * scale + months * SECONDS_PER_MONTH,
        prove_seconds=prove * scale + months * SECONDS_PER_MONTH,
        dump_bytes=round(sample.dump_bytes * scale),
        parquet_bytes=round(sample.parquet_bytes * scale),
    )


def sample_statements(spec: TableSpec, original: Relation, percent: float) -> tuple[str, Sequence[str]]:
    """The statement that copies a sample into a temporary table, and those that index it as the partitions will be."""
    columns = names(column.name for column in insertable(original))
    copy = text(
        sql.SQL(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} TABLESAMPLE SYSTEM ({}) REPEATABLE (1) LIMIT {}"
        ).format(
            sql.Identifier(SAMPLE_TABLE),
            columns,
            sql.Identifier(*spec.original_at),
            sql.Literal(percent),
            sql.Literal(SAMPLE_ROWS),
        )
    )
    generated = {column.name for column in original.columns if column.generated}
    indexes = [
        text(sql.SQL("CREATE INDEX ON {} {}").format(sql.Identifier("pg_temp", SAMPLE_TABLE), raw(index.tail)))
        for index in index_plans(original, spec.partition_key, spec.indexes)
        if index.tail and not any(column in index.tail for column in generated)
    ]
    primary = original.primary_key
    if primary:
        key = text(
            sql.SQL("CREATE INDEX ON {} ({})").format(sql.Identifier("pg_temp", SAMPLE_TABLE), names(primary.columns))
        )
        indexes.insert(0, key)
    return copy, indexes


def forecast(spec: TableSpec, rows: int, sample: Sample, partitions: int = 0) -> Forecast:
    """The sample's figures in proportion, and what each partition costs by itself; zero rows sampled forecast nothing."""
    scale = rows / sample.rows if sample.rows else 0.0
    gain = 1.0 if spec.workers == 1 or spec.copy == "single_transaction" else GAIN_OF_A_SECOND_WORKER
    copying = (sample.copy_seconds + sample.index_seconds) * scale * AFTERWARDS
    by_partition = partitions * (SECONDS_PER_PARTITION + sample.scan_seconds)
    pages = partitions * (PAGES_PER_PARTITION + PAGES_PER_INDEX * sample.indexes)
    size = (sample.heap_bytes + sample.index_bytes) * scale + pages * PAGE_BYTES
    return Forecast(
        table=spec.name,
        rows=rows,
        sampled=sample.rows,
        seconds=(copying + by_partition) / gain,
        disk_bytes=round(size),
        wal_bytes=round(size * WAL_PER_BYTE),
    )
