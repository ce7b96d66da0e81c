"""The archive of tables as it stands, and what is done to it: months are exported, proven, dropped; each armed by the digest of its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg

from atlas_ops import archive, catalog, exports, feeds, manifest, partitions, quarantine
from atlas_ops.database import Session, connect, session, translate
from atlas_ops.errors import AtlasError
from atlas_ops.execute import Feed, execute
from atlas_ops.export import append, export
from atlas_ops.exports import Job
from atlas_ops.manifest import FORMS, Line, Month, Proof, Purpose
from atlas_ops.model import Partition, Server, Snapshot
from atlas_ops.plan import Plan, confirmed, joined
from atlas_ops.progress import Says, silent
from atlas_ops.quarantine import Apart
from atlas_ops.report import Line as Done
from atlas_ops.spec import TableSpec
from atlas_ops.store import Store


@dataclass(frozen=True, slots=True)
class Archive:
    """One table: what the catalogs say of it and of the months that have left, and what its manifest holds."""

    where: Session
    spec: TableSpec
    snapshot: Snapshot
    apart: tuple[Apart, ...]
    store: Store | None  # None: the specification names no archive_to
    lines: tuple[Line, ...] = ()
    earlier: tuple[tuple[Store, tuple[Line, ...]], ...] = ()  # of other servers with a database and table of that name

    @property
    def server(self) -> Server:
        """Where it lies."""
        return self.snapshot.server

    @property
    def months(self) -> dict[str, Month]:
        """What the manifest says of each partition."""
        return manifest.months(self.lines)

    def source(self, name: str) -> tuple[Store, Month] | None:
        """Where a month can be restored from: this server's part of the archive, or an earlier one's."""
        if name in self.months:
            return self.kept, self.months[name]
        found = [(store, known[name]) for store, lines in self.earlier if name in (known := manifest.months(lines))]
        return found[-1] if found else None

    @property
    def kept(self) -> Store:
        """Its folder. Raises AtlasError where the specification names none."""
        if self.store is None:
            exports.where_to(self.spec)
        assert self.store is not None
        return self.store


def read(where: Session, spec: TableSpec, snapshot: Snapshot) -> Archive:
    """The archive of a table as it stands. Raises AtlasError where its manifest is broken."""
    with connect(where) as connection:
        marked = catalog.marked(connection, archive.quarantine_mark(spec))
    apart = quarantine.apart(spec, marked)
    if spec.archive_to is None:
        return Archive(where, spec, snapshot, apart, None)
    store = Store(spec.archive_to, exports.place_of(spec, snapshot.server))
    return Archive(where, spec, snapshot, apart, store, store.lines(), tuple(_earlier(spec, snapshot.server)))


def proven(spec: TableSpec, server: Server) -> frozenset[str]:
    """The names of the partitions whose files were restored and compared, and that were not brought back since; none without an archive.

    The manifest alone is read. Raises AtlasError where it cannot be, or is broken.
    """
    if spec.archive_to is None:
        return frozenset()
    lines = Store(spec.archive_to, exports.place_of(spec, server)).lines()
    return frozenset(name for name, month in manifest.months(lines).items() if month.proven and month.restored is None)


def _earlier(spec: TableSpec, server: Server) -> Iterator[tuple[Store, tuple[Line, ...]]]:
    """What other servers have left in the same place, the one before an upgrade perhaps: it is read, and never written."""
    assert spec.archive_to is not None
    for system in Store(spec.archive_to).folders():
        if system != server.system_identifier and system.isdecimal():
            store = Store(spec.archive_to, manifest.place(system, server.database, spec.schema, spec.name))
            lines = store.lines()
            if lines:
                yield store, lines


def late(found: Archive) -> dict[str, int]:
    """Rows that lie in the partitioned table again, by the month that has left."""
    gone = {one.name: one.bound for one in found.apart}
    gone |= {name: month.export.bound for name, month in found.months.items() if month.dropped and not month.restored}
    attached = {partition.name for partition, _ in partitions.attached(found.snapshot)}
    counted = {}
    with connect(found.where) as connection:
        for name, bound in gone.items():
            query = quarantine.late_query(found.spec, found.snapshot, bound)
            if query is None or name in attached:
                continue
            try:
                row = connection.execute(query).fetchone()
            except psycopg.Error as error:
                raise translate(error, f"Looking for late rows of {name}") from None
            counted[name] = row[0] if row else 0
    return counted


# -- export


@dataclass(frozen=True, slots=True)
class Exporting:
    """An export that can be run: the plan that is shown, and a job a step."""

    where: Session
    server: Server
    plan: Plan
    jobs: tuple[Job, ...]


def exporting(archives: Sequence[Archive], names: Sequence[str], purpose: Purpose) -> Exporting:
    """What is to be exported: `names`, whose files are written anew, or what has left and was not exported since (`backup`: every partition).

    Raises AtlasError for a name that is none of them, and where a table cannot be exported.
    """
    chosen = [_chosen(each, names, purpose) for each in archives]
    _refuse_unknown(names, chosen, archives, purpose)
    jobs = [
        [_job(each, *one, purpose, fresh=bool(names)) for one in wanted]
        for each, wanted in zip(archives, chosen, strict=True)
    ]
    plans = [exports.plan_export(each.spec, each.server, own) for each, own in zip(archives, jobs, strict=True)]
    return Exporting(archives[0].where, archives[0].server, joined(plans), tuple(one for own in jobs for one in own))


def run_export(work: Exporting, confirm: str, progress: Says = silent) -> tuple[Done, ...]:
    """Run it if `confirm` arms it; a line a month."""
    return export(work.where, work.plan, work.jobs, work.server, confirm, progress)


def _chosen(found: Archive, names: Sequence[str], purpose: Purpose) -> list[tuple[Partition, str, str | None]]:
    """(partition, bound, comment before the mark) of what is to be exported."""
    if purpose == "backup":
        able = [
            (partition, bound.text, partition.comment)
            for partition, bound in partitions.attached(found.snapshot)
            if partition.kind == "r" and not partition.detach_pending
        ]
        able += [(each, "", each.comment) for each in partitions.beside(found.snapshot) if each.name in names]
        return [one for one in able if not names or one[0].name in names]
    months = found.months
    return [
        (one.partition, one.bound, one.before)
        for one in found.apart
        if (one.name in names if names else _to_export(months.get(one.name), one))
    ]


def _to_export(month: Month | None, one: Apart) -> bool:
    """Never exported but as a backup, or brought back since, or exported with another bound. Of a backup's files those stay that are the same."""
    if month is None or month.export.purpose != "archive":
        return True
    return month.restored is not None or month.dropped is not None or month.export.bound != one.bound


