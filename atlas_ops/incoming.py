"""Foreign keys of other tables that refer to the table: how they outlive the cut-over, and how they come back. Pure.

A partitioned table has no unique key without its partition key, so a foreign key to (id) must be re-pointed in the cut-over's
transaction. `incoming_foreign_keys` says where to: to a *registry*, a closed table of (id, key) that keeps id unique over all
partitions, or to the partitioned table itself, *composite*, with the partition key as a further referring column. A foreign key that
holds the partition key already is re-pointed as it is.

    original --prepare--> prepared --at_cut_over--> cut over
             <--abandon--          <--at_roll_back--

Between `prepare` and `at_cut_over` the drain keeps what was prepared in step with the table (`in_drain`); after it triggers do (the
registry) or ON UPDATE CASCADE does (composite). After a roll back the drain goes on: nothing is prepared twice.

`original.references` must be those of `catalog.references`, which finds them on either side of a cut-over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from enum import StrEnum

from psycopg import sql

from atlas_ops import migration, sqlfile
from atlas_ops.definition import fit, name, names, plainly, raw, text
from atlas_ops.errors import AtlasError
from atlas_ops.model import Reference, Relation, Taken
from atlas_ops.plan import Effect, Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

MARK = "atlas_ops: "
LAST = "zzz_atlas_ops_"  # how a BEFORE trigger starts that must see what all others have made of the row
UNVALIDATED_SINCE = 180000  # a partitioned table's own foreign keys may be NOT VALID
ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
MATCHES = {"s": "SIMPLE", "f": "FULL"}
_REMEMBERED = re.compile(rf"{MARK}.* \(was ON UPDATE ({'|'.join(ACTIONS.values())}), MATCH (SIMPLE|FULL)\)", re.DOTALL)


class Way(StrEnum):
    """What becomes of one foreign key at the cut-over."""

    DIRECT = "direct"  # it holds the partition key: the partitioned table has the unique key it refers to
    REGISTRY = "registry"
    COMPOSITE = "composite"
    REFUSE = "refuse"


def before(spec: TableSpec, reference: Reference) -> Reference:
    """A foreign key in the words it had before the cut-over, with its way where it is re-pointed now."""
    if (reference.referenced_schema, reference.referenced_table) == (spec.partition_schema, spec.keys_name):
        return replace(
            reference, referenced_schema=str(spec.schema), referenced_table=str(spec.name), way=str(Way.REGISTRY)
        )
    remembered = _REMEMBERED.fullmatch(reference.column_comments[-1] or "")
    if not remembered:
        return reference
    added = reference.columns[-1]
    return replace(
        reference,
        columns=reference.columns[:-1],
        referenced_columns=reference.referenced_columns[:-1],
        column_comments=reference.column_comments[:-1],
        delete_columns=tuple(column for column in reference.delete_columns if column != added),
        on_update=_letter(ACTIONS, remembered[1]),
        match=_letter(MATCHES, remembered[2]),
        way=str(Way.COMPOSITE),
    )


def _letter(words: dict[str, str], word: str) -> str:
    return next(letter for letter, known in words.items() if known == word)


def way_of(spec: TableSpec, reference: Reference) -> Way:
    """What the specification makes of this foreign key."""
    return Way.DIRECT if spec.partition_key in reference.referenced_columns else Way(spec.incoming_foreign_keys)


def names_needed(spec: TableSpec) -> tuple[str, ...]:
    """The relation names that the specification's way takes in the schema of the partitions."""
    return {"registry": (spec.keys_name,), "composite": (spec.pairs_name,)}.get(spec.incoming_foreign_keys, ())


def added_column(spec: TableSpec, reference: Reference) -> str:
    """The column that a composite foreign key adds: message_id, which refers to id, and created_at give message_created_at."""
    stem = reference.columns[-1].removesuffix(f"_{reference.referenced_columns[-1]}")
    return fit(f"{stem}_{spec.partition_key}")


# -- what is said


def checks(spec: TableSpec, original: Relation, version: int, taken: Iterable[Taken] = ()) -> tuple[Check, ...]:
    """Every finding on the incoming foreign keys; red ones stop the cut-over.

    `version`: server_version_num. `taken`: what `catalog.snapshot` finds of `names_needed`.
    """
    found = [check for reference in original.references for check in _reference(spec, original, reference, version)]
    ways_taken = {way_of(spec, reference) for reference in original.references}
    if Way.REGISTRY in ways_taken:
        found += _of_registry(spec, original)
    if Way.COMPOSITE in ways_taken:
        found += _of_composite(spec, original)
    for one in taken:
        if (one.schema == spec.partition_schema and one.name in names_needed(spec)) and one.comment != _mark(spec):
            at = text(name(one.schema, one.name))
            found.append(
                _check(
                    Severity.STOP, spec, "name taken", f"The name {one.schema}.{one.name} is taken by a {one.kind}.",
                    "A table of ours gets this name, which its comment marks.",
                    "Look what it is; rename it, or drop it when nothing uses it.",
                    f"ALTER TABLE {at} RENAME TO {text(name(fit(one.name + '_stale')))};",
                )
            )  # fmt: skip
    return tuple(found)


def _check(
    severity: Severity, spec: TableSpec, check: str, what: str, why: str = "", cure: str = "", query: str = ""
) -> Check:
    return Check(severity, spec.name, check, what, why, cure, query)


