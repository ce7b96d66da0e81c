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


def facts(where: Session, at: tuple[str, str]) -> tuple[Fact, ...]:
    """The ledger of one table; empty where there is none."""
    with connect(where) as connection:
        return catalog.ledger(connection, *at)


def both(where: Session, spec: TableSpec, snapshot: Snapshot) -> Ledgers | None:
    """Both tables as they are, while each has its own name; None where there is nothing to compare yet, or no longer."""
    if snapshot.original is None or not snapshot.ready or isinstance(spec, ExchangedSpec):
        return None
    place = Place.BESIDE if cutover.turned(snapshot) else Place.FOLLOWS
    at = spec.partitioned_at
    return Ledgers(spec, snapshot.original, facts(where, spec.original_at), facts(where, at), at, place)


def after(where: Session, before: Ledgers, spec: TableSpec, snapshot: Snapshot) -> Ledgers:
    """The original as it was `before`, and the partitioned table as it is now."""
    if not isinstance(spec, ExchangedSpec):
        return both(where, spec, snapshot) or before
    at = spec.partitioned_at
    return Ledgers(spec, before.original, before.before, facts(where, at), at, Place.IN_PLACE)


def came_back(where: Session, left: Sequence[Fact], spec: TableSpec, snapshot: Snapshot) -> Ledgers | None:
    """The original as it is again, and what the partitioned table was when it stood in its place (`left`)."""
    if snapshot.original is None or isinstance(spec, ExchangedSpec):
        return None
    at = spec.original_at
    return Ledgers(spec, snapshot.original, facts(where, at), tuple(left), at, Place.IN_PLACE)


def checks(found: Sequence[Ledgers]) -> list[Check]:
    """What is red in them, and waivers that waive nothing."""
    return [check for one in found for check in ledger.checks(one.spec, ledger.difference(one))]


def told(run: Run, found: Sequence[Ledgers]) -> views.Folded | views.Words:
    """The difference for people, and into the record; what is red in it stops the run."""
    if not found:
        return views.Words("Nothing to compare.", "The two tables do not both stand, whole, since this run began.")
    run.checks += checks(found)
    lines = [(one.spec.name, ledger.difference(one)) for one in found]
    run.figures["ledger"] = {table: ledger.counted(own) for table, own in lines}
    return views.ledger_table(lines)
