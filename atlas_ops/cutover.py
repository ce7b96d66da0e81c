"""Plans the exchange of the two tables, its inverse, and what ends a copy. Pure.

The cut-over and the roll-back are one protocol with the tables exchanged: whoever is in use is captured, whoever follows has no live foreign key
and no live trigger. Every statement of an exchange is instant (an entry in the catalogs); what reads rows comes before or after it. Measured
with 40 partitions on 15 and 18: 80 foreign keys NOT VALID 11 ms, a row trigger on all of them 1.5 ms, a rename 0.3 ms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

from psycopg import sql

from atlas_ops import definition, incoming, online, repoint, sqlfile, takeover
from atlas_ops.definition import name, plainly, raw, text
from atlas_ops.errors import AtlasError
from atlas_ops.migration import drain_step
from atlas_ops.model import Constraint, OnlineCopy, Partition, Relation, Snapshot
from atlas_ops.online import ORIGINAL, PARTITIONED
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import ExchangedSpec, TableSpec, exchanged

CUT_OVER, ROLL_BACK = "cut_over", "roll_back"
LONGEST_WAIT_MS = 500  # for all locks of an exchange together: below deadlock_timeout (1 s), so that nobody else is chosen as its victim
STATEMENT_MS = 2_000  # of an exchange: a hung drain gives way to the application
IDLE_MS = 3_000  # and a hung client loses its lock
END_RUNS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
    "AND pid <> pg_backend_pid() AND (starts_with(application_name, 'atlas_ops apply') OR starts_with(application_name, 'atlas_ops drain'))"
)
DRAINED_AT = "atlas_ops.drained_at"  # a setting of the transaction: when the drain had committed
LONG_LOG = 100_000  # keys: a drain of seconds, which belongs before the exchange and not into it


# -- what stands in the way


def checks(spec: TableSpec, snapshot: Snapshot) -> Iterator[Check]:
    """What stops an exchange, in either direction; red lines name their cure."""
    state = snapshot.online
    if takeover.serves(spec, snapshot):
        yield from takeover.checks(spec, snapshot)
        yield from _columns(spec, snapshot)
        return
    if state is None:
        yield _stop(
            spec, "copy", f"{spec.table} has no copy that is kept in step.", "Only a copy that follows every write can take its place.",
            "02 Apply migration with copy: online." if not snapshot.registered else
            '10 Roll back with how = "abandon" removes the copy there is; then 02 Apply migration with copy: online.',
        )  # fmt: skip
        return
    if snapshot.original is None or snapshot.partitioned is None:
        missing = spec.original_at if snapshot.original is None else spec.partitioned_at
        yield _stop(
            spec, "tables", f"There is no {plainly(*missing)}.", "It was dropped or renamed, so there is nothing to exchange.",
            "04 Inspect partitions shows what is there.",
        )  # fmt: skip
        return
    if not state.captured:
        yield _stop(
            spec, "capture", "The capture is not there, or does not always fire.",
            "What was written since it went is in no log: the copy cannot be trusted.",
            "10 Roll back with how = \"abandon\" removes the copy; then begin again with 02 Apply migration.",
        )  # fmt: skip
    elif not state.in_step:
        yield _stop(
            spec, "in step", "Not every row is copied yet.", "The copy of some partitions was interrupted.",
            "02 Apply migration finishes it.",
        )  # fmt: skip
    yield from _columns(spec, snapshot)
    if state.log_rows > LONG_LOG:
        yield Check(
            Severity.WARN, spec.name, "key log", f"{state.log_rows:,} keys wait in the key log.",
            "They are drained before any lock is asked for.", "Drain more often: 02 Apply migration by a scheduler.",
        )  # fmt: skip
    renames = spec.cut_over == "swap"
    leaving, coming = (snapshot.original, snapshot.partitioned)[:: -1 if turned(snapshot) else 1]
    if renames:
        yield from repoint.checks(spec, leaving, coming)
        yield from incoming.checks(spec, snapshot.original, snapshot.server.version, snapshot.taken, snapshot.aside)
    else:
        for reference in snapshot.original.references:
            yield _stop(
                spec, "incoming foreign key", f"{reference.table}: {reference.constraint}",
                "Side by side it goes on referring to the original, which follows only after a while: it would refuse what the application does.",
                "Use cut_over: swap, which re-points it; or drop it first.",
            )  # fmt: skip
    names = {(taken.schema, taken.name) for taken in snapshot.taken}
    if state.authority == ORIGINAL and renames and (spec.partition_schema, spec.retired_name) in names:
        yield _stop(
            spec, "names", f"{plainly(spec.partition_schema, spec.retired_name)} is taken.", "The original gets this name at the cut-over.",
            "Rename or drop that relation once you know what it is.",
        )  # fmt: skip


def _columns(spec: TableSpec, snapshot: Snapshot) -> Iterator[Check]:
    if snapshot.original is None or snapshot.partitioned is None:
        return
    sides = [
        {column.name: column.type for column in side.columns} for side in (snapshot.original, snapshot.partitioned)
    ]
    if sides[0] != sides[1]:
        differ = sorted(name for name in sides[0].keys() | sides[1].keys() if sides[0].get(name) != sides[1].get(name))
        yield _stop(
            spec, "columns", f"Both tables do not have the same columns: {', '.join(differ)}.",
            "One of them was altered since the copy was made; what is in that column would be lost.",
            "Alter the other one in the same way, then log its rows again (03 Verify counts); or abandon the copy and begin again.",
        )  # fmt: skip


def _stop(spec: TableSpec, check: str, what: str, why: str, cure: str) -> Check:
    return Check(Severity.STOP, spec.name, check, what, why, cure)


# -- the plans


def wants_partitioned(spec: TableSpec) -> bool:
    """Whether the specification wants the application to write to the partitioned table once 06 has run."""
    return spec.cut_over == "swap" or spec.in_step == "to_original"


def turned(snapshot: Snapshot) -> bool:
    """Whether the application writes to the partitioned table: there is something to roll back."""
    return snapshot.online is not None and snapshot.online.authority == PARTITIONED


def retired_for_good(snapshot: Snapshot) -> bool:
    """The application writes to the partitioned table, and the original was dropped: nothing is left to exchange."""
    return turned(snapshot) and snapshot.original is None


def plan_cut_over(spec: TableSpec, snapshot: Snapshot, as_of: date) -> Plan:
    """The exchange, and what is checked after it; only what is missing. `checks` must have passed: this decides how, not whether.

    A copy that follows nothing is opened to the application instead.
    """
    if takeover.serves(spec, snapshot):
        return plan_for(CUT_OVER, spec, snapshot.server, takeover.open_steps(spec, snapshot))
    state, original, partitioned = _found(spec, snapshot)
    steps: list[Step] = []
    last: tuple[Step, ...] = ()
    after = spec
    if state.authority == ORIGINAL and wants_partitioned(spec):
        renames = spec.cut_over == "swap"
        after = exchanged(spec) if renames else spec
        too = incoming.in_drain(spec, original, online.batch_table(spec)) if renames else []
        steps += incoming.prepare(spec, original, as_of) if renames else ()
        steps.append(drain_step(spec, original, ORIGINAL, state.log_rows, too))
        steps.append(_Exchange(spec, after, snapshot, too).cut_over())
        steps += _referring(original) if renames else ()
        missing = _foreign_keys(original)
        names = {own: theirs for own, theirs, _ in repoint.index_names(spec, original)}
        last = repoint.comments(spec, original, partitioned, names, [fk.name for fk in missing]) if renames else ()
    else:
        have = {constraint.name for constraint in partitioned.constraints}
        missing = [fk for fk in _kept(state) if fk.name not in have] if state.authority == PARTITIONED else []
        if isinstance(spec, ExchangedSpec):
            steps += [*incoming.after_cut_over(spec, original), *repoint.after_exchange(spec, original, partitioned)]
    if missing:
        steps += _finish_foreign_keys(after, snapshot, missing)
    return plan_for(CUT_OVER, spec, snapshot.server, [*steps, *last], workers=spec.workers)


def plan_roll_back(spec: TableSpec, snapshot: Snapshot) -> Plan:
    """The exchange back with every write made since, and what is checked after it; nothing where the original is in use.

    A copy that follows nothing is closed to the application instead, and what was written to it stays there.
    """
    if takeover.serves(spec, snapshot):
        return plan_for(ROLL_BACK, spec, snapshot.server, takeover.close_steps(spec, snapshot))
    state, original, partitioned = _found(spec, snapshot)
    steps: list[Step] = []
    renames = spec.cut_over == "swap"
    unvalidated = [fk for fk in _foreign_keys(original) if not fk.validated]
    if state.authority == PARTITIONED:
        steps.append(drain_step(spec, original, PARTITIONED, state.log_rows))
        steps.append(_Exchange(spec, _plain(spec), snapshot).roll_back())
        steps += _referring(original) if renames else ()
        unvalidated = [fk for fk in _kept(state) if fk.validated]
    else:
        steps += (
            [*incoming.after_roll_back(spec, original), *repoint.after_exchange(spec, partitioned, original)]
            if renames
            else ()
        )
        were_valid = {fk.name for fk in _kept(state) if fk.validated}
        unvalidated = [fk for fk in unvalidated if fk.name in were_valid]
    if unvalidated:
        at = _plain(spec).original_at
        steps.append(_validate(at, unvalidated, f"check foreign keys of {plainly(*at)}"))
    return plan_for(ROLL_BACK, spec, snapshot.server, steps)


def plan_drain(spec: TableSpec, snapshot: Snapshot) -> Plan:
    """Whoever follows is brought in step, in the direction that holds now."""
    state, original, _ = _found(spec, snapshot)
    too = incoming.drained_too(spec, snapshot)
    due = state.in_step and state.log_rows
    steps = [drain_step(spec, original, state.authority, state.log_rows, too)] if due else []
    return plan_for("drain", spec, snapshot.server, steps)


def plan_switch_off(spec: TableSpec, snapshot: Snapshot) -> Plan:
    """The kill switch: the capture goes in one short transaction, and the application is as it was before. The copy stays, and is stale."""
    return replace(plan_for(ROLL_BACK, spec, snapshot.server, [_switch_off(spec, snapshot, now=True)]), alone=False)


def plan_abandon(spec: TableSpec, snapshot: Snapshot) -> Plan:
    """Everything that the migration made goes, and the catalogs are as they were before. Refused once the application uses the copy."""
    state = snapshot.online
    if turned(snapshot) or takeover.opened(spec, snapshot):
        raise AtlasError(
            what=f"{spec.table} cannot be abandoned: the application writes to the partitioned table.",
            why="Dropping it would lose rows.",
            next='Roll back first (how = "roll_back"), then abandon.',
        )
    steps = [_switch_off(spec, snapshot)] if state is not None else []
    if state is not None or snapshot.registered:
        steps.append(_drop_copy(spec, snapshot))
    return plan_for(ROLL_BACK, spec, snapshot.server, steps)


def plan_retire(spec: TableSpec, snapshot: Snapshot) -> Plan:
    """The retired table goes for good: no roll-back after it."""
    state = snapshot.online
    if state is None or not turned(snapshot) or snapshot.original is None:
        return plan_for(CUT_OVER, spec, snapshot.server, [])
    in_use = spec.partitioned_at
    return plan_for(
        CUT_OVER,
        spec,
        snapshot.server,
        [
            Step(
                name=f"stop following {plainly(*in_use)}",
                statements=(*_released(spec, snapshot), online.drop_trigger(in_use, online.GUARD), online.set_state(spec, "in_step = false")),
                lock="ACCESS EXCLUSIVE",
                on=plainly(*in_use),
                why="From here on nothing of what the application writes reaches the retired table: there is no way back.",
                effect=Effect.REMOVES,
            ),
            Step(
                name=f"drop {plainly(*spec.original_at)}",
                statements=(
                    text(sql.SQL("DROP TABLE {}").format(name(*spec.original_at))),
                    *online.drop_log(spec),
                ),
                lock="ACCESS EXCLUSIVE",
                on=plainly(*spec.original_at),
                why="The retired table and its key log. It fails, and nothing is dropped, where something still depends on it.",
                effect=Effect.REMOVES,
            ),
        ],
    )  # fmt: skip


# -- their steps


def _found(spec: TableSpec, snapshot: Snapshot) -> tuple[OnlineCopy, Relation, Relation]:
    assert snapshot.online and snapshot.original and snapshot.partitioned, "checks refuses what is not there"
    return snapshot.online, snapshot.original, snapshot.partitioned


def _plain(spec: TableSpec) -> TableSpec:
    """The specification as it reads before the names are exchanged."""
    if not isinstance(spec, ExchangedSpec):
        return spec
    fields = TableSpec.__dataclass_fields__
    return TableSpec(**{("from" if field == "from_" else field): getattr(spec, field) for field in fields})


def _referring(original: Relation) -> tuple[Step, ...]:
    """The checks of the foreign keys that the exchange before them has re-pointed, NOT VALID."""
    again = tuple(replace(reference, validated=False) for reference in original.references)
    return incoming.checked(again)


def _foreign_keys(original: Relation) -> list[Constraint]:
    return [constraint for constraint in original.constraints if constraint.kind == "f"]


def _kept(state: OnlineCopy) -> list[Constraint]:
    """The foreign keys that the original had before the cut-over."""
    return [
        Constraint(
            name=fk["name"], kind="f", definition=fk["definition"], columns=(), validated=fk["validated"], deferrable=False,
            referenced=fk["referenced"], may_reference=True,
        )
        for fk in state.kept.get("foreign_keys", [])
    ]  # fmt: skip


def _not_valid(fk: Constraint) -> str:
    return fk.definition.removesuffix(" NOT VALID") + " NOT VALID"


def _validate(table: tuple[str, str], keys: Sequence[Constraint], step: str, lane: str = "") -> Step:
    return Step(
        name=step,
        statements=tuple(
            text(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(name(*table), name(fk.name))) for fk in keys
        ),
        lock="SHARE UPDATE EXCLUSIVE",
        on=plainly(*table),
        why="The rows are those that were valid before: this only says so in the catalog, without blocking a writer.",
        lane=lane,
    )


def _finish_foreign_keys(spec: TableSpec, snapshot: Snapshot, keys: Sequence[Constraint]) -> Iterator[Step]:
    """Each partition's foreign keys are validated, then merged into the partitioned table's own, which reads no row then."""
    valid = [fk for fk in keys if fk.validated]
    for partition in _attached(snapshot) if valid else []:
        step = f"check foreign keys of {partition.name}"
        yield _validate((partition.schema, partition.name), valid, step, lane=partition.name)
    target = name(*spec.partitioned_at)
    referenced = ", ".join(sorted({fk.referenced for fk in keys if fk.referenced}))
    yield Step(
        name=f"foreign keys of {plainly(*spec.partitioned_at)}",
        statements=(
            *(
                text(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(target, name(fk.name), raw(fk.definition)))
                for fk in keys
            ),
            _ready(spec, "true"),
        ),
        lock="ACCESS EXCLUSIVE",
        on=referenced,
        why="One foreign key of the whole takes over those of the partitions: an entry in the catalogs, for future partitions too.",
    )


def _attached(snapshot: Snapshot) -> list[Partition]:
    return [partition for partition in snapshot.partitions if partition.bound is not None]


def _ready(spec: TableSpec, ready: str) -> str:
    """Whether future partitions are made: not between an exchange and its foreign keys."""
    schema, table = spec.partitioned_at
    return text(
        sql.SQL("UPDATE atlas_ops.partitioned_table SET ready = {} WHERE schema_name = {} AND table_name = {}").format(
            raw(ready), sql.Literal(schema), sql.Literal(table)
        )
    )


def _switch_off(spec: TableSpec, snapshot: Snapshot, *, now: bool = False) -> Step:
    """`now`: runs of ours that are copying or draining, and whose locks it would wait for, are ended first."""
    in_use = spec.partitioned_at if turned(snapshot) else spec.original_at
    return Step(
        name=f"switch off the capture of {plainly(*in_use)}",
        statements=(
            *([END_RUNS] if now else []),
            *_released(spec, snapshot),
            online.drop_trigger(in_use, online.GUARD),
            online.set_state(spec, "in_step = false"),
        ),
        lock="ACCESS EXCLUSIVE",
        on=plainly(*in_use),
        why="One short transaction; the application's statements are as they were before. The copy follows no longer, and is stale from here on.",
        effect=Effect.REMOVES,
    )


def _aside(spec: TableSpec) -> list[tuple[str, str]]:
    """The table of the rows without a key, where the specification sets them aside."""
    return [(spec.partition_schema, spec.null_keys_name)] if spec.null_keys == "set_aside" else []


def _released(spec: TableSpec, snapshot: Snapshot) -> list[str]:
    """The capture off, on whatever is captured."""
    if not turned(snapshot):
        return online.release(spec.original_at)
    return [statement for table in (spec.partitioned_at, *_aside(spec)) for statement in online.release(table)]


def _drop_copy(spec: TableSpec, snapshot: Snapshot) -> Step:
    standing = [partition for partition in snapshot.partitions if partition.bound is None]
    progress = [sql.Literal(partition.name) for partition in snapshot.partitions] or [sql.Literal("")]
    schema, table = spec.partitioned_at
    return Step(
        name=f"drop the copy of {plainly(*spec.original_at)}",
        statements=(
            *(incoming.abandon(spec, snapshot.original) if snapshot.original else []),
            *([text(sql.SQL("DROP TABLE {}").format(name(schema, table)))] if snapshot.partitioned else []),
            *(text(sql.SQL("DROP TABLE {}").format(name(one.schema, one.name))) for one in standing),
            *online.drop_log(spec),
            text(
                sql.SQL("DELETE FROM atlas_ops.copy_progress WHERE schema_name = {} AND table_name IN ({})").format(
                    sql.Literal(spec.partition_schema), sql.SQL(", ").join(progress)
                )
            ),
            text(
                sql.SQL("DELETE FROM atlas_ops.partitioned_table WHERE schema_name = {} AND table_name = {}").format(
                    sql.Literal(schema), sql.Literal(table)
                )
            ),
            online.forget(spec),
            text(
                sqlfile.template(
                    "uninstall",
                    schema=name(spec.partition_schema),
                    schema_text=sql.Literal(text(name(spec.partition_schema))),
                    mark=sql.Literal(definition.SCHEMA_MARK),
                )
            ),
        ),
        lock="ACCESS EXCLUSIVE",
        on=plainly(schema, table),
        why="The partitioned table, its partitions, the rows set aside and the key log; with the last table under care our own objects too.",
        effect=Effect.REMOVES,
    )


class _Exchange:
    """Writes the statements of one exchange: `spec` is how the tables are found before it, `after` how they are found after it."""

    def __init__(self, spec: TableSpec, after: TableSpec, snapshot: Snapshot, drained_too: Sequence[str] = ()) -> None:
        self.spec, self.after, self.snapshot, self.drained_too = spec, after, snapshot, drained_too
        self.state, self.original, self.partitioned = _found(spec, snapshot)
        self.renames = spec.original_at != after.original_at

    def cut_over(self) -> Step:
        spec, after = self.spec, self.after
        keys = _foreign_keys(self.original)
        statements = [
            *online.release(spec.original_at),
            online.drop_trigger(spec.original_at, online.GUARD),
            online.drop_trigger(spec.partitioned_at, online.FOLLOWS),
            *(self._drop_key(spec.original_at, fk) for fk in keys),
            *definition.switch_triggers(name(*spec.original_at), self.original.triggers)[0],
            *self._bound(self.original, self.partitioned, self._rename_to_retired()),
            *self._add_keys_to_partitions(keys),
            *self._live_triggers(after.partitioned_at, self.original),
            *online.capture(spec, after.partitioned_at),
            *(statement for aside in _aside(spec) for statement in self._live_aside(aside, keys)),
            *online.guard(spec, after.partitioned_at),
            *online.follows(after.original_at),
            *self._registered(ready=not keys),
            online.set_state(spec, self._turned(PARTITIONED, keys)),
        ]
        return self._step("cut over", ORIGINAL, statements, keys)

    def roll_back(self) -> Step:
        spec, after = self.spec, self.after
        keys = _kept(self.state)
        statements = [
            *online.release(spec.partitioned_at),
            *(statement for aside in _aside(spec) for statement in online.release(aside)),
            *(self._drop_key(aside, fk) for aside in _aside(spec) for fk in keys),
            online.drop_trigger(spec.partitioned_at, online.GUARD),
            online.drop_trigger(spec.original_at, online.FOLLOWS),
            *self._drop_keys_of_partitioned(keys),
            *definition.switch_triggers(name(*spec.partitioned_at), self.partitioned.triggers)[0],
            *self._bound(self.partitioned, self.original, self._rename_back()),
            *(self._add_key(after.original_at, fk) for fk in keys),
            *self._live_triggers(after.original_at, self.partitioned),
            *online.capture(spec, after.original_at),
            *online.guard(spec, after.original_at),
            *online.follows(after.partitioned_at),
            *self._registered(ready=True),
            online.set_state(spec, self._turned(ORIGINAL, keys)),
        ]
        return self._step("roll back", PARTITIONED, statements, keys)

    # -- the frame: locks, the drain between them, the checks under them

    def _step(self, verb: str, authority: str, statements: Sequence[str], keys: Sequence[Constraint]) -> Step:
        leaving, coming = self.original, self.partitioned
        in_use = self.spec.original_at
        if authority == PARTITIONED:
            leaving, coming, in_use = coming, leaving, self.spec.partitioned_at
        referenced = sorted({fk.referenced for fk in keys if fk.referenced})
        # a reader of a view locks it before the table below it, a writer of a referring table locks that before this one: so do we
        others = repoint.locks(leaving, coming) if self.renames else []
        referring = incoming.lock_first(_plain(self.spec), self.original) if self.renames else []
        count = 2 + len(referenced) + len(others) + len(referring)
        wait = max(1, min(self.spec.lock_timeout_ms, LONGEST_WAIT_MS) // count)
        table = name(*in_use)
        return Step(
            name=f"{verb} {plainly(self.spec.schema, self.spec.name)}",
            first=(
                f"SET LOCAL lock_timeout = '{wait}ms'",
                f"SET LOCAL statement_timeout = '{STATEMENT_MS}ms'",
                f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_MS}ms'",
                *others,
                text(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table)),
            ),
            meanwhile=(
                f"SET LOCAL statement_timeout = '{STATEMENT_MS}ms'",
                *online.Drain(self.spec, self.original, authority, self.drained_too).statements(limit=0),
            ),
            statements=(
                f"SELECT set_config('{DRAINED_AT}', clock_timestamp()::text, true)",
                text(
                    sqlfile.template(
                        "log_is_empty", log=online.log(self.spec), cure=sql.Literal(self._undrained(authority))
                    )
                ),
                *referring,
                text(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table)),
                text(
                    sqlfile.template(
                        "no_older_snapshot",
                        setting=sql.Literal(DRAINED_AT),
                        schema=sql.Literal(self.spec.schema),
                        table=sql.Literal(self.spec.name),
                        locked=sql.Literal(text(table)),
                    )
                ),
                *statements,
            ),
            lock="ACCESS EXCLUSIVE",
            on=", ".join(
                dict.fromkeys(
                    [
                        plainly(*in_use),
                        *referenced,
                        *self._bound_to(leaving),
                        *(r.table for r in self.original.references),
                    ]
                )
            ),
            why="Older snapshots are waited for first, without a lock. Then writers wait while the last keys are drained, readers while the "
            f"tables change places: each lock is asked for at most {wait} ms, and given back at once where it does not come.",
            effect=Effect.CHANGES,
        )

    def _bound_to(self, leaving: Relation) -> list[str]:
        """The views, rules and tables with policies that are bound to the other table, for people."""
        if not self.renames:
            return []
        return sorted({plainly(one.schema, one.name) for one in leaving.bindings if one.kind in repoint.LOCKED})

    def _undrained(self, authority: str) -> str:
        """What to do about keys that no drain can take: a row that shares a key with another one, of which what follows can hold one."""
        keys = definition.names(online.key_columns(self.spec, self.original))
        query = text(sql.SQL("SELECT DISTINCT {} FROM {};").format(keys, online.log(self.spec)))
        written, follower = (self.spec.original_at, self.spec.partitioned_at)[:: 1 if authority == ORIGINAL else -1]
        return (
            f"Rows of {plainly(*written)} share a unique key of {plainly(*follower)}, which can hold one of them. Their keys: {query} "
            "Change or delete all but one of each, then run again."
        )

    def _turned(self, authority: str, keys: Sequence[Constraint]) -> str:
        kept = {
            "foreign_keys": [
                {"name": fk.name, "definition": fk.definition, "validated": fk.validated, "referenced": fk.referenced}
                for fk in keys
            ]
        }
        return text(
            sql.SQL("authority = {}, exchanged = {}, turned_at = clock_timestamp(), kept = {}").format(
                sql.Literal(authority),
                sql.Literal(isinstance(self.after, ExchangedSpec)),
                sql.Literal(json.dumps(kept, sort_keys=True)),
            )
        )

    # -- names and who gets in

    def _rename_to_retired(self) -> list[str]:
        """The original into the closed schema, the partitioned table into its place."""
        if not self.renames:
            return []
        spec, after = self.spec, self.after
        return [
            *_moved(spec.original_at, after.original_at),
            *definition.closing(*after.original_at, self.snapshot.closed_to),
            *_moved(spec.partitioned_at, after.partitioned_at),
        ]

    def _rename_back(self) -> list[str]:
        """The partitioned table steps aside, the original comes back with the privileges that its place has now."""
        if not self.renames:
            return []
        spec, after = self.spec, self.after
        at, table = name(*after.original_at), self.partitioned.table
        off = [] if table.row_security else [text(sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(at))]
        return [
            *_moved(spec.partitioned_at, after.partitioned_at),
            *_moved(spec.original_at, after.original_at),
            *off,
            *definition.grants(*after.original_at, self.partitioned),
        ]

    def _registered(self, *, ready: bool) -> list[str]:
        schema, table = self.after.partitioned_at
        before_schema, before_table = self.spec.partitioned_at
        return [
            text(
                sql.SQL(
                    "UPDATE atlas_ops.partitioned_table SET schema_name = {}, table_name = {}, ready = {} "
                    "WHERE schema_name = {} AND table_name = {}"
                ).format(*map(sql.Literal, (schema, table, ready, before_schema, before_table)))
            )
        ]

    # -- foreign keys and triggers: live on the table in use only

    def _drop_key(self, table: tuple[str, str], fk: Constraint) -> str:
        return text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(name(*table), name(fk.name)))

    def _add_key(self, table: tuple[str, str], fk: Constraint) -> str:
        return text(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(name(*table), name(fk.name), raw(_not_valid(fk)))
        )

    def _add_keys_to_partitions(self, keys: Sequence[Constraint]) -> list[str]:
        """NOT VALID, on each partition: before 18 the partitioned table itself takes none that is not validated."""
        return [
            self._add_key((partition.schema, partition.name), fk)
            for partition in _attached(self.snapshot)
            for fk in keys
        ]

    def _drop_keys_of_partitioned(self, keys: Sequence[Constraint]) -> list[str]:
        """The whole's, which takes those of its partitions along, or theirs where they were not merged yet."""
        merged = {constraint.name for constraint in self.partitioned.constraints}
        tables = [(partition.schema, partition.name) for partition in _attached(self.snapshot)]
        return [
            self._drop_key(table, fk)
            for fk in keys
            for table in ([self.spec.partitioned_at] if fk.name in merged else tables)
        ]

    def _live_aside(self, aside: tuple[str, str], keys: Sequence[Constraint]) -> list[str]:
        """Rows that were set aside are the application's still: what they refer to takes them along, and the original hears of it."""
        return [*(self._add_key(aside, fk) for fk in keys), *online.capture(self.spec, aside)]

    def _live_triggers(self, table: tuple[str, str], model: Relation) -> list[str]:
        """The user's triggers in the state that they have on the table that was in use until now."""
        return definition.switch_triggers(name(*table), model.triggers)[1]

    def _bound(self, leaving: Relation, coming: Relation, exchange: Sequence[str]) -> list[str]:
        """The exchange of the names, between what must be let go before it and what is bound to the other table after it."""
        if not self.renames:
            return repoint.handed_over(self.spec, leaving, coming)
        plain = _plain(self.spec)
        cut_over = coming is self.partitioned
        return [
            *repoint.before_exchange(self.spec, leaving, coming),
            *exchange,
            *repoint.at_exchange(self.spec, leaving, coming),
            *(incoming.at_cut_over if cut_over else incoming.at_roll_back)(plain, self.original),
        ]


def _moved(before: tuple[str, str], after: tuple[str, str]) -> list[str]:
    """Rename and move; in this order, so that the name is free where it comes from and where it goes."""
    schema, table = before
    renamed = (
        [text(sql.SQL("ALTER TABLE {} RENAME TO {}").format(name(schema, table), name(after[1])))]
        if table != after[1]
        else []
    )
    moved = (
        [text(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(name(schema, after[1]), name(after[0])))]
        if schema != after[0]
        else []
    )
    return [*renamed, *moved]
