"""Plans the partitioned copy of a table: built closed, filled month by month beside the table it will belong to, then attached.

The original table is never changed. A month is one transaction (its table, its rows, its indexes, its mark), so that a killed run
leaves whole months or nothing of them; the next plan is made from what the catalogs show and holds only what is missing.

Why standalone tables that are attached afterwards: twice as fast as the guide's single INSERT ... SELECT at one million rows, VACUUM
included (make bench), and ATTACH with a matching CHECK scans nothing, so it locks for milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial

from psycopg import sql

from atlas_ops import definition, online, sqlfile, takeover
from atlas_ops.copying import Copy
from atlas_ops.definition import indexed_by, name, plainly, text
from atlas_ops.division import Kind, Part, copied
from atlas_ops.installation import install_step
from atlas_ops.model import Relation, Snapshot
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.spec import TableSpec

STAGE = "apply_migration"
FILLING = " (rows are being copied)"  # at the end of the mark of a table that is not whole yet
ROUNDS = 100  # passes of a drain beyond those that the log's length asks for


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
        builder = _Builder(spec, snapshot, _original(snapshot), as_of, rows or {})
        ways: dict[str, Callable[[], Iterator[Step]]] = {
            "online": partial(builder.online, drained_too),
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


class _Builder(Copy):
    """Puts the steps for one table in order, in each of the three ways."""

    def online(self, drained_too: Sequence[str]) -> Iterator[Step]:
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
            yield drain_step(self.spec, self.original, online.ORIGINAL, rows, drained_too)

    def by_partition(self) -> Iterator[Step]:
        """Month by month, in several transactions; resumable."""
        fresh = self.snapshot.partitioned is None
        if fresh:
            yield self._build([*self._foreign_keys(self.built_at), *self._triggers(self.built_at), *self._closed()])
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
            *self._foreign_keys(self.spec.partitioned_at),
            *self._triggers(self.spec.partitioned_at),
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
        key, kind = name(self.spec.partition_key), definition.raw(self.key.type)
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