def _job(found: Archive, partition: Partition, bound: str, before: str | None, purpose: Purpose, *, fresh: bool) -> Job:
    with connect(found.where) as connection, catalog.reading(connection, f"Reading {partition.name}"):
        relation = catalog.relation(connection, partition.schema, partition.name)
        if relation is None:
            raise _gone(partition.name)
        types = catalog.own_types(connection, relation.table.oid)
    return exports.job(
        found.spec, found.server, relation, types, bound=bound, purpose=purpose, comment=before, fresh=fresh
    )


def _refuse_unknown(
    names: Sequence[str],
    chosen: Sequence[Iterable[tuple[Partition, str, str | None]]],
    archives: Sequence[Archive],
    purpose: Purpose,
) -> None:
    known = {one[0].name for found in chosen for one in found}
    unknown = [name for name in names if name not in known]
    if unknown:
        able = [one[0].name for each in archives for one in _chosen(each, (), purpose)] or ["none"]
        apart = sorted({one.name for each in archives for one in each.apart})
        raise AtlasError(
            what=f"There is no partition {', '.join(unknown)} to export.",
            why="It is not detached and marked here."
            if purpose == "archive"
            else "It is no partition of these tables.",
            next="Use one of: "
            + partitions.listed([*dict.fromkeys([*able, *(apart if purpose == "archive" else [])])])
            + ".",
        )


def _gone(name: str) -> AtlasError:
    return AtlasError(
        what=f"{name} is not there any more.", why="Somebody has dropped or renamed it meanwhile.", next="Run again."
    )


# -- proof


@dataclass(frozen=True, slots=True)
class Proving:
    """A proof that can be run: one plan shown, and one a month that is executed, so that what is proven is written at once."""

    where: Session  # where it is restored
    plan: Plan
    months: tuple[tuple[Archive, Month, Plan, Mapping[str, Feed]], ...]
    version: str


def proving(archives: Sequence[Archive], names: Sequence[str] = ()) -> Proving:
    """What is exported and not proven yet, or `names`. Raises AtlasError for a name that was not exported."""
    exported = {name for each in archives for name in each.months}
    unknown = [name for name in names if name not in exported]
    if unknown:
        raise AtlasError(
            what=f"{', '.join(unknown)} was not exported.",
            why="A proof restores the files of an export.",
            next='Export it first: how = "export". Exported are: '
            + (partitions.listed(sorted(exported)) or "none")
            + ".",
        )
    scratch = {each.spec.prove_on for each in archives if each.store is not None}
    if len(scratch) > 1:
        raise AtlasError(
            what="The tables name different databases in prove_on.",
            why="One run proves on one database.",
            next="Run one of them at a time, or name the same.",
        )
    service = next(iter(scratch), None)
    where, server, elsewhere = archives[0].where, archives[0].server, service is not None
    if service is not None:
        where = session(service, exports.STAGE)
        with connect(where) as connection:
            server = catalog.server(connection)
    found = tuple(_proofs(archives, names, server, elsewhere=elsewhere))
    empty = exports.plan_prove(archives[0].spec, server, (), "")
    return Proving(where, joined([plan for _, _, plan, _ in found] or [empty]), found, server.version_text)


def _proofs(
    archives: Sequence[Archive], names: Sequence[str], server: Server, *, elsewhere: bool
) -> Iterator[tuple[Archive, Month, Plan, Mapping[str, Feed]]]:
    for each in archives:
        for name, month in each.months.items():
            if name in names if names else not month.proven:
                plan = exports.plan_prove(each.spec, server, [month], each.kept.where, elsewhere=elsewhere)
                yield each, month, plan, feeds_of(each.kept, month, server)


