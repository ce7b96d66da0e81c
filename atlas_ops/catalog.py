"""Every read of the catalogs, and of a table's shape. Rows become the frozen values of `model` here, at the edge.

Nothing below returns a row of a user's table: counts, sizes, names and definitions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from atlas_ops import bounds, division, incoming, installation, online, registry, scratch, sqlfile
from atlas_ops.bounds import Period
from atlas_ops.database import translate
from atlas_ops.errors import AtlasError
from atlas_ops.idtime import Carries
from atlas_ops.model import (
    Attached,
    Binding,
    Column,
    Comment,
    Constraint,
    Dependent,
    Fact,
    ForeignTime,
    Grant,
    Index,
    Installed,
    KeyFacts,
    LeafIndex,
    Lint,
    OnlineCopy,
    OwnType,
    Partition,
    PartitionSchema,
    Policy,
    Publication,
    Reference,
    RehearsalPlace,
    Relation,
    Server,
    SessionZone,
    Snapshot,
    Statistics,
    Table,
    Taken,
    Transaction,
    Trigger,
    View,
)
from atlas_ops.spec import TableSpec, exchanged, extended

OLD_TRANSACTION_S = 5.0  # younger ones end by themselves before anybody reads of them
SAMPLE_ROWS = 100_000
EARLIEST, LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)  # what a bound of any period can say

Row = TypeVar("Row")


@contextmanager
def reading(connection: psycopg.Connection, doing: str) -> Iterator[None]:
    """One REPEATABLE READ, read-only transaction: everything read inside is of one instant.

    A psycopg error becomes an AtlasError that says what was being done.
    """
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
    except psycopg.Error as error:
        raise translate(error, doing) from None


def rows(
    connection: psycopg.Connection, name: str, kind: type[Row], /, folder: str = "catalog", **parameters: Any
) -> tuple[Row, ...]:
    """The rows of `sql/<folder>/<name>.sql` as values of `kind`; arrays become tuples."""

    def frozen(**fields: Any) -> Row:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})

    with connection.cursor(row_factory=lambda cursor: _named(cursor, frozen)) as cursor:
        return tuple(cursor.execute(sqlfile.text(folder, name), parameters or None).fetchall())


def _named(cursor: psycopg.Cursor[Any], make: Any) -> Any:
    names = [column.name for column in cursor.description or ()]
    return lambda values: make(**dict(zip(names, values, strict=True)))


def server(connection: psycopg.Connection) -> Server:
    """Who we are and where."""
    (found,) = rows(connection, "server", Server)
    return found


def relation(connection: psycopg.Connection, schema: str, name: str) -> Relation | None:
    """A table with everything that hangs on it, or None where there is no such relation."""
    tables = rows(connection, "table", Table, schema=schema, name=name)
    if not tables:
        return None
    oid = tables[0].oid
    bindings = rows(connection, "bindings", Binding, oid=oid)
    materialized = [
        relation(connection, binding.schema, binding.name)
        for binding in bindings
        if binding.kind == "materialized view"
    ]
    return Relation(
        table=tables[0],
        columns=rows(connection, "columns", Column, oid=oid),
        constraints=rows(connection, "constraints", Constraint, oid=oid),
        indexes=rows(connection, "indexes", Index, oid=oid),
        statistics=rows(connection, "statistics", Statistics, oid=oid),
        triggers=rows(connection, "triggers", Trigger, oid=oid),
        policies=rows(connection, "policies", Policy, oid=oid),
        grants=rows(connection, "grants", Grant, oid=oid),
        publications=rows(connection, "publications", Publication, oid=oid),
        references=rows(connection, "references", Reference, oid=oid, registry_schema=None, registry=None),
        dependents=rows(connection, "dependents", Dependent, oid=oid),
        bindings=bindings,
        comments=rows(connection, "comments", Comment, oid=oid),
        materialized_views=tuple(found for found in materialized if found is not None),
    )


def ledger(connection: psycopg.Connection, schema: str, name: str) -> tuple[Fact, ...]:
    """Every property of a table and of all that hangs on it, in one snapshot; empty where there is no such table.

    Raises AtlasError where a read fails.
    """
    with reading(connection, f"Reading every property of {schema}.{name}"):
        tables = rows(connection, "table", Table, schema=schema, name=name)
        return tuple(
            fact
            for table in tables
            for part in sqlfile.names("ledger")
            for fact in rows(connection, part, Fact, folder="ledger", oid=table.oid)
        )


def marked(connection: psycopg.Connection, mark: str) -> tuple[Partition, ...]:
    """The tables that stand alone and whose comment begins so. Raises AtlasError where a read fails."""
    with reading(connection, "Reading which partitions were detached"):
        return rows(connection, "partitions", Partition, oid=0, mark=mark)


def united(connection: psycopg.Connection, mark: str, oid: int = 0) -> tuple[View, ...]:
    """Our views that unite live and archived rows; those that read one table, if `oid` names it."""
    return rows(connection, "united", View, mark=mark, oid=oid)


def relation_exists(connection: psycopg.Connection, schema: str, name: str) -> bool:
    """Whether there is a relation of that name."""
    return bool(rows(connection, "table", Table, schema=schema, name=name))


def names_in_use(connection: psycopg.Connection, schema: str, names: Sequence[str]) -> frozenset[str]:
    """Those of the names that a relation, an index or a statistics object of the schema has."""
    return frozenset(_column(connection, "names_in_use", schema=schema, names=list(names)))


def _keeps_keys(connection: psycopg.Connection, oid: int) -> bool:
    (kept,) = _column(connection, "keeps_keys", oid=oid, trigger=registry.ROW_TRIGGER)
    return bool(kept)


def own_types(connection: psycopg.Connection, oid: int) -> tuple[OwnType, ...]:
    """The types of the database's own that the columns of a table rest on."""
    return rows(connection, "own_types", OwnType, oid=oid)


