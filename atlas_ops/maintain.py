"""Keeps partitions ahead of the calendar, and the partitioned table analyzed; takes sets of others under care. Pure.

What is made is made by functions in the database (`sql/install/atlas_ops.create_partition.sql` and those around it), so that a scheduler there, a
notebook and a hand at psql all do the same. `missing` says here what `atlas_ops.missing_partitions()` says there; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from atlas_ops import bounds, partitions
from atlas_ops.bounds import Bound, Period
from atlas_ops.copying import ANALYZE_ONLY_SINCE
from atlas_ops.definition import name, plainly, text
from atlas_ops.errors import AtlasError
from atlas_ops.installation import install_step
from atlas_ops.model import Relation, Snapshot
from atlas_ops.partitions import attached, partitioned_table, rows_of
from atlas_ops.plan import Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import count
from atlas_ops.upkeep import ARCHIVED_MARK, Care, Upkeep

STAGE = "maintain_partitions"
MOST_APART = 1_000
"""How many periods back, and ahead of what the specification asks for, gaps are looked for."""

ANALYZE_SHARE = 0.1
"""Of the rows: autovacuum analyzes a plain table after as much (autovacuum_analyze_scale_factor)."""

ANALYZE_AGE = timedelta(days=30)

SEEN_AGE = timedelta(hours=12)
"""After so long it is noted anew that everything is there: a schedule that runs once a day notes it each time."""

_NAMED = 5  # periods in one sentence
_EARLIEST = datetime.min.replace(tzinfo=UTC)


# -- what is missing


def wanted(spec: TableSpec, snapshot: Snapshot, as_of: date) -> Iterator[Period]:
    """The periods that should have a partition: from the first bound, or `keep` periods back, to `ahead`, or the last bound, whichever is later."""
    ranges = [bound for _, bound in attached(snapshot) if bound.readable and not bound.is_default]
    current = bounds.period_of(spec.every, as_of)
    last = _after(current, spec.ahead)
    ends = [bound.upper for bound in ranges if bound.upper]
    if ends:
        highest = bounds.period_of(spec.every, max(ends) - timedelta(microseconds=1))
        last = max(last, min(highest, _after(current, MOST_APART)))
    starts = [bound.lower for bound in ranges if bound.lower]
    period = bounds.period_of(spec.every, min([current.lower, *starts]))
    period = max(period, _before(current, min(spec.keep or MOST_APART, MOST_APART)))
    while period.lower <= last.lower:
        yield period
        period = period.next()


def missing(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> tuple[Period, ...]:
    """Periods that should have a partition and that no partition reaches into; those of archived tables aside."""
    naming = partitions.naming(spec, snapshot)
    gone = {(one.schema, one.name) for one in upkeep.taken if (one.comment or "").startswith(ARCHIVED_MARK)}
    free = _free(wanted(spec, snapshot, as_of), [bound for _, bound in attached(snapshot)])
    return tuple(period for period in free if not gone or (naming.schema, naming.called(spec, period)) not in gone)


def _free(periods: Iterable[Period], ranges: Iterable[Bound]) -> Iterator[Period]:
    """Those of ascending periods that no range reaches into. Ranges of one partitioned table never overlap."""
    ahead = sorted(
        (bound for bound in ranges if bound.readable and not bound.is_default),
        key=lambda bound: bound.lower or _EARLIEST,
        reverse=True,
    )
    for period in periods:
        while ahead and ahead[-1].upper is not None and ahead[-1].upper <= period.lower:
            ahead.pop()
        if not ahead or (ahead[-1].lower is not None and ahead[-1].lower >= period.upper):
            yield period


def archived(upkeep: Upkeep, schema: str, called: str) -> bool:
    """Whether that name is one of a table that was archived."""
    return any(
        (one.schema, one.name) == (schema, called) and (one.comment or "").startswith(ARCHIVED_MARK)
        for one in upkeep.taken
    )


def outlived(spec: TableSpec, period: Period, as_of: date) -> bool:
    """Whether it is older than what `keep` keeps."""
    return spec.keep is not None and period < _before(bounds.period_of(spec.every, as_of), spec.keep)


def in_the_way(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, period: Period) -> str:
    """Why the partition of a missing period cannot be made; empty where it can."""
    naming = partitions.naming(spec, snapshot)
    called = naming.called(spec, period)
    rows = sum(one.rows for one in upkeep.waiting if one.period == period)
    if rows:
        return f"{count(rows)} rows of {period.label} lie in the default partition"
    there = next((one for one in upkeep.taken if (one.schema, one.name) == (naming.schema, called)), None)
    return f"the name {plainly(naming.schema, called)} is taken by a {there.kind}" if there else ""


def names_needed(spec: TableSpec, snapshot: Snapshot, as_of: date, more: Iterable[Period] = ()) -> tuple[str, ...]:
    """The names that the partitions of missing periods, and of `more`, would have."""
    naming = partitions.naming(spec, snapshot)
    periods = dict.fromkeys([*missing(spec, snapshot, Upkeep(), as_of), *more])
    return tuple(naming.called(spec, period) for period in periods)


def _after(period: Period, number: int) -> Period:
    try:
        for _ in range(number):
            period = period.next()
    except AtlasError:  # the calendar ends here
        pass
    return period


def _before(period: Period, number: int) -> Period:
    try:
        for _ in range(number):
            period = period.previous()
    except AtlasError:  # and begins here
        pass
    return period


# -- findings


def checks(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> tuple[Check, ...]:
    """Whether the set is under care, and has what `ahead` asks for."""
    relation = partitioned_table(snapshot)
    if relation is None:
        return (_check(spec, Severity.STOP, "partitioned table", f"There is no partitioned table of {spec.table}.",
                       "The migration has not begun, or the partitioned table has another name.",
                       "Run 01 Preflight and 02 Apply migration, or name it in the specification."),)  # fmt: skip
    return (*_care(spec, snapshot, upkeep), *_ahead(spec, snapshot, upkeep, as_of))


def _care(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep) -> Iterator[Check]:
    if upkeep.elsewhere:
        yield _check(spec, Severity.NOTE, "care", "pg_partman has this table in its part_config: it is left to it.",
                     "Two of them would make the same months under two names.",
                     "See to it that run_maintenance() runs. To take it over: delete its row from part_config, then register it.")  # fmt: skip
    elif upkeep.care is None and made_by_others(snapshot):
        yield _check(spec, Severity.WARN, "care", "Nobody here makes its next partitions: the set was made by others.",
                     "create_future_partitions() makes them for tables that are registered.",
                     'Run this again with what = "register"; or leave it to whatever made the set.')  # fmt: skip
    elif upkeep.care is None or not upkeep.care.ready:
        yield _check(spec, Severity.STOP, "care", "Its rows are not all copied yet.", "A month that is still to be copied must not be made empty.",
                     "Run 02 Apply migration to its end.")  # fmt: skip
    else:
        yield _check(
            spec,
            Severity.OK,
            "care",
            f"create_future_partitions() keeps {upkeep.care.ahead} {upkeep.care.every}s ready beyond the current one.",
        )


def _ahead(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> Iterator[Check]:
    found = missing(spec, snapshot, upkeep, as_of)
    stuck = {period: reason for period in found if (reason := in_the_way(spec, snapshot, upkeep, period))}
    ready = [period for period in found if period not in stuck]
    if ready:
        yield _check(spec, Severity.WARN, "ahead", f"{_labels(ready)} {_are(ready)} missing.",
                     _without(snapshot), 'The plan of what = "ahead" makes them, and so does create_future_partitions().')  # fmt: skip
    for period, reason in stuck.items():
        moved = any(one.period == period for one in upkeep.waiting)
        yield _check(spec, Severity.STOP, "ahead", f"{period.label} cannot be made: {reason}.",
                     "Rows of that time go on into the default partition, and each one makes the way back longer." if moved
                     else "It is no partition of this table.",
                     'Run this again with what = "move".' if moved else "Rename or attach that relation, then run again.")  # fmt: skip
    if not found:
        last = _covered_until(snapshot, as_of)
        yield _check(
            spec,
            Severity.OK,
            "ahead",
            f"Every {spec.every} is there, up to {last.date() if last else 'the end of time'}.",
        )


def _without(snapshot: Snapshot) -> str:
    default = any(bound.is_default for _, bound in attached(snapshot))
    return (
        "Rows of that time go to the default partition, and are in their way."
        if default
        else "An INSERT of a row of that time fails (23514)."
    )


def _covered_until(snapshot: Snapshot, as_of: date) -> datetime | None:
    """Up to where every row finds a partition of its own; None: without end."""
    today = partitions.midnight(as_of)
    left = bounds.runway((bound for partition, bound in attached(snapshot) if not partition.detach_pending), today)
    return None if left is None else today + left


def covered_until(snapshot: Snapshot, as_of: date) -> date | None:
    """The day from which on a row would find no partition of its own; None: there is none."""
    end = _covered_until(snapshot, as_of)
    return end.date() if end else None


def overdue(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> int:
    """For how many days the first partition that is missing from the current period on has been asked for; 0: since today, or none is missing."""
    current = bounds.period_of(spec.every, as_of)
    late = [period for period in missing(spec, snapshot, upkeep, as_of) if period >= current]
    return (partitions.midnight(as_of) - _before(late[0], spec.ahead).lower).days if late else 0


def made_by_others(snapshot: Snapshot) -> bool:
    """Whether the table itself is the partitioned one, and not by an exchange of ours."""
    return snapshot.original is not None and snapshot.original.table.kind == "p" and snapshot.online is None


# -- the plan: ahead


def plan_ahead(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date, *, install: bool = True) -> Plan:
    """Partitions that are missing and can be made, then an ANALYZE of the partitioned table if it is due. Every step only adds.

    Nothing for a set that is not under care, or in pg_partman's: `checks` says so. `install`: with our own database objects.
    """
    return plan_for(
        STAGE, spec, snapshot.server, _ahead_steps(spec, snapshot, upkeep, as_of, install), f"{spec.table}: kept ahead."
    )


def _ahead_steps(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date, install: bool) -> Iterator[Step]:
    relation = partitioned_table(snapshot)
    care = upkeep.care
    if relation is None or upkeep.elsewhere or care is None or not care.ready:
        return
    if install and (step := installing(snapshot)):
        yield step
    if _differs(spec, care):
        yield _note(spec, relation)
    found = missing(spec, snapshot, upkeep, as_of)
    free = [period for period in found if not in_the_way(spec, snapshot, upkeep, period)]
    for period in free:
        yield _make(spec, snapshot, relation, period)
    if len(free) == len(found) and _unseen(snapshot, care, as_of, made=bool(free)):
        yield _seen(spec, relation)
    if reason := analyze_reason(snapshot, relation, upkeep):
        yield analyze(snapshot, relation, reason)


def installing(snapshot: Snapshot) -> Step | None:
    """Our own database objects, where one is missing or older than this package."""
    return install_step(snapshot.installed)


def _differs(spec: TableSpec, care: Care) -> bool:
    return (care.every, care.ahead, care.keep, care.lock_timeout_ms) != (
        str(spec.every),
        spec.ahead,
        spec.keep,
        spec.lock_timeout_ms,
    )


def _note(spec: TableSpec, relation: Relation) -> Step:
    changed = sql.SQL(
        "UPDATE atlas_ops.partitioned_table SET every = {}, ahead = {}, keep = {}, lock_timeout_ms = {} WHERE schema_name = {} AND table_name = {}"
    ).format(
        *map(
            sql.Literal,
            (str(spec.every), spec.ahead, spec.keep, spec.lock_timeout_ms, relation.table.schema, relation.table.name),
        )
    )
    return Step(
        name=f"note what the specification of {spec.table} says",
        statements=(text(changed),),
        lock="ROW EXCLUSIVE",
        on="our own objects only",
        why="The functions in the database keep to the registry: every, ahead, keep and lock_timeout of the specification.",
    )


def _unseen(snapshot: Snapshot, care: Care, as_of: date, *, made: bool) -> bool:
    """Whether it is to be noted that everything is there, as the function notes it: a schedule may run the notebook instead."""
    now = snapshot.server.now
    old = care.whole_at is not None and now - care.whole_at >= SEEN_AGE
    return as_of >= now.date() and (made or old)


def _seen(spec: TableSpec, relation: Relation) -> Step:
    noted = sql.SQL(
        "UPDATE atlas_ops.partitioned_table t SET whole_at = clock_timestamp(), whole_by = atlas_ops.caller() "
        "WHERE t.schema_name = {schema} AND t.table_name = {table} AND NOT EXISTS "
        "(SELECT FROM atlas_ops.missing_partitions(now()) m WHERE m.schema_name = {schema} AND m.table_name = {table})"
    ).format(schema=sql.Literal(relation.table.schema), table=sql.Literal(relation.table.name))
    return Step(
        name=f"note that every partition of {spec.table} is there",
        statements=(text(noted),),
        lock="ROW EXCLUSIVE",
        on="our own objects only",
        why="A schedule is judged by when all was last found there, and by whom: 09 Monitor health and this notebook tell it.",
    )


def _make(spec: TableSpec, snapshot: Snapshot, relation: Relation, period: Period) -> Step:
    schema, called = partitions.named_like(spec, snapshot, period)
    create = sql.SQL("SELECT atlas_ops.create_partition({}, {}, {})").format(
        sql.Literal(relation.table.schema),
        sql.Literal(relation.table.name),
        sql.Literal(bounds.literal(period.lower, "timestamptz")),
    )
    lock, on = locks(snapshot, relation, begun=period.lower <= snapshot.server.now)
    return Step(
        name=f"make {plainly(schema, called)}",
        statements=(text(create),),
        lock=lock,
        on=on,
        why=f"{period.label} is missing. Made beside the table, closed, like its siblings, then attached: no row is moved"
        + (
            ", the default partition is read once to see that none of its rows belongs there."
            if lock == "ACCESS EXCLUSIVE"
            else "."
        ),
    )


def locks(
    snapshot: Snapshot, relation: Relation, *, begun: bool, moved: bool = False, again: bool = False
) -> tuple[str, str]:
    """The strongest lock of an ATTACH and what it is on, in words.

    `begun`: rows of its time may be on their way, so writers wait before theirs are routed. `moved`: with rows,
    whose readers wait too. `again`: with a DETACH before it.
    """
    default = next((one for one, bound in attached(snapshot) if bound.is_default), None)
    target = plainly(relation.table.schema, relation.table.name)
    referenced = sorted({key.referenced for key in relation.constraints if key.kind == "f" and key.referenced})
    referring = sorted({reference.table for reference in relation.references if not reference.way})
    others = ", ".join(dict.fromkeys([*referenced, *referring]))
    shared = f"; SHARE ROW EXCLUSIVE on {others}" if others else ""
    if again:
        return "ACCESS EXCLUSIVE", f"{target} and its default partition" + (f", {others}" if others else "")
    if default is None:
        return "SHARE UPDATE EXCLUSIVE", target + shared
    own = "SHARE ROW EXCLUSIVE" if begun else "SHARE UPDATE EXCLUSIVE"
    if moved:
        return "ACCESS EXCLUSIVE", f"{target} and its default partition{shared}"
    return "ACCESS EXCLUSIVE", f"{plainly(default.schema, default.name)}; {own} on {target}{shared}"


# -- ANALYZE of the partitioned table


def analyze_reason(snapshot: Snapshot, relation: Relation, upkeep: Upkeep) -> str:
    """Why the partitioned table should be analyzed now; empty where it need not be."""
    filled = [partition for partition, _ in attached(snapshot) if partition.heap_bytes]
    if not filled:
        return ""
    then = relation.table.estimated_rows
    now = sum(rows_of(partition)[0] or 0 for partition in filled)
    if then == partitions.NEVER_ANALYZED:
        return "It was never analyzed."
    share = abs(now - then) / max(then, 1)
    when = f" of {upkeep.analyzed_at:%Y-%m-%d}" if upkeep.analyzed_at else ""
    if share >= ANALYZE_SHARE:
        return f"Since its last ANALYZE{when} its rows have changed by {share:.0%}: {count(then)} then, {count(now)} by the statistics now."
    if upkeep.analyzed_at and snapshot.server.now - upkeep.analyzed_at >= ANALYZE_AGE:
        return f"Its last ANALYZE is of {upkeep.analyzed_at:%Y-%m-%d}, older than {ANALYZE_AGE.days} days."
    return ""


def analyze_statement(snapshot: Snapshot, relation: Relation) -> str:
    """The partitions have statistics of their own, from autovacuum; before 18 there is no way to leave them out."""
    only = "ONLY " if snapshot.server.version >= ANALYZE_ONLY_SINCE else ""
    return f"ANALYZE (SKIP_LOCKED) {only}{text(name(relation.table.schema, relation.table.name))}"


def analyze(snapshot: Snapshot, relation: Relation, reason: str) -> Step:
    """A step of its own, outside of any transaction: it samples the whole table, and what attaches partitions must not hold its locks meanwhile."""
    whole = snapshot.server.version < ANALYZE_ONLY_SINCE
    return Step(
        name=f"analyze {plainly(relation.table.schema, relation.table.name)}",
        statements=(analyze_statement(snapshot, relation),),
        lock="SHARE UPDATE EXCLUSIVE",
        on=plainly(relation.table.schema, relation.table.name)
        + (" and its partitions, one after the other" if whole else ""),
        why=f"{reason} Autovacuum analyzes the partitions, never the partitioned table. Nobody waits for it but other maintenance.",
        autocommit=True,
    )


# -- words


def _check(spec: TableSpec, severity: Severity, question: str, what: str, why: str = "", cure: str = "") -> Check:
    return Check(severity, spec.table, question, what, why, cure)


def _labels(periods: Sequence[Period]) -> str:
    more = f" and {count(len(periods) - _NAMED)} more" if len(periods) > _NAMED else ""
    return ", ".join(period.label for period in periods[:_NAMED]) + more


def _are(periods: Sequence[Period]) -> str:
    return "is" if len(periods) == 1 else "are"
