"""What the texts of a workload's queries tell of the partition key, for 01 and 05: nothing need be built for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atlas_ops import alternatives, division, explain, workload
from atlas_ops.comparison import Foreseen
from atlas_ops.cutover import turned
from atlas_ops.model import Snapshot
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table
from atlas_ops.views import Words
from atlas_ops.workload import Query

NO_WORKLOAD = Words("No workload.", "Name a workload file in the specification, and each of its queries is looked at.")


def jobs(snapshots: Sequence[tuple[TableSpec, Snapshot]]) -> list[tuple[TableSpec, tuple[Query, ...]]]:
    """The tables of which the original is still there to ask, each with the queries of its workload that ask it."""
    return [
        (spec, workload.load(Path(spec.workload)).of(spec))
        for spec, snapshot in snapshots
        if spec.workload and snapshot.original is not None and not turned(snapshot)
    ]


def shown(run: Run) -> Table | Words:
    """A line a query; the figures of the run keep it."""
    found: list[Foreseen] = []
    for spec, queries in jobs(run.snapshots()):
        found += alternatives.foreseen(run.where, spec, queries, division.periods(spec, run.as_of))
    if not found:
        return NO_WORKLOAD
    run.figures["foreseen"] = explain.foreseen_figures(found)
    return explain.foreseen_table(found)
