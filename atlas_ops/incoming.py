"""Foreign keys of other tables that refer to the table: how they outlive the cut-over, and how they come back. Pure.

A partitioned table has no unique key without its partition key, so a foreign key to (id) must be re-pointed in the cut-over's
transaction. `incoming_foreign_keys` says where to: to a `registry`, a closed table of (id, key) that keeps id unique over all
partitions, or to the partitioned table itself, `composite`, with the partition key as a further referring column. A foreign key that
holds the partition key already is re-pointed as it is.

    original --prepare--> prepared --at_cut_over--> cut over
             <--abandon--          <--at_roll_back--

Between `prepare` and `at_cut_over` the drain keeps what was prepared in step with the table (`in_drain`); after it triggers do (the
registry) or ON UPDATE CASCADE does (composite). After a roll back the drain goes on: nothing is prepared twice.

`original.references` must be those of `catalog.references`, which finds them on either side of a cut-over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from enum import StrEnum

from psycopg import sql

from atlas_ops import composite, division, keys, online, registry
from atlas_ops.composite import ACTIONS
from atlas_ops.definition import fit, name, names, plainly, raw, text
from atlas_ops.errors import AtlasError
from atlas_ops.model import Reference, Relation, Snapshot, Taken
from atlas_ops.plan import Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

UNVALIDATED_SINCE = 180000  # a partitioned table's own foreign keys may be NOT VALID


class Way(StrEnum):
    """What becomes of one foreign key at the cut-over."""

    DIRECT = "direct"  # it holds the partition key: the partitioned table has the unique key it refers to
    REGISTRY = "registry"
    COMPOSITE = "composite"
    REFUSE = "refuse"


def before(spec: TableSpec, reference: Reference) -> Reference:
    """A foreign key in the words it had before the cut-over, with its way where it is re-pointed now."""
    if (reference.referenced_schema, reference.referenced_table) == (spec.partition_schema, spec.keys_name):
        own = replace(reference, referenced_schema=str(spec.schema), referenced_table=str(spec.name))
        return replace(own, way=str(Way.REGISTRY))
    was = composite.before(reference)
    return replace(was, way=str(Way.COMPOSITE)) if was else reference


def way_of(spec: TableSpec, reference: Reference) -> Way:
    """The way a foreign key went; before a cut-over, the one the specification asks for."""
    if reference.way:
        return Way(reference.way)
    return Way.DIRECT if spec.partition_key in reference.referenced_columns else Way(spec.incoming_foreign_keys)


def names_needed(spec: TableSpec) -> tuple[str, ...]:
    """The relation names that the specification's way takes in the schema of the partitions."""
    return {"registry": (spec.keys_name,), "composite": (spec.pairs_name,)}.get(spec.incoming_foreign_keys, ())


def prepared(spec: TableSpec, taken: Iterable[Taken]) -> bool:
    """Whether something was prepared already, so that every drain must keep it in step; `taken`: as for `checks`."""
    return any(
        (one.schema, one.name, one.comment) == (spec.partition_schema, wanted, keys.mark(spec))
        for one in taken
        for wanted in names_needed(spec)
    )


def drained_too(spec: TableSpec, snapshot: Snapshot) -> list[str]:
    """What a drain into the partitioned table does besides: nothing before `prepare`, or once the tables have changed places."""
    if snapshot.original is None or not prepared(spec, snapshot.taken):
        return []
    if snapshot.online is None or snapshot.online.authority != online.ORIGINAL:
        return []
    return in_drain(spec, snapshot.original, online.batch_table(spec))


def of_aside(spec: TableSpec, original: Relation) -> dict[str, str]:
    """Queries that each count the rows of a referring table that would lose their foreign key at the cut-over: 0, or it is refused.

    They ask the table of the rows that are set aside, which must be there.
    """
    if spec.null_keys != "set_aside":
        return {}
    ours = [reference for reference in _by(Way.COMPOSITE, spec, original) if not reference.way and reference.may_own]
    return {_label(reference): composite.of_aside(spec, reference) for reference in ours}


