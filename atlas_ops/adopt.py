"""Partition sets that others made: taken under care as they are, under the names they have, and left again. Pure."""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from atlas_ops import bounds, definition, maintain, partitions, sqlfile
from atlas_ops.bounds import Every
from atlas_ops.definition import name, plainly, text
from atlas_ops.inspection import range_column
from atlas_ops.model import Relation, Snapshot
from atlas_ops.partitions import Naming, attached, listed, partitioned_table
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.upkeep import Upkeep

_TO_CHAR = {
    "%Y_%m_%d": "YYYY_MM_DD", "%Y-%m-%d": "YYYY-MM-DD", "%Y%m%d": "YYYYMMDD", "%Gw%V": 'IYYY"w"IW', "%GW%V": 'IYYY"W"IW', "%G_%V": "IYYY_IW",
    "%Y_%m": "YYYY_MM", "%Y-%m": "YYYY-MM", "%Y%m": "YYYYMM", "%Y": "YYYY",
}  # fmt: skip
"""`partitions.DATES` as to_char() writes them."""


def checks(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep) -> tuple[Check, ...]:
    """What keeps a set of others from being registered; empty where nothing does."""
    relation = partitioned_table(snapshot)
    assert relation is not None, "the stage refuses a table that is not partitioned"
    key = relation.column(spec.partition_key)
    ends = [bound for _, bound in attached(snapshot) if bound.readable and not bound.is_default]
    last = max((bound.upper for bound in ends if bound.upper), default=None)
    naming = partitions.naming(spec, snapshot)
    refusals = (
        (upkeep.elsewhere, "pg_partman has it in its part_config.", "Delete its row there first: DELETE FROM part_config WHERE parent_table = ..."),
        (bool(upkeep.unreadable), f"pg_partman may have it: {snapshot.server.role} may not read part_config in {listed(upkeep.unreadable)}.",
         "Let it: GRANT USAGE on that schema and SELECT on part_config."),
        (not maintain.made_by_others(snapshot), "It is a table of 02 Apply migration, which registers it.", "Run 02 Apply migration."),
        (key is None or range_column(relation.table.partition_key or "") != spec.partition_key,
         f"It is partitioned by {relation.table.partition_key}, not by RANGE ({spec.partition_key}).",
         "Correct partition_key, if there is one column of time."),
        (key is not None and key.base_type not in bounds.KEY_TYPES, f"{spec.partition_key} is of type {key.type if key else ''}.",
         "Only a timestamptz, a timestamp or a date can be continued by the calendar."),
        (any(bound.upper is None for bound in ends), "Its last partition has no end.", "Detach it and attach it with the bounds of its rows first."),
        (last is not None and not _aligned(spec.every, last), f"Its last partition ends in the middle of a {spec.every}, by the calendar in UTC.",
         f"Correct every, if the partitions are of another length; else make one up to the next bound of a {spec.every}."),
        (not _short(spec, naming, last), "The names of its partitions would be over 63 bytes long.", "Rename the table."),
    )  # fmt: skip
    return tuple(
        Check(
            Severity.STOP,
            spec.table,
            "register",
            what,
            "The function in the database goes by the calendar, from the last bound on.",
            cure,
        )
        for refused, what, cure in refusals
        if refused
    )[:1]


def plan_register(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, *, install: bool = True) -> Plan:
    """The set under care, under the names it has; nothing where it is, or `checks` has a finding."""
    relation = partitioned_table(snapshot)
    steps: list[Step] = []
    if relation is not None and upkeep.care is None and not checks(spec, snapshot, upkeep):
        first = maintain.installing(snapshot) if install else None
        steps = [*([first] if first else []), _register(spec, snapshot, relation)]
    return plan_for(maintain.STAGE, spec, snapshot.server, steps, f"{spec.table}: registered.")


def _register(spec: TableSpec, snapshot: Snapshot, relation: Relation) -> Step:
    naming = partitions.naming(spec, snapshot)
    form = _TO_CHAR[naming.form] if naming.form else None
    values = (
        relation.table.schema, relation.table.name, str(spec.every), spec.ahead, naming.schema, naming.before, True, spec.keep,
        spec.lock_timeout_ms, form,
    )  # fmt: skip
    insert = sql.SQL(
        "INSERT INTO atlas_ops.partitioned_table (schema_name, table_name, every, ahead, partition_schema, partition_prefix, ready, keep, "
        "lock_timeout_ms, name_form) VALUES ({})"
    ).format(sql.SQL(", ").join(map(sql.Literal, values)))
    return Step(
        name=f"register {plainly(relation.table.schema, relation.table.name)}",
        statements=(text(insert),),
        lock="ROW EXCLUSIVE",
        on="our own objects only",
        why="From here on create_future_partitions() makes what ahead asks for, under the names that the set has. Nothing that is there "
        'is changed or renamed. Undo: what = "unregister".',
    )


def plan_unregister(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep) -> Plan:
    """The set leaves our care; with the last table our own database objects go. Nothing for a table of 02: 10 Roll back is its way."""
    steps = []
    if upkeep.care is not None and maintain.made_by_others(snapshot):
        forget = sql.SQL("DELETE FROM atlas_ops.partitioned_table WHERE schema_name = {} AND table_name = {}")
        steps.append(
            Step(
                name=f"unregister {plainly(upkeep.care.schema, upkeep.care.name)}",
                statements=(
                    text(forget.format(sql.Literal(upkeep.care.schema), sql.Literal(upkeep.care.name))),
                    text(
                        sqlfile.template(
                            "uninstall",
                            schema_text=sql.Literal(text(name(spec.partition_schema))),
                            mark=sql.Literal(definition.SCHEMA_MARK),
                            schema=name(spec.partition_schema),
                        )
                    ),
                ),
                lock="ACCESS EXCLUSIVE",
                on="our own objects only",
                why="Its partitions stay as they are; nobody here makes the next. With the last table our own objects go, and the jobs "
                "that call them.",
                effect=Effect.REMOVES,
            )
        )
    return plan_for(maintain.STAGE, spec, snapshot.server, steps, f"{spec.table}: unregistered.")


def _aligned(every: Every, edge: datetime) -> bool:
    return bounds.period_of(every, edge).lower == edge


def _short(spec: TableSpec, naming: Naming, last: datetime | None) -> bool:
    """Names are made in the database, which does not shorten them; all have the same length."""
    example = (
        (last or partitions.midnight(spec.from_)).strftime(naming.form)
        if naming.form
        else "_" + bounds.period_of(spec.every, spec.from_).suffix
    )
    return len((naming.before + example).encode()) <= definition.NAME_BYTES