def references(connection: psycopg.Connection, spec: TableSpec) -> tuple[Reference, ...]:
    """The foreign keys of other tables that refer to the table or, since a cut-over, to its registry; in the words they had before.

    With these in place of a relation's own `references` the functions of `incoming` work on either side of a cut-over.
    """
    tables = rows(connection, "table", Table, schema=spec.schema, name=spec.name)
    found = rows(
        connection,
        "references",
        Reference,
        oid=tables[0].oid if tables else 0,
        registry_schema=spec.partition_schema,
        registry=spec.keys_name,
    )
    return tuple(incoming.before(spec, reference) for reference in found)


def snapshot(connection: psycopg.Connection, spec: TableSpec, names: Sequence[str] = ()) -> Snapshot:
    """Everything a decision about one table needs, read in one transaction.

    `names`: relation names that the migration will need; those that are taken come back in `taken`.
    Raises AtlasError where a read fails, for instance for a missing right.
    """
    with reading(connection, f"Reading the catalogs for {spec.table}"):
        original = relation(connection, *spec.original_at)
        if original is not None:
            original = replace(original, references=references(connection, spec))
        partitioned = relation(connection, *spec.partitioned_at)
        # `table` may be partitioned already, by others: then its partitions are those to look at
        divided = next(
            (one for one in (partitioned, original) if one is not None and one.table.kind == "p"), partitioned
        )
        roles = _column(connection, "application_roles", oid=original.table.oid if original else 0)
        (room,) = rows(
            connection,
            "partition_schema",
            PartitionSchema,
            schema=spec.partition_schema,
            target=spec.partitioned_at[0],
            roles=list(roles),
        )
        partitions = rows(
            connection,
            "partitions",
            Partition,
            oid=divided.table.oid if divided else 0,
            mark=division.mark_prefix(spec),
        )
        return Snapshot(
            server=server(connection),
            original=original,
            partitioned=partitioned,
            partitions=partitions,
            partition_schema=room,
            taken=rows(
                connection,
                "names",
                Taken,
                names=[
                    *names,
                    *(division.index_names(spec, original, names) if original else ()),
                    *incoming.names_needed(spec),
                    *installation.INSTALLED_NAMES,
                ],
                functions=list(installation.INSTALLED_NAMES),
            ),
            closed_to=roles,
            installed=_installed(connection),
            transactions=rows(
                connection,
                "transactions",
                Transaction,
                seconds=OLD_TRANSACTION_S,
                oid=original.table.oid if original else 0,
            ),
            registered=(care := _care(connection, spec)) is not None,
            online=online_copy(connection, spec),
            ready=bool(care),
            aside=_refer_aside(connection, spec, original, partitions),
            cared_for=bool(care)
            or (divided is not None and bool(_ready(connection, divided.table.schema, divided.table.name))),
            keeps_keys=divided is not None and _keeps_keys(connection, divided.table.oid),
        )