def _label(reference: Reference) -> str:
    return f"{reference.table} {reference.constraint}"


# -- what is said


def checks(
    spec: TableSpec,
    original: Relation,
    version: int,
    taken: Iterable[Taken] = (),
    aside: Mapping[str, int] | None = None,
) -> tuple[Check, ...]:
    """Every finding on the incoming foreign keys; red ones stop the cut-over.

    `version`: server_version_num. `taken`: what `catalog.snapshot` finds of `names_needed`. `aside`: what it counts for `of_aside`.
    """
    found = [check for reference in original.references for check in _reference(spec, original, reference, version)]
    if _by(Way.REGISTRY, spec, original):
        found += registry.checks(spec, original)
    for reference in _by(Way.COMPOSITE, spec, original):
        found += composite.checks(spec, reference)
        if rows := (aside or {}).get(_label(reference)):
            found.append(composite.refers_aside(spec, reference, rows))
    ours = [one for one in taken if one.schema == spec.partition_schema and one.name in names_needed(spec)]
    found += [_taken(spec, one) for one in ours if one.comment != keys.mark(spec)]
    return tuple(found)


def _taken(spec: TableSpec, taken: Taken) -> Check:
    rename = sql.SQL("ALTER TABLE {} RENAME TO {};")
    return Check(
        Severity.STOP, spec.name, "name taken", f"The name {taken.schema}.{taken.name} is taken by a {taken.kind}.",
        "A table of ours gets this name, which its comment would mark.",
        "Look what it is; rename it, or drop it when nothing uses it.",
        text(rename.format(name(taken.schema, taken.name), name(fit(taken.name + "_stale")))),
    )  # fmt: skip


def _reference(spec: TableSpec, original: Relation, reference: Reference, version: int) -> Iterator[Check]:
    way, what = way_of(spec, reference), f"{reference.table}: {reference.constraint}, {reference.definition}"
    if way is Way.REFUSE:
        yield Check(
            Severity.STOP, spec.name, "incoming foreign key", what,
            "At the cut-over it would stay with the original. It cannot refer to the partitioned table with "
            f"({', '.join(reference.referenced_columns)}) alone: there is no unique key on it.",
            "Say in the specification what becomes of it: incoming_foreign_keys: registry, or composite. Or drop it, and make it again "
            "after the cut-over: this is the SQL of both ways.",
            _by_hand(spec, original, reference, version),
        )  # fmt: skip
        return
    obstacles = list(_obstacles(spec, original, reference, way, version))
    for why, cure, query in obstacles:
        yield Check(Severity.STOP, spec.name, "incoming foreign key", what, why, cure, query)
    if not reference.may_own:
        yield Check(
            Severity.STOP, spec.name, "rights", f"This role does not own {reference.table} ({reference.owner} does).",
            f"{reference.constraint} must be dropped and added again in the cut-over's transaction, which only the owner may.",
            f"Connect as {reference.owner}, or as a member of it.",
        )  # fmt: skip
    if not obstacles and reference.may_own:
        target = {
            Way.DIRECT: "the partitioned table, as it is",
            Way.REGISTRY: plainly(spec.partition_schema, spec.keys_name),
            Way.COMPOSITE: f"the partitioned table, together with a column {composite.added_column(spec, reference)}",
        }[way]
        yield Check(
            Severity.NOTE, spec.name, "incoming foreign key", what,
            f"At the cut-over it is made to refer to {target}; ON DELETE {ACTIONS[reference.on_delete]} stays. Its rows are checked afterwards.",
        )  # fmt: skip