def _reference(spec: TableSpec, original: Relation, reference: Reference, version: int) -> Iterator[Check]:
    way, what = way_of(spec, reference), f"{reference.table}: {reference.constraint}, {reference.definition}"
    if way is Way.REFUSE:
        yield _check(
            Severity.STOP, spec, "incoming foreign key", what,
            f"At the cut-over it would stay with the original. It cannot refer to the partitioned table with "
            f"({', '.join(reference.referenced_columns)}) alone: there is no unique key on it.",
            "Say in the specification what becomes of it: incoming_foreign_keys: registry, or composite. Or drop it, and make it again "
            "after the cut-over: this is the SQL of both ways.",
            _by_hand(spec, original, reference, version),
        )  # fmt: skip
        return
    obstacles = list(_obstacles(spec, original, reference, way, version))
    for why, cure, query in obstacles:
        yield _check(Severity.STOP, spec, "incoming foreign key", what, why, cure, query)
    if not reference.may_own:
        yield _check(
            Severity.STOP, spec, "rights", f"This role does not own {reference.table} ({reference.owner} does).",
            f"{reference.constraint} must be dropped and added again in the cut-over's transaction, which only the owner may.",
            f"Connect as {reference.owner}, or as a member of it.",
        )  # fmt: skip
    if not obstacles and reference.may_own:
        target = {
            Way.DIRECT: "the partitioned table, as it is",
            Way.REGISTRY: f"{spec.partition_schema}.{spec.keys_name}",
            Way.COMPOSITE: f"the partitioned table, together with a new column {added_column(spec, reference)}",
        }[way]
        yield _check(
            Severity.NOTE, spec, "incoming foreign key", what,
            f"At the cut-over it is made to refer to {target}; ON DELETE {ACTIONS[reference.on_delete]} stays. Its rows are checked afterwards.",
        )  # fmt: skip


def _obstacles(
    spec: TableSpec, original: Relation, reference: Reference, way: Way, version: int
) -> Iterator[tuple[str, str, str]]:
    """Why this foreign key cannot go that way: (why, cure, SQL)."""
    drop = text(
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {};").format(_table(reference), name(reference.constraint))
    )  # fmt: skip
    if reference.self:
        yield (
            "The table refers to itself: both ends would move at once, and the drain would act on rows that refer to each other.",
            "Drop it before the migration. Afterwards a foreign key on both columns can be added by hand.", drop,
        )  # fmt: skip
    if not reference.enforced:
        yield "It is NOT ENFORCED: it checks nothing.", "Enforce it or drop it.", drop
    if not reference.validated and not reference.way:
        yield (
            "It is not validated, so there may be rows that refer to nothing; after the cut-over nothing would tell it from one that is to be.",
            "Validate it or drop it.", _validate(reference) + ";",
        )  # fmt: skip
    if reference.partitioned and version < UNVALIDATED_SINCE:
        yield (
            "The referring table is partitioned: before PostgreSQL 18 its foreign keys cannot be NOT VALID, and the cut-over would read every row.",
            "Drop it before the cut-over and add it again afterwards, at a quiet moment.", drop,
        )  # fmt: skip
    if way is Way.DIRECT:
        return
    primary = original.primary_key
    if primary is None or sorted(reference.referenced_columns) != sorted(primary.columns):
        yield (
            f"It refers to ({', '.join(reference.referenced_columns)}), which is not the primary key: no table of ours keeps that unique.",
            "Let it refer to the primary key, or drop it.", drop,
        )  # fmt: skip
        return
    if way is Way.REGISTRY:
        if any(column.generated for column in original.columns if column.name in primary.columns):
            yield (
                "The primary key is a generated column: a BEFORE trigger, which keeps the registry, cannot see it.",
                "incoming_foreign_keys: composite, or a key that is stored by the application.", "",
            )  # fmt: skip
        return
    yield from _obstacles_to_composite(spec, original, reference)


