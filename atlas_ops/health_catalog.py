"""Reads what 09 watches, without ever standing behind a lock for longer than half a second.

Catalog rows and statistics tell almost all of it; they are read in one transaction, so that they are of one instant. What opens a table (its
size, a count of the default partition and of the key log) comes after, each in a transaction of its own: a lock, a missing right or a timeout
there is a line, not a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from atlas_ops import archive, catalog, division, online
from atlas_ops.database import Session, connect, translate
from atlas_ops.errors import AtlasError
from atlas_ops.model import Column, Partition, Relation, Snapshot, Table
from atlas_ops.spec import TableSpec, exchanged
from atlas_ops.vitals import Care, Clock, Counted, Following, Pulse, Quarantined, Size, Unread, Vitals

LOCK_TIMEOUT_MS = 500
STATEMENT_TIMEOUT_MS = 10_000
MOST_COUNTED = 1_000_000  # rows: a count of more is cut off, and says so
LINES = {"55P03", "57014", "42501", "42P01", "3F000", "40001", "40P01", "53100", "53200", "58030", "XX000"}
"""SQLSTATEs that leave out one read: a lock, a timeout, a right, a table that is gone by now, a server in need. Any other one is a fault of ours."""

_TRIES = 2  # of the sizes: a lock may come between the look at pg_locks and the table

Found = TypeVar("Found")


def patient(where: Session) -> Session:
    """The session, with the short timeouts that a look at the health has."""
    return replace(where, lock_timeout_ms=LOCK_TIMEOUT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS)


def vitals(where: Session, specs: Sequence[TableSpec]) -> tuple[Vitals, ...]:
    """One look at every table of the specifications. Raises AtlasError where the server cannot be reached, or the connection is lost."""
    with connect(patient(where)) as connection:
        return tuple(_Look(connection, spec).vitals() for spec in specs)


def under_care(where: Session) -> tuple[Care, ...]:
    """Every table under care, named by a specification or not; empty where the registry is not there or cannot be read."""
    with connect(patient(where)) as connection:
        look = _Look(connection, None)
        return look.several("the registry", look.care)


class _Look:
    """One look at one table; collects what could not be read."""

    def __init__(self, connection: psycopg.Connection, spec: TableSpec | None) -> None:
        self.connection, self.spec = connection, spec
        self.unread: list[Unread] = []

    def several(self, what: str, read: Callable[[], tuple[Found, ...]]) -> tuple[Found, ...]:
        """The rows that `read` returns; none, and a line, where it fails."""
        return self.one(what, read) or ()

    def one(self, what: str, read: Callable[[], Found]) -> Found | None:
        """What `read` returns, in a transaction (or savepoint) of its own; where that fails, a line and None."""
        try:
            with self.connection.transaction():
                return read()
        except psycopg.Error as error:
            stop = translate(error, what)
            if error.sqlstate not in LINES or self.connection.broken:
                raise stop from None
            self.unread.append(Unread(what, f"{stop.what.removeprefix(f'{what}: ')} {stop.why}"))
            return None

    def ours(self, table: str, file: str, kind: type[Found], /, **parameters: Any) -> tuple[Found, ...]:
        """Rows of a file that reads one of our own tables; none where that table is not there. A name is not looked up: that asks for USAGE."""
        row = self.connection.execute(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'atlas_ops' AND c.relname = %s)",
            (table,),
        ).fetchone()
        return catalog.rows(self.connection, file, kind, **parameters) if row and row[0] else ()

    def vitals(self) -> Vitals:
        assert self.spec is not None
        with catalog.reading(self.connection, f"Reading the health of {self.spec.table}"):
            found = self._catalogs(self.spec)
        found = self._proven(found)
        if found.snapshot is None or not found.snapshot.partitions:
            return self._ended(found)
        return self._ended(self._counted(self._sized(found, found.snapshot), found.snapshot))

    def _proven(self, found: Vitals) -> Vitals:
        """What the manifest says of the tables that were detached; it is read only where there are any."""
        if found.snapshot is None or not found.quarantined or found.spec.archive_to is None:
            return found
        from atlas_ops import months  # noqa: PLC0415 - fsspec and pyarrow, which a look at a set without an archive has no use for

        try:
            return replace(found, proven=months.proven(found.spec, found.snapshot.server))
        except AtlasError as stop:
            self.unread.append(Unread("the manifest of the archive", f"{stop.what} {stop.why}"))
            return found

    def _ended(self, found: Vitals) -> Vitals:
        return replace(found, unread=tuple(self.unread))

    # of one instant, and of the catalogs alone

    def _catalogs(self, written: TableSpec) -> Vitals:
        following = self.one("the state of the copy", lambda: self._following(written))
        spec = exchanged(written) if following and following.exchanged else written
        cared_for = self.several("the registry", self.care)
        server = self.one("the server", lambda: catalog.server(self.connection))
        if server is None:
            return Vitals(spec, None, following=following)
        original, partitioned = self._table(*spec.original_at), self._table(*spec.partitioned_at)
        divided = next((one for one in (partitioned, original) if one is not None and one.kind == "p"), None)
        oid = divided.oid if divided else 0
        # a set of others is under care by its own name
        known = [(divided.schema, divided.name)] if divided else [spec.partitioned_at, spec.original_at]
        care = next((one for one in cared_for if (one.schema, one.name) in known), None)
        ours = care is not None and (care.schema, care.name) == spec.partitioned_at
        snapshot = Snapshot(
            server=server,
            original=self._relation(original),
            partitioned=self._relation(partitioned),
            partitions=self.several("the partitions", lambda: self._partitions(spec, oid)),
            registered=ours,
            cared_for=care is not None,
            ready=care is not None and care.ready,
        )
        return Vitals(
            spec,
            snapshot,
            pulses=self.several("the statistics", lambda: self._pulses(oid)),
            quarantined=self.several("the archived tables", lambda: self._quarantined(spec)),
            clock=self.one("the age of the statistics", lambda: self._clock(oid)),
            care=care,
            following=following,
        )

    def _following(self, spec: TableSpec) -> Following | None:
        found = self.ours(
            "online_copy",
            "health_following",
            Following,
            schema=spec.schema,
            name=spec.name,
            partitioned_schema=spec.partitioned_schema,
            partitioned_name=spec.partitioned_name,
        )
        return found[0] if found else None

    def care(self) -> tuple[Care, ...]:
        return self.ours("partitioned_table", "health_care", Care)

    def _table(self, schema: str, name: str) -> Table | None:
        found = self.several(
            f"the table {schema}.{name}",
            lambda: catalog.rows(self.connection, "health_table", Table, schema=schema, name=name),
        )
        return found[0] if found else None

    def _relation(self, table: Table | None) -> Relation | None:
        """A table with its columns by name and type, and nothing else that hangs on it."""
        if table is None:
            return None
        what = f"the columns of {table.schema}.{table.name}"
        return Relation(table, self.several(what, lambda: self._columns(table.oid)))

    def _columns(self, oid: int) -> tuple[Column, ...]:
        return catalog.rows(self.connection, "health_columns", Column, oid=oid)

    def _pulses(self, oid: int) -> tuple[Pulse, ...]:
        return catalog.rows(self.connection, "health_pulses", Pulse, oid=oid)

    def _partitions(self, spec: TableSpec, oid: int) -> tuple[Partition, ...]:
        return catalog.rows(self.connection, "health_partitions", Partition, oid=oid, mark=division.mark_prefix(spec))

    def _quarantined(self, spec: TableSpec) -> tuple[Quarantined, ...]:
        return catalog.rows(self.connection, "health_quarantined", Quarantined, mark=archive.quarantine_mark(spec))

    def _clock(self, oid: int) -> Clock:
        [found] = catalog.rows(self.connection, "health_clock", Clock, oid=oid)
        return found

    # what opens a table

    def _sized(self, found: Vitals, snapshot: Snapshot) -> Vitals:
        """Sizes of the file system; of a table that is locked, or where they cannot be read, pages as of its last VACUUM or ANALYZE."""
        oids = [partition.oid for partition in snapshot.partitions]
        before = len(self.unread)
        for _ in range(_TRIES):
            del self.unread[before:]
            read = self.one("sizes on disk", lambda: self._sizes(oids))
            if read is not None:
                break
        sizes = read or {}
        partitions = tuple(_with_size(partition, sizes.get(partition.oid)) for partition in snapshot.partitions)
        locked = [
            partition.name for partition in snapshot.partitions if read is not None and partition.oid not in sizes
        ]
        if locked:
            why = f"Somebody holds or waits for ACCESS EXCLUSIVE: {len(locked)} of {len(oids)} are told as of the last VACUUM or ANALYZE."
            self.unread.append(Unread("sizes on disk", why))
        return replace(found, snapshot=replace(snapshot, partitions=partitions), sized=len(sizes) == len(oids))

    def _sizes(self, oids: Sequence[int]) -> dict[int, Size]:
        return {one.oid: one for one in catalog.rows(self.connection, "health_sizes", Size, oids=list(oids))}

    def _counted(self, found: Vitals, snapshot: Snapshot) -> Vitals:
        default = next((partition for partition in snapshot.partitions if partition.bound == "DEFAULT"), None)
        counted = None
        if default is not None:
            at = sql.Identifier(default.schema, default.name)
            counted = self.one("rows of the default partition", lambda: self._count(at))
        if found.following is None:
            return replace(found, default_rows=counted)
        log = online.log(found.spec)
        return replace(found, default_rows=counted, log_rows=self.one("the key log", lambda: self._count(log)))

    def _count(self, table: sql.Identifier) -> Counted:
        counting = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS found").format(
            table, sql.Literal(MOST_COUNTED + 1)
        )
        row = self.connection.execute(counting).fetchone()
        rows = row[0] if row else 0
        return Counted(min(rows, MOST_COUNTED), more=rows > MOST_COUNTED)


def _with_size(partition: Partition, size: Size | None) -> Partition:
    if size is None:
        return partition
    return replace(partition, heap_bytes=size.heap_bytes, index_bytes=size.index_bytes, toast_bytes=size.toast_bytes)
