"""07 Maintain partitions: the next months are there before they are needed; rows of the default partition come into theirs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

from atlas_ops import adopt, care, charts, maintain, moving, partitions, scheduling, views
from atlas_ops.database import connect
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Check, Report, Severity
from atlas_ops.scheduling import Set
from atlas_ops.stages.base import Run
from atlas_ops.tables import Column, Table, count

MOST = (100, 1_000_000)
"""Rows that one transaction of a move may take."""


class MaintainPartitions(Run):
    """One plan a run: `what` says which."""

    stage = "maintain_partitions"
    next = "09 Monitor health tells when nobody does this any more."
    _what = "ahead"
    WHATS: ClassVar[tuple[str, ...]] = ("ahead", "move", "register", "unregister", "schedule", "unschedule")

    @cached_property
    def _sets(self) -> list[Set]:
        """What is partitioned, by us or by others. Raises AtlasError where there is no such table."""
        found = []
        for spec, snapshot in self.snapshots():
            if partitions.partitioned_table(snapshot) is None:
                raise AtlasError(
                    what=f"There is no partitioned table of {spec.table} to maintain.",
                    why="The migration has not begun, or its partitioned table has another name.",
                    next="Run 01 Preflight and 02 Apply migration first, or name it in the specification: table, or partitioned_table.",
                )
            with connect(self.where) as connection:
                found.append((spec, snapshot, care.upkeep(connection, spec, snapshot, self.as_of)))
        return found

    def _read_again(self) -> None:
        self.__dict__.pop("_sets", None)

    # -- cells

    def state(self) -> Table:
        """A line a table: how far its partitions reach, what is missing, what waits in the default partition, when it was last analyzed."""
        rows = []
        for spec, snapshot, upkeep in self._sets:
            waiting = moving.rows(spec, snapshot, upkeep, self.as_of)
            missing = maintain.missing(spec, snapshot, upkeep, self.as_of)
            rows.append(
                (
                    spec.table, len(snapshot.partitions), maintain.covered_until(snapshot, self.as_of), f"{spec.ahead} {spec.every}s",
                    len(missing), sum(one.rows for one in waiting if one.moves),
                    sum(one.rows for one in waiting if not one.moves), upkeep.analyzed_at,
                )
            )  # fmt: skip
        columns: list[Column | str] = ["table", "partitions", "covered until", "ahead", Column("missing", "count")]
        columns += [Column("rows to move", "count"), Column("rows that stay", "count"), "whole analyzed"]
        return Table(columns, rows)

    def runway(self) -> Chart:
        """The partitions along the calendar, and where today stands."""
        rows = [row for spec, snapshot, _ in self._sets for row in partitions.overview(spec, snapshot, self.as_of)]
        return charts.runway(partitions.runway_rows(rows), self.as_of)

    def findings(self) -> views.Folded:
        """What is missing, what is in its way, what waits, and whether some schedule does its work."""
        self.checks = self._found()
        return views.checks_table(self.checks)

    def _found(self) -> list[Check]:
        found: list[Check] = []
        for spec, snapshot, upkeep in self._sets:
            found += maintain.checks(spec, snapshot, upkeep, self.as_of)
            found += moving.checks(spec, snapshot, upkeep, self.as_of)
        return [*found, *scheduling.checks(self._sets, self.as_of)]

    def waiting(self) -> Table | views.Words:
        """The rows of the default partitions by period, and what becomes of them."""
        found = [one for each in self._sets for one in moving.rows(*each, self.as_of)]
        if not found:
            return views.Words("No row lies in a default partition.")
        rows = [(one.table, one.period.label if one.period else None, one.rows, str(one.answer)) for one in found]
        return Table(["table", "period", Column("rows", "count"), "what becomes of them"], rows, limit=len(rows))

    def schedules(self) -> views.Folded:
        """By outcome: which partition was made last, when and by whom; when all were last found there. The jobs of pg_cron folded below."""
        seen = [scheduling.outcome(*each, self.as_of) for each in self._sets]
        short = Table(
            [
                "table",
                "covered until",
                Column("missing", "count"),
                Column("for days", "count"),
                "made last",
                "when",
                "by",
                "all there at",
                "as seen by",
            ],
            [
                (o.table, o.until, o.missing, o.overdue_days, o.made, o.made_at, o.made_by, o.whole_at, o.whole_by)
                for o in seen
            ],
        )
        jobs = self._sets[0][2].jobs if self._sets else ()
        rows = [
            (job.name, job.schedule, job.active, job.role, job.last_started, job.last_status, job.command)
            for job in jobs
        ]
        table = Table(
            ["job", "at (GMT)", "active", "role", "last run", "its status", Column("command", "sql")],
            rows,
            limit=max(len(rows), 1),
        )
        return views.Folded(short, *([(f"{count(len(jobs))} jobs of pg_cron", table)] if jobs else []))

    def plan_maintenance(self, what: str = "ahead", most: int = 2_000, cron: str = "17 * * * *") -> views.PlanView:
        """`what`: ahead, move, register, unregister, schedule or unschedule. Raises AtlasError for anything else, and where it cannot be done."""
        if what not in self.WHATS:
            raise AtlasError(
                what=f"what is {what!r}.", why="One run does one thing.", next=f"Use one of: {', '.join(self.WHATS)}."
            )
        if not isinstance(most, int) or isinstance(most, bool) or not MOST[0] <= most <= MOST[1]:
            raise AtlasError(
                what=f"rows_at_once is {most!r}.",
                why=f"It takes a whole number from {MOST[0]} to {MOST[1]:,}.",
                next="The locks of a move are held for as long as so many rows take.",
            )
        self._what = what
        ways: dict[str, Callable[[], Plan]] = {
            "ahead": lambda: self._joined(
                [maintain.plan_ahead(*each, self.as_of, install=number == 0) for number, each in enumerate(self._sets)]
            ),
            "move": lambda: self._joined(
                [
                    moving.plan_move(*each, self.as_of, most, install=number == 0)
                    for number, each in enumerate(self._sets)
                ]
            ),
            "register": self._register,
            "unregister": lambda: self._joined([adopt.plan_unregister(*each) for each in self._sets]),
            "schedule": lambda: scheduling.plan_schedule(self.server, self._sets, str(cron)),
            "unschedule": lambda: scheduling.plan_unschedule(self.server, self._sets[0][2].jobs if self._sets else ()),
        }
        self.plan = ways[what]()
        return views.PlanView(self.plan, self.confirm)

    def _register(self) -> Plan:
        new = [each for each in self._sets if each[2].care is None]
        for each in new:
            for red in adopt.checks(*each):
                raise AtlasError(what=f"{red.table} cannot be registered: {red.what}", why=red.why, next=red.cure)
        return self._joined([adopt.plan_register(*each, install=number == 0) for number, each in enumerate(new)])

    def _joined(self, plans: list[Plan]) -> Plan:
        return joined(plans) if plans else Plan(self.stage, self.target, ())

    def execute(self, plan: Plan | views.PlanView) -> views.Folded | views.Words:
        """Run the plan if `confirm` arms it, then look again."""
        shown = super().execute(plan)
        self._read_again()
        return shown

    # -- the verdict

    def report(self) -> Report:
        """Plan, if no cell has asked for it yet; the checks are those of the catalogs as they are now."""
        if self.plan is None:
            self.plan_maintenance()
        self.checks = self._judged()
        return super().report()

    def _judged(self) -> list[Check]:
        """After a run that was to keep ahead, what is still missing is red: a scheduler sees it by the exit code, whatever ran."""
        found = self._found()
        if self.lines and self._what == "ahead":
            return [
                _red(check) if check.name == "ahead" and check.severity is Severity.WARN else check for check in found
            ]
        # what this run is about to cure, or has not been asked to, does not make it red
        return found if self._what == "ahead" else [_calm(check) for check in found]

    def headline(self) -> str:
        """What is there, and what was done or waits."""
        missing = sum(len(maintain.missing(*each, self.as_of)) for each in self._sets)
        waiting = sum(one.rows for each in self._sets for one in moving.rows(*each, self.as_of) if one.moves)
        self.figures |= {"missing": missing, "rows_to_move": waiting, "what": self._what}
        said = f"{count(missing)} partitions are missing, {count(waiting)} rows wait in default partitions."
        if self.plan is None or not self.plan.steps:
            return said
        if not self.lines:
            return f"{said} {count(len(self.plan.steps))} steps are waiting for their digest: {self.plan.digest}."
        return f"{count(len(self.lines))} steps done. {said}"


def _red(check: Check) -> Check:
    return Check(Severity.STOP, check.table, check.name, check.what, check.why, check.cure, check.sql)


def _calm(check: Check) -> Check:
    severity = Severity.WARN if check.severity is Severity.STOP and check.name in ("ahead", "care") else check.severity
    return Check(severity, check.table, check.name, check.what, check.why, check.cure, check.sql)
