"""08 Plan archive: which partitions are older than the specification keeps, and what their detaching would take."""

from __future__ import annotations

from functools import cached_property

from atlas_ops import archive, charts, partitions, views
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Verdict
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Column, Table, count, size


class PlanArchive(Run):
    """Shows a plan; executes nothing, whatever is confirmed."""

    stage = "plan_archive"
    next = "Nothing was detached: this stage plans only. Keep the record for whoever decides on the archive."

    @cached_property
    def _divided(self) -> list[tuple[TableSpec, Snapshot]]:
        """The snapshots of what is partitioned, by us or by others. Raises AtlasError where there is no such table."""
        found = self.snapshots()
        for spec, snapshot in found:
            if partitions.partitioned_table(snapshot) is None:
                raise AtlasError(
                    what=f"There is no partitioned table of {spec.table} to look at.",
                    why="The migration has not begun, or its partitioned table has another name.",
                    next="Run 01 Preflight and 02 Apply migration first, or name it in the specification: table, or partitioned_table.",
                )
        return found

    @cached_property
    def _candidates(self) -> list[archive.Candidate]:
        return [found for spec, snapshot in self._divided for found in archive.candidates(spec, snapshot, self.as_of)]

    def findings(self) -> views.Folded:
        """What would make a detach refuse, or make it pointless."""
        self.checks = [
            check for spec, snapshot in self._divided for check in archive.checks(spec, snapshot, self.as_of)
        ]
        return views.checks_table(self.checks)

    def candidates(self) -> views.Folded:
        """How many partitions go and stay; each with its fate and the reason folded below."""
        rows = []
        for spec in self.specs:
            own = [found for found in self._candidates if found.table == spec.table]
            going = [found for found in own if found.goes]
            kept = "for ever" if spec.keep is None else f"{spec.keep} {spec.every}s"
            rows.append((spec.table, kept, len(own) - len(going), len(going), sum(found.bytes for found in going)))
        short = Table(["table", "keep", "partitions that stay", "partitions that go", Column("freed", "size")], rows)
        return views.Folded(short, ("Every partition, with the reason", archive.as_table(self._candidates)))

    def timeline(self) -> Chart:
        """What stays and what goes, by size."""
        return charts.archive_timeline(archive.chart_rows(self._candidates))

    def plan_archive(self) -> views.PlanView:
        """The detach steps as SQL, with their locks."""
        plans: list[Plan] = [archive.plan_archive(spec, snapshot, self.as_of) for spec, snapshot in self._divided]
        self.plan = joined(plans)
        return views.PlanView(self.plan, confirm="shown only")

    def verdict(self) -> Verdict:
        """Planned, or nothing to do; never ok: nothing is done here."""
        return Verdict.PLANNED if self.plan and self.plan.steps else Verdict.NOTHING_TO_DO

    def headline(self) -> str:
        """How many partitions would go, and what that frees."""
        going = [found for found in self._candidates if found.goes]
        freed = sum(found.bytes for found in going)
        self.figures |= {"partitions": len(going), "bytes": freed}
        return f"{count(len(going))} partitions are older than the specification keeps; their removal would free {size(freed)}."