def _obstacles_to_composite(
    spec: TableSpec, original: Relation, reference: Reference
) -> Iterator[tuple[str, str, str]]:
    registry = "incoming_foreign_keys: registry serves it."
    added = added_column(spec, reference)
    if reference.deferrable:
        yield (
            "It is deferrable: a row may come before the one it refers to, and its partition key cannot be looked up yet.", registry, "",
        )  # fmt: skip
    if reference.on_update in "nd":
        yield (
            f"ON UPDATE {ACTIONS[reference.on_update]} would act on a row that merely moves to another partition.", registry, "",
        )  # fmt: skip
    if reference.match == "f" and len(reference.columns) > 1:
        yield "MATCH FULL forbids a reference that is NULL in part, as the added column can be.", registry, ""
    if original.table.force_row_security:
        yield (
            f"Row security is forced on {spec.table}: it would hide rows from the function that looks up the partition key.", registry,
            f"ALTER TABLE {text(_original(spec))} NO FORCE ROW LEVEL SECURITY;",
        )  # fmt: skip
    if not reference.indexed and not reference.way:
        yield (
            f"No index of {reference.table} begins with ({', '.join(reference.columns)}): each drain, the cut-over's too, would read it whole.",
            "Make one; it also serves the foreign key itself.",
            text(sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({});").format(_table(reference), names(reference.columns))),
        )  # fmt: skip
    if added in reference.all_columns and added not in reference.marked_columns:
        yield f"{reference.table} has a column {added} already.", f"Rename that column, or {registry}", ""
    if any(
        other.constraint != reference.constraint
        and other.table == reference.table
        and added_column(spec, other) == added
        for other in original.references
        if way_of(spec, other) is not Way.DIRECT
    ):
        yield (
            f"Another foreign key of {reference.table} would add the same column {added}.",
            f"Drop one of the two, or {registry}", "",
        )  # fmt: skip


def _of_registry(spec: TableSpec, original: Relation) -> Iterator[Check]:
    keys = plainly(spec.partition_schema, spec.keys_name)
    before_row = [trigger for trigger in original.triggers if trigger.row_level and trigger.timing == "BEFORE"]
    own = LAST + "keys"
    for trigger in before_row:
        events = trigger.head.partition(" OF ")[0]
        if "UPDATE" in events and trigger.name > own:
            yield _check(
                Severity.STOP, spec, "trigger", f"{trigger.name} fires after {own}, which must be the last BEFORE trigger.",
                "Triggers fire in the order of their names, and what the last one makes of the key must be in the registry.",
                "Rename it.",
                f"ALTER TRIGGER {text(name(trigger.name))} ON {text(_original(spec))} RENAME TO {text(name(fit('z_' + trigger.name)))};",
            )  # fmt: skip
        if "INSERT" in events or "DELETE" in events:
            yield _check(
                Severity.WARN, spec, "trigger", f"{trigger.name} is a row trigger {events}.",
                "An UPDATE that moves a row to another partition fires it, as a DELETE and an INSERT. Where it returns NULL, the row does not "
                f"move, or is lost, and {keys} does not hear of it; where it changes the key, the UPDATE fails (23505).",
                "Read it.",
            )  # fmt: skip
    yield _check(
        Severity.WARN, spec, "registry", f"{keys} keeps ({', '.join(_primary(original))}) unique over all partitions.",
        "A duplicate is 23505 as before, but the constraint is the registry's, and ON CONFLICT DO NOTHING does not see one with another "
        f"{spec.partition_key}. TRUNCATE is refused, with CASCADE too. Each INSERT and DELETE writes a second, small row.",
        "Look who names the constraint, and who relies on ON CONFLICT DO NOTHING.",
    )  # fmt: skip


def _of_composite(spec: TableSpec, original: Relation) -> Iterator[Check]:
    for reference in original.references:
        if way_of(spec, reference) is not Way.COMPOSITE:
            continue
        added, table = added_column(spec, reference), reference.table
        yield _check(
            Severity.WARN, spec, "composite", f"{table} gets a column {added}.",
            "SELECT * and whoever is subscribed to the table see one column more; a subscriber without it stops. The application goes on "
            f"writing ({', '.join(reference.columns)}) alone: a trigger looks the key up, in every partition. Filling it writes each of the "
            f"about {max(reference.estimated_rows, 0):,} rows once ({reference.bytes / 1e6:,.1f} MB, and as much WAL at least), a part a step; a "
            "refused DELETE names a constraint of the partition's.",
            "Add the column on the subscriber's side first.",
        )  # fmt: skip
        triggers = [one for one in reference.update_triggers if not one.startswith((LAST, "atlas_ops_"))]
        if triggers:
            yield _check(
                Severity.WARN, spec, "composite", f"{table} has triggers that fire on every UPDATE: {', '.join(triggers)}.",
                "Filling the column is one: a time of the last change, for instance, would be the time of the filling.",
                "Read them; narrow them to UPDATE OF the columns they are about, or take incoming_foreign_keys: registry.",
            )  # fmt: skip
        if reference.on_update in "ar":
            yield _check(
                Severity.WARN, spec, "composite", f"{reference.constraint} becomes ON UPDATE CASCADE.",
                f"So that a row may move to another partition. A change of ({', '.join(reference.referenced_columns)}) that was refused before is "
                "followed then.",
                "Look whether the application relies on the refusal.",
            )  # fmt: skip
        if spec.null_keys == "set_aside":
            yield _check(
                Severity.NOTE, spec, "composite", f"{added} stays NULL where the row referred to has no {spec.partition_key}.",
                "Such a row is set aside at the cut-over. What refers to it stays, and is not checked (MATCH SIMPLE), nor deleted with it.",
            )  # fmt: skip


def ways(spec: TableSpec, original: Relation, version: int) -> str:
    """The SQL of both ways for every foreign key that must be re-pointed, for a DBA who does it by hand."""
    return "\n\n".join(
        _by_hand(spec, original, reference, version)
        for reference in original.references
        if way_of(spec, reference) is not Way.DIRECT
    )


def _by_hand(spec: TableSpec, original: Relation, reference: Reference, version: int) -> str:
    constraint = plainly(reference.constraint)
    lines = [
        f"-- {constraint} of {reference.table}: before the cut-over",
        text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {};").format(_table(reference), name(reference.constraint))),
        f"-- after it, one of the two; writers of {_said(spec)} wait while it runs",
    ]
    for way in (Way.REGISTRY, Way.COMPOSITE):
        lines.append(f"-- {way}")
        obstacles = list(_obstacles(spec, original, reference, way, version))
        if obstacles:
            lines += [f"--   is not possible. {' '.join(why.split())}" for why, _, _ in obstacles]
            continue
        statements = [
            "BEGIN",
            text(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(_original(spec))),
            *_made_by_hand(spec, original, reference, way),
            text(sql.SQL("ALTER TABLE {} {}").format(_table(reference), _add(spec, reference, way))),
            "COMMIT",
            _validate(reference),
        ]
        lines += [f"{statement};" for statement in statements]
    return "\n".join(lines)


def _made_by_hand(spec: TableSpec, original: Relation, reference: Reference, way: Way) -> list[str]:
    if way is Way.COMPOSITE:
        return [*_column(spec, original, reference), _fill_column(spec, original, reference, "true")]
    aside = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT DO NOTHING").format(
        _keys(spec),
        names(_registered(spec, original)),
        names(_registered(spec, original)),
        name(spec.partition_schema, spec.null_keys_name),
    )
    return [
        *_registry(spec, original),
        _fill_registry(spec, original, "true"),
        *([text(aside)] if spec.null_keys == "set_aside" else []),
        *_create_triggers(spec, original, _original(spec)),
        _switch("ENABLE ALWAYS", _original(spec), _trigger_names()),
    ]