def _obstacles(
    spec: TableSpec, original: Relation, reference: Reference, way: Way, version: int
) -> Iterator[tuple[str, str, str]]:
    """Why this foreign key cannot go that way: (why, cure, SQL)."""
    drop = _drop(reference) + ";"
    if reference.self:
        yield (
            "The table refers to itself: both ends would move at once, and the drain would act on rows that refer to each other.",
            "Drop it before the migration. Afterwards a foreign key on both columns can be added by hand.",
            drop,
        )
    if not reference.enforced:
        yield "It is NOT ENFORCED: it checks nothing.", "Enforce it or drop it.", drop
    if not reference.validated and not reference.way:
        yield (
            "It is not validated, so there may be rows that refer to nothing; after the cut-over nothing would tell it from one that is to be.",
            "Validate it or drop it.",
            _validate(reference) + ";",
        )
    if reference.partitioned and version < UNVALIDATED_SINCE:
        yield (
            "The referring table is partitioned: before PostgreSQL 18 its foreign keys cannot be NOT VALID, and the cut-over would read every row.",
            "Drop it before the cut-over and add it again afterwards, at a quiet moment.",
            drop,
        )
    if way is Way.DIRECT:
        return
    if sorted(reference.referenced_columns) != sorted(keys.primary(original)):
        yield (
            f"It refers to ({', '.join(reference.referenced_columns)}), which is not the primary key: no table of ours keeps that unique.",
            "Let it refer to the primary key, or drop it.",
            drop,
        )
    elif way is Way.COMPOSITE:
        others = [other for other in original.references if way_of(spec, other) is not Way.DIRECT]
        yield from composite.obstacles(spec, original, reference, others)
    elif any(column.generated for column in original.columns if column.name in keys.primary(original)):
        yield (
            "The primary key is a generated column: a BEFORE trigger, which keeps the registry, cannot see it.",
            "incoming_foreign_keys: composite, or a key that the application stores.",
            "",
        )


def ways(spec: TableSpec, original: Relation, version: int) -> str:
    """The SQL of both ways for every foreign key that must be re-pointed, for a DBA who does it by hand."""
    asked = [reference for reference in original.references if way_of(spec, reference) is not Way.DIRECT]
    return "\n\n".join(_by_hand(spec, original, reference, version) for reference in asked)


def _by_hand(spec: TableSpec, original: Relation, reference: Reference, version: int) -> str:
    lines = [
        f"-- {plainly(reference.constraint)} of {reference.table}: before the cut-over",
        _drop(reference) + ";",
        f"-- after it, one of the two; writers of {keys.said(spec)} wait while it runs",
    ]
    for way in (Way.REGISTRY, Way.COMPOSITE):
        lines.append(f"-- {way}")
        if way is Way.COMPOSITE and spec.null_keys == "set_aside":
            lines.append(
                "--   only where nothing refers to a row that is set aside: it would refer to nothing, and no foreign key would tell"
            )
        obstacles = list(_obstacles(spec, original, reference, way, version))
        lines += [f"--   is not possible. {why}" for why, _, _ in obstacles]
        if not obstacles:
            statements = [
                "BEGIN",
                text(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(keys.table(spec))),
                *_made_by_hand(spec, original, reference, way),
                text(sql.SQL("ALTER TABLE {} {}").format(keys.referring(reference), _add(spec, reference, way))),
                "COMMIT",
                _validate(reference),
            ]
            lines += [f"{statement};" for statement in statements]
    return "\n".join(lines)


def _made_by_hand(spec: TableSpec, original: Relation, reference: Reference, way: Way) -> list[str]:
    if way is Way.COMPOSITE:
        made = composite.make(spec, original, reference)
        return [*made, composite.fill(spec, original, reference, "true")]
    return [
        *registry.make(spec, original),
        registry.fill(spec, original, "true"),
        *([registry.fill_set_aside(spec, original)] if spec.null_keys == "set_aside" else []),
        *registry.triggers(spec, original, keys.table(spec)),
        keys.switch("ENABLE ALWAYS", keys.table(spec), *registry.TRIGGERS),
    ]


# -- what is done


