"""04 Inspect partitions: what is there, how big, how healthy, how long it lasts."""

from __future__ import annotations

from functools import cached_property

from atlas_ops import catalog, charts, inspection, lints, partitions, views
from atlas_ops.database import connect
from atlas_ops.drawing import Chart
from atlas_ops.model import Snapshot
from atlas_ops.report import Check, Severity, Verdict, stopped
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Column, Table, count, size


class InspectPartitions(Run):
    """Reads the catalogs and statistics only, never a row."""

    stage = "inspect_partitions"
    next = "05 Explain analysis tells what the partitions do for the application's queries."

    @cached_property
    def _snapshots(self) -> list[tuple[TableSpec, Snapshot]]:
        return self.snapshots()

    @cached_property
    def _rows(self) -> list[partitions.PartitionRow]:
        return [row for spec, snapshot in self._snapshots for row in partitions.overview(spec, snapshot, self.as_of)]

    def findings(self) -> views.Folded:
        """Gaps, overlaps, runway, rows in the default partition, open or unfinished partitions: the red ones first."""
        return self._shown(
            [check for spec, snapshot in self._snapshots for check in inspection.checks(spec, snapshot, self.as_of)]
        )

    def lints(self) -> views.Folded:
        """What Supabase's advisor says of the tables, and of what was made for them: red where that is ours."""
        with connect(self.where) as connection:
            found = [(spec, snapshot, catalog.lints(connection, spec, snapshot)) for spec, snapshot in self._snapshots]
        return self._shown([check for each in found for check in lints.checks(*each)])

    def _shown(self, found: list[Check]) -> views.Folded:
        self.checks += [check for check in found if check not in self.checks]
        return views.checks_table(found)

    def partitions(self) -> views.Folded:
        """A line a table; every partition with bounds, rows, sizes, dead rows, indexes and last vacuum folded below."""
        rows = []
        for spec in self.specs:
            own = [row for row in self._rows if row.table == spec.table]
            rows.append(
                (
                    spec.table,
                    len(own),
                    sum(row.rows or 0 for row in own),
                    sum(row.heap_bytes + row.toast_bytes for row in own),
                    sum(row.index_bytes for row in own),
                    sum(row.bloat_bytes for row in own),
                    sum(row.dead_rows for row in own),
                )
            )
        sizes = [Column(name, "size") for name in ("heap and TOAST", "indexes", "bloat, roughly")]
        short = Table(["table", "partitions", Column("rows", "count"), *sizes, Column("dead rows", "count")], rows)
        return views.Folded(short, ("Every partition", partitions.as_table(self._rows)))

    def sizes(self) -> Chart:
        """Heap and indexes of every partition."""
        return charts.partition_sizes(partitions.size_rows(self._rows))

    def runway(self) -> Chart:
        """The partitions along the calendar, and where today stands."""
        return charts.runway(partitions.runway_rows(self._rows), self.as_of)

    def verdict(self) -> Verdict:
        """Red where a check stops."""
        return Verdict.STOPPED if stopped(self.checks) else Verdict.OK

    def headline(self) -> str:
        """Partitions, bytes, and how many findings want a look."""
        total = sum(row.heap_bytes + row.index_bytes + row.toast_bytes for row in self._rows)
        warned = sum(check.severity in (Severity.WARN, Severity.STOP) for check in self.checks)
        self.figures |= {"partitions": len(self._rows), "bytes": total, "findings": warned}
        return f"{count(len(self._rows))} partitions of {len(self.specs)} tables, {size(total)}; findings that want a look: {warned}."
