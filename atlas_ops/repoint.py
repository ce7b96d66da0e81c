"""What is bound to a table by OID, and must be bound to the other one when the two exchange their names. Pure.

One direction is the other: `leaving` is the relation that has the table's name now, `coming` the one that gets it, both as read before
the exchange; at a cut-over the original leaves, at a roll back the partitioned table does. In the transaction of either:

1. `locks`, before any lock on the two tables
2. `before_exchange`, under the lock on `leaving`, while both still have the names they were read with
3. the exchange itself: `leaving` moves away, `coming` becomes `spec.table` (SET SCHEMA takes indexes and owned sequences along)
4. `at_exchange`; then commit
5. `after_exchange`, a plan of its own, from the catalogs as they are then

A text that PostgreSQL printed before the exchange calls the table by its name. Run after it, it binds to the other table: nothing is
parsed and nothing replaced in a text. It must still be the text of that moment: read `bindings` again under the locks and compare, since
a view or a function that was changed meanwhile would be changed back. What depends on a view needs nothing: OR REPLACE keeps its OID.

Statistics objects stay where they are: the copy has equivalents, under names of their own, which nothing refers to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from psycopg import sql

from atlas_ops import definition
from atlas_ops.definition import fit, name, names, plainly, raw, text
from atlas_ops.model import Binding, Comment, Publication, Relation
from atlas_ops.plan import Effect, Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

LOCKED = ("view", "rule", "policy", "default")  # whose relation at_exchange locks ACCESS EXCLUSIVE


def locks(leaving: Relation, coming: Relation) -> list[str]:
    """ACCESS EXCLUSIVE on the views and other tables that will be changed, to be taken before any lock on the two tables.

    A reader of a view locks the view, then the table. If we held the table first and asked for the view, every such reader in that
    moment would be a deadlock. ALTER TABLE ... OWNER to its owner changes nothing and locks that relation alone, whereas LOCK TABLE on
    a view locks every table below it as well. `coming` is left out: it may be drained into from another connection meanwhile.
    """
    relations = {
        (binding.schema, binding.name): binding.owner
        for binding in leaving.bindings
        if binding.kind in LOCKED and not _is(binding, coming)
    }
    return [
        text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name(*place), name(owner)))
        for place, owner in sorted(relations.items())
    ]


def before_exchange(spec: TableSpec, leaving: Relation, coming: Relation) -> list[str]:
    """What must be let go of while `leaving` still has its name: publications, names of indexes, sequences, routines made anew."""
    return [
        *_unpublished(spec, leaving),
        *(_indexes_returned(spec, coming, leaving) if _is_partitioned(leaving) else []),
        *_sequences_released(spec, leaving, coming),
        *(
            text(
                sql.SQL("ALTER ROUTINE {}({}) RENAME TO {}").format(
                    name(routine.schema, routine.name), raw(routine.member), name(parked)
                )
            )
            for routine, parked in _made_anew(leaving)
        ),
    ]


def at_exchange(spec: TableSpec, leaving: Relation, coming: Relation) -> list[str]:
    """What binds to the table by OID, bound to the one that has its name now. No statement reads a row.

    OR REPLACE keeps owner, rights and comment, of views also triggers and defaults of columns, of rules their state. A routine that takes
    or returns the row type has another signature now: it is made anew, and the old one dropped when nothing calls it any more.
    """
    routines = [binding for binding in leaving.bindings if binding.kind == "function"]
    return [
        # a body that is a text names tables by the caller's search_path; ours is empty
        *(["SET LOCAL check_function_bodies = off"] if routines else []),
        *([] if _is_partitioned(leaving) else _indexes_taken(spec, leaving, coming)),
        *_sequences_taken(spec, leaving, coming),
        *chain.from_iterable((routine.definition, *routine.completion) for routine in routines),
        *(
            statement
            for kind in ("default", "view", "rule", "policy")
            for binding in leaving.bindings
            if binding.kind == kind
            for statement in _bound(spec, binding, leaving, coming)
        ),
        *_materialized_views_prepared(spec, leaving),
        *(
            text(sql.SQL("DROP ROUTINE {}").format(name(routine.schema, parked)))
            for routine, parked in _made_anew(leaving)
        ),
        *_published(spec, leaving, coming),
    ]


def after_exchange(spec: TableSpec, left: Relation, in_use: Relation) -> tuple[Step, ...]:
    """What takes longer than an exchange may: materialized views, filled beside the old ones, and comments.

    Made from the catalogs after the exchange, it holds what is missing: a materialized view that is still bound to `left`, and has its
    successor in the closed schema since `at_exchange`, is not exchanged yet.
    """
    steps: list[Step] = []
    for old in left.materialized_views:
        binding = _binding_of(left, old)
        for new in in_use.materialized_views:
            if new.table.comment == _successor_of(binding):
                steps += [_filled(binding, old, new, in_use), _exchanged(binding, old, new)]
    return (*steps, *comments(spec, left, in_use))


def handed_over(spec: TableSpec, leaving: Relation, coming: Relation) -> list[str]:
    """Where no name is exchanged (side by side): publications, owned sequences, and where the numbers of identities go on."""
    at = (coming.table.schema, coming.table.name)
    return [
        *_unpublished(spec, leaving),
        *_published(spec, leaving, coming, at),
        *(
            text(
                sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(
                    name(binding.schema, binding.name), name(*at, binding.member)
                )
            )
            for binding in leaving.bindings
            if binding.kind == "sequence"
        ),
        *(
            text(
                sql.SQL("SELECT pg_catalog.setval({}, last_value, is_called) FROM {}").format(
                    sql.Literal(text(name(other.schema, other.name))), name(own.schema, own.name)
                )
            )
            for own, other in _identities(leaving, coming)
        ),
    ]


def checks(spec: TableSpec, leaving: Relation, coming: Relation | None = None) -> Iterator[Check]:
    """Red for what could not be bound to the other table, with the reason and the cure; `coming` may not be there yet."""
    grown = not _is_partitioned(leaving) and not (
        leaving.primary_key is not None and spec.partition_key in leaving.primary_key.columns
    )
    for binding in leaving.bindings:
        yield from _check_binding(spec, binding, leaving, grown)
    for view in leaving.materialized_views:
        yield from _check_materialized_view(spec, _binding_of(leaving, view), view)
    for publication in leaving.publications:
        yield from _check_publication(spec, publication)
    if coming is not None:
        yield from _check_counterparts(spec, leaving, coming)


def _is(binding: Binding, relation: Relation) -> bool:
    return (binding.schema, binding.name) == (relation.table.schema, relation.table.name)


def _is_partitioned(relation: Relation) -> bool:
    return relation.table.kind == "p"


# -- views, rules, policies, defaults, routines


def _bound(spec: TableSpec, binding: Binding, leaving: Relation, coming: Relation) -> list[str]:
    """One binding's own statement. A policy of `coming` that names the table is taken from `leaving`, whose text calls itself rightly."""
    own = _is(binding, coming)
    at = name(spec.schema, spec.name) if own else name(binding.schema, binding.name)
    made = binding.definition
    if binding.kind == "view":
        options = sql.SQL(" WITH ({})").format(raw(", ".join(binding.options))) if binding.options else sql.SQL("")
        return [text(sql.SQL("CREATE OR REPLACE VIEW {}{} AS {}").format(at, options, raw(made)))]
    if binding.kind == "rule":
        return ["CREATE OR REPLACE " + made.removeprefix("CREATE ")]
    if binding.kind == "default":
        return [
            text(
                sql.SQL("ALTER TABLE ONLY {} ALTER COLUMN {} SET DEFAULT {}").format(
                    at, name(binding.member), raw(made)
                )
            )
        ]
    if own:
        made = next(
            _conditions(policy.using, policy.check) for policy in leaving.policies if policy.name == binding.member
        )
    return [text(sql.SQL("ALTER POLICY {} ON {} {}").format(name(binding.member), at, raw(made)))]


