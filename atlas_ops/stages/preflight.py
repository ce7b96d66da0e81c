"""01 Preflight: can these tables be partitioned, what will be different, what will it cost."""

from __future__ import annotations

from functools import cached_property

from atlas_ops import catalog, charts, division, lints, policies, preflight, sample, views
from atlas_ops.database import connect
from atlas_ops.drawing import Chart
from atlas_ops.forecast import forecast
from atlas_ops.model import KeyFacts, Snapshot
from atlas_ops.report import Report, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.stages import foresight, ledgers
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table, count


class Preflight(Run):
    """Reads the catalogs and the partition keys; writes nothing that stays."""

    stage = "preflight"
    next = "02 Apply migration, once every red line above is cured."
    _forecast = ""  # said in the headline, if a cell asked for it

    @cached_property
    def _read(self) -> list[tuple[TableSpec, Snapshot, KeyFacts | None, dict[str, int]]]:
        """Snapshots, and for tables that can be read at all what reads of their key tell."""
        return [
            (spec, snapshot, *(self.key_figures(spec, snapshot) or (None, {}))) for spec, snapshot in self.snapshots()
        ]

    def findings(self) -> views.Folded:
        """Every check of every table, the red ones first."""
        self.checks = [
            check
            for spec, snapshot, facts, counts in self._read
            for check in preflight.checks(spec, snapshot, self.as_of, facts, counts or None)
        ]
        return views.checks_table(self.checks)

    def ledger(self) -> views.Folded:
        """Everything that is true of each table, and will be compared with the partitioned table later."""
        specs = [spec for spec, snapshot, *_ in self._read if snapshot.original]
        found = ledgers.facts(self.where, *(spec.original_at for spec in specs))
        return views.facts_table([(spec.name, facts) for spec, facts in zip(specs, found, strict=True)])

    def lints(self) -> views.Folded:
        """What Supabase's advisor says of the tables as they are: notes, as nothing of it is changed."""
        with connect(self.where) as connection:
            found = [(spec, snapshot, catalog.lints(connection, spec, snapshot)) for spec, snapshot, *_ in self._read]
        return views.checks_table([check for each in found for check in lints.checks(*each)])

    def policies(self) -> Table | views.Words:
        """Policies that call a function for every row, each with the statement to try."""
        return policies.shown([snapshot for _, snapshot, *_ in self._read])

    def foreseen(self) -> Table | views.Words:
        """What the text of each query of the workload tells: which partitions it can do without."""
        return foresight.shown(self)

    def rows_per_month(self) -> Chart:
        """Rows by period and table, with those before, after and without a key."""
        return charts.rows_per_month(
            [
                (spec.name, label, rows)
                for spec, _, _, counts in self._read
                for label, rows in counts.items()
                if rows or label[:1].isdigit()
            ]
        )

    def forecast(self) -> Table:
        """Time, disk and WAL of the migration, from a timed sample of each table."""
        forecasts = [
            forecast(
                spec,
                facts.rows,
                sample.timed(self.where, spec, snapshot.original),
                len(division.periods(spec, self.as_of)) + spec.default_partition,
            )
            for spec, snapshot, facts, _ in self._read
            if facts and snapshot.original
        ]
        self.figures["forecast"] = [
            {
                "table": f.table,
                "rows": f.rows,
                "seconds": round(f.seconds, 3),
                "disk_bytes": f.disk_bytes,
                "wal_bytes": f.wal_bytes,
            }
            for f in forecasts
        ]
        self._forecast = views.forecast_sentence(forecasts) if forecasts else ""
        return views.forecast_table(forecasts)

    def report(self) -> Report:
        """Look, if no cell has asked for the findings yet: a verdict without them would be worthless."""
        if not self.checks:
            self.findings()
        return super().report()

    def headline(self) -> str:
        """Findings by severity, and the forecast."""
        by = {severity: sum(check.severity is severity for check in self.checks) for severity in Severity}
        said = f"{by[Severity.STOP]} stop, {by[Severity.WARN]} warn, {by[Severity.NOTE]} note."
        rows = sum(facts.rows for _, _, facts, _ in self._read if facts)
        return f"{count(rows)} rows in {len(self.specs)} tables: {said} {self._forecast}".strip()
