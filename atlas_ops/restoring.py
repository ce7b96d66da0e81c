"""Brings months back: finds where each is, plans it, and runs the plan that was confirmed; each month is noted in the manifest when it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from atlas_ops import bounds, catalog, definition, manifest, months, partitions, restore, unite
from atlas_ops.database import Session, connect
from atlas_ops.errors import AtlasError
from atlas_ops.execute import Feed, execute
from atlas_ops.export import append
from atlas_ops.manifest import Form
from atlas_ops.model import Partition
from atlas_ops.months import Archive
from atlas_ops.plan import Plan, Step, confirmed, joined, plan_for
from atlas_ops.progress import Says, silent
from atlas_ops.report import Check
from atlas_ops.report import Line as Done
from atlas_ops.restore import Back, Place
from atlas_ops.written import qualified


@dataclass(frozen=True, slots=True)
class Restoring:
    """A way back that can be run: one plan shown; one a month, and one for the view, that are executed."""

    where: Session
    plan: Plan
    parts: tuple[tuple[Archive, Back | None, Plan, Mapping[str, Feed]], ...]
    checks: tuple[Check, ...]


def aside(found: Archive) -> tuple[Partition, ...]:
    """The tables that were restored and are not attached."""
    with connect(found.where) as connection:
        return catalog.marked(connection, restore.mark(found.spec))


def returning(archives: Sequence[Archive], names: Sequence[str], form: Form, place: Place, view: str = "") -> Restoring:
    """How the months named come back, and the view that is asked for. Raises AtlasError for a name that is nowhere."""
    known: dict[str, list[str]] = {each.spec.table: _known(each) for each in archives}
    unknown = [name for name in names if not any(name in own for own in known.values())]
    if unknown:
        able = sorted({name for own in known.values() for name in own}) or ["none"]
        raise AtlasError(
            what=f"There is no month {', '.join(unknown)} to bring back.",
            why="It is in no manifest of these tables, and does not stand beside one of them.",
            next="Use one of: " + partitions.listed(able) + ".",
        )
    checks: list[Check] = []
    parts: list[tuple[Archive, Back | None, Plan, Mapping[str, Feed]]] = []
    for each in archives:
        late = months.late(each) if place == "attach" and names else {}
        coming = [_back(each, name, form, place) for name in names if name in known[each.spec.table]]
        for one in coming:
            checks += restore.checks(each.spec, each.snapshot, one, late.get(one.partition, 0))
            steps, feeds = _steps(each, one)
            parts.append((each, one, plan_for(restore.STAGE, each.spec, each.server, steps), feeds))
        if view and (coming or len(archives) == 1):
            step = _united(each, coming, _view(view, archives, names))
            parts.append((each, None, plan_for(restore.STAGE, each.spec, each.server, [step]), {}))
    empty = plan_for(restore.STAGE, archives[0].spec, archives[0].server, ())
    return Restoring(
        archives[0].where, joined([plan for _, _, plan, _ in parts] or [empty]), tuple(parts), tuple(checks)
    )


def run(work: Restoring, confirm: str, progress: Says = silent) -> tuple[Done, ...]:
    """Run it if `confirm` arms it; a line a step. What is done stays done where a later month fails."""
    if not confirmed(work.plan, confirm, demo=work.where.is_demo):
        return ()
    lines: list[Done] = []
    for found, one, plan, feeds in work.parts:
        lines += execute(work.where, plan, plan.digest, progress, feeds)
        if one is not None and one.month is not None:
            body = {
                "of": one.month.line.number, "system": one.month.line.system_identifier, "from": one.source,
                "as": f"{one.schema}.{one.table}", "attached": one.place == "attach",
            }  # fmt: skip
            append(
                found.where, found.kept, found.server, "restored", found.spec.table, one.partition, body,
                lambda label: progress(0, 0, label),
            )  # fmt: skip
    return tuple(lines)


def _known(found: Archive) -> list[str]:
    earlier = [name for _, lines in found.earlier for name in manifest.months(lines)]
    return [*found.months, *(one.name for one in found.apart), *(one.name for one in aside(found)), *earlier]


def _back(found: Archive, name: str, form: Form, place: Place) -> Back:
    """Where the month is, and what it will be called."""
    source = found.source(name)
    if place == "attach":
        there = _there(found, name)
        if there is not None:
            return there
    if source is None:
        raise AtlasError(
            what=f"{name} was not exported.",
            why="It stands beside the partitioned table: there is no file to restore it from.",
            next='Attach it: place = "attach".',
        )
    export = source[1].export
    table = name
    with connect(found.where) as connection:
        if catalog.relation_exists(connection, export.schema, name):
            table = definition.fit(f"{name}_restored")
            if place == "attach" or catalog.relation_exists(connection, export.schema, table):
                raise _taken(export.schema, name if place == "attach" else table)
        own = [one.name for one in (*export.indexes, *export.statistics)]
        taken = catalog.names_in_use(connection, export.schema, own)
    return Back(name, export.schema, table, export.bound, form, place, export.comment, source[1], taken=taken)


def _taken(schema: str, table: str) -> AtlasError:
    at = f"{schema}.{table}"
    return AtlasError(
        what=f"There is a relation {at} already.",
        why="It is attached, or it is none of ours, or it was restored before.",
        next='If it is the month itself and is attached, there is nothing to do. A copy beside it: place = "aside". A table that was restored '
        f"before and is no longer needed: DROP TABLE {definition.text(definition.name(schema, table))};",
    )


def _there(found: Archive, name: str) -> Back | None:
    """The month as it stands beside the partitioned table: detached and not dropped, or restored and left aside."""
    month = found.months.get(name)
    detached = next((one for one in found.apart if one.name == name), None)
    if detached is not None:
        return _standing(found, detached.partition, detached.bound, detached.before, name)
    restored = next((one for one in aside(found) if one.name == name), None)
    if restored is None:
        return None
    bound, before = restore.told(found.spec, restored)
    return _standing(found, restored, bound, before, month.line.partition if month else name)


def _standing(found: Archive, partition: Partition, bound: str, before: str | None, name: str) -> Back:
    with connect(found.where) as connection, catalog.reading(connection, f"Reading {partition.name}"):
        relation = catalog.relation(connection, partition.schema, partition.name)
    columns = tuple((column.name, column.type) for column in relation.columns) if relation else ()
    return Back(
        name, partition.schema, partition.name, bound, "there", "attach", before, found.months.get(name),
        columns, partition.foreign_keys, partition.checks,
    )  # fmt: skip


def _steps(found: Archive, one: Back) -> tuple[list[Step], dict[str, Feed]]:
    source = found.source(one.partition) if one.source != "there" else None
    views: list[tuple[str, str]] = []
    if one.source == "there":
        with connect(found.where) as connection:
            views = [
                (view.schema, view.name)
                for view in catalog.united(connection, unite.mark(found.spec), _oid(connection, one))
            ]
    feeds = months.feeds_of(*source, found.server) if source is not None else {}
    url = source[0].where if source is not None else ""
    return list(restore.steps(found.spec, found.snapshot, one, url, views)), feeds


def _oid(connection: psycopg.Connection, one: Back) -> int:
    relation = catalog.relation(connection, one.schema, one.table)
    return relation.table.oid if relation else 0


def _view(view: str, archives: Sequence[Archive], names: Sequence[str]) -> tuple[str, str]:
    """Schema and name. Raises AtlasError for what is no name, and where the months are those of several tables."""
    concerned = [each for each in archives if any(name in _known(each) for name in names)]
    if len(concerned) > 1:
        raise AtlasError(
            what="unite names one view, and the months are those of several tables.",
            why="A view unites the rows of one table.",
            next="Bring back the months of one table at a time.",
        )
    try:
        return qualified(view)
    except ValueError:
        raise AtlasError(
            what=f"unite is {view!r}.",
            why="It is no name as SQL writes it.",
            next='Write unite = "public.messages_all".',
        ) from None


def _united(found: Archive, coming: Sequence[Back], view: tuple[str, str]) -> Step:
    """The view over what stands beside the table when the months have come. Raises AtlasError where its name is somebody else's, and where a row of
    a month that is asked for would be in it twice."""
    schema, name = view
    with connect(found.where) as connection:
        ours = (schema, name) in {(one.schema, one.name) for one in catalog.united(connection, unite.mark(found.spec))}
        if not ours and catalog.relation_exists(connection, schema, name):
            raise AtlasError(
                what=f"There is a relation {schema}.{name} already, and it is none of ours.",
                why="The view that unites live and archived rows would take its place.",
                next="Give it another name in unite.",
            )
        wanted = {(one.schema, one.table): one for one in coming if one.place == "aside"}
        tables: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for at in _once(found, coming):
            one = wanted.get(at)
            if one is not None and one.month is not None:
                tables[at] = {(field.name, field.type) for field in one.month.export.fields}
                continue
            relation = catalog.relation(connection, *at)
            tables[at] = {(column.name, column.type) for column in relation.columns} if relation else set()
    twice = [one.partition for at, one in wanted.items() if at not in tables]
    if twice:
        raise AtlasError(
            what=f"{partitions.listed(twice)} would be in {schema}.{name} twice.",
            why="Its rows are live, or another table of the same month stands beside the partitioned table.",
            next="Leave out unite: what is restored aside can be read by its own name. Or drop the table that is no longer needed.",
        )
    return unite.unite(found.spec, found.snapshot, (schema, name), tables, replaces=ours)


def _once(found: Archive, coming: Sequence[Back]) -> Iterator[tuple[str, str]]:
    """The tables beside the partitioned table, now or when the months have come, whose rows are in no other of them, and not live."""
    beside = [((one.partition.schema, one.name), one.bound) for one in found.apart]
    beside += [((one.schema, one.name), restore.told(found.spec, one)[0]) for one in aside(found)]
    beside += [((one.schema, one.table), one.bound) for one in coming if one.place == "aside"]
    leaving = {(one.schema, one.table) for one in coming if one.place == "attach"}
    taken = [bound for _, bound in partitions.attached(found.snapshot)]
    taken += [bounds.parse_bound(one.bound) for one in coming if one.place == "attach"]
    for at, text in dict(beside).items():
        bound = bounds.parse_bound(text)
        if at in leaving or any(restore.overlap(one, bound) or (one.is_default and bound.is_default) for one in taken):
            continue
        taken.append(bound)
        yield at
