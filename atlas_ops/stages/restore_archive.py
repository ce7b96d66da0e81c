"""11 Restore archive: a month comes back from its dump, its Parquet file or its quarantine; it is proven, and attached again or left aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar, cast, get_args

from atlas_ops import manifest, months, partitions, quarantine, restoring, views
from atlas_ops.errors import AtlasError
from atlas_ops.manifest import FORMS, Form
from atlas_ops.model import Snapshot
from atlas_ops.months import Archive
from atlas_ops.plan import Plan, confirmed, joined, plan_for
from atlas_ops.progress import Progress
from atlas_ops.report import Report, Severity, Verdict, stopped
from atlas_ops.restore import STAGE, Place
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table, count

PLACES: tuple[Place, ...] = get_args(Place)


class RestoreArchive(Run):
    """What comes back is compared with the digest that the server computed before the export, in the transaction that brings it back."""

    stage = STAGE
    next = "04 Inspect partitions shows the months as they stand now."
    _work: restoring.Restoring | None = None
    _NOTHING: ClassVar[str] = "Write the months to bring back into partitions; the table above names them."

    @cached_property
    def _divided(self) -> list[tuple[TableSpec, Snapshot]]:
        found = self.snapshots()
        for spec, snapshot in found:
            if partitions.partitioned_table(snapshot) is None:
                raise AtlasError(
                    what=f"There is no partitioned table of {spec.table}.",
                    why="A month is restored beside the table that it belonged to.",
                    next="Run 02 Apply migration first, or restore the files by hand: docs/archive.md.",
                )
        return found

    def _archives(self) -> list[Archive]:
        """Read anew each time: what a plan did is seen."""
        return [months.read(self.where, spec, snapshot) for spec, snapshot in self.snapshots()] if self._divided else []

    def months(self) -> Table | views.Words:
        """Each month that can come back: where it is, what its files take, whether they are proven."""
        found = self._archives()
        self.figures["manifests"] = {
            each.store.where: manifest.head(each.lines) for each in found if each.store and each.lines
        }
        rows = [
            row for each in found for row in quarantine.standing_rows(each.spec, each.snapshot, each.apart, each.months)
        ]
        if not rows:
            return views.Words("No month can come back.", "None is detached, and the archive holds none.")
        return quarantine.standing_table(rows)

    def plan_restore(
        self, names: Sequence[str] = (), form: str = "dump", place: str = "attach", unite: str = ""
    ) -> views.PlanView | views.Stacked | views.Words:
        """The way back of the months named. Raises AtlasError for a name that is nowhere, and where a month cannot come back so."""
        _refuse("form", form, FORMS)
        _refuse("place", place, PLACES)
        if not names and not unite:
            self.plan = self._empty()
            return views.Words("Nothing was asked for.", self._NOTHING)
        self._work = restoring.returning(self._archives(), tuple(names), cast(Form, form), cast(Place, place), unite)
        self.plan, self.checks = self._work.plan, list(self._work.checks)
        shown = views.PlanView(self.plan, self.confirm)
        return views.Stacked(views.checks_table(self.checks), shown) if self.checks else shown

    def _empty(self) -> Plan:
        return joined(plan_for(self.stage, spec, snapshot.server, ()) for spec, snapshot in self._divided)

    def execute(self, plan: object = None) -> views.Folded | views.Words:
        """Run the plan if `confirm` arms it. Raises AtlasError where a check is red."""
        if self._work is None or self.plan is None or not self.plan.steps:
            return views.Words("Nothing was done.", "There was no plan.")
        if not confirmed(self.plan, self.confirm, demo=self.where.is_demo):
            return views.Words("Nothing was done.", "No plan was confirmed.")
        if stopped(self.checks):
            red = next(check for check in self.checks if check.severity is Severity.STOP)
            raise AtlasError(what=red.what, why=red.why, next=red.cure)
        with Progress("restore") as progress:
            self.lines += restoring.run(self._work, self.confirm, progress)
        return views.lines_table(self.lines)

    def partitions(self) -> Table:
        """The partitions now, with rows from statistics."""
        rows = [row for spec, snapshot in self.snapshots() for row in partitions.overview(spec, snapshot, self.as_of)]
        return Table(
            ["table", "partition", "from", "to", "rows"],
            [
                (
                    row.table, row.partition, partitions.edge_text(row.lower, row.bound, "MINVALUE"),
                    partitions.edge_text(row.upper, row.bound, "MAXVALUE"), row.rows,
                )
                for row in rows
            ],
        )  # fmt: skip

    def verdict(self) -> Verdict:
        """Red checks stop; nothing asked for is nothing to do."""
        if stopped(self.checks):
            return Verdict.STOPPED
        if not (self.plan and self.plan.steps):
            return Verdict.NOTHING_TO_DO
        return Verdict.OK if self.lines else Verdict.PLANNED

    def report(self) -> Report:
        """Plan, if no cell has asked for it yet: a verdict without a plan would be worthless."""
        if self.plan is None:
            self.plan_restore()
        told = super().report()
        return told if self.plan and self.plan.steps else replace(told, next=self._NOTHING)

    def headline(self) -> str:
        """What came back, or the digest that is waited for."""
        if self.plan is None or not self.plan.steps:
            return "No month was asked for."
        if not self.lines:
            return f"{count(len(self.plan.steps))} steps are waiting for their digest: {self.plan.digest}."
        rows = sum(line.rows for line in self.lines if line.step.startswith("restore "))
        return f"{count(len(self.lines))} steps done, {count(rows)} rows restored and compared."


def _refuse(called: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise AtlasError(
            what=f"{called} is {value!r}.", why="There are two ways.", next=f"Use one of: {', '.join(known)}."
        )