def _conditions(using: str | None, check: str | None) -> str:
    parts = (("USING", using), ("WITH CHECK", check))
    return " ".join(f"{word} ({condition})" for word, condition in parts if condition is not None)


def _made_anew(leaving: Relation) -> list[tuple[Binding, str]]:
    """The routines with the row type in their signature, each with the name it has until it is dropped.

    A name that nobody else has: so the routine can be dropped without its arguments, whose type has moved meanwhile.
    """
    anew = [binding for binding in leaving.bindings if binding.kind == "function" and binding.row_type]
    return [(routine, fit(f"atlas_ops_{number}_{routine.name}")) for number, routine in enumerate(anew, 1)]


# -- publications


def _publications(spec: TableSpec, relation: Relation) -> list[Publication]:
    """Those that have it by its name, unless the specification leaves them alone."""
    return [
        publication
        for publication in relation.publications
        if not publication.all_tables and spec.publications == "carry"
    ]


def _unpublished(spec: TableSpec, leaving: Relation) -> list[str]:
    """What is drained into the table that left must not be published a second time."""
    return [
        text(
            sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(
                name(publication.name), name(leaving.table.schema, leaving.table.name)
            )
        )
        for publication in _publications(spec, leaving)
    ]


def _published(spec: TableSpec, leaving: Relation, coming: Relation, at: tuple[str, str] | None = None) -> list[str]:
    """`at`: what the coming table is called by then; None: the name of the specification."""
    have = {publication.name for publication in coming.publications if not publication.all_tables}
    return [
        text(
            sql.SQL("ALTER PUBLICATION {} ADD TABLE {}{}{}").format(
                name(publication.name),
                name(*(at or (spec.schema, spec.name))),
                sql.SQL(" ({})").format(names(publication.columns)) if publication.columns else sql.SQL(""),
                sql.SQL(" WHERE ({})").format(raw(publication.row_filter)) if publication.row_filter else sql.SQL(""),
            )
        )
        for publication in _publications(spec, leaving)
        if publication.name not in have
    ]


