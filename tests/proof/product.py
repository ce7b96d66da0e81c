"""What the driver calls of the product: each stage as its notebook runs it, from the catalogs to the last step. All may be called again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from atlas_ops import catalog, compare, cutover, database, division, migration, preflight
from atlas_ops.database import Session
from atlas_ops.execute import execute
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2024, 3, 15)
STAGES: dict[str, Callable[[TableSpec, Snapshot], Plan]] = {
    "apply_migration": lambda spec, snapshot: migration.plan_migration(spec, snapshot, AS_OF),
    "drain": cutover.plan_drain,
    "cut_over": lambda spec, snapshot: cutover.plan_cut_over(spec, snapshot, AS_OF),
    "roll_back": cutover.plan_roll_back,
    "abandon": cutover.plan_abandon,
}


def specification(**keys: Any) -> TableSpec:
    [found] = tables_from(
        [{"table": "item", "partition_key": "at", "from": "2024-01-01", "until": "2024-04-01", "ahead": 1, **keys}]
    )
    return found


def look(where: Session, spec: TableSpec) -> tuple[TableSpec, Snapshot]:
    with database.connect(where) as conn:
        placed = catalog.placed(conn, spec)
        return placed, catalog.snapshot(conn, placed, division.names_needed(placed, AS_OF))


def red(stage: str, spec: TableSpec, snapshot: Snapshot) -> list[str]:
    """What stops the stage before it begins."""
    if stage in {"drain", "abandon"}:
        return []
    if stage == "apply_migration":
        checks = preflight.checks(spec, snapshot, AS_OF)
    else:
        checks = cutover.checks(spec, snapshot)
    return [check.what for check in checks if check.severity is Severity.STOP]


def run(conninfo: str, stage: str, keys: dict[str, Any] | None = None) -> dict[str, Any]:
    """Plan a stage from what is there, confirm its digest and execute it."""
    where = Session("proof", conninfo, stage)
    spec, snapshot = look(where, specification(**(keys or {})))
    found = red(stage, spec, snapshot)
    assert not found, found
    plan = STAGES[stage](spec, snapshot)
    if stage == "abandon" and not snapshot.online and not snapshot.registered:
        return {}
    lines = execute(where, plan, plan.digest)
    return {
        "steps": [line.step for line in lines],
        "held_ms": [line.held_ms for line in lines if line.held_ms is not None],
        "attempts": [line.attempts for line in lines if line.held_ms is not None],
        "sqlstates": [state for line in lines for state in line.sqlstates],
    }


def prove(conninfo: str, keys: dict[str, Any] | None = None) -> dict[str, int]:
    """Compare both sides in one snapshot, while the application writes."""
    where = Session("proof", conninfo, "verify_counts")
    spec, snapshot = look(where, specification(**(keys or {})))
    original = snapshot.original
    assert original is not None and snapshot.online is not None
    key = original.column(spec.partition_key)
    assert key is not None
    parts = division.parts(spec, key.base_type, AS_OF)
    proofs, _ = compare.prove(where, [(spec, original, parts)], following={spec.name: snapshot.online.authority})
    assert all(proof.proven for proof in proofs), proofs
    return {"rows": sum(proof.original.rows for proof in proofs), "waiting": sum(proof.waiting for proof in proofs)}