def _refer_aside(
    connection: psycopg.Connection, spec: TableSpec, original: Relation | None, partitions: Sequence[Partition]
) -> dict[str, int]:
    """Rows that refer to a row that is set aside, where a foreign key would not see them; none before such rows are copied."""
    there = any((one.schema, one.name) == (spec.partition_schema, spec.null_keys_name) for one in partitions)
    if original is None or spec.null_keys != "set_aside" or not there:
        return {}
    queries = incoming.of_aside(spec, original)
    return {label: _count(connection, text) for label, text in queries.items()}


def _count(connection: psycopg.Connection, query: str | sql.Composed) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def placed(connection: psycopg.Connection, spec: TableSpec) -> TableSpec:
    """The specification as it reads now: after a cut-over that exchanged the names its tables are found under other ones; with
    `out_of_range: extend` from and until reach as far as the rows do."""
    with reading(connection, f"Reading how far {spec.table} has come"):
        row = None
        if _exists(connection, online.STATE):
            row = connection.execute(
                "SELECT exchanged FROM atlas_ops.online_copy WHERE schema_name = %s AND table_name = %s",
                (spec.schema, spec.name),
            ).fetchone()
        found = exchanged(spec) if row and row[0] else spec
        return extended(found, *_extent(connection, found)) if spec.out_of_range == "extend" else found


def _extent(connection: psycopg.Connection, spec: TableSpec) -> tuple[datetime | None, datetime | None]:
    """The lowest and the highest instant that is to have a partition: as registered when the table was built, later rows do not move it;
    before that as the rows of the original have it. Keys that are infinite, or beyond the calendar, say nothing."""
    if _care(connection, spec) is not None:
        # a registry of an older version has no such columns: 02 adds them
        covered = connection.execute(
            "SELECT (to_jsonb(t) ->> 'covers_from')::date, (to_jsonb(t) ->> 'covers_until')::date - 1 "
            "FROM atlas_ops.partitioned_table AS t WHERE schema_name = %s AND table_name = %s",
            spec.partitioned_at,
        ).fetchone()
        first, last = covered or (None, None)
        return _midnight(first), _midnight(last)
    column = _key_type(connection, spec)
    if column is None:
        return None, None  # preflight says what is wrong with it
    ends = connection.execute(
        sqlfile.template(
            "key_extent",
            key=sql.Identifier(spec.partition_key),
            value=sql.SQL("({})::{}").format(sql.SQL(spec.null_value or "NULL"), sql.SQL(column)),
            # AT TIME ZONE makes a timestamp of a timestamptz, and a timestamptz of the other two: all in UTC
            type=sql.SQL("timestamptz" if column == "timestamptz" else "timestamp"),
            table=sql.Identifier(*spec.original_at),
            first=sql.Literal(bounds.literal(EARLIEST, column)),
            last=sql.Literal(bounds.literal(LATEST, column)),
        )
    ).fetchone()
    lowest, highest = ends or (None, None)
    return _in_utc(lowest), _in_utc(highest)


