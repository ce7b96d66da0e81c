"""Which figures are worth a call: the figures of `health` against the thresholds of the specification. Pure.

The same alerts are the page of 09, the exit code of a Nagios check, the metrics, the webhook's message and the JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum

from atlas_ops import bounds
from atlas_ops.bounds import Every
from atlas_ops.errors import AtlasError
from atlas_ops.health import Figure, Health, State
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.thresholds import FIGURES, Threshold, Watch, limits

NOT_READ = "not_read"
GRACE = timedelta(
    days=2
)  # into a period, before a partition that the schedule should have made is missed: it may run late
GRACE_OF_DAYS = timedelta(days=1)


class Level(IntEnum):
    """How bad, as the exit code of a Nagios check."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


WORST = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)
"""The order in which the levels of several alerts decide the exit code."""

# Why it matters, and how it is cured.
WORDS = {
    "missing": (
        "The application reads and writes it, or maintenance believes that it does.",
        "Find out who dropped or renamed it; 04 Inspect partitions shows what is there.",
    ),
    "runway": (
        "Rows beyond the last bound go to the default partition, where they stand in the way of their own, or are refused.",
        "07 Maintain partitions makes them; then see to the schedule: it has not run, or it failed.",
    ),
    "gaps": ("Rows of that time go to the default partition, or are refused (23514).", "07 Maintain partitions fills them."),
    "overlaps": ("PostgreSQL will refuse to attach it (42P17).", "Find out which of the two is stale, and drop or detach that one."),
    "misaligned": ("Partitions made by the calendar would overlap them.", "Correct every in the parameters file, or copy them into whole periods."),
    "detach_pending": (
        "Its rows are out of sight, inserts in its range fail, and no other partition can be detached.",
        "Complete it: 08 Plan archive plans the FINALIZE and nothing else.",
    ),
    "not_attached": ("Its rows cannot be seen through the partitioned table.", "Run 02 Apply migration again: it goes on from what is there."),
    "row_security": ("The policies of the partitioned table do not guard a read of the partition itself.", "Switch it on."),
    "grants": ("Whoever has a privilege on a partition gets past the policies of the table.", "Revoke what its siblings do not have."),
    "indexes_missing": (
        "The same query is fast in one period and reads all of another.",
        "CREATE INDEX CONCURRENTLY on the partition, then ALTER INDEX ... ATTACH PARTITION.",
    ),
    "indexes_invalid": ("It costs every write and serves no read.", "REINDEX INDEX CONCURRENTLY, or drop it."),
    "default_rows": (
        "A new partition waits for a scan of all of it, and is refused (23514) if a row in it belongs there.",
        '07 Maintain partitions with what = "move". Rows that are meant to stay: raise the threshold.',
    ),
    "late_rows": (
        "Somebody writes to periods that were held to be closed; after an archive these rows are in no archive.",
        "Find out who backdates; keep enough months before an archive.",
    ),
    "growth": ("Disk, backups and VACUUM are planned for less.", "Find out what writes so much, before the disk is full."),
    "dead_rows": ("Each scan reads them.", "VACUUM the partition; see who holds an old snapshot: 01 Preflight lists open transactions."),
    "vacuum_age": ("Autovacuum does not come by: dead rows stay, index-only scans read the heap.", "VACUUM it, and see why autovacuum does not."),
    "analyze_age": ("The planner guesses from old statistics.", "ANALYZE it; the partitioned table itself after each large change, by a schedule."),
    "transaction_age": ("At the wraparound the server stops writing.", "VACUUM FREEZE the partition; see who holds an old snapshot."),
    "unpruned": (
        "Statements without a bound on the partition key plan, lock and read every partition.",
        "05 Explain analysis tells which. Once they prune: SELECT pg_stat_reset_single_table_counters(oid) of each partition.",
    ),
    "key_log_rows": ("The copy is behind, and the next exchange has to wait for the drain.", "Drain it: atlas-ops drain, by a schedule."),
    "key_log_age": ("The copy is behind, and the next exchange has to wait for the drain.", "See whether the schedule of atlas-ops drain runs."),
    "capture": ("There is no way back, or forward: what was written since is in no log.", "10 Roll back with how = \"abandon\", then 02 anew."),
    "archive_lag": ("Old rows cost disk, backups and every statement that is not pruned.", "08 Plan archive; or raise keep."),
    "unproven_archives": (
        "Nobody knows whether it can be restored: it must not be dropped.",
        "08 Plan archive exports and proves it; or 11 Restore archive attaches it again.",
    ),
    NOT_READ: ("What could not be read is not known to be well.", "Look again; if it stays, see who holds the lock, or grant the right."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alert:
    """One figure above its threshold (`runway`: below), or something that could not be read (`not_read`)."""

    table: str
    figure: str
    level: Level
    value: float | None
    threshold: float | None
    told: str
    sql: str = ""

    @property
    def why(self) -> str:
        """Why it matters."""
        return WORDS[self.figure][0]

    @property
    def cure(self) -> str:
        """What to do."""
        return WORDS[self.figure][1]


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure with the thresholds it was held against."""

    figure: Figure
    warning: float | None
    critical: float | None
    level: Level


@dataclass(frozen=True, slots=True)
class Judgement:
    """One table on one look, with every figure judged."""

    health: Health
    judged: tuple[Judged, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What is not OK, in the order of the page; what could not be read comes last."""
        table = self.health.table
        found = [
            Alert(
                table,
                one.figure.name,
                one.level,
                one.figure.value,
                one.critical if one.level is Level.CRITICAL else one.warning,
                one.figure.told,
                one.figure.sql,
            )
            for one in self.judged
            if one.level is not Level.OK
        ]
        unread = (f"{unread.what}: {unread.why}" for unread in self.health.unread)
        return (*found, *(Alert(table, NOT_READ, Level.UNKNOWN, None, None, told) for told in unread))


def judge(spec: TableSpec, health: Health, as_of: date) -> Judgement:
    """Every figure of a table against its thresholds; one without a value is OK."""
    given = {one.figure: one for one in spec.alerts or ()}
    found = []
    for figure in health.figures:
        watch = FIGURES[figure.name]
        warning, critical = _limits(spec, watch, given.get(figure.name), figure.name, as_of)
        level = Level.OK
        if figure.value is not None and _beyond(watch, figure.value, critical):
            level = Level.CRITICAL
        elif figure.value is not None and _beyond(watch, figure.value, warning):
            level = Level.WARNING
        found.append(Judged(figure, warning, critical, level))
    return Judgement(health, tuple(found))


def worst(found: Iterable[Alert]) -> Level:
    """The level that decides the exit code: an alert that is known counts for more than one that is not."""
    levels = {alert.level for alert in found}
    return next((level for level in WORST if level in levels), Level.OK)


def sorted_by_level(found: Iterable[Alert]) -> list[Alert]:
    """The critical ones first; else in the order given."""
    return sorted(found, key=lambda alert: WORST.index(alert.level))


def runway_thresholds(every: Every, ahead: int, as_of: date) -> tuple[float, float]:
    """Days of runway below which it warns, and is critical.

    Warns once a partition is missed that the schedule should have made two days ago (a day ago where a partition is a day): with a schedule
    that stopped, at least `ahead` - 1 periods before the first row falls. Critical below a third of what `ahead` promises.
    """
    now = bounds.period_of(every, as_of)
    due = last = bounds.period_of(every, as_of - (GRACE_OF_DAYS if every is Every.day else GRACE))
    for _ in range(ahead):
        due, last = due.next(), last.next()
    promised = now
    for _ in range(ahead):
        promised = promised.next()
    today = bounds.period_of(Every.day, as_of).lower
    warning = (due.upper - today) / timedelta(days=1)
    critical = (promised.upper - now.upper) / timedelta(days=3)
    return warning, min(critical, warning)


def checks(found: Iterable[Alert]) -> tuple[Check, ...]:
    """The alerts as findings of a stage: critical is red."""
    severities = {Level.CRITICAL: Severity.STOP, Level.WARNING: Severity.WARN, Level.UNKNOWN: Severity.WARN}
    return tuple(
        Check(severities[one.level], one.table, one.figure.replace("_", " "), one.told, one.why, one.cure, one.sql)
        for one in found
    )


def passed(judgement: Judgement) -> tuple[Check, ...]:
    """The figures that are well, as findings that say OK; those that do not apply are left out."""
    return tuple(
        Check(Severity.OK, judgement.health.table, one.figure.name.replace("_", " "), one.figure.told)
        for one in judgement.judged
        if one.level is Level.OK and one.figure.value is not None
    )


def noted(health: Health) -> tuple[Check, ...]:
    """A table that there is nothing to watch of yet."""
    if health.state is State.NOT_MIGRATED:
        what = f"{health.partitioned_table} is not there, or not under care: there is nothing to watch yet."
        return (Check(Severity.NOTE, health.table, "state", what, "", "01 Preflight, then 02 Apply migration."),)
    return ()


def _limits(
    spec: TableSpec, watch: Watch, given: Threshold | None, name: str, as_of: date
) -> tuple[float | None, float | None]:
    if name != "runway":
        return limits(watch, given)
    try:
        warning, critical = runway_thresholds(spec.every, spec.ahead, as_of)
    except AtlasError:  # the end of the calendar
        return limits(watch, given)
    return limits(Watch(watch.unit, warning, critical, watch.what, watch.falls), given)


def _beyond(watch: Watch, value: float, threshold: float | None) -> bool:
    if threshold is None:
        return False
    return value < threshold if watch.falls else value >= threshold and value > 0