# -- what is done


def prepare(spec: TableSpec, original: Relation, as_of: date) -> tuple[Step, ...]:
    """What must be there before the cut-over, made while the application writes; safe to run twice.

    The capture must be on the table before, so that the drain hears of what changes meanwhile. A drain pass waits while a part of
    the registry is filled: two writers would bring back a row that one of them has just seen deleted.
    """
    key = original.column(spec.partition_key)
    assert key is not None, "preflight refuses a specification whose key is missing"
    parts = [part for part in migration.parts(spec, key.base_type, as_of) if part.table]
    steps: list[Step] = []
    if any(_by(Way.REGISTRY, spec, original)):
        steps += _prepare_registry(spec, original, parts)
    for reference in _by(Way.COMPOSITE, spec, original):
        steps += _prepare_composite(spec, original, reference, parts)
    return tuple(steps)


def in_drain(spec: TableSpec, original: Relation, batch: sql.Identifier) -> list[str]:
    """What a drain pass from the table to the partitioned one does besides, in its transaction.

    `batch` has the columns of the key log. No part of a drain in the other direction: there triggers and CASCADE do it.
    """
    statements = []
    if any(_by(Way.REGISTRY, spec, original)):
        statements.append(_drain_registry(spec, original, batch))
    if any(_by(Way.COMPOSITE, spec, original)):
        statements.append(_drain_pairs(spec, original, batch))
    return statements


def at_cut_over(spec: TableSpec, original: Relation) -> list[str]:
    """Statements of an instant, in the cut-over's transaction, after the exchange of names.

    Each takes ACCESS EXCLUSIVE on its referring table for a moment, and SHARE ROW EXCLUSIVE on what it refers to from now on.
    """
    statements = []
    if any(_by(Way.REGISTRY, spec, original)):
        statements.append(_switch("ENABLE ALWAYS", _original(spec), _trigger_names()))
    for reference in original.references:
        way = way_of(spec, reference)
        if way is not Way.REFUSE:  # a red check
            statements += _re_point(spec, reference, way)
    for reference in _by(Way.COMPOSITE, spec, original):
        statements += _drop_log(spec, reference)
    if any(_by(Way.COMPOSITE, spec, original)):
        # the last word on rows that were written, but not committed, at the last drain; after every ALTER, since it fires triggers
        statements += [_drain_pairs(spec, original), text(sql.SQL("DROP TABLE {}").format(_pairs(spec)))]
    return statements


def after_cut_over(spec: TableSpec, original: Relation) -> tuple[Step, ...]:
    """The check of every row that refers, which blocks nobody; of each foreign key that is not validated yet."""
    return tuple(
        Step(
            name=f"check {plainly(reference.constraint)} of {reference.table}",
            statements=(_validate(reference),),
            lock="SHARE UPDATE EXCLUSIVE",
            on=reference.table,
            why="It was added NOT VALID: new rows are checked already. Here the others are read once; nobody waits.",
        )
        for reference in original.references
        if way_of(spec, reference) is not Way.REFUSE and not reference.validated
    )


def at_roll_back(spec: TableSpec, original: Relation) -> list[str]:
    """The foreign keys back on the original, in the transaction of the roll back, after the names are exchanged back.

    What was prepared stays, and from here on the drain keeps it in step again: the next cut-over finds it ready.
    """
    statements = []
    for reference in original.references:
        if way_of(spec, reference) is not Way.REFUSE:
            statements += _re_point(spec, reference, Way.DIRECT)
    if any(_by(Way.COMPOSITE, spec, original)):
        statements += _pair_log(spec, original)
    for reference in _by(Way.COMPOSITE, spec, original):
        statements += _log(spec, original, reference)
    if any(_by(Way.REGISTRY, spec, original)):
        statements.append(_switch("DISABLE", _partitioned(spec), _trigger_names()))
    return statements


def after_roll_back(spec: TableSpec, original: Relation) -> tuple[Step, ...]:
    """As after the cut-over."""
    return after_cut_over(spec, original)


