"""What is wrong with a partition set on one day: gaps, runway, strays, open doors, unfinished work. Pure.

Sets that were not made by us are judged too. Row counts come from statistics unless somebody counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

from psycopg import sql

from atlas_ops import bounds, definition
from atlas_ops.bounds import Bound, Every, Period
from atlas_ops.definition import name, raw, text
from atlas_ops.errors import AtlasError
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.partitions import (
    NEVER_ANALYZED,
    attached,
    beside,
    edge_text,
    is_set_aside,
    listed,
    marked,
    midnight,
    named_like,
    partitioned_table,
    qualified,
    role_names,
    rows_of,
)
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import count

MOST_PARTITIONS = 1_000
"""A read that is not pruned took 168 ms and 2,004 locks at so many."""

_MOST_STATEMENTS = 60  # of one check: a cure must be pasteable, yet a table of checks be read


def checks(
    spec: TableSpec, snapshot: Snapshot, as_of: date, counts: Mapping[str, int] | None = None
) -> tuple[Check, ...]:
    """Every finding about the set, one line a question; a question without a finding is a line that says OK.

    `counts`: partition → rows as they were really counted, where somebody did; they win over statistics.
    """
    relation = partitioned_table(snapshot)
    if relation is None:
        return (_not_there(spec, snapshot),)
    inspection = _Inspection(spec, snapshot, relation, as_of, counts or {})
    return tuple(check for question in inspection.questions() for check in question())


# What a finding is called, why it matters, how it is cured.
_WORDS = {
    "no table": (
        "partitioned table",
        "The migration has not run here, or the table has another name.",
        "Run 02_apply_migration, or correct partitioned_table in the parameters file.",
    ),
    "other kind": (
        "partitioned table",
        "A relation of another kind has that name.",
        "Run 01_preflight: it says what has the name, and how to see whether it can go.",
    ),
    "key": (
        "partition key",
        "Bounds are read as times of the specification's key: what is said of them here may be wrong.",
        "Correct partition_key in the parameters file, or inspect this table by hand.",
    ),
    "pending": (
        "detach pending",
        "Its rows are out of sight, inserts in its range fail, and no other partition can be detached.",
        "Complete it: 08_plan_archive plans the FINALIZE and nothing else.",
    ),
    "runway, default": (
        "runway",
        "Rows without a partition go to the default partition, and must be moved before theirs can be made.",
        "Call create_future_partitions(), and see to it that a scheduler does.",
    ),
    "runway": (
        "runway",
        "An INSERT of a row without a partition fails (23514).",
        "Call create_future_partitions(), and see to it that a scheduler does.",
    ),
    "runway, others": (
        "runway",
        "A row without a partition goes to the default partition where there is one, and is refused (23514) where there is none.",
        (
            "These partitions are not under our care: see to it that what made them (pg_partman's run_maintenance, pgslice add_partitions, "
            "a scheduler) makes the next. Or make them yourself, under the names that they have; or let 07 Maintain partitions register the set."
        ),
    ),
    "default holds rows": (
        "default partition",
        "A new partition waits for a scan of all of it, and is refused (23514) if a row in it belongs there.",
        "See which periods the rows belong to, and move them before a partition is made for one of those.",
    ),
    "no default": (
        "default partition",
        "The specification asks for one; without it a row outside of every range is refused (23514).",
        "Run 02_apply_migration, or write default_partition: false.",
    ),
    "gaps, default": (
        "gaps",
        "Rows of that time go to the default partition.",
        "Make the partitions. If the default partition holds rows of that time, they must be moved first.",
    ),
    "gaps": ("gaps", "Rows of that time are refused (23514).", "Make the partitions."),
    "overlaps": (
        "overlaps",
        "PostgreSQL will refuse to attach it (42P17): the migration cannot be finished as it stands.",
        "Find out which of the two is stale and drop or detach that one; then run 02_apply_migration.",
    ),
    "drifting": (
        "bounds",
        "Partitions made by the calendar would overlap them. Perhaps a session's time zone shifted them.",
        "Correct every in the parameters file if they are whole periods of another length; else copy them.",
    ),
    "endless": (
        "bounds",
        "Such a partition grows without end, and none can be made in its range.",
        "Detach it and attach it with the bounds of its rows, once its range is to be divided.",
    ),
    "unreadable": (
        "bounds",
        "Runway, gaps and archive leave such partitions out.",
        "Leave them to the tool that made them.",
    ),
    "row security": (
        "row security",
        "The policies of the partitioned table do not guard a read of the partition itself.",
        "Switch it on; access through the partitioned table stays as it is.",
    ),
    "open": (
        "privileges",
        "With USAGE of the schema they get past the policies; row security does not stop a TRUNCATE.",
        "Revoke them: access through the partitioned table needs no privilege on a partition.",
    ),
    "invalid indexes": (
        "indexes",
        "An invalid index costs every write and serves no read; an interrupted CREATE INDEX left it.",
        "See which ones they are; REINDEX INDEX CONCURRENTLY or drop them.",
    ),
    "fewer indexes": (
        "indexes",
        "The same query is fast in one period and reads all of another.",
        "CREATE INDEX CONCURRENTLY on the partition, then ALTER INDEX ... ATTACH PARTITION.",
    ),
    "never analyzed": ("statistics", "The planner guesses.", "Analyze them."),
    "whole never analyzed": (
        "statistics",
        "Autovacuum analyzes partitions, never the partitioned table: what joins all of it is guessed.",
        "Analyze it now and after each large change.",
    ),
    "not attached": (
        "not attached",
        "The migration was interrupted: these rows cannot be seen through the partitioned table.",
        "Run 02_apply_migration again: it goes on from what is there.",
    ),
    "set aside": (
        "rows without a key",
        "A row without a partition key fits no range: the partitioned table does not show it.",
        "Give them a key and insert them into the partitioned table, or keep the table.",
    ),
    "many": (
        "number of partitions",
        "A query that is not pruned plans and locks all of them: at 1,000 that took 168 ms and 2,004 locks.",
        "Write a longer every, or archive what is old: 08_plan_archive.",
    ),
}


def _finding(severity: Severity, spec: TableSpec, words: str, what: str, statements: Sequence[str] = ()) -> Check:
    question, why, cure = _WORDS[words]
    lines = [f"{statement};" for statement in statements[:_MOST_STATEMENTS]]
    if len(statements) > _MOST_STATEMENTS:
        lines.append("-- and so on: inspect again after these")
    return Check(severity, spec.table, question, what, why, cure, "\n".join(lines))


def _not_there(spec: TableSpec, snapshot: Snapshot) -> Check:
    wanted = ".".join(spec.partitioned_at)
    if snapshot.partitioned is None:
        return _finding(Severity.STOP, spec, "no table", f"There is no partitioned table {wanted}.")
    return _finding(Severity.STOP, spec, "other kind", f"{wanted} is no partitioned table.")


class _Inspection:
    """The questions asked of one partition set; each answers with one check or more. It holds no state."""

    def __init__(
        self,
        spec: TableSpec,
        snapshot: Snapshot,
        relation: Relation,
        as_of: date,
        counts: Mapping[str, int],
    ) -> None:
        self.spec, self.snapshot, self.relation = spec, snapshot, relation
        self.as_of, self.counts = as_of, counts
        self.attached = attached(snapshot)
        self.beside = beside(snapshot)
        self.partitions = [partition for partition, _ in self.attached]
        self.bounds = [bound for _, bound in self.attached]
        self.target = text(name(relation.table.schema, relation.table.name))
        self.or_default = ", default" if any(bound.is_default for bound in self.bounds) else ""

    def questions(self) -> tuple[Callable[[], Iterator[Check]], ...]:
        return (
            self.key, self.pending, self.runway, self.default, self.gaps, self.overlaps, self.alignment,
            self.row_security, self.grants, self.indexes, self.statistics,
            self.unfinished, self.set_aside, self.number,
        )  # fmt: skip

    def key(self) -> Iterator[Check]:
        printed = self.relation.table.partition_key or ""
        if range_column(printed) == self.spec.partition_key:
            yield self._ok("key", f"Partitioned by {printed}.")
        else:
            wanted = f"RANGE ({self.spec.partition_key})"
            yield self._finding(Severity.WARN, "key", f"It is partitioned by {printed}, not by {wanted}.")

    def pending(self) -> Iterator[Check]:
        found = [partition for partition in self.partitions if partition.detach_pending]
        if not found:
            yield self._ok("pending", "No detach was interrupted.")
            return
        finalize = sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE")
        yield self._finding(
            Severity.STOP,
            "pending",
            f"The detach of {_names(found)} was interrupted.",
            [text(finalize.format(raw(self.target), raw(qualified(each)))) for each in found],
        )

    def runway(self) -> Iterator[Check]:
        ours = self.snapshot.registered or self.snapshot.cared_for
        words = "runway" + (self.or_default if ours else ", others")
        today = midnight(self.as_of)
        left = bounds.runway((bound for partition, bound in self.attached if not partition.detach_pending), today)
        if left is None:
            yield self._ok(words, "The last partition has no end.")
            return
        statements = ["SELECT * FROM public.create_future_partitions()"]
        if not ours:
            end = today + left if left else bounds.period_of(self.spec.every, self.as_of).lower
            statements = [statement for period in self._to_come(end) for statement in self._make(period)]
        if left == timedelta(0):
            yield self._finding(Severity.STOP, words, f"No partition holds {today.date()}.", statements)
            return
        end = today + left
        ahead = self._periods_ahead(end)
        what = f"{count(left.days)} days, up to {end.date()}; whole {self.spec.every}s ahead: {ahead}."
        # with ahead: 1 there is nothing between enough and the last one: then the last is the one to warn in
        if ahead < max(self.spec.ahead - 1, 1):
            yield self._finding(Severity.WARN, words, what, statements)
        else:
            yield self._ok(words, what)

    def _to_come(self, end: datetime) -> Iterator[Period]:
        """The periods that are missing from the end of the runway up to `ahead` beyond the current one; none where it ends between two."""
        if range_column(self.relation.table.partition_key or "") != self.spec.partition_key:
            return
        last = bounds.period_of(self.spec.every, self.as_of)
        for _ in range(min(self.spec.ahead, _MOST_STATEMENTS)):
            last = last.next()
        ranges = [bound for bound in self.bounds if bound.readable and not bound.is_default]
        for period in self._periods_in(end, last.upper):
            if not bounds.overlaps([*ranges, Bound(period.lower, period.upper, is_default=False, text="")]):
                yield period

    def _periods_ahead(self, end: datetime) -> int:
        """Whole periods after the current one that end by `end`; no more are counted than are asked for."""
        period, found = bounds.period_of(self.spec.every, self.as_of), 0
        while found < self.spec.ahead and end > period.upper and period.next().upper <= end:
            period, found = period.next(), found + 1
        return found

    def default(self) -> Iterator[Check]:
        found = next((partition for partition, bound in self.attached if bound.is_default), None)
        if found is None:
            if self.spec.default_partition:
                yield self._finding(Severity.NOTE, "no default", "There is no default partition.")
            else:
                yield self._ok("no default", "There is none, as the specification says.")
            return
        rows, by = self._rows(found)
        what = f"{found.name} holds {_many(rows)} rows ({by})."
        if rows == 0:
            yield self._ok("default holds rows", what)
        else:
            yield self._finding(Severity.WARN, "default holds rows", what, [self._rows_by_period(found)])

    def _rows_by_period(self, partition: Partition) -> str:
        key = self.relation.column(self.spec.partition_key)
        in_utc = ", 'UTC'" if key and key.base_type == "timestamptz" else ""
        counting = sql.SQL("SELECT date_trunc({}, {}{}) AS period, count(*) FROM {} GROUP BY 1 ORDER BY 1")
        every = sql.Literal(str(self.spec.every))
        return text(counting.format(every, name(self.spec.partition_key), raw(in_utc), raw(qualified(partition))))

    def gaps(self) -> Iterator[Check]:
        words = "gaps" + self.or_default
        found = bounds.gaps(self.bounds)
        if not found:
            yield self._ok(words, "None between the first bound and the last.")
            return
        missing = [period for gap in found for period in self._periods_in(*gap)]
        yield self._finding(
            Severity.WARN,
            words,
            f"No partition covers {listed([_stretch(*gap) for gap in found])}.",
            [statement for period in missing for statement in self._make(period)],
        )

    def _periods_in(self, lower: datetime, upper: datetime) -> Iterator[Period]:
        """The first whole periods of a gap; none if it does not begin on a bound of `every`."""
        for _ in range(_MOST_STATEMENTS):
            period = _period_or_none(self.spec.every, lower)
            if period is None or period.lower != lower or period.upper > upper:
                return
            yield period
            lower = period.upper

    def _make(self, period: Period) -> list[str]:
        """The DDL of a missing partition, closed before it is attached."""
        key, table = self.relation.column(self.spec.partition_key), self.relation.table
        if key is None:
            return []
        at = named_like(self.spec, self.snapshot, period)
        lower, upper = (sql.Literal(bounds.literal(edge, key.base_type)) for edge in (period.lower, period.upper))
        attach = sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")
        return [
            definition.like(*at, table.schema, table.name, self.snapshot.original or self.relation),
            *definition.closing(*at, self.snapshot.closed_to),
            *definition.column_settings(*at, self.relation),
            *definition.replica_identity(*at, self.relation, ()),
            text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name(*at), name(table.owner))),
            text(attach.format(raw(self.target), name(*at), lower, upper)),
        ]

    def overlaps(self) -> Iterator[Check]:
        waiting = [bounds.parse_bound(marked(self.spec, each)) for each in self.beside]
        found = [_stretch(*shared) for shared in bounds.overlaps([*self.bounds, *waiting])]
        if found:
            what = f"A table that waits to be attached shares {listed(found)} with another."
            yield self._finding(Severity.WARN, "overlaps", what)
        else:
            yield self._ok("overlaps", "No two ranges overlap.")

    def alignment(self) -> Iterator[Check]:
        every = self.spec.every
        unreadable = [f"{each.name} {bound.text}" for each, bound in self.attached if not bound.readable]
        ranges = [found for found in self.attached if found[1].readable and not found[1].is_default]
        endless = [each.name for each, bound in ranges if not (bound.lower and bound.upper)]
        drifting = [
            f"{each.name} from {_stretch(bound.lower, bound.upper)}"
            for each, bound in ranges
            if bound.lower and bound.upper and not whole(every, bound.lower, bound.upper)
        ]
        if drifting:
            what = f"{len(drifting)} of {len(ranges)} are no whole {every} in UTC: {listed(drifting)}."
            yield self._finding(Severity.WARN, "drifting", what)
        if endless:
            what = f"Without a first or a last bound: {listed(endless)}."
            yield self._finding(Severity.NOTE, "endless", what)
        if unreadable:
            what = f"No range over one column of time: {listed(unreadable)}."
            yield self._finding(Severity.WARN, "unreadable", what)
        if not (drifting or endless or unreadable):
            yield self._ok("drifting", f"Every range is one whole {every} in UTC.")

    def row_security(self) -> Iterator[Check]:
        everything = [*self.partitions, *self.beside]
        found = [each for each in everything if not each.row_security]
        if not found:
            yield self._ok("row security", "On for every partition.")
            return
        opened = [each for each in found if each.open_to]
        severity = Severity.STOP if opened else Severity.WARN
        if not self.relation.table.row_security:
            severity = Severity.NOTE  # no policy is passed by, as there is none
        what = f"Off for {len(found)} of {len(everything)}: {_names(found)}."
        what += f" Of these {len(opened)} are open to {_roles(opened)}." if opened else ""
        statements = [definition.closing(each.schema, each.name, ())[-1] for each in found]
        yield self._finding(severity, "row security", what, statements)

    def grants(self) -> Iterator[Check]:
        everything = [*self.partitions, *self.beside]
        found = [each for each in everything if each.open_to]
        if not found:
            yield self._ok("open", "No role but the owner holds a privilege on a partition.")
            return
        what = f"{len(found)} of {len(everything)} are open to {_roles(found)}: {_names(found)}."
        statements = [definition.closing(each.schema, each.name, role_names(each))[0] for each in found]
        yield self._finding(Severity.WARN, "open", what, statements)

    def indexes(self) -> Iterator[Check]:
        siblings = [each for each in self.partitions if each.kind != "f"]
        tally = Counter(each.indexes for each in siblings)
        usual = max(tally, key=lambda number: (tally[number], number), default=0)
        invalid = [each for each in siblings if each.invalid_indexes]
        fewer = [f"{each.name} ({each.indexes})" for each in siblings if each.indexes < usual]
        if invalid:
            naming = sql.SQL(
                "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = {}::regclass AND NOT indisvalid"
            )
            statements = [text(naming.format(sql.Literal(qualified(each)))) for each in invalid]
            what = f"There are invalid ones on {_names(invalid)}."
            yield self._finding(Severity.WARN, "invalid indexes", what, statements)
        if fewer:
            what = f"Most partitions have {usual}, these fewer: {listed(fewer)}."
            yield self._finding(Severity.WARN, "fewer indexes", what)
        if not (invalid or fewer):
            yield self._ok("fewer indexes", f"{usual} on each partition, all valid.")

    def statistics(self) -> Iterator[Check]:
        filled = [each for each in self.partitions if each.heap_bytes]
        never = [each for each in filled if each.estimated_rows == NEVER_ANALYZED]
        whole = bool(filled) and self.relation.table.estimated_rows == NEVER_ANALYZED
        if never:
            what = f"Never analyzed: {_names(never)}."
            statements = [f"ANALYZE {qualified(each)}" for each in never]
            yield self._finding(Severity.WARN, "never analyzed", what, statements)
        if whole:
            what = "The partitioned table itself was never analyzed."
            yield self._finding(Severity.WARN, "whole never analyzed", what, [f"ANALYZE {self.target}"])
        if not (never or whole):
            yield self._ok("never analyzed", "Whatever holds rows was analyzed.")

    def unfinished(self) -> Iterator[Check]:
        found = [each for each in self.beside if not is_set_aside(self.spec, each)]
        if found:
            what = f"Filled by the migration, but not attached: {_names(found)}."
            yield self._finding(Severity.WARN, "not attached", what)
        else:
            yield self._ok("not attached", "No table of an unfinished migration stands beside.")

    def set_aside(self) -> Iterator[Check]:
        for each in self.beside:
            if is_set_aside(self.spec, each):
                rows, by = self._rows(each)
                what = f"{each.name} keeps {_many(rows)} rows ({by}) without {self.spec.partition_key}."
                yield self._finding(Severity.NOTE, "set aside", what)

    def number(self) -> Iterator[Check]:
        what = f"{count(len(self.partitions))} partitions."
        if len(self.partitions) > MOST_PARTITIONS:
            yield self._finding(Severity.WARN, "many", what)
        else:
            yield self._ok("many", what)

    def _rows(self, partition: Partition) -> tuple[int | None, str]:
        """Rows and where the figure comes from; what was really counted wins."""
        if partition.name in self.counts:
            return self.counts[partition.name], "counted"
        rows, counted = rows_of(partition)
        return rows, str(counted)

    def _ok(self, words: str, what: str) -> Check:
        return Check(Severity.OK, self.spec.table, _WORDS[words][0], what)

    def _finding(self, severity: Severity, words: str, what: str, statements: Sequence[str] = ()) -> Check:
        return _finding(severity, self.spec, words, what, statements)


def range_column(printed: str) -> str | None:
    """The one column of a RANGE as pg_get_partkeydef prints it, unquoted; None for any other key."""
    found = re.fullmatch(r'RANGE \((?:"((?:[^"]|"")+)"|([^"(), ]+))\)', printed)
    return (found[1] or found[2]).replace('""', '"') if found else None


def _names(partitions: Iterable[Partition]) -> str:
    return listed([each.name for each in partitions])


def _roles(partitions: Iterable[Partition]) -> str:
    return listed(sorted({role for each in partitions for role in each.open_to}))


def _many(rows: int | None) -> str:
    return "an unknown number of" if rows is None else count(rows)


def _stretch(lower: datetime | None, upper: datetime | None) -> str:
    return f"{edge_text(lower, '', '') or 'the beginning'} to {edge_text(upper, '', '') or 'the end'}"


def whole(every: Every, lower: datetime, upper: datetime) -> bool:
    """Whether a range is one period of the calendar, in UTC."""
    period = _period_or_none(every, lower)
    return period is not None and (period.lower, period.upper) == (lower, upper)


def _period_or_none(every: Every, instant: datetime) -> Period | None:
    """The period that holds an instant; None at the end of the calendar."""
    try:
        return bounds.period_of(every, instant)
    except AtlasError:
        return None
