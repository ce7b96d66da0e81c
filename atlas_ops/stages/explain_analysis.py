"""05 Explain analysis: what the application's own queries do on both tables."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from atlas_ops import explain, measure, plan_pages, policies, query_charts, record, regression, statements, tracked
from atlas_ops.comparison import QueryResult
from atlas_ops.cutover import turned
from atlas_ops.database import connect
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.progress import Progress
from atlas_ops.stages import foresight
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table
from atlas_ops.views import Folded, Stacked, Words, checks_table
from atlas_ops.workload import Query

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
    _cold = False

    def foreseen(self) -> Table | Words:
        """What the text of each query tells: which partitions it can do without, and when that is known."""
        return foresight.shown(self)

    @cached_property
    def _results(self) -> tuple[QueryResult, ...]:
        waiting = [each for each in self.migrated() if not turned(each[1])]
        if not waiting:
            return ()  # the originals are retired, and closed to the roles that the queries run under
        jobs = foresight.jobs([(spec, snapshot) for spec, snapshot, *_ in waiting])
        number = sum(len(queries) for _, queries in jobs)
        if not number:
            raise AtlasError(
                what="There is no query to explain.",
                why="No table of the specification names a workload file with queries for it.",
                next="Write workload: workloads/<name>.yml in the specification; parameters/workloads/atlas.yml is an example.",
            )
        results: list[QueryResult] = []
        with Progress("explained", unit="queries") as progress:
            for spec, queries in jobs:

                def told(query: Query, table: str = spec.name) -> None:
                    progress(progress.done + 1, number, f"{table}: {query.name}")

                results += measure.workload(self.where, spec, queries, cold=self._cold, told=told)
        return tuple(results)

    def measure(self, *, cold: bool = False) -> Words | Table:
        """Ask every query of both tables; `cold` adds a run of each on empty shared buffers."""
        self._cold = cold
        if not self._results:
            return NOTHING
        return explain.cold(self._results) if cold else Words(explain.verdict_sentence(self._results), "")

    def queries(self) -> Table | Words:
        """Each query on both sides: time, interval, blocks, partitions touched, and why."""
        return explain.overview(self._results) if self._results else NOTHING

    def times(self) -> Chart | Words:
        """Time on the partitioned table as a ratio to the original's, with its interval."""
        return query_charts.query_ratios(explain.ratio_rows(self._results)) if self._results else NOTHING

    def reasons(self) -> Folded | Words:
        """Why each query is as fast as it is and what makes it faster; below, every rewritten statement that was tried."""
        if not self._results:
            return NOTHING
        tried = explain.rewrites(self._results)
        return Folded(explain.reasons(self._results), (f"The {len(tried)} rewritten statements that were tried", tried))

    def touched(self) -> Chart | Words:
        """How many partitions each query reads."""
        return query_charts.partitions_touched(explain.touched_rows(self._results)) if self._results else NOTHING

    def pruning(self) -> Table | Words:
        """Partitions planned and read by a plan of its own and by a generic one, locks, planning time, the plan's shape."""
        return explain.pruning(self._results) if self._results else NOTHING

    def buffers(self) -> Chart | Words:
        """Blocks that each query reads on either table."""
        return query_charts.query_buffers(explain.buffer_rows(self._results)) if self._results else NOTHING

    def planning(self) -> Chart | Words:
        """Planning beside execution, on either table."""
        return query_charts.planning_and_execution(explain.planning_rows(self._results)) if self._results else NOTHING

    def policies(self) -> Table | Words:
        """Policies that call a function for every row, each with the statement to try."""
        return policies.shown([snapshot for _, snapshot in self.snapshots()])

    def statements(self) -> Stacked:
        """What pg_stat_statements knows of each table, by the time it took; or why it knows nothing."""
        with connect(self.where) as connection:
            return Stacked(*[statements.shown(tracked.read(connection, spec)) for spec in self.specs])

    def plans(self) -> Words:
        """Every plan, masked, for the pages beside the record; `atlas-ops plans` draws them for a notebook saved elsewhere."""
        from IPython.display import display  # noqa: PLC0415 - only a notebook shows

        if not self._results:
            return NOTHING
        found = explain.plans(self._results)
        display({plan_pages.MIME: {"plans": found}, "text/plain": f"{len(found)} plans"}, raw=True)
        return Words(f"{len(found)} plans are kept.", "Their pages lie beside the record, in its folder of plans.")

    def gate(self, baseline: str = "") -> Folded | Words:
        """What is worse than the workload expects, or than in an earlier record: red lines, which stop the run."""
        if not self._results:
            return NOTHING
        now = regression.measured({"queries": explain.figures(self._results)}, "this run")
        found = regression.findings(now, record.baseline_from(_record(baseline)) if baseline else None)
        tables = {result.name: result.query.table for result in self._results}
        self.checks = regression.checks(found, tables)
        if not found:
            than = "than before, or than the workload expects" if baseline else "than the workload expects"
            return Words(f"Nothing is worse {than}.", "")
        return checks_table(self.checks)

    def plan_of(self, query: str, way: str = "partitioned") -> Table | Words:
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
        return explain.plan_table(result, way)

    def headline(self) -> str:
        """How many queries are faster, the same, slower; measured against the guide's 40 %."""
        if not self._results:
            return f"{NOTHING.strong} {NOTHING.rest}"
        self.figures["queries"] = explain.figures(self._results)
        return explain.verdict_sentence(self._results)


def _record(named: str) -> Path:
    """A record as the DBA names it: from where the notebook runs, or from the folder above, where `records/` lies."""
    path = Path(named)
    return path if path.exists() or path.is_absolute() else Path("..") / path