def abandon(spec: TableSpec, original: Relation) -> list[str]:
    """Everything that was prepared goes: the catalogs are as before. Safe where nothing was.

    Raises AtlasError while a foreign key is re-pointed: dropping the column or the registry would drop the foreign key.
    """
    settled = [reference for reference in original.references if reference.way]
    if settled:
        raise AtlasError(
            what=f"{', '.join(f'{one.constraint} of {one.table}' for one in settled)}: cut over, and still in use.",
            why="What was prepared for it serves it now.",
            next="10 Roll back first; it points the foreign keys at the original again.",
        )
    statements = []
    if names_needed(spec) == (spec.keys_name,):
        statements += [
            text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name(trigger), _partitioned(spec)))
            for trigger in _trigger_names()
        ]
        statements.append(_drop_marked(spec, _keys(spec)))
        statements.append(text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_keys(spec))))
    for reference in _by(Way.COMPOSITE, spec, original):
        added = added_column(spec, reference)
        statements += _drop_log(spec, reference)
        trigger = name(fit(LAST + added))
        statements.append(text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, _table(reference))))
        statements.append(text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(spec, reference, "pair"))))
        if added in reference.marked_columns:
            statements.append(
                text(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(_table(reference), name(added)))
            )  # fmt: skip
    if names_needed(spec) == (spec.pairs_name,):
        statements.append(_drop_marked(spec, _pairs(spec)))
    return statements


def proofs(spec: TableSpec, original: Relation) -> list[str]:
    """Queries that each count what is not in step between `prepare` and the cut-over; 0 each in one snapshot, or the log knows it."""
    logged = sql.SQL("NOT EXISTS (SELECT FROM {} AS l WHERE {})")
    key_log = name(spec.partition_schema, f"{spec.name}_key_log")
    primary, key = _primary(original), name(spec.partition_key)
    queries = []
    if any(_by(Way.REGISTRY, spec, original)):
        queries.append(
            sql.SQL(
                "SELECT count(*) FROM (SELECT {} FROM ({}) AS s FULL JOIN {} AS k USING ({}) "
                "WHERE s IS NULL OR k IS NULL OR s.{} IS DISTINCT FROM k.{}) AS d WHERE {}"
            ).format(
                names(primary), _current(spec, original), _keys(spec), names(primary), key, key,
                logged.format(key_log, _equal("l", primary, "d", primary)),
            )
        )  # fmt: skip
    for reference in _by(Way.COMPOSITE, spec, original):
        referenced = reference.referenced_columns
        queries.append(
            sql.SQL(
                "SELECT count(*) FROM {} AS r JOIN ({}) AS s ON {} WHERE r.{} IS DISTINCT FROM s.{} AND {} AND {}"
            ).format(
                _table(reference), _current(spec, original), _equal("r", reference.columns, "s", referenced),
                name(added_column(spec, reference)), key,
                logged.format(key_log, _equal("l", primary, "s", primary)),
                logged.format(_pairs(spec), _equal("l", primary, "s", primary)),
            )
        )  # fmt: skip
    return [text(query) for query in queries]


# -- the foreign keys themselves


def _re_point(spec: TableSpec, reference: Reference, way: Way) -> list[str]:
    """Dropped and added in one statement, NOT VALID, so that no row is read."""
    at, own = _table(reference), name(reference.constraint)
    statements = [
        text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}, {}").format(at, own, _add(spec, reference, way)))
    ]  # fmt: skip
    if reference.comment is not None:
        statements.append(
            text(sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(own, at, sql.Literal(reference.comment)))
        )
    return statements


def _add(spec: TableSpec, reference: Reference, way: Way) -> sql.Composed:
    target = _keys(spec) if way is Way.REGISTRY else _original(spec)
    columns, referenced = [*reference.columns], [*reference.referenced_columns]
    delete_columns = [*reference.delete_columns]
    on_update, match = reference.on_update, reference.match
    if way is Way.COMPOSITE:
        columns.append(added_column(spec, reference))
        referenced.append(spec.partition_key)
        delete_columns += columns[-1:] if delete_columns else []
        on_update, match = "c", "s"
    clauses = [
        sql.SQL("ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({})").format(
            name(reference.constraint), names(columns), target, names(referenced)
        )
    ]
    if match == "f":
        clauses.append(sql.SQL("MATCH FULL").format())
    if on_update != "a":
        clauses.append(sql.SQL("ON UPDATE {}").format(raw(ACTIONS[on_update])))
    if reference.on_delete != "a":
        clauses.append(sql.SQL("ON DELETE {}").format(raw(ACTIONS[reference.on_delete])))
        if delete_columns:
            clauses.append(sql.SQL("({})").format(names(delete_columns)))
    if reference.deferrable:
        clauses.append(
            sql.SQL("DEFERRABLE INITIALLY DEFERRED" if reference.deferred else "DEFERRABLE").format()
        )  # fmt: skip
    return sql.SQL(" ").join([*clauses, sql.SQL("NOT VALID")])


def _validate(reference: Reference) -> str:
    return text(
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(_table(reference), name(reference.constraint))
    )  # fmt: skip


# -- the registry