# -- sequences


def _identities(leaving: Relation, coming: Relation) -> list[tuple[Binding, Binding]]:
    theirs = {binding.member: binding for binding in coming.bindings if binding.kind == "identity"}
    return [
        (binding, theirs[binding.member])
        for binding in leaving.bindings
        if binding.kind == "identity" and binding.member in theirs
    ]


def _sequences_released(spec: TableSpec, leaving: Relation, coming: Relation) -> list[str]:
    """A serial's sequence stays behind when its table moves away; an identity's own goes along and hands over its name and number.

    RENAME locks out every nextval() until the commit. Whoever waits in one would draw from the sequence that left, and a number would be
    given twice: so that one is left at its end, and fails them (2200H). RESTART first makes setval() undone by a rollback (manual:
    ALTER SEQUENCE).
    """
    away = spec.partitioned_name if _is_partitioned(leaving) else f"{spec.name}_retired"
    statements = [
        text(sql.SQL("ALTER SEQUENCE {} OWNED BY NONE").format(name(binding.schema, binding.name)))
        for binding in leaving.bindings
        if binding.kind == "sequence"
    ]
    for own, other in _identities(leaving, coming):
        parked = name(own.schema, fit(f"{away}_{own.member}_seq"))
        filled = {
            "own": name(own.schema, own.name),
            "parked_name": name(fit(f"{away}_{own.member}_seq")),
            "parked": parked,
            "parked_text": sql.Literal(text(parked)),
            "other": sql.Literal(text(name(other.schema, other.name))),
        }
        statements += [
            text(sql.SQL(statement).format(**filled))
            for statement in (
                "ALTER SEQUENCE {own} RENAME TO {parked_name}",
                "SELECT pg_catalog.setval({other}, last_value, is_called) FROM {parked}",
                "ALTER SEQUENCE {parked} RESTART",
                (
                    "SELECT pg_catalog.setval(seqrelid, CASE WHEN seqincrement > 0 THEN seqmax ELSE seqmin END) "
                    "FROM pg_catalog.pg_sequence WHERE seqrelid = {parked_text}::regclass"
                ),
            )
        ]
        if other.closing:
            statements.append(other.closing)
    return statements


