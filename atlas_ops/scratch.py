"""The scratch copy that a rehearsal works on: how it is made, and how everything of it goes again. Pure.

The application's table is read once, a sample under ACCESS SHARE, and never touched otherwise. What could reach out of the scratch copy is left out:
foreign keys and the user's triggers, row security's policies and grants; columns that draw numbers from a sequence get one of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from psycopg import sql

from atlas_ops import definition, division, installation, sqlfile
from atlas_ops.definition import insertable, name, names, plainly, raw, text
from atlas_ops.division import Kind
from atlas_ops.errors import AtlasError
from atlas_ops.model import RehearsalPlace, Relation, Snapshot
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.spec import TableSpec
from atlas_ops.written import Name

STAGE = "rehearsal"
SCHEMA = "atlas_ops_rehearsal"
PARTITIONS = "atlas_ops_rehearsal_partitions"
MARK = "atlas_ops: scratch copy of a rehearsal, dropped when it ends"
ROWS = 100_000  # of the table at most
PAGE_BYTES = 8_192
BYTES = 1 << 29  # and no more rows than take half a gigabyte
LEFT_OUT = "Left out, because they would reach the application's own tables: foreign keys, the user's triggers, policies, grants and publications."


def scratch_spec(spec: TableSpec) -> TableSpec:
    """The specification as it reads for the scratch copy."""
    return replace(
        spec,
        table=text(name(SCHEMA, spec.name)),
        partitioned_table=None,
        partition_schema=Name(PARTITIONS),
        copy="online",
        publications="leave",
        incoming_foreign_keys="refuse",
        workload=None,
    )


def refuse(spec: TableSpec, snapshot: Snapshot, place: RehearsalPlace, as_of: date) -> None:
    """Raises AtlasError where a rehearsal on this database would be none, or would be noticed outside of it."""
    if spec.cut_over != "swap":
        raise AtlasError(
            what=f"There is nothing to rehearse for {spec.table}.",
            why="With cut_over: side_by_side the application itself moves to the new name: nothing is exchanged under it.",
            next="Write rehearse = 0.",
        )
    if snapshot.original is None or snapshot.original.primary_key is None:
        raise AtlasError(
            what=f"{spec.table} cannot be rehearsed.",
            why="It is not there, or has no primary key.",
            next="01 Preflight tells what to do.",
        )
    if place.taken:
        raise AtlasError(
            what=f"The schema {', '.join(place.taken)} is there, and is not ours.",
            why="A rehearsal makes and drops schemas of that name.",
            next="Look what it is; rename it, or rehearse elsewhere.",
        )
    if place.published_by:
        raise AtlasError(
            what=f"The publication {', '.join(place.published_by)} carries every table.",
            why="The scratch copy would go to its subscribers, where there is no such table: their replication would stop.",
            next="Rehearse on another server: atlas-ops rehearse, or a restored copy of this database.",
        )
    needed = _locks(spec, snapshot.original, as_of)
    if needed > snapshot.server.max_locks:
        raise AtlasError(
            what=f"{spec.table} has too many partitions to be rehearsed here.",
            why=f"The scratch copy is dropped in one transaction, which takes about {needed:,} locks; this server has {snapshot.server.max_locks:,}.",
            next=f"Raise max_locks_per_transaction, or choose a longer period than {spec.every}.",
        )
    if installation.install_step(snapshot.installed) is not None:
        raise AtlasError(
            what="Our own objects are not in this database, or are those of another version.",
            why="They are part of the exchange, and a rehearsal leaves them as they are.",
            next="02 Apply migration makes them.",
        )


def _locks(spec: TableSpec, original: Relation, as_of: date) -> int:
    """What goes at the end: each partition with its indexes and its TOAST table, and the retired table."""
    partitions = len(division.periods(spec, as_of)) + 2
    return partitions * (len(original.indexes) + len(spec.indexes) + 3)


def plan_scratch(spec: TableSpec, snapshot: Snapshot, as_of: date, *, left_over: bool = False) -> Plan:
    """What a killed rehearsal left goes, the scratch copy is made, and dropped at the end. `refuse` must have passed."""
    steps = [
        *([drop_step("drop what a rehearsal left")] if left_over else []),
        *make_steps(spec, snapshot, as_of),
        drop_step(f"drop the scratch copy of {plainly(*spec.original_at)}"),
    ]
    return plan_for(STAGE, spec, snapshot.server, steps)


def make_steps(spec: TableSpec, snapshot: Snapshot, as_of: date) -> list[Step]:
    """The scratch table with its rows, then its indexes."""
    original = snapshot.original
    assert original is not None, "refuse stops without it"
    said = plainly(*spec.original_at)
    rows = rows_at_most(original)
    return [
        Step(
            name=f"copy a sample of {said}",
            statements=(
                *definition.closed_schema(SCHEMA, snapshot.closed_to),
                *definition.closed_schema(PARTITIONS, snapshot.closed_to),
                *(_marked(schema) for schema in (SCHEMA, PARTITIONS)),
                definition.like(SCHEMA, spec.name, *spec.original_at, original),
                *definition.closing(SCHEMA, spec.name, snapshot.closed_to),
                *_own_numbers(spec, original),
                _sample(spec, original, rows, as_of),
            ),
            lock="ACCESS SHARE",
            on=said,
            why=f"At most {rows:,} rows from random pages, into a schema that nobody else may use. The application's table is only read. "
            + LEFT_OUT,
            weight=rows,
        ),
        Step(
            name=f"index the sample of {said}",
            statements=tuple(_indexed(spec, original)),
            lock="ACCESS EXCLUSIVE",
            on="the scratch copy only",
            why="Its keys and indexes. Then 02, 06 and 10 run on the scratch copy as on the table itself, while the synthetic writer writes to it.",
        ),
    ]


def rows_at_most(original: Relation) -> int:
    """ROWS, or fewer of a table whose rows are large: halved, so that the plan is the same tomorrow."""
    table, rows = original.table, ROWS
    at_least = table.estimated_rows if table.estimated_rows > 0 else table.heap_bytes // PAGE_BYTES
    a_row = table.bytes / max(at_least, 1)
    while rows > 1 and rows * a_row > BYTES:
        rows //= 2
    return rows


def share_of(rows: int, estimated: int) -> float:
    """Per cent of the pages that hold so many rows or up to twice as many: a power of two, so that the plan is the same tomorrow."""
    share = 100.0
    while estimated * share / 200 >= rows:
        share /= 2
    return share


def drop_step(step: str) -> Step:
    """Everything of a rehearsal, in whichever state it is."""
    parts = {"schema": SCHEMA, "partitions": PARTITIONS, "mark": MARK}
    return Step(
        name=step,
        statements=(
            text(sqlfile.template("rehearsal_drop", **{key: sql.Literal(value) for key, value in parts.items()})),
        ),
        lock="ACCESS EXCLUSIVE",
        on="the scratch copy only",
        why="Everything of the rehearsal goes, also when it fails. Only a schema that carries the rehearsal's mark is dropped.",
        effect=Effect.REMOVES,
    )


def _marked(schema: str) -> str:
    return text(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name(schema), sql.Literal(MARK)))


def _own_numbers(spec: TableSpec, original: Relation) -> Iterable[str]:
    """Identities, and for a default that calls a sequence one of the scratch copy's own."""
    at = name(SCHEMA, spec.name)
    for column in original.columns:
        if column.identity:
            kind = raw("ALWAYS" if column.identity == "a" else "BY DEFAULT")
            yield text(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY").format(
                    at, name(column.name), kind
                )
            )
        elif column.default_sequence:
            own = name(SCHEMA, definition.fit(f"{spec.name}_{column.name}_seq"))
            yield text(sql.SQL("CREATE SEQUENCE {} OWNED BY {}").format(own, name(SCHEMA, spec.name, column.name)))
            yield text(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT nextval({})").format(
                    at, name(column.name), sql.Literal(text(own))
                )
            )