def _prepare_registry(spec: TableSpec, original: Relation, parts: Sequence[migration.Part]) -> Iterator[Step]:
    keys = plainly(spec.partition_schema, spec.keys_name)
    yield Step(
        name=f"make {keys}",
        statements=tuple(_registry(spec, original)),
        lock="ACCESS SHARE",
        on=_said(spec),
        why="The keys of all rows in one table, unique as no index of a partitioned table can be: what refers to the table will refer to it.",
    )
    lock = text(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(_keys(spec)))
    for part in parts:
        yield Step(
            name=f"fill {keys}: {part.label}",
            statements=(lock, _fill_registry(spec, original, part.of_original)),
            lock="ACCESS SHARE",
            on=_said(spec),
            why="The keys of this part. A drain waits for it, the application does not.",
        )
    yield Step(
        name=f"triggers for {keys}",
        statements=(
            *_create_triggers(spec, original, _partitioned(spec)),
            _switch("DISABLE", _partitioned(spec), _trigger_names()),
        ),
        lock="SHARE ROW EXCLUSIVE",
        on=plainly(spec.partitioned_schema, spec.partitioned_name),
        why="They keep it from the cut-over on. Until then the drain does, and they are off: switching them on takes less time than making them.",
    )
    yield _vacuum(_keys(spec), keys)


def _registry(spec: TableSpec, original: Relation) -> list[str]:
    made = sqlfile.template(
        "keys_table",
        literal=sql.Literal(text(_keys(spec))),
        keys=_keys(spec),
        primary=names(_primary(original)),
        key=name(spec.partition_key),
        table=_original(spec),
    )
    columns = _registered(spec, original)
    body = sqlfile.template(
        "keys_trigger",
        keys=_keys(spec),
        columns=names(columns),
        primary=names(_primary(original)),
        new=_of("NEW", columns),
        old=_of("OLD", _primary(original)),
        all_old=_of("OLD", columns),
        refused=sql.Literal(f'cannot truncate "{spec.name}": other tables refer to its rows'),
    )
    return [
        text(sql.SQL("DO {}").format(_dollars(made))),
        *_closed(spec, original, _keys(spec)),
        *_trigger_function(_keys(spec), body, original),
    ]


def _fill_registry(spec: TableSpec, original: Relation, condition: str) -> str:
    return text(
        sql.SQL("INSERT INTO {} ({}) {} WHERE {} ON CONFLICT DO NOTHING").format(
            _keys(spec), names(_registered(spec, original)), _current(spec, original), raw(condition)
        )
    )


def _drain_registry(spec: TableSpec, original: Relation, batch: sql.Identifier) -> str:
    primary, key = _primary(original), name(spec.partition_key)
    return text(
        sqlfile.template(
            "drain_keys",
            keys=_keys(spec),
            primary=names(primary),
            touched=_of("t", primary),
            key=key,
            columns=names(_registered(spec, original)),
            batch=batch,
            value=raw(migration.projection(spec, spec.partition_key)),
            table=_original(spec),
            same=_equal("o", primary, "t", primary),
            gone=_equal("k", primary, "f", primary),
        )
    )


def _trigger_names() -> tuple[str, str, str]:
    """After a row, before an UPDATE, before a TRUNCATE."""
    return "atlas_ops_keys", LAST + "keys", "atlas_ops_keys_truncate"


def _create_triggers(spec: TableSpec, original: Relation, at: sql.Identifier) -> list[str]:
    call = sql.SQL("EXECUTE FUNCTION {}()").format(_keys(spec))
    row, update, truncate = _trigger_names()
    changed = sql.SQL("ROW({}) IS DISTINCT FROM ROW({})").format(
        _of("OLD", _registered(spec, original)), _of("NEW", _registered(spec, original))
    )
    create = sql.SQL("CREATE OR REPLACE TRIGGER {} {} ON {} FOR EACH {} {}")
    return [
        text(create.format(name(row), raw("AFTER INSERT OR DELETE"), at, raw("ROW"), call)),
        text(
            create.format(
                name(update), raw("BEFORE UPDATE"), at, raw("ROW"), sql.SQL("WHEN ({}) {}").format(changed, call)
            )
        ),
        text(create.format(name(truncate), raw("BEFORE TRUNCATE"), at, raw("STATEMENT"), call)),
    ]


# -- composite


def _prepare_composite(
    spec: TableSpec, original: Relation, reference: Reference, parts: Sequence[migration.Part]
) -> Iterator[Step]:
    added = plainly(reference.schema, reference.name, added_column(spec, reference))
    yield Step(
        name=f"add {added}",
        statements=(*_column(spec, original, reference), *_pair_log(spec, original), *_log(spec, original, reference)),
        lock="ACCESS EXCLUSIVE",
        on=reference.table,
        why="An empty column, and the trigger that fills it for new rows: the application goes on writing the others alone. A second trigger "
        "logs what they refer to, so that the drain looks again once they are committed.",
        effect=Effect.CHANGES,
    )
    for part in parts:
        if part.kind is not migration.Kind.SET_ASIDE:  # a row without a key has none to give
            yield Step(
                name=f"fill {added}: {part.label}",
                statements=(_fill_column(spec, original, reference, part.of_original),),
                lock="ROW EXCLUSIVE",
                on=reference.table,
                why="The rows that refer to this part are written once. A writer of one of them waits until this step ends.",
                effect=Effect.CHANGES,
            )
    yield _vacuum(_table(reference), reference.table)


