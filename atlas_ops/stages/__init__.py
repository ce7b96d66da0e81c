"""What the notebooks call: one module and class a stage over the same `Run`, one method a cell."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from atlas_ops.errors import AtlasError

# a stage's module is imported when its notebook starts: 01 has no use for what 05 needs
STAGES = {
    "start_here": "StartHere",
    "preflight": "Preflight",
    "apply_migration": "ApplyMigration",
    "verify_counts": "VerifyCounts",
    "inspect_partitions": "InspectPartitions",
    "explain_analysis": "ExplainAnalysis",
    "cut_over": "CutOver",
    "maintain_partitions": "MaintainPartitions",
    "plan_archive": "PlanArchive",
    "monitor_health": "MonitorHealth",
    "roll_back": "RollBack",
    "restore_archive": "RestoreArchive",
}


def start(stage: str, database: str, tables: Sequence[dict[str, Any]] = (), confirm: str = "", as_of: str = "") -> Any:
    """Begin a stage: check the parameters, connect, read who and where; returns the stage's `Run`.

    `stage` is the notebook's name without its number; the others are the four lines of its parameters cell.
    Raises AtlasError for an unknown stage or parameter, and where the database cannot be reached or used.
    """
    if stage not in STAGES:
        raise AtlasError(
            what=f"There is no stage {stage}.",
            why="A stage is named as its notebook, without the number.",
            next="Use one of: " + ", ".join(STAGES) + ".",
        )
    kind = getattr(import_module(f"atlas_ops.stages.{stage}"), STAGES[stage])
    return kind(database, tables, confirm, as_of)