def _key_type(connection: psycopg.Connection, spec: TableSpec) -> str | None:
    """The type below any domain, if it is one that can be partitioned by."""
    table = rows(connection, "table", Table, schema=spec.original_at[0], name=spec.original_at[1])
    columns = rows(connection, "columns", Column, oid=table[0].oid) if table else ()
    found = next((column.base_type for column in columns if column.name == spec.partition_key), None)
    return found if found in bounds.KEY_TYPES else None


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment and (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time.min, UTC) if day else None


def online_copy(connection: psycopg.Connection, spec: TableSpec) -> OnlineCopy | None:
    """How the copy of a table is kept in step, its key log counted; None where nothing follows. Inside of a read."""
    if not _exists(connection, online.STATE):
        return None
    found = rows(
        connection,
        "online_copy",
        OnlineCopy,
        schema=spec.schema,
        name=spec.name,
        original_schema=spec.original_at[0],
        original_name=spec.original_at[1],
        partitioned_schema=spec.partitioned_at[0],
        partitioned_name=spec.partitioned_at[1],
        log_schema=spec.partition_schema,
        log_name=spec.key_log_name,
    )
    if not found:
        return None
    waiting = sql.SQL("SELECT count(*) FROM {}").format(online.log(spec))
    return replace(found[0], log_rows=_count(connection, waiting) if found[0].log_bytes else 0)


def lints(connection: psycopg.Connection, spec: TableSpec, snapshot: Snapshot) -> tuple[Lint, ...]:
    """What the advisor's lints find on the tables of a snapshot, and on what is ours."""
    tables = [relation.table.oid for relation in (snapshot.original, snapshot.partitioned) if relation is not None]
    with reading(connection, f"Reading what the lints find on {spec.table}"):
        return rows(
            connection,
            "lints",
            Lint,
            oids=[*tables, *(partition.oid for partition in snapshot.partitions)],
            schema=spec.partition_schema,
            roles=list(snapshot.closed_to),
            installed=list(installation.INSTALLED_NAMES),
        )


def leaf_indexes(connection: psycopg.Connection, table: str) -> tuple[LeafIndex, ...]:
    """The leaf partitions of `table` (qualified and quoted) with their valid indexes; empty where there is none."""
    with reading(connection, f"Reading the partitions of {table}"):
        return rows(connection, "leaf_indexes", LeafIndex, table=table)


def attached(connection: psycopg.Connection, oid: int) -> tuple[Attached, ...]:
    """The partitions of a table that queries read, with their bounds."""
    return rows(connection, "attached", Attached, oid=oid)


def session_zones(connection: psycopg.Connection) -> frozenset[str]:
    """The time zones that sessions of this database may begin with, unless their client says another."""
    return frozenset(each.zone for each in rows(connection, "session_zones", SessionZone))


def foreign_times(connection: psycopg.Connection, oid: int) -> tuple[ForeignTime, ...]:
    """The foreign keys of one column out of a table, with the columns of time of what they refer to."""
    return rows(connection, "foreign_times", ForeignTime, oid=oid)


def id_kinds(connection: psycopg.Connection, table: Table, columns: Sequence[str]) -> dict[str, Carries]:
    """Columns whose values carry a time in all of a sample of some hundred rows: uuid v7, or ULID as text."""
    found: dict[str, Carries] = {}
    for column in columns:
        asked = sqlfile.template(
            "id_kind", column=sql.Identifier(column), table=sql.Identifier(table.schema, table.name)
        )
        row = connection.execute(asked).fetchone()
        if row and row[0]:
            found[column] = row[0]
    return found


def locks_taken(connection: psycopg.Connection, table: str) -> int:
    """How many locks this transaction holds on `table` (qualified and quoted), its partitions and their indexes."""
    (found,) = _column(connection, "locks_taken", table=table)
    return int(found)


