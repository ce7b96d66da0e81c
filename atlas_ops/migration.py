"""Plans the partitioned copy of a table: built closed, filled month by month beside the table it will belong to, then attached.

The original table is never changed. A month is one transaction (its table, its rows, its indexes, its mark), so that a killed run
leaves whole months or nothing of them; the next plan is made from what the catalogs show and holds only what is missing.

Why standalone tables that are attached afterwards: twice as fast as the guide's single INSERT ... SELECT at one million rows, VACUUM
included (make bench), and ATTACH with a matching CHECK scans nothing, so it locks for milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise

from psycopg import sql

from atlas_ops import bounds, definition, online, sqlfile, takeover
from atlas_ops.bounds import Period
from atlas_ops.definition import IndexPlan, indexed_by, name, plainly, text
from atlas_ops.model import Installed, Partition, Relation, Snapshot
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.spec import TableSpec

STAGE = "apply_migration"
BOUND_CHECK = "atlas_ops_bound"
ANALYZE_ONLY_SINCE = 180000  # ANALYZE ONLY leaves the partitions out (release notes of 18)
FILLING = " (rows are being copied)"  # at the end of the mark of a table that is not whole yet
SET_ASIDE = "set aside"  # in the mark of a table that is never attached
ROUNDS = 100  # passes of a drain beyond those that the log's length asks for
OUT_OF_RANGE = "out of range"  # the label of the part that no period holds


class Kind(StrEnum):
    """What becomes of the rows of a part."""

    PERIOD = "period"  # a partition of its own
    REST = "rest"  # the default partition
    SET_ASIDE = "set aside"  # a closed table beside the partitioned one
    UNCOVERED = "uncovered"  # no table takes them: preflight refuses, and verify counts them all the same


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the partition key, with the table that holds its rows; the conditions are SQL over the row's columns."""

    kind: Kind
    label: str
    table: str  # in the schema of the partitions; empty where no table takes the rows
    bound: str | None  # FOR VALUES ... or DEFAULT; None: never attached
    of_original: str  # which rows of the original
    of_partitioned: str  # which rows of the partitioned table, or of the table set aside
    check: str = ""  # what every row of the table satisfies

    @property
    def attachable(self) -> bool:
        """It becomes a partition."""
        return self.bound is not None


def mark_prefix(spec: TableSpec) -> str:
    """How the comment of every table starts that was filled from this original: our mark, by which a later run knows its own."""
    return f"atlas_ops: rows of {text(name(spec.schema, spec.name))} "


def periods(spec: TableSpec, as_of: date) -> tuple[Period, ...]:
    """The periods that the specification wants partitions for, on that day."""
    return bounds.covered(spec.every, spec.from_, spec.until, spec.ahead, as_of)


def parts(spec: TableSpec, key_type: str, as_of: date) -> tuple[Part, ...]:
    """Every stretch of the key, so that each row of the original lies in exactly one: the periods, the rest, the rows without a key."""
    wanted = periods(spec, as_of)
    edges = [
        text(sql.Literal(bounds.literal(edge, key_type)))
        for edge in (*(period.lower for period in wanted), wanted[-1].upper)
    ]
    return (
        *(_period(spec, period, *edge) for period, edge in zip(wanted, pairwise(edges), strict=True)),
        _rest(spec, edges[0], edges[-1]),
        _keyless(spec),
    )


def _period(spec: TableSpec, period: Period, lower: str, upper: str) -> Part:
    key = text(name(spec.partition_key))
    inside = f"{key} >= {lower} AND {key} < {upper}"
    value = spec.null_value
    valued = f"({inside} OR ({key} IS NULL AND ({value}) >= {lower} AND ({value}) < {upper}))"
    return Part(
        kind=Kind.PERIOD,
        label=period.label,
        table=spec.partition_name(period),
        bound=f"FOR VALUES FROM ({lower}) TO ({upper})",
        of_original=valued if value else inside,
        of_partitioned=inside,
        check=f"{key} IS NOT NULL AND {inside}",
    )


def _rest(spec: TableSpec, first: str, last: str) -> Part:
    key = text(name(spec.partition_key))
    outside = f"({key} < {first} OR {key} >= {last})"
    value = spec.null_value
    valued = f"({outside} OR ({key} IS NULL AND (({value}) < {first} OR ({value}) >= {last})))"
    kept = spec.default_partition
    return Part(
        kind=Kind.REST if kept else Kind.UNCOVERED,
        label=OUT_OF_RANGE,
        table=spec.default_name if kept else "",
        bound="DEFAULT" if kept else None,
        of_original=valued if value else outside,
        of_partitioned=outside,
        check=f"{key} IS NOT NULL AND {outside}",
    )