def prepare(spec: TableSpec, original: Relation, as_of: date) -> tuple[Step, ...]:
    """What must be there before the cut-over, made while the application writes; safe to run twice.

    The partitioned table must be there, and the capture on the original, so that the drain hears of what changes meanwhile. A drain
    pass waits while a part of the registry is filled: two writers would bring back a row that one of them has just seen deleted.
    """
    key = keys.key_column(spec, original)
    parts = [part for part in division.parts(spec, key.base_type, as_of) if part.table]
    steps: list[Step] = []
    if _by(Way.REGISTRY, spec, original):
        steps += registry.prepare(spec, original, parts)
    for reference in _by(Way.COMPOSITE, spec, original):
        steps += composite.prepare(spec, original, reference, parts)
    return tuple(steps)


def in_drain(spec: TableSpec, original: Relation, batch: sql.Identifier) -> list[str]:
    """What a drain pass from the table to the partitioned one does besides, in its transaction.

    `batch` has the columns of the key log. No part of a drain in the other direction: there triggers and CASCADE do it.
    """
    statements = []
    if _by(Way.REGISTRY, spec, original):
        statements.append(registry.drain(spec, original, batch))
    if referring := _by(Way.COMPOSITE, spec, original):
        statements.append(composite.drain(spec, original, referring, batch))
    return statements


def proofs(spec: TableSpec, original: Relation) -> list[str]:
    """Queries that each count what is not in step, and not logged either, between `prepare` and the cut-over: 0 in any one snapshot."""
    queries = [registry.proof(spec, original)] if _by(Way.REGISTRY, spec, original) else []
    return queries + [composite.proof(spec, original, one) for one in _by(Way.COMPOSITE, spec, original)]


def lock_first(spec: TableSpec, original: Relation) -> list[str]:
    """Locks on the referring tables, for before the ACCESS EXCLUSIVE on the table itself.

    Whoever writes a referring table holds a lock on it and then wants one on the table. The other order would make a deadlock of that.
    """
    moved = dict.fromkeys(text(keys.referring(reference)) for reference in _re_pointed(spec, original))
    return [f"LOCK TABLE {', '.join(moved)} IN ACCESS EXCLUSIVE MODE"] if moved else []


def at_cut_over(spec: TableSpec, original: Relation) -> list[str]:
    """Statements of an instant, in the cut-over's transaction, after the exchange of names.

    Each takes ACCESS EXCLUSIVE on its referring table for a moment, and SHARE ROW EXCLUSIVE on what it refers to from now on.
    """
    statements = []
    if _by(Way.REGISTRY, spec, original):
        statements.append(keys.switch("ENABLE ALWAYS", keys.table(spec), *registry.TRIGGERS))
        statements += registry.set_aside_trigger(spec) if spec.null_keys == "set_aside" else ()
    if spec.null_keys == "set_aside":
        statements += [composite.none_aside(spec, reference) for reference in _by(Way.COMPOSITE, spec, original)]
    for reference in _re_pointed(spec, original):
        statements += _re_point(spec, reference, way_of(spec, reference))
    if referring := _by(Way.COMPOSITE, spec, original):
        for reference in referring:
            statements += composite.drop_log(spec, reference)
        # the last word on rows that were written, but not committed, at the last drain; after every ALTER, since it fires triggers
        statements.append(composite.drain(spec, original, referring))
        statements.append(text(sql.SQL("DROP TABLE {}").format(composite.pairs(spec))))
    return statements


def after_cut_over(spec: TableSpec, original: Relation) -> tuple[Step, ...]:
    """The check of every row that refers, which blocks nobody; of each foreign key that is not validated yet."""
    return checked(_re_pointed(spec, original))


def checked(references: Iterable[Reference]) -> tuple[Step, ...]:
    """A step for each foreign key that is not validated."""
    return tuple(
        Step(
            name=f"check {plainly(reference.constraint)} of {reference.table}",
            statements=(_validate(reference),),
            lock="SHARE UPDATE EXCLUSIVE",
            on=reference.table,
            why="It was added NOT VALID: new rows are checked already. Here the others are read once; nobody waits.",
        )
        for reference in references
        if not reference.validated
    )