def feeds_of(store: Store, month: Month, server: Server) -> dict[str, Feed]:
    """The feeds of both files of a month, by the names that plans give them."""
    export, major = month.export, server.version // 10_000
    return {
        exports.feed_name(store.where, export.files[form]): feeds.feed(store, export, form, major) for form in FORMS
    }


def prove(work: Proving, confirm: str, progress: Says = silent) -> tuple[Done, ...]:
    """Restore and compare if `confirm` arms it, and write each proof into the manifest; two lines a month."""
    if not confirmed(work.plan, confirm, demo=work.where.is_demo):
        return ()
    lines: list[Done] = []
    for found, month, plan, own in work.months:
        lines += execute(work.where, plan, plan.digest, progress, own)
        progress(0, 0, f"restored {month.line.partition}")
        files = month.export.files
        proof = Proof(
            of=month.line.number,
            where=f"{plan.target.database} on system {plan.target.system_identifier}",
            version=work.version,
            sha256={form: kept.sha256 for form, kept in files.items()},
        )
        append(
            found.where,
            found.kept,
            found.server,
            "proven",
            found.spec.table,
            month.line.partition,
            exports.as_body(proof),
            _told(progress),
        )
        progress(0, 0, f"proven {month.line.partition}")
    return tuple(lines)


def _told(progress: Says) -> Callable[[str], None]:
    return lambda label: progress(0, 0, label)


# -- drop


@dataclass(frozen=True, slots=True)
class Dropping:
    """A drop that can be run, and the months it drops."""

    where: Session
    plan: Plan
    months: tuple[tuple[Archive, Month], ...]
    archives: tuple[Archive, ...]  # that have an archive_to


def dropping(archives: Sequence[Archive], names: Sequence[str] = ()) -> Dropping:
    """What is detached, marked, proven and not held. Raises AtlasError for a name that is not, with what is missing."""
    found: list[tuple[Archive, Month]] = []
    plans = []
    for each in archives:
        own = [one for one in each.apart if not names or one.name in names]
        plans.append(quarantine.plan_drop(each.spec, each.server, own, each.months, () if names else _vanished(each)))
        droppable = [one for one in own if quarantine.droppable(each.spec, one, each.months.get(one.name))]
        found += [(each, each.months[one.name]) for one in droppable]
    going = {month.line.partition for _, month in found}
    for name in names:
        if name not in going:
            raise _not_droppable(name, archives)
    kept = tuple(each for each in archives if each.store is not None)
    return Dropping(archives[0].where, joined(plans), tuple(found), kept)


def _not_droppable(name: str, archives: Sequence[Archive]) -> AtlasError:
    one = [(each, apart) for each in archives for apart in each.apart if apart.name == name]
    month = [each.months[name] for each in archives if name in each.months]
    if not one:
        why, cure = (
            "It is not detached and marked here: only such a table is ever dropped.",
            'Detach it first: how = "detach".',
        )
    elif archive.held(one[0][0].spec, one[0][1].bound):
        why, cure = "It is under legal hold.", "Take it out of hold in the parameters file when the hold has ended."
    elif not month or month[0].export.purpose != "archive":
        why = "It was not exported." if not month else "It was backed up, and not exported since it was detached."
        cure = 'how = "export", then how = "prove".'
    elif not month[0].proven:
        why, cure = "Nothing proves that its export can be restored.", 'how = "prove".'
    else:
        why, cure = (
            "What was exported has another bound.",
            'Export it again: how = "export", with its name in partitions.',
        )
    return AtlasError(what=f"{name} is not dropped.", why=why, next=cure)


def drop(work: Dropping, confirm: str, progress: Says = silent) -> tuple[Done, ...]:
    """Read the files once more, then drop if `confirm` arms it; each drop is noted in the manifest, also where a later one fails."""
    if not confirmed(work.plan, confirm, demo=work.where.is_demo):
        return ()
    for found, month in work.months:
        progress(0, 0, f"read the files of {month.line.partition}")
        feeds.check(found.kept, month.export)
    try:
        return execute(work.where, work.plan, confirm, progress)
    finally:
        for found in work.archives:
            note_dropped(found, progress)


def note_dropped(found: Archive, progress: Says = silent) -> None:
    """Months that were proven and whose table is gone get their line."""
    for month in _vanished(replace(found, lines=found.kept.lines())):
        name = month.line.partition
        body = {"of": month.line.number}
        append(found.where, found.kept, found.server, "dropped", found.spec.table, name, body, _told(progress))


def _vanished(found: Archive) -> list[Month]:
    """Months that were proven, whose table is gone, and of which no line says so."""
    with connect(found.where) as connection:
        return [
            month
            for month in found.months.values()
            if month.proven
            and month.dropped is None
            and month.export.purpose == "archive"
            and not catalog.relation_exists(connection, month.export.schema, month.export.partition)
        ]
