"""What a scheduler and a hand in a hurry need without a notebook: drain what follows, or switch the capture off."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from atlas_ops import catalog, cutover, installation
from atlas_ops.database import Session, connect, session
from atlas_ops.execute import execute
from atlas_ops.model import Snapshot
from atlas_ops.spec import TableSpec


def drained(database: str, specs: Sequence[TableSpec], every: float = 0) -> Iterator[str]:
    """Drain each table, in the direction that holds now; `every` seconds again, or once for 0. A line a table and time, ready to print.

    Raises AtlasError as `execute` does: a scheduler sees a run that failed.
    """
    where = session(database, "drain")
    while True:
        for spec, snapshot in _snapshots(where, specs):
            yield _drain(where, spec, snapshot)
        if not every:
            return
        time.sleep(every)


def _drain(where: Session, spec: TableSpec, snapshot: Snapshot) -> str:
    state = snapshot.online
    if state is None or snapshot.original is None or snapshot.partitioned is None:
        return f"{spec.table}: nothing follows"
    if not state.in_step or not state.captured:
        return f"{spec.table}: not in step, 02 Apply migration or 10 Roll back tells what to do"
    plan = cutover.plan_drain(spec, snapshot)
    started = time.perf_counter()
    execute(where, plan, plan.digest)
    with closing(connect(where)) as connection:
        after = catalog.online_copy(connection, spec)
    left = after.log_rows if after else 0
    return f"{spec.table}: {state.log_rows:,} keys drained in {time.perf_counter() - started:.1f} s, {left:,} have come since"


def switched_off(database: str, specs: Sequence[TableSpec]) -> Iterator[str]:
    """Remove the capture of each table that has one. A line a table, ready to print. Raises AtlasError as `execute` does."""
    where = session(database, "switch off")
    for spec, snapshot in _snapshots(where, specs):
        if snapshot.online is None or snapshot.original is None:
            yield f"{spec.table}: there is no capture"
            continue
        plan = cutover.plan_switch_off(spec, snapshot)
        execute(where, plan, plan.digest)
        yield f"{spec.table}: the capture is off; what follows is stale from here on"


def _snapshots(where: Session, specs: Sequence[TableSpec]) -> list[tuple[TableSpec, Snapshot]]:
    with closing(connect(where)) as connection:
        placed = [catalog.placed(connection, spec) for spec in specs]
        return [(spec, catalog.snapshot(connection, spec, _names(spec))) for spec in placed]


def _names(spec: TableSpec) -> tuple[str, ...]:
    return (spec.partitioned_name, spec.name, spec.key_log_name, *installation.INSTALLED_NAMES)