def at_roll_back(spec: TableSpec, original: Relation) -> list[str]:
    """The foreign keys back on the original, in the transaction of the roll back, after the names are exchanged back.

    What was prepared stays, and from here on the drain keeps it in step again: the next cut-over finds it ready.
    """
    statements = []
    for reference in _re_pointed(spec, original):
        statements += _re_point(spec, reference, Way.DIRECT)
    if referring := _by(Way.COMPOSITE, spec, original):
        statements += composite.make_log(spec, original)
        for reference in referring:
            statements += composite.log(spec, original, reference)
    if _by(Way.REGISTRY, spec, original):
        partitioned = name(spec.partitioned_schema, spec.partitioned_name)
        statements.append(keys.switch("DISABLE", partitioned, *registry.TRIGGERS))
        if spec.null_keys == "set_aside":
            statements.append(online.drop_trigger((spec.partition_schema, spec.null_keys_name), registry.ROW_TRIGGER))
    return statements


def after_roll_back(spec: TableSpec, original: Relation) -> tuple[Step, ...]:
    """As after the cut-over."""
    return after_cut_over(spec, original)


def abandon(spec: TableSpec, original: Relation) -> list[str]:
    """Everything that was prepared goes, whichever way: the catalogs are as before. Safe where nothing was.

    Raises AtlasError while a foreign key is re-pointed: dropping the column or the registry would drop the foreign key.
    """
    in_use = [f"{reference.constraint} of {reference.table}" for reference in original.references if reference.way]
    if in_use:
        raise AtlasError(
            what=f"What was prepared for {', '.join(in_use)} is in use.",
            why="It was cut over: the foreign key would go with what it refers to.",
            next="10 Roll back first; it points the foreign keys at the original again.",
        )
    columns = [statement for reference in original.references for statement in composite.abandon(spec, reference)]
    return [*registry.abandon(spec), *columns, keys.drop_marked(spec, composite.pairs(spec))]


# -- the foreign keys themselves


def _by(way: Way, spec: TableSpec, original: Relation) -> list[Reference]:
    return [reference for reference in original.references if way_of(spec, reference) is way]


def _re_pointed(spec: TableSpec, original: Relation) -> list[Reference]:
    """All but those that a red check refuses."""
    return [reference for reference in original.references if way_of(spec, reference) is not Way.REFUSE]


def _re_point(spec: TableSpec, reference: Reference, way: Way) -> list[str]:
    """Dropped and added in one statement, NOT VALID, so that no row is read."""
    at, own = keys.referring(reference), name(reference.constraint)
    statements = [f"{_drop(reference)}, {text(_add(spec, reference, way))}"]
    if reference.comment is not None:
        said = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(own, at, sql.Literal(reference.comment))
        statements.append(text(said))
    return statements


def _add(spec: TableSpec, reference: Reference, way: Way) -> sql.Composed:
    target = registry.at(spec) if way is Way.REGISTRY else keys.table(spec)
    made = composite.after(spec, reference) if way is Way.COMPOSITE else reference
    clauses: list[sql.Composable] = [
        sql.SQL("ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({})").format(
            name(made.constraint), names(made.columns), target, names(made.referenced_columns)
        )
    ]
    if made.match == "f":
        clauses.append(sql.SQL("MATCH FULL"))
    if made.on_update != "a":
        clauses.append(raw(f"ON UPDATE {ACTIONS[made.on_update]}"))
    if made.on_delete != "a":
        clauses.append(raw(f"ON DELETE {ACTIONS[made.on_delete]}"))
    if made.delete_columns:
        clauses.append(sql.SQL("({})").format(names(made.delete_columns)))
    if made.deferrable:
        clauses.append(raw("DEFERRABLE INITIALLY DEFERRED" if made.deferred else "DEFERRABLE"))
    return sql.SQL(" ").join([*clauses, sql.SQL("NOT VALID")])


def _drop(reference: Reference) -> str:
    drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
    return text(drop.format(keys.referring(reference), name(reference.constraint)))


def _validate(reference: Reference) -> str:
    validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    return text(validate.format(keys.referring(reference), name(reference.constraint)))