def _keyless(spec: TableSpec) -> Part:
    key = text(name(spec.partition_key))
    aside = spec.null_keys == "set_aside"
    value = spec.null_value
    return Part(
        kind=Kind.SET_ASIDE if aside else Kind.UNCOVERED,
        label="no key",
        table=spec.null_keys_name if aside else "",
        bound=None,
        of_original=f"{key} IS NULL AND ({value}) IS NULL" if value else f"{key} IS NULL",
        of_partitioned="true" if aside else f"{key} IS NULL",
    )


def names_needed(spec: TableSpec, as_of: date) -> tuple[str, ...]:
    """Every relation name that the migration makes, for the catalogs to say which are taken.

    Raises AtlasError where one of them is over 63 bytes.
    """
    tables = [spec.partition_name(period) for period in periods(spec, as_of)]
    return (
        spec.partitioned_name,
        spec.name,
        *tables,
        *([spec.default_name] if spec.default_partition else []),
        *([spec.null_keys_name] if spec.null_keys == "set_aside" else []),
        *([spec.key_log_name, spec.retired_name] if spec.copy == "online" else []),
    )


def index_names(spec: TableSpec, original: Relation, tables: Sequence[str]) -> tuple[str, ...]:
    """The names that the indexes get on tables of ours, and on the partitioned table those of its identities' sequences too."""
    plans = definition.index_plans(original, spec.partition_key, spec.indexes)
    return (
        *(plan.name_on(table) for table in tables for plan in plans),
        *(
            definition.fit(f"{spec.partitioned_name}_{column.name}_seq")
            for column in original.columns
            if column.identity and spec.partitioned_name in tables
        ),
    )


def copied(snapshot: Snapshot) -> bool:
    """Whether any part was copied, or is being copied: from then on a capture that is not there means writes that nothing knows of."""
    return bool(snapshot.partitions)


INSTALL = tuple(sqlfile.names("install"))
INSTALLED_NAMES = tuple(entry.removeprefix("public.") for entry in INSTALL if entry.startswith("public."))


def install_digest(object_name: str) -> str:
    """Sixteen hexadecimal digits over the text that makes one of our database objects."""
    return hashlib.sha256(sqlfile.text("install", object_name).encode()).hexdigest()[:16]


def install_step(installed: Sequence[Installed]) -> Step | None:
    """What is missing or older than this package of our own database objects; None where nothing is."""
    have = {found.name: found.digest for found in installed}
    missing = [object_name for object_name in INSTALL if have.get(object_name) != install_digest(object_name)]
    if not missing:
        return None
    remember = [
        text(
            sql.SQL(
                "INSERT INTO atlas_ops.installed_object (name, digest) VALUES ({}, {}) "
                "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest"
            ).format(sql.Literal(object_name), sql.Literal(install_digest(object_name)))
        )
        for object_name in missing
    ]
    return Step(
        name="install " + ", ".join(missing),
        statements=(*(sqlfile.text("install", object_name).strip() for object_name in missing), *remember),
        lock="ACCESS EXCLUSIVE",
        on="our own objects only",
        why="Sizes, health and future partitions are asked from the database itself; no role of the application may call them.",
    )


def plan_migration(
    spec: TableSpec,
    snapshot: Snapshot,
    as_of: date,
    rows: Mapping[str, int] | None = None,
    *,
    install: bool = True,
    drained_too: Sequence[str] = (),
) -> Plan:
    """The steps that are missing between what the catalogs show and the partitioned copy that the specification asks for.

    `rows` (label of a part → rows) only feeds the progress shown. `install`: with our own database objects, which several
    tables share. `drained_too`: what a drain does besides. The preflight's red checks must have passed: this function decides how, not whether.
    """
    installing = install_step(snapshot.installed) if install else None
    steps = [*([installing] if installing else [])]
    state = snapshot.online
    if state is not None and state.authority == online.PARTITIONED:
        # nothing is copied any more; the original is brought in step, as long as it is there
        if state.in_step and state.log_rows and snapshot.original is not None:
            steps.append(drain_step(spec, snapshot.original, online.PARTITIONED, state.log_rows))
    else:
        builder = _Builder(spec, snapshot, _original(snapshot), as_of, rows or {}, drained_too)
        ways = {
            "online": builder.online,
            "by_partition": builder.by_partition,
            "single_transaction": builder.single_transaction,
        }
        steps += ways[spec.copy]()
    return plan_for(STAGE, spec, snapshot.server, steps, f"{spec.table}: {len(steps)} steps.", workers=spec.workers)


