"""05 Explain analysis: what the application's own queries do on both tables."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from atlas_ops import explain, measure, policies, query_charts, workload
from atlas_ops.cutover import turned
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.explain import QueryResult
from atlas_ops.progress import Progress
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table
from atlas_ops.views import Words

NOTHING = Words(
    "Nothing was compared.",
    "The application uses the partitioned tables; a record from before the cut-over holds the comparison.",
)


class ExplainAnalysis(Run):
    """Runs each query of the workload on both tables; what writes is rolled back."""

    stage = "explain_analysis"
    next = (
        "08 Plan archive. Before the application moves to the new name: rewrite what is slower, or accept it knowingly."
    )

    @cached_property
    def _results(self) -> tuple[QueryResult, ...]:
        found = self.migrated()
        waiting = [spec for spec, snapshot, *_ in found if not turned(snapshot)]
        if not waiting:
            return ()  # the originals are retired, and closed to the roles that the queries run under
        jobs = []
        for spec in waiting:
            if spec.workload:
                jobs.append((spec, workload.load(Path(spec.workload)).of(spec)))
        if not any(queries for _, queries in jobs):
            raise AtlasError(
                what="There is no query to explain.",
                why="No table of the specification names a workload file with queries for it.",
                next="Write workload: workloads/<name>.yml in the specification; parameters/workloads/atlas.yml is an example.",
            )
        results: list[QueryResult] = []
        with Progress("explained", unit="queries") as progress:
            for spec, queries in jobs:
                results += measure.workload(self.where, spec, queries)
                progress(len(results), sum(len(some) for _, some in jobs), spec.name)
        return tuple(results)

    def queries(self) -> Table | Words:
        """Each query on both sides: time, buffers, partitions touched, and why."""
        return explain.overview(self._results) if self._results else NOTHING

    def times(self) -> Chart | Words:
        """Time on the partitioned table as a ratio to the original's."""
        return query_charts.query_times(explain.time_rows(self._results)) if self._results else NOTHING

    def touched(self) -> Chart | Words:
        """How many partitions each query reads."""
        return query_charts.partitions_touched(explain.touched_rows(self._results)) if self._results else NOTHING

    def policies(self) -> Table | Words:
        """Policies that call a function for every row, each with the statement to try."""
        return policies.shown([snapshot for _, snapshot in self.snapshots()])

    def plan_of(self, query: str, side: str = "partitioned") -> Table | Words:
        """The plan of one query: nodes with rows estimated and actual, own time, buffers. Literals are masked."""
        if not self._results:
            return NOTHING
        result = next((found for found in self._results if found.name == query), None)
        if result is None:
            raise AtlasError(
                what=f"There is no query {query} in the workload.",
                why="The name is not among those of the workload files.",
                next="Use one of: " + ", ".join(found.name for found in self._results) + ".",
            )
        return explain.plan_table(result, side)

    def headline(self) -> str:
        """How many queries are faster, the same, slower; measured against the guide's 40 %."""
        if not self._results:
            return f"{NOTHING.strong} {NOTHING.rest}"
        self.figures["queries"] = explain.figures(self._results)
        return explain.verdict_sentence(self._results)