def _sequences_taken(spec: TableSpec, leaving: Relation, coming: Relation) -> list[str]:
    """Ownership of serials' sequences; names, rights and comments of identities' ones. The texts name the sequence as it is called now."""
    owned = [
        text(
            sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(
                name(binding.schema, binding.name), name(spec.schema, spec.name, binding.member)
            )
        )
        for binding in leaving.bindings
        if binding.kind == "sequence"
    ]
    for own, other in _identities(leaving, coming):
        if other.name != own.name:
            owned.append(
                text(sql.SQL("ALTER SEQUENCE {} RENAME TO {}").format(name(spec.schema, other.name), name(own.name)))
            )
        owned += own.completion
    return owned


# -- names of indexes, and of the constraints that have them


def _indexes_taken(spec: TableSpec, original: Relation, partitioned: Relation) -> list[str]:
    """The partitioned table's indexes get the original's names, and constraints follow their index.

    So ON CONFLICT ON CONSTRAINT and error messages go on as they were. An index without a counterpart keeps its name.
    """
    have = {index.name: index.columns for index in partitioned.indexes}
    return [
        _renamed(spec, own, theirs)
        for own, theirs, columns in index_names(spec, original)
        if own != theirs and have.get(own) == columns
    ]


def _indexes_returned(spec: TableSpec, original: Relation, partitioned: Relation) -> list[str]:
    """They get their own names back, and no name stays that an index of the original brings along."""
    own = {theirs: own for own, theirs, _ in index_names(spec, original)}
    coming = {index.name for index in original.indexes}
    return [
        _renamed(spec, index.name, own.get(index.name, fit(f"{spec.partitioned_name}_{index.name}")))
        for index in partitioned.indexes
        if index.name in coming
    ]


def _renamed(spec: TableSpec, now: str, then: str) -> str:
    return text(sql.SQL("ALTER INDEX {} RENAME TO {}").format(name(spec.schema, now), name(then)))


def index_names(spec: TableSpec, original: Relation) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(name on the partitioned table, name on the original, columns on the former), in the order of `definition.index_plans`.

    Indexes that the specification wants come last there, and have no counterpart.
    """
    key = spec.partition_key
    made = definition.keyed(original)
    for plan in definition.index_plans(original, key, spec.indexes):
        if plan.of:
            columns, unique = made[plan.of]
            own = plan.name_on(spec.partitioned_name)
            yield own, plan.of, (*columns, key) if unique and key not in columns else columns


# -- materialized views


def _binding_of(relation: Relation, view: Relation) -> Binding:
    return next(binding for binding in relation.bindings if binding.kind == "materialized view" and _is(binding, view))


def _successor_of(binding: Binding) -> str:
    """The comment of a materialized view that is to replace another one: our mark."""
    return f"atlas_ops: to take the place of {plainly(binding.schema, binding.name)}"


def _is_successor(view: Relation) -> bool:
    return (view.table.comment or "").startswith("atlas_ops: to take the place of ")


def _materialized_views_prepared(spec: TableSpec, leaving: Relation) -> list[str]:
    """An empty successor in the closed schema for each, bound to the table in use; one of an exchange that was undone goes."""
    statements = []
    for view in leaving.materialized_views:
        if _is_successor(view):
            statements.append(text(sql.SQL("DROP MATERIALIZED VIEW {}").format(_place(view))))
            continue
        binding = _binding_of(leaving, view)
        at = name(spec.partition_schema, fit(f"{binding.schema}_{binding.name}"))
        options = sql.SQL(" WITH ({})").format(raw(", ".join(binding.options))) if binding.options else sql.SQL("")
        tablespace = (
            sql.SQL(" TABLESPACE {}").format(name(view.table.tablespace)) if view.table.tablespace else sql.SQL("")
        )
        query = raw(binding.definition.removesuffix(" WITH NO DATA"))
        statements += [
            text(sql.SQL("CREATE MATERIALIZED VIEW {}{}{} AS {} WITH NO DATA").format(at, options, tablespace, query)),
            text(sql.SQL("COMMENT ON MATERIALIZED VIEW {} IS {}").format(at, sql.Literal(_successor_of(binding)))),
        ]
    return statements


def _place(view: Relation) -> sql.Identifier:
    return name(view.table.schema, view.table.name)


def _filled(binding: Binding, old: Relation, new: Relation, in_use: Relation) -> Step:
    """The rows and indexes of a successor; again and again, if it must be: yesterday's rows are not what a run of today should show."""
    at, schema = _place(new), new.table.schema
    have = {index.name for index in new.indexes}
    statements = (
        []
        if binding.definition.endswith(" WITH NO DATA")
        else [text(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(at))]
    )
    for index in old.indexes:
        if index.name not in have:
            unique = sql.SQL("UNIQUE " if index.unique else "")
            statements.append(
                text(sql.SQL("CREATE {}INDEX {} ON {} {}").format(unique, name(index.name), at, raw(index.tail)))
            )
        if index.clustered:
            statements.append(text(sql.SQL("ALTER MATERIALIZED VIEW {} CLUSTER ON {}").format(at, name(index.name))))
    statements += [
        text(
            sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                name(schema, new.table.name, column.name), sql.Literal(column.comment)
            )
        )
        for column in old.columns
        if column.comment is not None
    ]
    statements += [
        text(sql.SQL("COMMENT ON INDEX {} IS {}").format(name(schema, comment.name), sql.Literal(comment.content)))
        for comment in old.comments
    ]
    return Step(
        name=f"fill the new {plainly(binding.schema, binding.name)}",
        statements=(*statements, text(sql.SQL("ANALYZE {}").format(at))),
        lock="ACCESS SHARE",
        on=plainly(in_use.table.schema, in_use.table.name),
        why="A materialized view has no OR REPLACE: its successor is filled beside it, where nobody sees it yet.",
    )


