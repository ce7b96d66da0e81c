"""Reads what a decision about the upkeep of a partition set needs besides its snapshot: see `upkeep.Upkeep`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg
from psycopg import sql

from atlas_ops import bounds, maintain, partitions, sqlfile
from atlas_ops.catalog import EARLIEST, LATEST, reading, rows
from atlas_ops.model import Snapshot, Table, Taken
from atlas_ops.spec import TableSpec
from atlas_ops.upkeep import Care, CronPlace, Job, Upkeep, Waiting


@dataclass(frozen=True, slots=True)
class _Analyzed:
    analyzed_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Config:
    schema: str
    readable: bool


def upkeep(connection: psycopg.Connection, spec: TableSpec, snapshot: Snapshot, as_of: date) -> Upkeep:
    """All of it, in one transaction. The default partition is read once, to count its rows by period.

    Raises AtlasError where a read fails, for instance for a missing right.
    """
    relation = partitions.partitioned_table(snapshot)
    if relation is None:
        return Upkeep()
    table = relation.table
    with reading(connection, f"Reading the upkeep of {spec.table}"):
        found = (
            rows(connection, "care", Care, schema=table.schema, name=table.name)
            if _exists(connection, "atlas_ops.partitioned_table")
            else ()
        )
        analyzed = rows(connection, "analyzed", _Analyzed, oid=table.oid)
        waiting = _waiting(connection, spec, snapshot)
        names = maintain.names_needed(spec, snapshot, as_of, [one.period for one in waiting if one.period])
        (place,) = rows(connection, "cron_place", CronPlace)
        configs = rows(connection, "part_config", _Config, oid=table.oid)
        return Upkeep(
            care=found[0] if found else None,
            elsewhere=_elsewhere(connection, table, [config.schema for config in configs if config.readable]),
            unreadable=tuple(config.schema for config in configs if not config.readable),
            waiting=waiting,
            analyzed_at=analyzed[0].analyzed_at if analyzed else None,
            taken=rows(connection, "names", Taken, names=list(names), functions=[]),
            cron=place,
            jobs=rows(connection, "cron_jobs", Job) if place.installed and _readable(connection) else (),
        )


def _waiting(connection: psycopg.Connection, spec: TableSpec, snapshot: Snapshot) -> tuple[Waiting, ...]:
    """The rows of the default partition by period, those that belong to none at the end."""
    relation = partitions.partitioned_table(snapshot)
    key = relation.column(spec.partition_key) if relation else None
    default = next((one for one, bound in partitions.attached(snapshot) if bound.is_default), None)
    if default is None or key is None or key.base_type not in bounds.KEY_TYPES or default.kind != "r":
        return ()
    query = sqlfile.template(
        "default_rows",
        key=sql.Identifier(spec.partition_key),
        every=sql.Literal(str(spec.every)),
        table=sql.Identifier(default.schema, default.name),
        first=sql.Literal(bounds.literal(EARLIEST, key.base_type)),
        last=sql.Literal(bounds.literal(LATEST, key.base_type)),
    )
    counted: Sequence[tuple[datetime | None, bool, int]] = connection.execute(query).fetchall()
    return tuple(
        Waiting(bounds.period_of(spec.every, lower.replace(tzinfo=UTC)) if lower else None, number, keyless)
        for lower, keyless, number in counted
    )


def _elsewhere(connection: psycopg.Connection, table: Table, schemas: Sequence[str]) -> bool:
    """Whether pg_partman has the table in a part_config of one of these schemas."""
    for schema in schemas:
        query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} WHERE parent_table = %s)").format(
            sql.Identifier(schema, "part_config")
        )
        row = connection.execute(query, (f"{table.schema}.{table.name}",)).fetchone()
        if row and row[0]:
            return True
    return False


def _readable(connection: psycopg.Connection) -> bool:
    """Whether this role may read the jobs: an extension may be there for others only."""
    row = connection.execute(
        "SELECT has_schema_privilege('cron', 'USAGE') AND has_table_privilege('cron.job', 'SELECT') "
        "AND has_table_privilege('cron.job_run_details', 'SELECT')"
    ).fetchone()
    return bool(row and row[0])


def _exists(connection: psycopg.Connection, regclass: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (regclass,)).fetchone()
    return bool(row and row[0])