def _column(spec: TableSpec, original: Relation, reference: Reference) -> list[str]:
    """The column, what it must remember of the foreign key, and the trigger that fills it."""
    at, added = _table(reference), added_column(spec, reference)
    key = original.column(spec.partition_key)
    assert key is not None, "preflight refuses a specification whose key is missing"
    comment = (
        f"{MARK}{spec.partition_key} of {_said(spec)}, for {plainly(reference.constraint)} "
        f"(was ON UPDATE {ACTIONS[reference.on_update]}, MATCH {MATCHES[reference.match]})"
    )
    body = sqlfile.template(
        "pair_trigger",
        new=_of("NEW", reference.columns),
        old=_of("OLD", reference.columns),
        added=_column_of("NEW", added),
        value=raw(migration.projection(spec, spec.partition_key)),
        table=_original(spec),
        primary=names(reference.referenced_columns),
        violated=sql.Literal(
            f'insert or update on table "{reference.name}" violates foreign key constraint "{reference.constraint}"'
        ),
        constraint=sql.Literal(reference.constraint),
    )
    function, trigger = _function(spec, reference, "pair"), fit(LAST + added)
    events = sql.SQL("BEFORE INSERT OR UPDATE OF {}").format(names(reference.columns))
    return [
        text(sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(at, name(added), raw(key.type))),
        text(sql.SQL("COMMENT ON COLUMN {} IS {}").format(name(reference.schema, reference.name, added), sql.Literal(comment))),
        *_trigger_function(function, body, original),
        text(
            sql.SQL("CREATE OR REPLACE TRIGGER {} {} ON {} FOR EACH ROW EXECUTE FUNCTION {}()").format(
                name(trigger), events, at, function
            )
        ),
        _switch("ENABLE ALWAYS", at, (trigger,)),
    ]  # fmt: skip


def _fill_column(spec: TableSpec, original: Relation, reference: Reference, condition: str) -> str:
    """Only what is empty: the drain and the trigger know better what is not."""
    return text(
        sql.SQL("UPDATE {} AS r SET {} = s.{} FROM ({} WHERE {}) AS s WHERE {} AND r.{} IS NULL").format(
            _table(reference),
            name(added_column(spec, reference)),
            name(spec.partition_key),
            _current(spec, original),
            raw(condition),
            _equal("r", reference.columns, "s", reference.referenced_columns),
            name(added_column(spec, reference)),
        )
    )


def _pair_log(spec: TableSpec, original: Relation) -> list[str]:
    made = sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT {} FROM {} WITH NO DATA").format(
        _pairs(spec), names(_primary(original)), _original(spec)
    )
    # FULL: it has no key, and a publication FOR ALL TABLES refuses the DELETE of such a table otherwise
    identity = sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(_pairs(spec))
    return [text(made), text(identity), *_closed(spec, original, _pairs(spec))]


def _log(spec: TableSpec, original: Relation, reference: Reference) -> list[str]:
    """A trigger that logs what a written row refers to.

    The filling trigger reads the key in a snapshot that may be old when the row is committed. Until the foreign key checks the pair,
    nothing else would tell: the drain looks again at what is logged, which it can see only together with the row.
    """
    function, trigger = _function(spec, reference, "log"), fit(f"atlas_ops_{added_column(spec, reference)}")
    values = _of("NEW", reference.columns)
    body = sql.SQL("BEGIN INSERT INTO {} ({}) VALUES ({}); RETURN NULL; END").format(
        _pairs(spec), names(reference.referenced_columns), values
    )
    whole = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT NULL").format(_column_of("NEW", column)) for column in reference.columns
    )
    create = sql.SQL(
        "CREATE OR REPLACE TRIGGER {} AFTER INSERT OR UPDATE OF {} ON {} FOR EACH ROW WHEN ({}) EXECUTE FUNCTION {}()"
    ).format(name(trigger), names(reference.columns), _table(reference), whole, function)
    return [
        *_trigger_function(function, body, original),
        text(create),
        _switch("ENABLE ALWAYS", _table(reference), (trigger,)),
    ]


def _drop_log(spec: TableSpec, reference: Reference) -> list[str]:
    trigger = name(fit(f"atlas_ops_{added_column(spec, reference)}"))
    return [
        text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, _table(reference))),
        text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(spec, reference, "log"))),
    ]


def _drain_pairs(spec: TableSpec, original: Relation, batch: sql.Identifier | None = None) -> str:
    """Whoever refers to a key that is logged, on either side, gets the key its row has now."""
    primary, key = _primary(original), name(spec.partition_key)
    touched = sql.SQL("SELECT {} FROM logged").format(names(primary))
    if batch is not None:
        touched += sql.SQL(" UNION SELECT {} FROM {}").format(names(primary), batch)
    updates = [
        sql.SQL("{} AS (UPDATE {} AS r SET {} = f.{} FROM fresh AS f WHERE {} AND r.{} IS DISTINCT FROM f.{})").format(
            name(f"update_{number}"),
            _table(reference),
            name(added_column(spec, reference)),
            key,
            _equal("r", reference.columns, "f", reference.referenced_columns),
            name(added_column(spec, reference)),
            key,
        )
        for number, reference in enumerate(_by(Way.COMPOSITE, spec, original), 1)
    ]
    return text(
        sqlfile.template(
            "drain_pairs",
            pairs=_pairs(spec),
            primary=names(primary),
            touched=touched,
            columns=_of("t", primary),
            key=key,
            value=raw(migration.projection(spec, spec.partition_key)),
            table=_original(spec),
            same=_equal("o", primary, "t", primary),
            updates=sql.SQL(", ").join(updates),
        )
    )