def _sample(spec: TableSpec, original: Relation, rows: int, as_of: date) -> str:
    columns = names(column.name for column in insertable(original))
    key = original.column(spec.partition_key)
    assert key is not None, "preflight refuses a specification whose key is missing"
    nowhere = [
        f"({part.of_original}) IS NOT TRUE"
        for part in division.parts(spec, key.base_type, as_of)
        if part.kind is Kind.UNCOVERED
    ]
    return text(
        sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} TABLESAMPLE SYSTEM ({}){} LIMIT {}"
        ).format(
            name(SCHEMA, spec.name),
            columns,
            columns,
            name(*spec.original_at),
            sql.Literal(share_of(rows, original.table.estimated_rows)),
            raw(f" WHERE {' AND '.join(nowhere)}") if nowhere else sql.SQL(""),
            sql.Literal(rows),
        )
    )


def _indexed(spec: TableSpec, original: Relation) -> Iterable[str]:
    at = name(SCHEMA, spec.name)
    for constraint in original.constraints:
        if constraint.kind in "pu":
            yield text(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    at, name(constraint.name), raw(constraint.definition)
                )
            )
    for index in original.indexes:
        if index.valid and not index.constraint:
            unique = sql.SQL("UNIQUE " if index.unique else "")
            yield text(sql.SQL("CREATE {}INDEX {} ON {} {}").format(unique, name(index.name), at, raw(index.tail)))
    yield from definition.replica_identity(SCHEMA, spec.name, original, ())
    yield from _after_the_rows(spec, original)
    yield text(sql.SQL("ANALYZE {}").format(at))


def _after_the_rows(spec: TableSpec, original: Relation) -> Iterable[str]:
    """New numbers begin after those that the rows have."""
    at = name(SCHEMA, spec.name)
    for column in original.columns:
        if column.identity or column.default_sequence:
            yield text(
                sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), greatest(max({}), 1)::bigint) FROM {}").format(
                    sql.Literal(text(at)), sql.Literal(column.name), name(column.name), at
                )
            )