def drain_step(spec: TableSpec, original: Relation, authority: str, log_rows: int, more: Sequence[str] = ()) -> Step:
    """What follows is brought in step: passes of DRAIN_ROWS keys until less than one pass is left.

    `log_rows`: keys in the log when the plan was made; from them comes the number of passes after which a log that does not shrink
    stops the run. `more`: statements of others on the keys of a pass.
    """
    source, follower = (spec.original_at, spec.partitioned_at)[:: 1 if authority == online.ORIGINAL else -1]
    return Step(
        name=f"drain into {plainly(*follower)}",
        statements=online.Drain(spec, original, authority, more).statements(),
        lock="ACCESS SHARE",
        on=plainly(*source),
        why="Takes keys out of the key log and makes those rows of the copy as they are in the table that the application writes.",
        again=ROUNDS + 3 * (log_rows // online.DRAIN_ROWS),
        weight=log_rows,
    )


def migration_file(plans: Sequence[Plan]) -> str:
    """One self-contained SQL file for `psql -1 -f` or a migrations folder: the plans' own statements under pinned settings."""
    settings = (
        "SET LOCAL TimeZone = 'UTC';\nSET LOCAL search_path = '';\nSET LOCAL row_security = off;\n"
        "SET LOCAL client_encoding = 'UTF8';\nSET LOCAL client_min_messages = warning;\n"
        f"SET LOCAL lock_timeout = '{min(plan.lock_timeout_ms for plan in plans)}ms';\n"
    )
    head = (
        "-- Partitions by time, in one transaction: apply with  psql -1 -f <this file>  (or as a migration that runs in a transaction).\n"
        "-- The original tables stay as they are. Made by atlas_ops from the catalogs of one database and for that schema only.\n"
    )
    return head + "\n" + settings + "\n" + "\n".join(plan.script() for plan in plans)


def _original(snapshot: Snapshot) -> Relation:
    assert snapshot.original is not None, "preflight refuses a specification whose table is missing"
    return snapshot.original


class _Builder:
    """Writes the steps for one table; holds nothing but what it was given."""

    def __init__(
        self,
        spec: TableSpec,
        snapshot: Snapshot,
        original: Relation,
        as_of: date,
        rows: Mapping[str, int],
        drained_too: Sequence[str],
    ) -> None:
        key = original.column(spec.partition_key)
        assert key is not None, "preflight refuses a specification whose key is missing"
        self.spec, self.snapshot, self.original, self.rows, self.drained_too = (
            spec,
            snapshot,
            original,
            rows,
            drained_too,
        )
        self.covers_until = periods(spec, as_of)[-1].upper.date()
        self.parts = tuple(part for part in parts(spec, key.base_type, as_of) if part.table)
        self.indexes = definition.index_plans(original, spec.partition_key, spec.indexes)
        self.have = {
            partition.name: partition for partition in snapshot.partitions if partition.schema == spec.partition_schema
        }
        self.source = text(name(*spec.original_at))
        self.target = text(name(*spec.partitioned_at))
        # for people; the statements above and below quote every name
        self.source_said = plainly(*spec.original_at)
        self.target_said = plainly(*spec.partitioned_at)

    # -- the three ways

    def online(self) -> Iterator[Step]:
        """Month by month while the application writes, then in step until the cut-over; resumable, also inside a large month."""
        state = self.snapshot.online
        if state is None and self.snapshot.partitioned is not None:
            yield from self.by_partition()  # a copy that was begun without a capture cannot be given one afterwards
            return
        if state is None:
            yield self._build(self._following())
        if state is None or not (state.captured or copied(self.snapshot)):
            yield self._capture(again=state is not None)
        waiting = [part for part in self.parts if part.attachable and not self._attached(part)]
        if waiting and state is not None and state.in_step:
            yield self._stop_following()
        for part in self.parts:
            yield from self._copy_online(part)
        for part in waiting:
            yield self._attach(part, referenced="")
        for part in waiting:
            yield self._vacuum(part)
        if state is None or waiting or not state.in_step or not self.snapshot.ready:
            yield self._analyze()
            yield self._begin_following()
        if state is None or waiting or not state.in_step or state.log_rows:
            rows = state.log_rows if state else 0
            yield drain_step(self.spec, self.original, online.ORIGINAL, rows, self.drained_too)

    def by_partition(self) -> Iterator[Step]:
        """Month by month, in several transactions; resumable."""
        fresh = self.snapshot.partitioned is None
        if fresh:
            yield self._build([*self._foreign_keys(), *self._triggers(), *self._closed()])
        for part in self.parts:
            yield from self._fill(part)
        waiting = [part for part in self.parts if part.attachable and not self._attached(part)]
        for part in waiting:
            yield self._attach(part)
        for part in waiting:
            yield self._vacuum(part)
        if fresh or waiting or not self.snapshot.ready:
            yield self._analyze()
            yield self._finish_step(self._finish())

    def single_transaction(self) -> Iterator[Step]:
        """The guide's way: everything in one transaction, rows through the partitioned table with ON CONFLICT DO NOTHING."""
        if self.snapshot.partitioned is not None and self.snapshot.ready:
            return
        statements = self._build_statements([])
        for part in self.parts:
            statements += self._table(part, part.attachable)
            if not part.attachable:
                statements.append(self._insert(part))
            statements += self._indexes(part)
            statements += definition.comment(self.spec.partition_schema, part.table, self._mark(part))
            if part.attachable:
                statements.append(self._attach_statement(part))
        statements += [
            self._insert_all(),
            *self._foreign_keys_on_target(),
            *self._triggers_on_target(),
            *takeover.as_referred(self.spec.partitioned_at, self.original),
            *self._finish(),
            f"ANALYZE {self.target}",
        ]
        yield Step(
            name=f"partition {self.source_said} in one transaction",
            statements=tuple(statements),
            lock="SHARE ROW EXCLUSIVE",
            on=self._referenced() or "nothing the application uses",
            why="All or nothing, as the guide asks. It holds its locks until all rows are copied and every foreign key is checked; "
            "copy: by_partition does not.",
            weight=sum(self.rows.values()),
        )

    # -- online: what follows, what is captured, how a large part is copied

    def _following(self) -> list[str]:
        """The user's triggers switched off, no foreign key, and a guard: until the cut-over nobody but the drain writes here."""
        at = (self.spec.partition_schema, self.spec.name)
        statements = definition.triggers(*at, self.original)
        statements += definition.switch_triggers(name(*at), self.original.triggers)[0]
        return [*statements, *online.follows(at), online.remember(self.spec)]

    def _capture(self, *, again: bool) -> Step:
        """`again`: what is left of an earlier one goes first; no row was copied yet that could depend on it."""
        spec = self.spec
        return Step(
            name=f"capture {self.source_said}",
            statements=(
                *([*online.release(spec.original_at), *online.drop_log(spec)] if again else []),
                *online.log_objects(spec, self.original, self.snapshot.closed_to),
                *online.capture(spec, spec.original_at),
            ),
            lock="SHARE ROW EXCLUSIVE",
            on=self.source_said,
            why="From here on every write leaves its keys in the key log; waits for open writers, and lets none pass for a moment. "
            "It appends and does nothing else. TRUNCATE is refused meanwhile. Off again: "
            + "; ".join(online.release(spec.original_at))
            + ".",
        )

    def _stop_following(self) -> Step:
        return Step(
            name=f"add partitions to {self.target_said}",
            statements=(online.fence(self.spec, online.ORIGINAL), online.set_state(self.spec, "in_step = false")),
            lock="ROW SHARE",
            on="our own objects only",
            why="Keys wait in the log until the new partitions are attached: a drain before that would put their rows into the default "
            "partition, or miss one that was deleted.",
        )

    def _begin_following(self) -> Step:
        return Step(
            name=f"follow {self.source_said}",
            statements=(
                online.fence(self.spec, online.ORIGINAL),
                online.set_state(self.spec, "in_step = true"),
                self._register(ready=True),
            ),
            lock="ROW SHARE",
            on="our own objects only",
            why="Every row was copied once: what differs has its key in the log. Future partitions are made from now on.",
        )

    def _copy_online(self, part: Part) -> Iterator[Step]:
        if self._attached(part):
            return
        found = self.have.get(part.table)
        begun = found is not None and found.comment == self._mark(part) + FILLING
        if found is not None and not begun and not self._stale(part):
            return
        large = self.rows.get(part.label, 0) > self.spec.batch_rows and part.kind is Kind.PERIOD
        if begun or (large and not self.spec.null_value and indexed_by(self.original, self.spec.partition_key)):
            yield from self._copy_in_batches(part, begun)
            return
        yield self._copy_step(
            part,
            f"copy {part.table}",
            (
                online.fence(self.spec, online.ORIGINAL, shared=True),
                *([f"DROP TABLE {self._qualified(part)}"] if found is not None else []),
                *self._table(part, False),
                self._insert(part),
                *self._indexed(part),
            ),
            "Rows first, indexes after them; the table stands beside the partitioned one and nobody can see it yet.",
            weight=self.rows.get(part.label, 0),
            replaced=found is not None,
        )

    def _copy_in_batches(self, part: Part, begun: bool) -> Iterator[Step]:
        """Three steps: the empty table, batches in the order of the key, its indexes. A killed run goes on after the last batch."""
        fence = online.fence(self.spec, online.ORIGINAL, shared=True)
        row = sql.SQL("schema_name = {} AND table_name = {}").format(
            sql.Literal(self.spec.partition_schema), sql.Literal(part.table)
        )
        stale = not begun and part.table in self.have
        if not begun:
            yield self._copy_step(
                part,
                f"make {part.table}",
                (
                    fence,
                    *([f"DROP TABLE {self._qualified(part)}"] if stale else []),
                    *self._table(part, False),
                    *definition.comment(self.spec.partition_schema, part.table, self._mark(part) + FILLING),
                    self._forget_progress(row),
                    text(
                        sql.SQL("INSERT INTO atlas_ops.copy_progress (schema_name, table_name) VALUES ({}, {})").format(
                            sql.Literal(self.spec.partition_schema), sql.Literal(part.table)
                        )
                    ),
                ),
                "An empty table for a large part, which is copied in batches.",
                replaced=stale,
            )
        rows = self.rows.get(part.label, 0)
        yield self._copy_step(
            part,
            f"copy {part.table}",
            (fence, *self._batch(part, row)),
            f"In batches of about {self.spec.batch_rows:,} rows, each a transaction that also notes how far it came.",
            weight=rows,
            again=10 + 4 * (rows // self.spec.batch_rows + 1),
        )
        yield self._copy_step(
            part,
            f"index {part.table}",
            (fence, *self._indexed(part), self._forget_progress(row)),
            "Indexes after the rows; then the part is whole.",
        )

    def _forget_progress(self, row: sql.Composable) -> str:
        return text(sql.SQL("DELETE FROM atlas_ops.copy_progress WHERE {}").format(row))

    def _batch(self, part: Part, row: sql.Composable) -> tuple[str, ...]:
        key, kind = name(self.spec.partition_key), definition.raw(self._key_type())
        columns = definition.names(column.name for column in definition.insertable(self.original))
        parts: dict[str, sql.Composable] = {
            "key": key,
            "type": kind,
            "source": definition.raw(self.source),
            "rows": definition.raw(part.of_original),
            "progress": row,
        }
        return (
            text(sqlfile.template("batch_bound", limit=sql.Literal(self.spec.batch_rows), **parts)),
            text(
                sqlfile.template("batch_copy", target=definition.raw(self._qualified(part)), columns=columns, **parts)
            ),
            text(sql.SQL("UPDATE atlas_ops.copy_progress SET reached = coalesce(next, reached) WHERE {}").format(row)),
            text(sql.SQL("SELECT next IS NOT NULL FROM atlas_ops.copy_progress WHERE {}").format(row)),
        )

    def _copy_step(
        self,
        part: Part,
        step: str,
        statements: tuple[str, ...],
        why: str,
        *,
        weight: int = 0,
        again: int = 0,
        replaced: bool = False,
    ) -> Step:
        return Step(
            name=step,
            statements=statements,
            lock="ACCESS SHARE",
            on=self.source_said,
            why=why + (" The one dropped is an interrupted run's, copied by other bounds." if replaced else ""),
            effect=Effect.REMOVES if replaced else Effect.ADDS,
            lane=f"{self.spec.name} {part.label}",
            weight=weight,
            again=again,
        )

    def _indexed(self, part: Part) -> list[str]:
        """What makes a filled table whole: its indexes, its mark, its statistics."""
        return [
            *self._indexes(part),
            *definition.comment(self.spec.partition_schema, part.table, self._mark(part)),
            text(sql.SQL("ANALYZE {}").format(definition.raw(self._qualified(part)))),
        ]

    def _key_type(self) -> str:
        key = self.original.column(self.spec.partition_key)
        assert key is not None, "preflight refuses a specification whose key is missing"
        return key.type

    # -- building the empty partitioned table

    def _build(self, more: Sequence[str]) -> Step:
        return Step(
            name=f"build {self.target_said}",
            statements=tuple(self._build_statements(more)),
            lock="SHARE ROW EXCLUSIVE" if self._referenced() else "ACCESS SHARE",
            on=self._referenced() or self.source_said,
            why="The empty partitioned table with all that the original has; foreign keys check no row yet. It is built under the "
            "original's name in the closed schema, so that expressions which name the table still resolve, then renamed.",
        )

    def _build_statements(self, more: Sequence[str]) -> list[str]:
        spec, original, at = self.spec, self.original, (self.spec.partition_schema, self.spec.name)
        statements = definition.closed_schema(spec.partition_schema, self.snapshot.closed_to, self._other_owner())
        if self.snapshot.partition_schema is None or not self.snapshot.partition_schema.exists:
            mark = sql.SQL("COMMENT ON SCHEMA {} IS {}")
            statements.append(text(mark.format(name(spec.partition_schema), sql.Literal(definition.SCHEMA_MARK))))
        statements.append(definition.like_partitioned(*at, original, spec.partition_key))
        statements += definition.identities(*at, original, spec.partitioned_name)
        statements += definition.closing(*at, self.snapshot.closed_to)[:1]
        for index in self.indexes:
            statements += index.statements(*at, named_after=spec.partitioned_name)
        statements += definition.column_settings(*at, original)
        statements += definition.statistics(*at, original, spec.partitioned_name, self.snapshot.server.role)
        statements += definition.policies(*at, original)
        statements += more
        statements += definition.replica_identity(*at, original, self.indexes, spec.partitioned_name)
        statements += definition.comment(*at, original.table.comment)
        statements += self._rename()
        # the owner first: a grant to the role that runs this would merge with its ownership
        statements += self._owner(spec.partitioned_schema, spec.partitioned_name)
        statements += definition.grants(spec.partitioned_schema, spec.partitioned_name, original)
        statements.append(self._register(ready=False))
        return statements

    def _rename(self) -> list[str]:
        spec = self.spec
        moved = sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
            name(spec.partition_schema, spec.partitioned_name), name(spec.partitioned_schema)
        )
        renamed = sql.SQL("ALTER TABLE {} RENAME TO {}").format(
            name(spec.partition_schema, spec.name), name(spec.partitioned_name)
        )
        return [text(renamed), *([text(moved)] if spec.partitioned_schema != spec.partition_schema else [])]

    def _other_owner(self) -> list[str]:
        """The owner of the original, where that is not the role that runs this."""
        owner = self.original.table.owner
        return [] if owner == self.snapshot.server.role else [owner]

    def _owner(self, schema: str, table: str) -> list[str]:
        return [
            text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name(schema, table), name(owner)))
            for owner in self._other_owner()
        ]

    def _register(self, *, ready: bool) -> str:
        spec = self.spec
        values = [
            spec.partitioned_schema,
            spec.partitioned_name,
            str(spec.every),
            spec.ahead,
            spec.partition_schema,
            spec.name,
            list(self.original.table.storage_parameters),
            ready,
            spec.keep,
            spec.lock_timeout_ms,
        ]
        # where the rows reached when it was built: rows that come later do not move the ends of a copy that is under way
        extends = spec.out_of_range == "extend"
        values += [spec.from_, self.covers_until] if extends else []
        return text(
            sql.SQL(
                "INSERT INTO atlas_ops.partitioned_table (schema_name, table_name, every, ahead, partition_schema, partition_prefix, "
                "storage_parameters, ready, keep, lock_timeout_ms{}) VALUES ({}) ON CONFLICT (schema_name, table_name) DO UPDATE "
                "SET every = excluded.every, "
                "ahead = excluded.ahead, partition_schema = excluded.partition_schema, partition_prefix = excluded.partition_prefix, "
                "storage_parameters = excluded.storage_parameters, ready = excluded.ready, keep = excluded.keep, "
                "lock_timeout_ms = excluded.lock_timeout_ms"
            ).format(
                sql.SQL(", covers_from, covers_until" if extends else ""),
                sql.SQL(", ").join(sql.Literal(value) for value in values),
            )
        )

    def _foreign_keys(self) -> list[str]:
        return definition.foreign_keys(self.spec.partition_schema, self.spec.name, self.original)

    def _foreign_keys_on_target(self) -> list[str]:
        return definition.foreign_keys(self.spec.partitioned_schema, self.spec.partitioned_name, self.original)

    def _triggers(self) -> list[str]:
        return definition.triggers(self.spec.partition_schema, self.spec.name, self.original)

    def _triggers_on_target(self) -> list[str]:
        return definition.triggers(self.spec.partitioned_schema, self.spec.partitioned_name, self.original)

    def _closed(self) -> list[str]:
        """Nobody follows what the application would write here: it may only read until 06 opens the copy."""
        at = (self.spec.partition_schema, self.spec.name)
        return [*takeover.closed(at), *takeover.as_referred(at, self.original)]

    def _referenced(self) -> str:
        return ", ".join(
            sorted({fk.referenced for fk in self.original.constraints if fk.kind == "f" and fk.referenced})
        )

    # -- one part: its table, its rows, its indexes

    def _fill(self, part: Part) -> Iterator[Step]:
        if self._attached(part):
            return
        lane = f"{self.spec.name} {part.label}"
        table = self._qualified(part)
        stale = self._stale(part)
        if stale or part.table not in self.have:
            yield Step(
                name=f"copy {part.table}",
                statements=(
                    *([f"DROP TABLE {table}"] if stale else []),
                    *self._table(part, False),
                    self._insert(part),
                    *self._indexed(part),
                ),
                lock="ACCESS SHARE",
                on=self.source_said,
                why="Rows first, indexes after them; the table stands beside the partitioned one and nobody can see it yet."
                + (" The one dropped is an interrupted run's, copied by other bounds." if stale else ""),
                effect=Effect.REMOVES if stale else Effect.ADDS,
                lane=lane,
                weight=self.rows.get(part.label, 0),
            )
        if part.attachable:
            yield from self._check_foreign_keys(part, lane)

    def _check_foreign_keys(self, part: Part, lane: str) -> Iterator[Step]:
        found = None if self._stale(part) else self.have.get(part.table)
        table = definition.raw(self._qualified(part))
        keys = [fk for fk in self.original.constraints if fk.kind == "f"]
        missing = [fk for fk in keys if found is None or fk.name not in found.foreign_keys]
        if missing:
            yield Step(
                name=f"foreign keys of {part.table}",
                statements=tuple(
                    text(
                        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(
                            table, name(fk.name), definition.raw(fk.definition.removesuffix(" NOT VALID"))
                        )
                    )
                    for fk in missing
                ),
                lock="SHARE ROW EXCLUSIVE",
                on=self._referenced(),
                why="NOT VALID reads no row, so the referenced tables are locked for a moment only.",
                lane=lane,
            )
        unvalidated = [
            fk for fk in keys if fk.validated and (fk in missing or (found and fk.name in found.unvalidated))
        ]
        if unvalidated:
            yield Step(
                name=f"check foreign keys of {part.table}",
                statements=(
                    self._forget_deleted(part),
                    *(
                        text(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, name(fk.name)))
                        for fk in unvalidated
                    ),
                ),
                lock="ROW SHARE",
                on=self._referenced(),
                why="Every row is checked here, without blocking a writer, so that ATTACH need not. Rows that a cascade took from the "
                "original since they were copied go first; from here on it takes them from the copy too.",
                lane=lane,
            )

    def _forget_deleted(self, part: Part) -> str:
        """Without it a referenced row that was deleted while this part was copied would fail the check for ever."""
        primary = self.original.primary_key
        assert primary is not None, "preflight refuses a table without one"
        same = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(name("o", column), name("p", column)) for column in primary.columns
        )
        return text(
            sql.SQL("DELETE FROM {} AS p WHERE NOT EXISTS (SELECT FROM {} AS o WHERE {} AND {})").format(
                definition.raw(self._qualified(part)),
                definition.raw(self.source),
                same,
                definition.raw(part.of_original),
            )
        )

    def _table(self, part: Part, empty: bool) -> list[str]:
        """The table of a part. With rows to come and a bound: a CHECK that spares ATTACH its scan."""
        spec, schema = self.spec, self.spec.partition_schema
        model = (spec.schema, spec.name) if not part.attachable else (spec.partitioned_schema, spec.partitioned_name)
        statements = [definition.like(schema, part.table, *model, self.original)]
        statements += definition.closing(schema, part.table, self.snapshot.closed_to)
        statements += definition.column_settings(schema, part.table, self.original)
        statements += definition.statistics(schema, part.table, self.original, part.table, self.snapshot.server.role)
        statements += self._owner(schema, part.table)
        if part.attachable and not empty:
            statements.append(
                text(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({})").format(
                        name(schema, part.table), name(BOUND_CHECK), definition.raw(part.check)
                    )
                )
            )
        return statements

    def _indexes(self, part: Part) -> list[str]:
        key = self.original.primary_key
        aside = [IndexPlan("pkey", constraint=key.definition, of=key.name)] if key else []
        if self.spec.copy == "online":  # its foreign keys come at the cut-over, and cascade
            columns = dict.fromkeys(fk.columns for fk in self.original.constraints if fk.kind == "f")
            aside += [
                IndexPlan(
                    "_".join([*each, "idx"]), tail=text(sql.SQL("USING btree ({})").format(definition.names(each)))
                )
                for each in columns
            ]
        indexes = self.indexes if part.attachable else aside
        at = self.spec.partition_schema, part.table
        made = [statement for index in indexes for statement in index.statements(*at)]
        return [*made, *definition.replica_identity(*at, self.original, indexes)]

    def _insert(self, part: Part) -> str:
        columns = [column.name for column in definition.insertable(self.original)]
        listed = sql.SQL(", ").join(
            sql.SQL(online.projection(self.spec, column)) if part.attachable else name(column) for column in columns
        )
        return text(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE {}").format(
                name(self.spec.partition_schema, part.table),
                definition.names(columns),
                listed,
                definition.raw(self.source),
                definition.raw(part.of_original),
            )
        )

    def _insert_all(self) -> str:
        """Every row that has a key, through the partitioned table."""
        columns = [column.name for column in definition.insertable(self.original)]
        key = online.projection(self.spec, self.spec.partition_key)
        # a deferrable key cannot arbitrate
        arbitrated = not any(
            constraint.deferrable for constraint in self.original.constraints if constraint.kind in "pu"
        )
        return text(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE {} IS NOT NULL{}").format(
                definition.raw(self.target),
                definition.names(columns),
                sql.SQL(", ").join(sql.SQL(online.projection(self.spec, column)) for column in columns),
                definition.raw(self.source),
                definition.raw(key),
                sql.SQL(" ON CONFLICT DO NOTHING" if arbitrated else ""),
            )
        )

    # -- attaching

    def _attach(self, part: Part, referenced: str | None = None) -> Step:
        """`referenced`: the tables that foreign keys of the part refer to; None: those of the original."""
        if referenced is None:
            referenced = self._referenced()
        check = text(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(
                definition.raw(self._qualified(part)), name(BOUND_CHECK)
            )
        )
        return Step(
            name=f"attach {part.table}",
            statements=(self._attach_statement(part), check),
            lock="ACCESS EXCLUSIVE" if referenced else "SHARE UPDATE EXCLUSIVE",
            on=referenced or self.target_said,
            why="The CHECK proves the bound, so no row is read: 2 to 8 ms. It goes once the bound itself stands."
            + (
                " The referenced tables are locked because the foreign key is merged into the partitioned table's."
                if referenced
                else ""
            ),
        )

    def _attach_statement(self, part: Part) -> str:
        return f"ALTER TABLE {self.target} ATTACH PARTITION {self._qualified(part)} {part.bound}"

    def _vacuum(self, part: Part) -> Step:
        return Step(
            name=f"vacuum {part.table}",
            statements=(f"VACUUM (ANALYZE, SKIP_LOCKED) {self._qualified(part)}",),
            lock="SHARE UPDATE EXCLUSIVE",
            on=plainly(self.spec.partition_schema, part.table),
            why="Sets the visibility map, without which the first index-only scans read the heap. Skipped where autovacuum is at it.",
            lane=f"{self.spec.name} {part.label}",
            autocommit=True,
        )

    # -- finishing

    def _finish_step(self, statements: Sequence[str]) -> Step:
        published = any(not publication.all_tables for publication in self.original.publications)
        return Step(
            name=f"finish {self.target_said}",
            statements=tuple(statements),
            lock="SHARE UPDATE EXCLUSIVE",
            on=self.target_said,
            why="Numbers go on where the original's stand, and future partitions are made from now on."
            + (" Publications carry it." if published else ""),
        )

    def _finish(self) -> list[str]:
        statements = []
        for column in self.original.columns:
            # once the copy is in use its own numbers count: a later run that adds months leaves them alone
            if column.identity and column.sequence and not self.snapshot.ready:
                statements.append(
                    text(
                        sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), last_value, is_called) FROM {}").format(
                            sql.Literal(self.target),
                            sql.Literal(column.name),
                            definition.raw(column.sequence),
                        )
                    )
                )
        statements += self._publications()
        statements.append(self._register(ready=True))
        return statements

    def _analyze(self) -> Step:
        """The partitions have their statistics already; before 18 there is no way to leave them out."""
        if self.snapshot.server.version >= ANALYZE_ONLY_SINCE:
            statement = f"ANALYZE (SKIP_LOCKED) ONLY {self.target}"
        else:
            statement = f"ANALYZE (SKIP_LOCKED) {self.target}"
        return Step(
            name=f"analyze {self.target_said}",
            statements=(statement,),
            lock="SHARE UPDATE EXCLUSIVE",
            on=self.target_said,
            why="The planner gets statistics of the whole: autovacuum never analyzes a partitioned table.",
            autocommit=True,
        )

    def _publications(self) -> list[str]:
        if self.spec.publications == "leave":
            return []
        have = (
            {publication.name for publication in self.snapshot.partitioned.publications}
            if self.snapshot.partitioned
            else set()
        )
        statements = []
        for publication in self.original.publications:
            if publication.all_tables or publication.name in have:
                continue
            columns = (
                sql.SQL(" ({})").format(definition.names(publication.columns)) if publication.columns else sql.SQL("")
            )
            where = (
                sql.SQL(" WHERE ({})").format(definition.raw(publication.row_filter))
                if publication.row_filter
                else sql.SQL("")
            )
            statements.append(
                text(
                    sql.SQL("ALTER PUBLICATION {} ADD TABLE {}{}{}").format(
                        name(publication.name), definition.raw(self.target), columns, where
                    )
                )
            )
        return statements

    # -- state

    def _qualified(self, part: Part) -> str:
        return text(name(self.spec.partition_schema, part.table))

    def _mark(self, part: Part) -> str:
        return mark_prefix(self.spec) + f"{part.bound or SET_ASIDE} WHERE {part.of_original}"

    def _stale(self, part: Part) -> bool:
        """An interrupted run's copy that was filled by other bounds or another expression, since a day or the specification changed."""
        found = self.have.get(part.table)
        return not self.snapshot.ready and found is not None and not found.bound and found.comment != self._mark(part)

    def _attached(self, part: Part) -> bool:
        found: Partition | None = self.have.get(part.table)
        return found is not None and (found.bound is not None or not part.attachable) and not self._stale(part)
