"""The registry: a closed table of (primary key, partition key) that keeps the primary key unique over all partitions. Pure.

Foreign keys of other tables refer to it after a cut-over. It is filled while the application writes, kept in step by the drain until
the cut-over and by triggers of the partitioned table from then on, so that it does what a unique index on all partitions would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from atlas_ops import keys, online, sqlfile
from atlas_ops.definition import name, names, plainly, raw, text
from atlas_ops.division import Part
from atlas_ops.model import Relation
from atlas_ops.plan import Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

ROW_TRIGGER = keys.FIRST + "keys"
UPDATE_TRIGGER = keys.LAST + "keys"
TRIGGERS = (ROW_TRIGGER, UPDATE_TRIGGER, "atlas_ops_keys_truncate")


def at(spec: TableSpec) -> sql.Identifier:
    """The registry, and the function that keeps it."""
    return name(spec.partition_schema, spec.keys_name)


def checks(spec: TableSpec, original: Relation) -> Iterator[Check]:
    """What is different with a registry, and which triggers are in its way."""
    spoken, on = plainly(spec.partition_schema, spec.keys_name), text(keys.table(spec))
    for trigger in original.triggers:
        events = trigger.head.partition(" OF ")[0]
        inserts_or_deletes = "INSERT" in events or "DELETE" in events
        if not trigger.row_level:
            continue
        if trigger.timing == "BEFORE" and "UPDATE" in events and trigger.name > UPDATE_TRIGGER:
            yield Check(
                Severity.STOP, spec.name, "trigger", f"{trigger.name} fires after {UPDATE_TRIGGER}, which must be the last BEFORE trigger.",
                "Triggers fire in the order of their names, and what the last one makes of the key must be in the registry.",
                "Rename it.", f"ALTER TRIGGER {text(name(trigger.name))} ON {on} RENAME TO {text(name('z_' + trigger.name[:60]))};",
            )  # fmt: skip
        if trigger.timing == "AFTER" and inserts_or_deletes and trigger.name < ROW_TRIGGER:
            yield Check(
                Severity.STOP, spec.name, "trigger", f"{trigger.name} fires before {ROW_TRIGGER}, which must be the first AFTER trigger.",
                "Triggers fire in the order of their names, and one that refers to the new row must find it in the registry.",
                "Rename it.", f"ALTER TRIGGER {text(name(trigger.name))} ON {on} RENAME TO {text(name('a_' + trigger.name[:60]))};",
            )  # fmt: skip
        if trigger.timing == "BEFORE" and inserts_or_deletes:
            yield Check(
                Severity.WARN, spec.name, "trigger", f"{trigger.name} is a row trigger {events}.",
                "An UPDATE that moves a row to another partition fires it, as a DELETE and an INSERT. Where it returns NULL, the row does not "
                f"move, or is lost, and {spoken} does not hear of it; where it changes the key, the UPDATE fails (23505).",
                "Read it.",
            )  # fmt: skip
    yield Check(
        Severity.WARN, spec.name, "registry", f"{spoken} keeps ({', '.join(keys.primary(original))}) unique over all partitions.",
        "A duplicate is 23505 as before, but the constraint is the registry's, and ON CONFLICT DO NOTHING does not see one with another "
        f"{spec.partition_key}. TRUNCATE is refused, with CASCADE too. Each INSERT and DELETE writes a second, small row.",
        "Look who names the constraint, and who relies on ON CONFLICT DO NOTHING.",
    )  # fmt: skip


def prepare(spec: TableSpec, original: Relation, parts: Sequence[Part]) -> Iterator[Step]:
    """The registry, its rows part by part, its triggers."""
    spoken = plainly(spec.partition_schema, spec.keys_name)
    partitioned = name(spec.partitioned_schema, spec.partitioned_name)
    yield Step(
        name=f"make {spoken}",
        statements=tuple(make(spec, original)),
        lock="ACCESS SHARE",
        on=keys.said(spec),
        why="The keys of all rows in one table, unique as no index of a partitioned table can be: what refers to the table will refer to it.",
    )
    lock = text(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(at(spec)))
    for part in parts:
        yield Step(
            name=f"fill {spoken}: {part.label}",
            statements=(lock, fill(spec, original, part.of_original)),
            lock="ACCESS SHARE",
            on=keys.said(spec),
            why="The keys of this part. A drain waits for it, the application does not.",
        )
    yield Step(
        name=f"triggers for {spoken}",
        statements=(*triggers(spec, original, partitioned), keys.switch("DISABLE", partitioned, *TRIGGERS)),
        lock="SHARE ROW EXCLUSIVE",
        on=plainly(spec.partitioned_schema, spec.partitioned_name),
        why="They keep it from the cut-over on. Until then the drain does, and they are off: to switch them on is faster than to make them.",
    )
    yield keys.vacuum(at(spec), spoken)


def make(spec: TableSpec, original: Relation) -> list[str]:
    """The table, without rows, and the function of its triggers."""
    columns = keys.with_key(spec, original)
    made = sqlfile.template(
        "keys_table",
        literal=sql.Literal(text(at(spec))),
        keys=at(spec),
        primary=names(keys.primary(original)),
        key=name(spec.partition_key),
        table=keys.table(spec),
    )
    body = sqlfile.template(
        "keys_trigger",
        keys=at(spec),
        columns=names(columns),
        primary=names(keys.primary(original)),
        new=keys.of("NEW", columns),
        old=keys.of("OLD", keys.primary(original)),
        key=name(spec.partition_key),
        old_key=keys.of("OLD", [spec.partition_key]),
        refused=sql.Literal(f'cannot truncate "{spec.name}": other tables refer to its rows'),
    )
    return [
        text(sql.SQL("DO {}").format(keys.dollars(made))),
        *keys.closed(spec, original, at(spec)),
        *keys.function(at(spec), body, original),
    ]


def fill(spec: TableSpec, original: Relation, condition: str) -> str:
    """The keys of the rows that satisfy it."""
    return text(
        sql.SQL("INSERT INTO {} ({}) {} WHERE {} ON CONFLICT DO NOTHING").format(
            at(spec), names(keys.with_key(spec, original)), keys.current(spec, original), raw(condition)
        )
    )


def fill_set_aside(spec: TableSpec, original: Relation) -> str:
    """The keys of the rows that have no partition key, once they lie in a table of their own."""
    columns = names(keys.with_key(spec, original))
    return text(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
            at(spec), columns, columns, name(spec.partition_schema, spec.null_keys_name)
        )
    )


def take_back(spec: TableSpec, primary: Sequence[str], table: sql.Identifier, said: str) -> list[str]:
    """The keys of a month that is attached again, where they went; one that is another row's by now stops it (23505).

    `primary`: of the partitioned table, whose primary key may hold the partition key.
    """
    columns = list(dict.fromkeys([*primary, spec.partition_key]))
    listed = names(columns)
    insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING")
    refused = sqlfile.template(
        "keys_are_its_own",
        table=table,
        keys=at(spec),
        same=keys.equal("k", columns, "r", columns),
        said=sql.Literal(said),
    )
    return [text(insert.format(at(spec), listed, listed, table)), text(refused)]


def triggers(spec: TableSpec, original: Relation, on: sql.Identifier) -> list[str]:
    """The triggers of the partitioned table."""
    row, update, truncate = TRIGGERS
    columns = keys.with_key(spec, original)
    changed = sql.SQL("ROW WHEN (ROW({}) IS DISTINCT FROM ROW({}))").format(
        keys.of("OLD", columns), keys.of("NEW", columns)
    )
    return [
        keys.trigger(row, raw("AFTER INSERT OR DELETE"), on, raw("ROW"), at(spec)),
        keys.trigger(update, raw("BEFORE UPDATE"), on, changed, at(spec)),
        keys.trigger(truncate, raw("BEFORE TRUNCATE"), on, raw("STATEMENT"), at(spec)),
    ]


def set_aside_trigger(spec: TableSpec) -> list[str]:
    """A row that was set aside takes its key along when it goes, and with it what refers to it."""
    aside = online.set_aside(spec)
    return [
        keys.trigger(ROW_TRIGGER, raw("AFTER DELETE"), aside, raw("ROW"), at(spec)),
        keys.switch("ENABLE ALWAYS", aside, ROW_TRIGGER),
    ]


def drain(spec: TableSpec, original: Relation, batch: sql.Identifier) -> str:
    """The registry's rows of a batch become those of the table."""
    primary = keys.primary(original)
    return text(
        sqlfile.template(
            "drain_keys",
            keys=at(spec),
            primary=names(primary),
            touched=keys.of("t", primary),
            key=name(spec.partition_key),
            columns=names(keys.with_key(spec, original)),
            batch=batch,
            value=keys.value(spec),
            table=keys.table(spec),
            same=keys.equal("o", primary, "t", primary),
            gone=keys.equal("k", primary, "f", primary),
        )
    )


def proof(spec: TableSpec, original: Relation) -> str:
    """How many keys the table and the registry do not share, and the log does not know."""
    columns, key = names(keys.primary(original)), [spec.partition_key]
    return text(
        sql.SQL(
            "SELECT count(*) FROM (SELECT {} FROM ({}) AS s FULL JOIN {} AS k USING ({}) "
            "WHERE s IS NULL OR k IS NULL OR {} IS DISTINCT FROM {}) AS d WHERE {}"
        ).format(
            columns, keys.current(spec, original), at(spec), columns, keys.of("s", key), keys.of("k", key),
            keys.not_logged(online.log(spec), original, "d"),
        )
    )  # fmt: skip


def abandon(spec: TableSpec) -> list[str]:
    """Triggers, table and function go."""
    partitioned = name(spec.partitioned_schema, spec.partitioned_name)
    return [
        *(text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name(one), partitioned)) for one in TRIGGERS),
        keys.drop_marked(spec, at(spec)),
        text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(at(spec))),
    ]
