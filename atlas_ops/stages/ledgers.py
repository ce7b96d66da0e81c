"""Reads the ledgers of both tables for a stage, and tells their difference."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_ops import catalog, cutover, ledger, views
from atlas_ops.database import Session, connect
from atlas_ops.ledger import Ledgers, Place
from atlas_ops.model import Fact, Snapshot
from atlas_ops.report import Check
from atlas_ops.spec import ExchangedSpec, TableSpec
from atlas_ops.stages.base import Run


def facts(where: Session, *tables: tuple[str, str]) -> list[tuple[Fact, ...]]:
    """The ledger of each table; empty where there is none."""
    with connect(where) as connection:
        return [catalog.ledger(connection, *at) for at in tables]


def now(run: Run) -> dict[tuple[str, str], tuple[TableSpec, Snapshot]]:
    """The snapshots as they are now, by the tables of the specification, which an exchange does not rename."""
    return {(spec.schema, spec.name): (spec, snapshot) for spec, snapshot in run.snapshots()}


def both(where: Session, spec: TableSpec, snapshot: Snapshot) -> Ledgers | None:
    """Both tables as they are, while each has its own name; None where there is nothing to compare yet, or no longer."""
    if snapshot.original is None or not snapshot.ready or isinstance(spec, ExchangedSpec):
        return None
    place = Place.BESIDE if cutover.turned(snapshot) else Place.FOLLOWS
    before, after = facts(where, spec.original_at, spec.partitioned_at)
    return Ledgers(spec, snapshot.original, before, after, spec.partitioned_at, place)


def after(where: Session, before: Ledgers, spec: TableSpec, snapshot: Snapshot) -> Ledgers:
    """The original as it was `before`, and the partitioned table as it is now."""
    if not isinstance(spec, ExchangedSpec):
        return both(where, spec, snapshot) or before
    at = spec.partitioned_at
    [found] = facts(where, at)
    return Ledgers(spec, before.original, before.before, found, at, Place.IN_PLACE)


def came_back(where: Session, left: Sequence[Fact], spec: TableSpec, snapshot: Snapshot) -> Ledgers | None:
    """The original as it is again, and what the partitioned table was when it stood in its place (`left`)."""
    if snapshot.original is None or isinstance(spec, ExchangedSpec):
        return None
    at = spec.original_at
    [found] = facts(where, at)
    return Ledgers(spec, snapshot.original, found, tuple(left), at, Place.IN_PLACE)


def checks(found: Sequence[Ledgers]) -> list[Check]:
    """What is red in them, and waivers that waive nothing."""
    return [check for one in found for check in ledger.checks(one.spec, ledger.difference(one))]


def told(run: Run, found: Sequence[Ledgers]) -> views.Folded | views.Words:
    """The difference for people, and into the record; what is red in it stops the run."""
    if not found:
        return views.Words("Nothing to compare.", "The two tables do not both stand, whole, since this run began.")
    lines = [(one.spec, ledger.difference(one)) for one in found]
    run.checks += [check for spec, own in lines for check in ledger.checks(spec, own)]
    run.figures["ledger"] = {spec.name: ledger.counted(own) for spec, own in lines}
    return views.ledger_table([(spec.name, own) for spec, own in lines])
