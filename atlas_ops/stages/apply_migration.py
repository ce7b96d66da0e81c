"""02 Apply migration: build the partitioned copy; the originals stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atlas_ops import charts, incoming, migration, preflight, views
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.migration import plan_migration
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Report, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.stages import ledgers
from atlas_ops.stages.base import Run
from atlas_ops.tables import count


class ApplyMigration(Run):
    """The one stage that writes in this suite's first half."""

    stage = "apply_migration"
    next = "03 Verify counts."

    def plan_migration(self) -> views.PlanView:
        """What is missing between the catalogs and the specification. Raises AtlasError where preflight has a red check."""
        snapshots = self.snapshots()
        self.plan = joined(self._plans(snapshots, [spec for spec, _ in snapshots]))
        return views.PlanView(self.plan, self.confirm)

    def _plans(self, snapshots: Sequence[tuple[TableSpec, Snapshot]], specs: Sequence[TableSpec]) -> list[Plan]:
        """One plan a table; our own database objects come with the first."""
        plans = []
        for number, ((_, snapshot), spec) in enumerate(zip(snapshots, specs, strict=True)):
            counts = self._refuse(spec, snapshot)
            too = incoming.drained_too(spec, snapshot)
            plans.append(plan_migration(spec, snapshot, self.as_of, counts, install=number == 0, drained_too=too))
        return plans

    def _refuse(self, spec: TableSpec, snapshot: Snapshot) -> dict[str, int]:
        """Stop on preflight's red checks; returns the rows by part, which the progress counts in."""
        facts, counts = self.key_figures(spec, snapshot) or (None, {})
        found = preflight.checks(spec, snapshot, self.as_of, facts, counts or None)
        reds = [check for check in found if check.severity is Severity.STOP]
        if reds:
            self.checks += reds
            raise AtlasError(
                what=f"{spec.table} cannot be migrated: {reds[0].what}"
                + (f" And {len(reds) - 1} more." if len(reds) > 1 else ""),
                why=reds[0].why,
                next="\n".join(filter(None, (reds[0].cure, reds[0].sql, "01 Preflight shows all of it."))),
            )
        counts["out of range"] = counts.pop("before", 0) + counts.pop("after", 0)
        return counts

    def migration_file(self, path: str) -> views.Words:
        """Write the same migration as one SQL file for an untouched database: `psql -1 -f`. Nothing is executed."""
        if not path:
            return views.Words("No file was asked for.", "sql_file is empty.")
        snapshots = self.snapshots()
        if any(snapshot.partitioned for _, snapshot in snapshots):
            return views.Words(
                "No file was written.",
                "The partitioned tables are here already: make the file from an untouched database.",
            )
        whole = [replace(spec, copy="single_transaction") for spec, _ in snapshots]
        Path(path).write_text(migration.migration_file(self._plans(snapshots, whole)), encoding="utf-8")
        return views.Words(path, "holds the whole migration in one transaction: psql -1 -f")

    def partitions(self) -> Chart:
        """The partitions as they are now, by size."""
        return charts.partition_sizes(
            [
                (
                    spec.name,
                    partition.name,
                    partition.heap_bytes + partition.toast_bytes,
                    partition.index_bytes,
                )
                for spec, snapshot in self.snapshots()
                for partition in snapshot.partitions
            ]
        )

    def state(self) -> views.Folded:
        """Who is written, who follows, and how far behind."""
        return self.following()[1]

    def ledger(self) -> views.Folded | views.Words:
        """What is true of each original and of its partitioned table, line by line."""
        pairs = (ledgers.both(self.where, spec, snapshot) for spec, snapshot in self.snapshots())
        return ledgers.told(self, [pair for pair in pairs if pair])

    def report(self) -> Report:
        """Plan, if no cell has asked for it yet: a verdict without a plan would be worthless."""
        if self.plan is None and not self.checks:
            self.plan_migration()
        return super().report()

    def headline(self) -> str:
        """Rows copied and steps run, or the digest that is waited for."""
        if self.plan is None or not self.plan.steps:
            return "Every partition is there and attached."
        if not self.lines:
            return f"{count(len(self.plan.steps))} steps are waiting for their digest: {self.plan.digest}."
        rows = sum(line.rows for line in self.lines if line.step.startswith(("copy ", "partition ")))
        seconds = (max(line.ended for line in self.lines) - min(line.started for line in self.lines)).total_seconds()
        self.figures |= {
            "rows": rows,
            "seconds": round(seconds, 3),
            "attempts": sum(line.attempts for line in self.lines),
        }
        return f"{count(rows)} rows copied in {seconds:.1f} s, {count(len(self.lines))} steps. The originals are unchanged."