def _exchanged(binding: Binding, old: Relation, new: Relation) -> Step:
    schema, view = binding.schema, binding.name
    at = name(schema, view)
    said = plainly(schema, view)
    return Step(
        name=f"exchange {said}",
        statements=(
            text(sql.SQL("DROP MATERIALIZED VIEW {}").format(at)),
            text(sql.SQL("ALTER MATERIALIZED VIEW {} SET SCHEMA {}").format(_place(new), name(schema))),
            text(sql.SQL("ALTER MATERIALIZED VIEW {} RENAME TO {}").format(name(schema, new.table.name), name(view))),
            *binding.completion,
            text(sql.SQL("ALTER MATERIALIZED VIEW {} OWNER TO {}").format(at, name(binding.owner))),
            *definition.grants(schema, view, old),
            text(sql.SQL("COMMENT ON MATERIALIZED VIEW {} IS {}").format(at, sql.Literal(old.table.comment))),
        ),
        lock="ACCESS EXCLUSIVE",
        on=said,
        why="Names, owner and rights change hands in one transaction; nothing is read.",
        effect=Effect.REMOVES,
    )


# -- comments


def comments(
    spec: TableSpec, left: Relation, in_use: Relation, names: Mapping[str, str] | None = None, keys: Sequence[str] = ()
) -> tuple[Step, ...]:
    """The comments that the table in use lacks. Ahead of an exchange: `names`, that its indexes will have by then, by those they have now;
    `keys`, foreign keys that it will have."""
    names = names or {}
    wanted = [_comment(spec, comment) for comment in left.comments if _wants(in_use, comment, names, keys)]
    if not wanted:
        return ()
    return (
        Step(
            name=f"comments of {plainly(spec.schema, spec.name)}",
            statements=tuple(wanted),
            lock="SHARE UPDATE EXCLUSIVE",
            on=plainly(spec.schema, spec.name),
            why="Comments on constraints, indexes, triggers and policies belong to those of the other table; tools read some of them.",
        ),
    )


def _wants(in_use: Relation, comment: Comment, names: Mapping[str, str], keys: Sequence[str]) -> bool:
    """The table in use has such an object, and no comment on it."""
    objects = {
        "CONSTRAINT": [*(names.get(constraint.name, constraint.name) for constraint in in_use.constraints), *keys],
        "INDEX": [names.get(index.name, index.name) for index in in_use.indexes],
        "TRIGGER": [trigger.name for trigger in in_use.triggers],
        "POLICY": [policy.name for policy in in_use.policies],
    }
    had = {(other.kind, names.get(other.name, other.name)) for other in in_use.comments}
    return comment.name in objects[comment.kind] and (comment.kind, comment.name) not in had


