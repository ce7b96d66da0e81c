"""08 Plan archive: which partitions are older than the specification keeps; and the road of a month: detach, export, prove, drop. Or a backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from atlas_ops import (
    archive,
    archive_timing,
    catalog,
    charts,
    forecast,
    inplace,
    manifest,
    months,
    partitions,
    quarantine,
    views,
)
from atlas_ops.database import connect
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.model import Relation, Snapshot
from atlas_ops.months import Archive, Dropping, Exporting, Proving
from atlas_ops.plan import Plan, joined
from atlas_ops.progress import Progress
from atlas_ops.report import Report, Verdict
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Column, Table, count, size


class PlanArchive(Run):
    """One way at a time, each with a plan and a digest of its own; `plan` shows what would leave and executes nothing."""

    stage = "plan_archive"
    next = "Nothing was detached: how is plan. Keep the record for whoever decides on the archive."
    _how = "plan"
    _work: Exporting | Proving | Dropping | None = None
    _NEXT: ClassVar[dict[str, str]] = {
        "plan": next,
        "detach": 'how = "export": the months that left are closed and marked, and stand beside the table. 11 Restore archive attaches them again.',
        "export": 'how = "prove": a file is worth what can be restored from it.',
        "prove": 'how = "drop", when you are sure; or leave the months where they are.',
        "drop": "11 Restore archive brings a month back from either file. Keep this record: it holds the head of the manifest.",
        "backup": 'how = "prove": a backup is worth what can be restored from it.',
    }

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

    def _archives(self) -> list[Archive]:
        """Read anew each time: what a plan did is seen."""
        return [months.read(self.where, spec, snapshot) for spec, snapshot in self._divided]

    # -- what leaves, what has left

    def findings(self) -> views.Folded:
        """What would make a detach refuse, or make it pointless; rows that came late; what is open, or held."""
        self.checks = [
            check for spec, snapshot in self._divided for check in archive.checks(spec, snapshot, self.as_of)
        ]
        for found in self._archives():
            self.checks += quarantine.checks(found.spec, found.snapshot, found.apart, months.late(found))
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

    def standing(self) -> Table | views.Words:
        """Each month that has left or was exported: where it is, what its files take, whether they are proven."""
        rows = [
            row
            for found in self._archives()
            for row in quarantine.standing_rows(found.spec, found.snapshot, found.apart, found.months)
        ]
        heads = {
            found.store.where: manifest.head(found.lines) for found in self._archives() if found.store and found.lines
        }
        self.figures["manifests"] = heads
        if not rows:
            return views.Words("No month has left yet.", "Nothing is detached, and nothing was exported.")
        return quarantine.standing_table(rows)

    def estimate(self) -> Table | views.Words:
        """How long export and proof will take, and how large the files will be, from a timed sample of each table's largest month to go."""
        made = [one for spec, snapshot in self._divided if (one := self._estimated(spec, snapshot)) is not None]
        if not made:
            return views.Words(
                "There is nothing to time.", "No partition leaves, and none has left that was not exported."
            )
        self.figures["forecasts"] = {one.table: round(one.export_seconds + one.prove_seconds, 1) for one in made}
        return views.archive_forecast_table(made)

    def _estimated(self, spec: TableSpec, snapshot: Snapshot) -> forecast.ArchiveForecast | None:
        found = months.read(self.where, spec, snapshot)
        known = {each.name: each for each in snapshot.partitions}
        going = [known[one.partition] for one in self._candidates if one.table == spec.table and one.goes]
        going += [one.partition for one in found.apart if one.name not in found.months]
        able = [each for each in going if each.kind == "r"]
        if not able:
            return None
        largest = max(able, key=lambda each: each.bytes)
        rows = sum(partitions.rows_of(each)[0] or 0 for each in able)
        relation = self._relation(largest.schema, largest.name)
        return forecast.archive_forecast(spec.table, len(able), rows, archive_timing.timed(self.where, relation))

    def _relation(self, schema: str, name: str) -> Relation:
        with connect(self.where) as connection, catalog.reading(connection, f"Reading {name}"):
            found = catalog.relation(connection, schema, name)
        if found is None:
            raise AtlasError(
                f"{name} is not there any more.", "Somebody has dropped or renamed it meanwhile.", "Run again."
            )
        return found

    # -- the plans

    def plan_archive(self, how: str = "plan", names: Sequence[str] = ()) -> views.PlanView:
        """`how`: plan, detach, export, prove, drop or backup; `names`: partitions, where not all that are due. Raises AtlasError for others."""
        ways: dict[str, Callable[[Sequence[str]], Plan]] = {
            "plan": self._plan_detach,
            "detach": self._plan_detach,
            "export": lambda names: self._kept(months.exporting(self._archives(), names, "archive")),
            "backup": lambda names: self._kept(months.exporting(self._archives(), names, "backup")),
            "prove": lambda names: self._kept(months.proving(self._archives(), names)),
            "drop": lambda names: self._kept(months.dropping(self._archives(), names)),
        }
        if how not in ways:
            raise AtlasError(
                what=f"how is {how!r}.",
                why="The road of a month has these stations.",
                next=f"Use one of: {', '.join(ways)}.",
            )
        self._how = how
        self.plan = ways[how](tuple(names))
        return views.PlanView(self.plan, confirm="shown only" if how == "plan" else self.confirm)

    def _plan_detach(self, names: Sequence[str]) -> Plan:
        unknown = [name for name in names if name not in {found.partition for found in self._candidates if found.goes}]
        if unknown:
            going = [found.partition for found in self._candidates if found.goes] or ["none"]
            raise AtlasError(
                what=f"{', '.join(unknown)} does not leave.",
                why="It is kept, held, or no partition of these tables.",
                next="Use some of: " + partitions.listed(going) + ".",
            )
        return joined(archive.plan_archive(spec, snapshot, self.as_of, names) for spec, snapshot in self._divided)

    def _kept(self, work: Exporting | Proving | Dropping) -> Plan:
        self._work = work
        return work.plan

    def execute(self, plan: Plan | views.PlanView) -> views.Folded | views.Words:
        """Run the plan if `confirm` arms it; with how = "plan" nothing, whatever is confirmed."""
        if self._how == "plan":
            return views.Words("Nothing was done.", 'how is "plan": it shows what would leave.')
        if self._how == "detach":
            done = super().execute(plan)
            self.__dict__.pop("_divided", None)  # read anew
            return done
        if self.plan is None or not self.plan.steps or not self.confirm:
            return views.Words(
                "Nothing was done.",
                "There is nothing to do." if self.plan and not self.plan.steps else "No plan was confirmed.",
            )
        with Progress(self._how) as progress:
            match self._work:
                case Exporting() as work:
                    self.lines += months.run_export(work, self.confirm, progress)
                case Proving() as work:
                    self.lines += months.prove(work, self.confirm, progress)
                case Dropping() as work:
                    self.lines += months.drop(work, self.confirm, progress)
        return views.lines_table(self.lines)

    # -- the archive, asked where it lies

    def archived(self) -> Chart | views.Words:
        """Rows of each month as the Parquet files have them, asked where they lie."""
        rows = inplace.rows_per_month([found for found in self._archives() if found.store is not None])
        if not rows:
            return views.Words("The archive holds no month yet.", "Nothing was exported.")
        return charts.rows_per_month(rows)

    def ask(self, query: str) -> Table | views.Words:
        """What a query of DuckDB's SQL answers, over a view for each table that has months in the archive."""
        archives = [found for found in self._archives() if found.store is not None and found.months]
        if not archives:
            return views.Words("The archive holds no month yet.", "There is nothing to ask.")
        return inplace.ask(archives, query)

    # -- the verdict

    def verdict(self) -> Verdict:
        """Planned, or nothing to do; ok only where something was done."""
        if not (self.plan and self.plan.steps):
            return Verdict.NOTHING_TO_DO
        return Verdict.OK if self.lines else Verdict.PLANNED

    def report(self) -> Report:
        """Plan, if no cell has asked for it yet: a verdict without a plan would be worthless."""
        if self.plan is None:
            self.plan_archive()
        told = super().report()
        waits = told.verdict is Verdict.PLANNED and self._how != "plan"
        return told if waits else replace(told, next=self._NEXT[self._how])

    def headline(self) -> str:
        """How many partitions would go, and what that frees; or what was done."""
        if self.lines:
            rows = sum(line.rows for line in self.lines)
            return f"{self._how}: {count(len(self.lines))} steps done{f', {count(rows)} rows' if rows else ''}."
        if self._how not in ("plan", "detach"):
            steps = len(self.plan.steps) if self.plan else 0
            digest = self.plan.digest if self.plan else ""
            return (
                f"{self._how}: {count(steps)} steps are waiting for their digest: {digest}."
                if steps
                else f"{self._how}: there is nothing to do."
            )
        going = [found for found in self._candidates if found.goes]
        freed = sum(found.bytes for found in going)
        self.figures |= {"partitions": len(going), "bytes": freed}
        return f"{count(len(going))} partitions are older than the specification keeps; their removal would free {size(freed)}."