# -- names and pieces


def _by(way: Way, spec: TableSpec, original: Relation) -> Iterator[Reference]:
    return (reference for reference in original.references if way_of(spec, reference) is way)


def _primary(original: Relation) -> tuple[str, ...]:
    assert original.primary_key is not None, "preflight refuses a table without one"
    return original.primary_key.columns


def _registered(spec: TableSpec, original: Relation) -> tuple[str, ...]:
    return (*_primary(original), spec.partition_key)


def _original(spec: TableSpec) -> sql.Identifier:
    return name(spec.schema, spec.name)


def _partitioned(spec: TableSpec) -> sql.Identifier:
    """The partitioned table under the name it has on this side of the cut-over."""
    return name(spec.partitioned_schema, spec.partitioned_name)


def _said(spec: TableSpec) -> str:
    return plainly(spec.schema, spec.name)


def _keys(spec: TableSpec) -> sql.Identifier:
    """The registry, and the function that keeps it."""
    return name(spec.partition_schema, spec.keys_name)


def _pairs(spec: TableSpec) -> sql.Identifier:
    return name(spec.partition_schema, spec.pairs_name)


def _table(reference: Reference) -> sql.Identifier:
    return name(reference.schema, reference.name)


def _function(spec: TableSpec, reference: Reference, kind: str) -> sql.Identifier:
    """Of a trigger on a referring table; the hash tells apart what a mere joining of names could not."""
    whole = "\0".join((reference.schema, reference.name, added_column(spec, reference)))
    return name(spec.partition_schema, fit(f"{spec.name}_{kind}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"))


def _mark(spec: TableSpec) -> str:
    return f"{MARK}keys of {text(_original(spec))}"


def _column_of(row: str, column: str) -> sql.Composed:
    """A column of NEW or OLD."""
    return sql.SQL("{}.{}").format(raw(row), name(column))


def _of(row: str, columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(_column_of(row, column) for column in columns)


def _equal(one: str, columns: Sequence[str], other: str, others: Sequence[str]) -> sql.Composed:
    """`one.a = other.b AND ...`"""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(name(one, a), name(other, b)) for a, b in zip(columns, others, strict=True)
    )


def _current(spec: TableSpec, original: Relation) -> sql.Composed:
    """The keys of the table as its copy holds them."""
    return sql.SQL("SELECT {}, {} AS {} FROM {}").format(
        names(_primary(original)),
        raw(migration.projection(spec, spec.partition_key)),
        name(spec.partition_key),
        _original(spec),
    )


def _closed(spec: TableSpec, original: Relation, at: sql.Identifier) -> list[str]:
    """The owner's alone, and marked as ours. The schema lets nobody in; row security lets nobody see, whatever default privileges say."""
    return [
        text(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(at)),
        text(sql.SQL("COMMENT ON TABLE {} IS {}").format(at, sql.Literal(_mark(spec)))),
        text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(at, name(original.table.owner))),
    ]


def _trigger_function(function: sql.Identifier, body: sql.Composable, original: Relation) -> list[str]:
    """With the rights of the table's owner, whoever writes."""
    return [
        text(
            sql.SQL(
                "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS {}"
            ).format(function, _dollars(body))
        ),
        text(sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function)),
        text(sql.SQL("ALTER FUNCTION {}() OWNER TO {}").format(function, name(original.table.owner))),
    ]


def _drop_marked(spec: TableSpec, at: sql.Identifier) -> str:
    """DROP TABLE, where it is ours."""
    body = sql.SQL("BEGIN IF obj_description(to_regclass({}), 'pg_class') = {} THEN DROP TABLE {}; END IF; END").format(
        sql.Literal(text(at)), sql.Literal(_mark(spec)), at
    )
    return text(sql.SQL("DO {}").format(_dollars(body)))


def _switch(state: str, at: sql.Identifier, triggers: Iterable[str]) -> str:
    """ENABLE ALWAYS: under session_replication_role = replica too.

    There a unique index is kept, so the registry is; and the actions of foreign keys rest, so those of the registry's do.
    """
    switched = sql.SQL(", ").join(sql.SQL("{} TRIGGER {}").format(raw(state), name(trigger)) for trigger in triggers)
    return text(sql.SQL("ALTER TABLE {} {}").format(at, switched))


def _dollars(body: sql.Composable) -> sql.SQL:
    """Between dollar quotes that no name in the body can end."""
    inner, tag = text(body).strip(), "function"
    while f"${tag}$" in inner:
        tag += "_"
    return sql.SQL(f"${tag}$\n{inner}\n${tag}$")


def _vacuum(at: sql.Identifier, said: str) -> Step:
    return Step(
        name=f"vacuum {said}",
        statements=(text(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(at)),),
        lock="SHARE UPDATE EXCLUSIVE",
        on=said,
        why="Statistics, and the space of what was rewritten. Skipped where autovacuum is at it.",
        autocommit=True,
    )