def _comment(spec: TableSpec, comment: Comment) -> str:
    on = (
        name(spec.schema, comment.name)
        if comment.kind == "INDEX"
        else sql.SQL("{} ON {}").format(name(comment.name), name(spec.schema, spec.name))
    )
    return text(sql.SQL("COMMENT ON {} {} IS {}").format(raw(comment.kind), on, sql.Literal(comment.content)))


# -- checks


def _check(
    severity: Severity, spec: TableSpec, binding: Binding, what: str, why: str, cure: str, query: str = ""
) -> Check:
    return Check(severity, spec.name, binding.kind, what, why, cure, query)


def _said(binding: Binding) -> str:
    """The object as a DBA would call it."""
    place = plainly(binding.schema, binding.name)
    if binding.kind == "function":
        return f"{place}({binding.member})"
    return f"{binding.member} of {place}" if binding.member else place


def _check_binding(spec: TableSpec, binding: Binding, leaving: Relation, grown: bool) -> Iterator[Check]:
    table, said = plainly(spec.schema, spec.name), _said(binding)
    at = text(name(binding.schema, binding.name)) if binding.schema else ""
    member = text(name(binding.member)) if binding.member else ""
    if binding.kind == "own rule":
        yield _check(
            Severity.STOP, spec, binding, f"Rule {said}.",
            "A rule is of one table; the partitioned table has none, and nothing here writes one.",
            "Let a trigger do what the rule does (triggers are carried over), then drop the rule.",
            f"DROP RULE {member} ON {at};",
        )  # fmt: skip
    elif binding.kind == "column":
        yield _check(
            Severity.STOP, spec, binding, f"Column {said} is of type {binding.definition}, the row type of {table}.",
            "Its values are rows of the table that leaves, and cannot become rows of another one without rewriting that table.",
            "Keep them as jsonb, or in columns of their own.",
            f"ALTER TABLE {at} ALTER COLUMN {member} TYPE jsonb USING to_jsonb({member});",
        )  # fmt: skip
    elif binding.kind == "temporary":
        yield _check(
            Severity.WARN, spec, binding, f"A session's own: {binding.name}.",
            "It goes on with the table that leaves until that session ends; nobody else can change it.", "Let that session end.",
        )  # fmt: skip
    elif binding.kind == "other":
        yield _check(
            Severity.STOP, spec, binding, f"Bound to {table}: {binding.name}.",
            "It would stay with the table that leaves, and nothing here can make it again.",
            "Drop it before, and make it again afterwards.",
        )  # fmt: skip
    elif not binding.may_make:
        creates = binding.kind in ("view", "materialized view", "function")
        yield _check(
            Severity.STOP, spec, binding, f"This role may not change {said}, of {binding.owner}.",
            "It must be bound to the other table in the same transaction"
            + (", which takes its owner's rights and CREATE on its schema." if creates else ", which takes its owner's rights."),
            "Connect as a role that is a member of its owner, or make it one"
            + ("; of a LEAKPROOF function or an untrusted language, as a superuser." if binding.kind == "function" else "."),
            f"GRANT {text(name(binding.owner))} TO CURRENT_USER;"
            + (f"\nGRANT CREATE ON SCHEMA {text(name(binding.schema))} TO {text(name(binding.owner))};" if creates else ""),
        )  # fmt: skip
    if binding.kind == "view" and binding.row_type:
        yield _check(
            Severity.STOP, spec, binding, f"View {said} has a column of the row type of {table}.",
            "CREATE OR REPLACE VIEW cannot change a column's type, and the row type is another one with the other table.",
            "Select the columns one by one, or to_jsonb of the row.", f"SELECT pg_get_viewdef({text(sql.Literal(at))}::regclass);",
        )  # fmt: skip
    if grown and binding.rests_on_key:
        key = ", ".join(leaving.primary_key.columns) if leaving.primary_key else ""
        yield _check(
            Severity.STOP, spec, binding, f"{binding.kind.capitalize()} {said} rests on the primary key ({key}).",
            f"Under GROUP BY ({key}) the other columns follow from it; the key of the partitioned table is larger, and they do not. "
            "ON CONFLICT ON CONSTRAINT, in a rule or in a function's body, rests on it as well.",
            "Name every selected column in GROUP BY. For a function: write its body as a string, which calls the table by its name.",
        )  # fmt: skip
    if binding.dependents:
        yield _check(
            Severity.STOP, spec, binding, f"On {said} depend: {'; '.join(binding.dependents)}.",
            f"It must be made anew, since its {'signature' if binding.kind == 'function' else 'query'} is bound to {table}, "
            "and they would go with the old one.",
            "Drop them before, and make them again afterwards.",
        )  # fmt: skip
    elif binding.kind == "function" and binding.row_type and binding.may_make:
        yield _check(
            Severity.NOTE, spec, binding, f"{said} takes or returns rows of {table}.",
            "It is made anew for the other table's row type, with its owner, rights and comment. A call that was parsed in that very "
            "moment can fail once, with a failed cache lookup.", "",
        )  # fmt: skip


