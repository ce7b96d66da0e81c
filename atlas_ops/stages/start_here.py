"""00 Start here: what there is, how far each table has come, which notebook is next."""

from __future__ import annotations

from functools import cached_property

from atlas_ops import takeover
from atlas_ops.cutover import turned
from atlas_ops.model import Snapshot
from atlas_ops.report import Verdict
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Column, Table


class StartHere(Run):
    """Reads the catalogs and says where each table stands."""

    stage = "start_here"
    next = "01 Preflight."

    @cached_property
    def _snapshots(self) -> list[tuple[TableSpec, Snapshot]]:
        return self.snapshots()

    def tables(self) -> Table:
        """Each table of the specification: rows as the planner estimates them, size, and how far it has come."""
        return Table(
            [
                "table",
                Column("rows, estimated", "count"),
                Column("on disk", "size"),
                "partitioned table",
                "partitions",
                "next",
            ],
            [_row(spec, snapshot) for spec, snapshot in self._snapshots],
        )

    def verdict(self) -> Verdict:
        """Nothing is decided here."""
        return Verdict.OK

    def headline(self) -> str:
        """How many tables there are, and how many have a partitioned copy."""
        done = sum(snapshot.ready for _, snapshot in self._snapshots)
        return f"{len(self._snapshots)} tables in the specification, {done} with a complete partitioned copy."


def _row(spec: TableSpec, snapshot: Snapshot) -> tuple[object, ...]:
    original = snapshot.original.table if snapshot.original else None
    attached = sum(partition.bound is not None for partition in snapshot.partitions)
    if original is None:
        return (spec.table, None, None, None, None, "there is no such table: correct the specification")
    rows = original.estimated_rows if original.estimated_rows >= 0 else None
    if original.kind == "p" and snapshot.online is None:
        already = "04 Inspect partitions, 08 Plan archive: it is partitioned already"
        return (spec.table, rows, original.bytes, ".".join(spec.original_at), attached, already)
    if snapshot.partitioned is None:
        return (spec.table, rows, original.bytes, None, None, "01 Preflight")
    following = (
        "04 Inspect partitions; 10 Roll back is the way back"
        if turned(snapshot)
        else "03 Verify counts, then 06 Cut over"
        if snapshot.ready and (snapshot.online is not None or takeover.waits(spec, snapshot))
        else "04 Inspect partitions: it is open to the application"
        if takeover.opened(spec, snapshot)
        else "03 Verify counts"
        if snapshot.ready
        else "02 Apply migration, to finish it"
        if snapshot.registered
        else "01 Preflight: that name is taken"
    )
    return (
        spec.table,
        rows,
        original.bytes,
        ".".join(spec.partitioned_at),
        attached,
        following,
    )
