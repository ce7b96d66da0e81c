"""The composite way: a foreign key of two columns, the second of which the database fills. Pure.

The referring table gets the partition key of the row it refers to as a column of its own. A trigger fills it, so the application goes
on writing the first column alone; ON UPDATE CASCADE keeps it once the foreign key stands, and the drain until then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from psycopg import sql

from atlas_ops import keys, online, sqlfile
from atlas_ops.definition import fit, name, names, plainly, raw, text
from atlas_ops.division import Kind, Part
from atlas_ops.model import Reference, Relation
from atlas_ops.plan import Effect, Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
MATCHES = {"s": "SIMPLE", "f": "FULL"}
_REMEMBERED = re.compile(
    rf"{keys.MARK}.* \(was ON UPDATE ({'|'.join(ACTIONS.values())}), MATCH ({'|'.join(MATCHES.values())})\)", re.DOTALL
)


def added_column(spec: TableSpec, reference: Reference) -> str:
    """The column that is added: message_id, which refers to id, and created_at give message_created_at."""
    stem = reference.columns[-1].removesuffix(f"_{reference.referenced_columns[-1]}")
    return fit(f"{stem}_{spec.partition_key}")


def before(reference: Reference) -> Reference | None:
    """A composite foreign key of ours as it was: without the column, whose comment remembers the rest. None for any other."""
    remembered = _REMEMBERED.fullmatch(reference.column_comments[-1] or "")
    if not remembered:
        return None
    added = reference.columns[-1]
    return replace(
        reference,
        columns=reference.columns[:-1],
        referenced_columns=reference.referenced_columns[:-1],
        column_comments=reference.column_comments[:-1],
        delete_columns=tuple(column for column in reference.delete_columns if column != added),
        on_update=_letter(ACTIONS, remembered[1]),
        match=_letter(MATCHES, remembered[2]),
    )


def _letter(words: dict[str, str], word: str) -> str:
    return next(letter for letter, known in words.items() if known == word)


def after(spec: TableSpec, reference: Reference) -> Reference:
    """The foreign key as it refers to the partitioned table."""
    added = added_column(spec, reference)
    return replace(
        reference,
        columns=(*reference.columns, added),
        referenced_columns=(*reference.referenced_columns, spec.partition_key),
        delete_columns=(*reference.delete_columns, added) if reference.delete_columns else (),
        on_update="c",
        match="s",
    )


def obstacles(
    spec: TableSpec, original: Relation, reference: Reference, others: Sequence[Reference]
) -> Iterator[tuple[str, str, str]]:
    """Why this foreign key cannot become composite: (why, cure, SQL). `others` are to become so too."""
    registry, added = "incoming_foreign_keys: registry serves it.", added_column(spec, reference)
    if reference.deferrable:
        why = "It is deferrable: a row may come before the one it refers to, and its partition key cannot be looked up yet."
        yield why, registry, ""
    if reference.on_update in "nd":
        why = f"ON UPDATE {ACTIONS[reference.on_update]} would act on a row that merely moves to another partition."
        yield why, registry, ""
    if reference.match == "f" and len(reference.columns) > 1:
        yield "MATCH FULL forbids a reference that is NULL in part, as the added column can be.", registry, ""
    if original.table.force_row_security:
        yield (
            f"Row security is forced on {spec.table}: it would hide rows from the function that looks up the partition key.",
            registry,
            text(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY;").format(keys.table(spec))),
        )
    if not reference.indexed and not reference.way:
        index = sql.SQL("CREATE INDEX CONCURRENTLY ON {} ({});")
        yield (
            f"No index of {reference.table} begins with ({', '.join(reference.columns)}): each drain, the cut-over's too, would read it whole.",
            "Make one; it also serves the foreign key itself.",
            text(index.format(keys.referring(reference), names(reference.columns))),
        )
    if added in reference.all_columns and added not in reference.marked_columns:
        yield f"{reference.table} has a column {added} already.", f"Rename that column, or {registry}", ""
    if any(
        other.constraint != reference.constraint
        and other.table == reference.table
        and added_column(spec, other) == added
        for other in others
    ):
        why = f"Another foreign key of {reference.table} would add the same column {added}."
        yield why, f"Drop one of the two, or {registry}", ""


def checks(spec: TableSpec, reference: Reference) -> Iterator[Check]:
    """What is different with a composite foreign key, and what it costs to make it one."""
    added, table = added_column(spec, reference), reference.table
    yield Check(
        Severity.WARN, spec.name, "composite", f"{table} gets a column {added}.",
        "SELECT * and whoever is subscribed to the table see one column more: a prepared SELECT * fails once (0A000), a subscriber without the "
        f"column stops. The application goes on writing ({', '.join(reference.columns)}) alone: a trigger looks the key up, in every "
        f"partition. Filling the column writes each of the about {max(reference.estimated_rows, 0):,} rows once ({reference.bytes / 1e6:,.1f} MB, "
        "and as much WAL at least), a part a step. A refused DELETE names a constraint of the partition's. "
        f"Whoever may read a row of {table} reads in {added} the {spec.partition_key} of the row it refers to, even of one that row security hides.",
        "Add the column on the subscriber's side first.",
    )  # fmt: skip
    triggers = [one for one in reference.update_triggers if not one.startswith((keys.LAST, "atlas_ops_"))]
    if triggers:
        yield Check(
            Severity.WARN, spec.name, "composite", f"{table} has triggers that fire on every UPDATE: {', '.join(triggers)}.",
            "Filling the column is one: a time of the last change, for instance, would be the time of the filling.",
            "Read them; narrow them to UPDATE OF the columns they are about, or take incoming_foreign_keys: registry.",
        )  # fmt: skip
    if reference.on_update in "ar":
        yield Check(
            Severity.WARN, spec.name, "composite", f"{reference.constraint} becomes ON UPDATE CASCADE.",
            f"So that a row may move to another partition. A change of ({', '.join(reference.referenced_columns)}) that was refused before is "
            "followed then.",
            "Look whether the application relies on the refusal.",
        )  # fmt: skip
    if spec.null_keys == "set_aside":
        yield Check(
            Severity.NOTE, spec.name, "composite", f"No row of {table} may refer to a row without {spec.partition_key} at the cut-over.",
            "Such a row is set aside then, out of the foreign key's sight: the cut-over is refused where anything refers to one.",
        )  # fmt: skip


def of_aside(spec: TableSpec, reference: Reference) -> str:
    """A query for the number of rows that refer to a row that is set aside."""
    count = sql.SQL("SELECT count(*) FROM {} AS a JOIN {} AS r ON {}")
    return text(count.format(online.set_aside(spec), keys.referring(reference), _aside_joined(reference)))


def refers_aside(spec: TableSpec, reference: Reference, rows: int) -> Check:
    """What stops the cut-over: `rows` of them do."""
    return Check(
        Severity.STOP, spec.name, "incoming foreign key", f"{rows:,} rows of {reference.table} refer to rows without {spec.partition_key}.",
        f"Those are set aside at the cut-over, and {reference.constraint}, with {spec.partition_key} as a further column, would neither check what "
        f"refers to them nor act on it: when one is deleted (with what it refers to itself), ON DELETE {ACTIONS[reference.on_delete]} would not "
        "happen, and the way back would find rows that refer to nothing.",
        _aside_cure(spec),
        of_aside(spec, reference) + ";",
    )  # fmt: skip


def none_aside(spec: TableSpec, reference: Reference) -> str:
    """A statement that fails where a row refers to one that is set aside: the last word, under the locks of the cut-over."""
    return text(
        sqlfile.template(
            "none_refers_aside",
            aside=online.set_aside(spec),
            table=keys.referring(reference),
            same=_aside_joined(reference),
            said=sql.Literal(
                f"rows of {reference.table} refer to rows without {spec.partition_key}, which are set aside"
            ),
            cure=sql.Literal(_aside_cure(spec)),
        )
    )


def _aside_joined(reference: Reference) -> sql.Composed:
    return keys.equal("r", reference.columns, "a", reference.referenced_columns)


def _aside_cure(spec: TableSpec) -> str:
    return (
        f"incoming_foreign_keys: registry serves it. Or give those rows a key in {keys.said(spec)}, and drain (02, or atlas-ops drain). "
        "Or begin again (10 Roll back, abandon) with null_keys: {value: <expression>}."
    )


def prepare(spec: TableSpec, original: Relation, reference: Reference, parts: Sequence[Part]) -> Iterator[Step]:
    """The column, its triggers, its values part by part."""
    added = plainly(reference.schema, reference.name, added_column(spec, reference))
    yield Step(
        name=f"add {added}",
        statements=(*make(spec, original, reference), *make_log(spec, original), *log(spec, original, reference)),
        lock="ACCESS EXCLUSIVE",
        on=reference.table,
        why="An empty column, and the trigger that fills it for new rows: the application goes on writing the others alone. A second trigger "
        "logs what they refer to, so that the drain looks again once they are committed.",
        effect=Effect.CHANGES,
    )
    for part in parts:
        if part.kind is not Kind.SET_ASIDE:  # a row without a key has none to give
            yield Step(
                name=f"fill {added}: {part.label}",
                statements=(fill(spec, original, reference, part.of_original),),
                lock="ROW EXCLUSIVE",
                on=reference.table,
                why="The rows that refer to this part are written once. A writer of one of them waits until this step ends.",
                effect=Effect.CHANGES,
            )
    yield keys.vacuum(keys.referring(reference), reference.table)


def make(spec: TableSpec, original: Relation, reference: Reference) -> list[str]:
    """The column, what it must remember of the foreign key, and the trigger that fills it."""
    at, added = keys.referring(reference), added_column(spec, reference)
    comment = (
        f"{keys.MARK}{spec.partition_key} of {keys.said(spec)}, for {plainly(reference.constraint)} "
        f"(was ON UPDATE {ACTIONS[reference.on_update]}, MATCH {MATCHES[reference.match]})"
    )
    violated = f'insert or update on table "{reference.name}" violates foreign key constraint "{reference.constraint}"'
    body = sqlfile.template(
        "pair_trigger",
        new=keys.of("NEW", reference.columns),
        old=keys.of("OLD", reference.columns),
        added=keys.of("NEW", [added]),
        was=keys.of("OLD", [added]),
        value=keys.value(spec),
        table=keys.table(spec),
        primary=names(reference.referenced_columns),
        violated=sql.Literal(violated),
        constraint=sql.Literal(reference.constraint),
    )
    add = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
    calls, fills = _function(spec, reference, "pair"), fit(keys.LAST + added)
    events = sql.SQL("BEFORE INSERT OR UPDATE OF {}").format(names((*reference.columns, added)))
    return [
        text(add.format(at, name(added), raw(keys.key_column(spec, original).type))),
        text(
            sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                name(reference.schema, reference.name, added), sql.Literal(comment)
            )
        ),
        *keys.function(calls, body, original),
        keys.trigger(fills, events, at, raw("ROW"), calls),
        keys.switch("ENABLE ALWAYS", at, fills),
    ]


def fill(spec: TableSpec, original: Relation, reference: Reference, condition: str) -> str:
    """Only what is empty: the drain and the trigger know better what is not."""
    added = added_column(spec, reference)
    return text(
        sql.SQL("UPDATE {} AS r SET {} = {} FROM ({} WHERE {}) AS s WHERE {} AND {} IS NULL").format(
            keys.referring(reference),
            name(added),
            keys.of("s", [spec.partition_key]),
            keys.current(spec, original),
            raw(condition),
            keys.equal("r", reference.columns, "s", reference.referenced_columns),
            keys.of("r", [added]),
        )
    )


def pairs(spec: TableSpec) -> sql.Identifier:
    """The log of what was referred to; there is one between `prepare` and the cut-over."""
    return name(spec.partition_schema, spec.pairs_name)


def make_log(spec: TableSpec, original: Relation) -> list[str]:
    """The log, one for all tables that refer."""
    made = sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT {} FROM {} WITH NO DATA")
    return [
        text(made.format(pairs(spec), names(keys.primary(original)), keys.table(spec))),
        # it has no key, and a publication FOR ALL TABLES refuses a DELETE from such a table otherwise
        text(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(pairs(spec))),
        *keys.closed(spec, original, pairs(spec)),
    ]


def log(spec: TableSpec, original: Relation, reference: Reference) -> list[str]:
    """A trigger that logs what a written row refers to.

    The filling trigger reads the key in a snapshot that may be old when the row is committed. Until the foreign key checks the pair,
    nothing else would tell: the drain looks again at what is logged, which it can see only together with the row.
    """
    at, calls = keys.referring(reference), _function(spec, reference, "log")
    values = keys.of("NEW", reference.columns)
    body = sql.SQL("BEGIN INSERT INTO {} ({}) VALUES ({}); RETURN NULL; END").format(
        pairs(spec), names(reference.referenced_columns), values
    )
    events = sql.SQL("AFTER INSERT OR UPDATE OF {}").format(names(reference.columns))
    whole = sql.SQL("ROW WHEN (num_nulls({}) = 0)").format(values)
    return [
        *keys.function(calls, body, original),
        keys.trigger(_log_trigger(spec, reference), events, at, whole, calls),
        keys.switch("ENABLE ALWAYS", at, _log_trigger(spec, reference)),
    ]


def drop_log(spec: TableSpec, reference: Reference) -> list[str]:
    """The trigger and its function go, where they are."""
    drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}")
    return [
        text(drop.format(name(_log_trigger(spec, reference)), keys.referring(reference))),
        text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(spec, reference, "log"))),
    ]


def drain(
    spec: TableSpec, original: Relation, references: Sequence[Reference], batch: sql.Identifier | None = None
) -> str:
    """Whoever refers to a key that is logged, on either side, gets the partition key its row has now."""
    primary = keys.primary(original)
    touched = sql.SQL("SELECT {} FROM logged").format(names(primary))
    if batch is not None:
        touched += sql.SQL(" UNION SELECT {} FROM {}").format(names(primary), batch)
    return text(
        sqlfile.template(
            "drain_pairs",
            pairs=pairs(spec),
            primary=names(primary),
            touched=touched,
            columns=keys.of("t", primary),
            key=name(spec.partition_key),
            value=keys.value(spec),
            table=keys.table(spec),
            same=keys.equal("o", primary, "t", primary),
            updates=sql.SQL(", ").join(_update(spec, one, number) for number, one in enumerate(references, 1)),
        )
    )


def _update(spec: TableSpec, reference: Reference, number: int) -> sql.Composed:
    added = added_column(spec, reference)
    return sql.SQL("{} AS (UPDATE {} AS r SET {} = {} FROM fresh AS f WHERE {} AND {} IS DISTINCT FROM {})").format(
        name(f"update_{number}"),
        keys.referring(reference),
        name(added),
        keys.of("f", [spec.partition_key]),
        keys.equal("r", reference.columns, "f", reference.referenced_columns),
        keys.of("r", [added]),
        keys.of("f", [spec.partition_key]),
    )


def proof(spec: TableSpec, original: Relation, reference: Reference) -> str:
    """How many rows hold another key than the row they refer to, and neither log knows it."""
    return text(
        sql.SQL("SELECT count(*) FROM {} AS r JOIN ({}) AS s ON {} WHERE {} IS DISTINCT FROM {} AND {} AND {}").format(
            keys.referring(reference),
            keys.current(spec, original),
            keys.equal("r", reference.columns, "s", reference.referenced_columns),
            keys.of("r", [added_column(spec, reference)]),
            keys.of("s", [spec.partition_key]),
            keys.not_logged(online.log(spec), original, "s"),
            keys.not_logged(pairs(spec), original, "s"),
        )
    )


def abandon(spec: TableSpec, reference: Reference) -> list[str]:
    """Triggers, functions and column go; a column that is not ours stays."""
    added, at = added_column(spec, reference), keys.referring(reference)
    drop = text(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(at, name(added)))
    return [
        *drop_log(spec, reference),
        text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name(fit(keys.LAST + added)), at)),
        text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(spec, reference, "pair"))),
        *([drop] if added in reference.marked_columns else []),
    ]


def _log_trigger(spec: TableSpec, reference: Reference) -> str:
    return fit(f"atlas_ops_{added_column(spec, reference)}")


def _function(spec: TableSpec, reference: Reference, kind: str) -> sql.Identifier:
    """Of a trigger on a referring table; the hash tells apart what a mere joining of names could not."""
    whole = "\0".join((reference.schema, reference.name, added_column(spec, reference)))
    return name(spec.partition_schema, fit(f"{spec.name}_{kind}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"))