def _check_materialized_view(spec: TableSpec, binding: Binding, view: Relation) -> Iterator[Check]:
    bound = sorted({_said(other) or other.name for other in view.bindings})
    if bound and not _is_successor(view):
        yield _check(
            Severity.STOP, spec, binding, f"On materialized view {_said(binding)} depend: {', '.join(bound)}.",
            "There is no OR REPLACE for it: it is built again and the old one dropped, which they forbid.",
            "Drop them before, and make them again when it has been exchanged.",
        )  # fmt: skip


def _check_publication(spec: TableSpec, publication: Publication) -> Iterator[Check]:
    table = plainly(spec.schema, spec.name)
    if publication.all_tables:
        yield Check(
            Severity.WARN, spec.name, "publication", f"Publication {publication.name} carries {table} without naming it.",
            "Rows that are drained into the table that is not in use are published a second time: FOR ALL TABLES carries both tables, "
            f"FOR TABLES IN SCHEMA the one that lies in that schema (after a roll back, {plainly(spec.partitioned_schema, spec.partitioned_name)}).",
            "Ask who subscribes. A publication that names its tables carries the one in use only.",
        )  # fmt: skip
    elif spec.publications == "leave":
        yield Check(
            Severity.WARN, spec.name, "publication", f"Publication {publication.name} is left as it is (publications: leave).",
            "It goes on with the table that leaves, and publishes what is drained into it, under that table's new name.",
            "Set publications: carry, or drop the table from it yourself.",
            f"ALTER PUBLICATION {text(name(publication.name))} DROP TABLE {text(name(spec.schema, spec.name))};",
        )  # fmt: skip
    elif not publication.may_own:
        yield Check(
            Severity.STOP, spec.name, "publication", f"This role does not own publication {publication.name}.",
            "The table in use must join it, and the other one leave it, in the same transaction.",
            "Connect as its owner, or set publications: leave.",
        )  # fmt: skip
    elif publication.narrowed:
        yield Check(
            Severity.STOP, spec.name, "publication", f"Publication {publication.name} has a row filter or a column list for {table}.",
            "Of a partitioned table it can have neither, unless it publishes through the root: the exchange would be refused.",
            "Set it now; it changes nothing for tables without partitions. Subscribers go on seeing one table.",
            f"ALTER PUBLICATION {text(name(publication.name))} SET (publish_via_partition_root = true);",
        )  # fmt: skip


def _check_counterparts(spec: TableSpec, leaving: Relation, coming: Relation) -> Iterator[Check]:
    policies = {policy.name for policy in leaving.policies}
    identities = {binding.member for binding in coming.bindings if binding.kind == "identity"}
    for binding in leaving.bindings:
        if binding.kind == "policy" and _is(binding, coming) and binding.member not in policies:
            yield _check(
                Severity.STOP, spec, binding, f"Policy {_said(binding)} names {plainly(spec.schema, spec.name)}, which has no such policy itself.",
                "Its text calls the table by a name that changes, so it cannot be taken as it is.",
                "Drop it, or make it on both tables.", f"DROP POLICY {text(name(binding.member))} ON {text(name(binding.schema, binding.name))};",
            )  # fmt: skip
        if binding.kind == "identity" and binding.member not in identities:
            yield _check(
                Severity.STOP, spec, binding, f"Column {binding.member} is an identity here only.",
                "The other table would have no numbers to give.", "Make it one there too: the tables must be alike.",
            )  # fmt: skip