def buffer_eviction(connection: psycopg.Connection) -> str | None:
    """The schema of pg_buffercache where this role may empty shared buffers with it (PostgreSQL 17 and later), else None."""
    row = connection.execute(sqlfile.text("catalog", "buffer_eviction")).fetchone()
    return row[0] if row else None


def rehearsal_place(connection: psycopg.Connection) -> RehearsalPlace:
    """Whether a rehearsal can begin on this database."""
    schemas = [scratch.SCHEMA, scratch.PARTITIONS]
    with reading(connection, "Looking for a rehearsal"):
        (found,) = rows(connection, "rehearsal", RehearsalPlace, schemas=schemas, mark=scratch.MARK)
    return found


def _column(connection: psycopg.Connection, name: str, /, **parameters: Any) -> tuple[Any, ...]:
    return tuple(value for (value,) in connection.execute(sqlfile.text("catalog", name), parameters))


def _exists(connection: psycopg.Connection, regclass: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (regclass,)).fetchone()
    return bool(row and row[0])


def _installed(connection: psycopg.Connection) -> tuple[Installed, ...]:
    if not _exists(connection, "atlas_ops.installed_object"):
        return ()
    return rows(connection, "installed", Installed)


def _care(connection: psycopg.Connection, spec: TableSpec) -> bool | None:
    """Whether the partitioned table is in our registry (None: no) and ready there."""
    return _ready(connection, *spec.partitioned_at)


def _ready(connection: psycopg.Connection, schema: str, name: str) -> bool | None:
    if not _exists(connection, "atlas_ops.partitioned_table"):
        return None
    row = connection.execute(
        "SELECT ready FROM atlas_ops.partitioned_table WHERE schema_name = %s AND table_name = %s", (schema, name)
    ).fetchone()
    return row[0] if row else None


def key_facts(connection: psycopg.Connection, spec: TableSpec, table: Table) -> KeyFacts:
    """What one read of the partition key over the whole table tells."""
    percent = min(100.0, 100.0 * SAMPLE_ROWS / max(table.estimated_rows, 1))
    query = sqlfile.template(
        "key_facts",
        key=sql.Identifier(spec.partition_key),
        table=sql.Identifier(table.schema, table.name),
        value=sql.SQL(spec.null_value or "NULL"),
        percent=sql.Literal(percent),
    )
    with (
        reading(connection, f"Reading {spec.partition_key} of {spec.table}"),
        connection.cursor(row_factory=class_row(KeyFacts)) as cursor,
    ):
        facts = cursor.execute(query).fetchone()
    assert facts is not None
    return facts


def rows_per_period(
    connection: psycopg.Connection, spec: TableSpec, periods: Sequence[Period]
) -> list[tuple[str, int]]:
    """(label, rows) for 'before', each period, 'after' and 'no key', of the original table, in one read of it.

    A row without a key is counted where the specification's expression puts it.
    """
    original = relation(connection, *spec.original_at)
    key = original.column(spec.partition_key) if original else None
    if original is None or key is None:
        raise AtlasError(
            what=f"{spec.table} has no column {spec.partition_key}.",
            why="The specification names it as the partition key.",
            next="Correct partition_key in the parameters file.",
        )
    edges = [period.lower for period in periods] + [periods[-1].upper]
    array = sql.SQL("ARRAY[{}]::{}[]").format(
        sql.SQL(", ").join(sql.Literal(bounds.literal(edge, key.base_type)) for edge in edges),
        sql.SQL(key.base_type),
    )
    query = sqlfile.template(
        "rows_per_period",
        key=sql.SQL(online.projection(spec, spec.partition_key)),
        table=sql.Identifier(*spec.original_at),
        bounds=array,
    )
    with reading(connection, f"Counting {spec.table} by {spec.every}"):
        found: dict[int | None, int] = dict(connection.execute(query).fetchall())
    labels = ["before", *(period.label for period in periods), "after"]
    counted = [(label, found.get(number, 0)) for number, label in enumerate(labels)]
    return [*counted, ("no key", found.get(None, 0))]
