"""Answers every question of `thresholds.FIGURES` about one table. Pure: `structure` and `wear` have the answers."""

from __future__ import annotations

from datetime import date

from atlas_ops import growth, inspection, partitions, structure, wear
from atlas_ops.health import Activity, Figure, Health, State, state_of
from atlas_ops.look import Look
from atlas_ops.thresholds import FIGURES
from atlas_ops.vitals import Vitals

CURES = {
    "runway": "runway",
    "detach_pending": "detach pending",
    "row_security": "row security",
    "grants": "privileges",
    "indexes_invalid": "indexes",
    "default_rows": "default partition",
    "analyze_age": "statistics",
}
"""Figure to the check of `inspection` that has the SQL to look closer or to cure it."""

DOORS = {"missing", "row_security", "grants", "transaction_age", "capture"}
"""What is judged while a migration is under way already."""


def examine(vitals: Vitals, as_of: date) -> Health:
    """The figures of one table, all of `thresholds.FIGURES` in their order."""
    spec = vitals.spec
    at, state = ".".join(spec.partitioned_at), state_of(vitals)
    snapshot = vitals.snapshot
    relation = partitions.partitioned_table(snapshot) if snapshot else None
    if snapshot is None or relation is None or state in (State.UNREAD, State.NOT_MIGRATED, State.MISSING):
        return Health(spec.table, at, state, tuple(_without(state, at, name) for name in FIGURES), unread=vitals.unread)
    found = (vitals, snapshot, relation, state, as_of)
    look, answers = Look(*found), {**structure.answers(*found), **wear.answers(*found)}
    told = {check.name: check.sql for check in inspection.checks(spec, snapshot, as_of)}
    if not (snapshot.registered or snapshot.cared_for):
        told.pop(
            "runway", None
        )  # DDL of a partition, from a table whose storage parameters were not read: 04 writes it
    figures = []
    for name in FIGURES:
        value, words, concerned = (
            answers[name] if state is not State.FILLING or name in DOORS else (None, f"{state}.", ())
        )
        figures.append(Figure(name, value, words, tuple(concerned), told.get(CURES.get(name, ""), "")))
    return Health(
        spec.table,
        f"{relation.table.schema}.{relation.table.name}",
        state,
        tuple(figures),
        rows=partitions.overview(spec, snapshot, as_of),
        months=look.months,
        expected=growth.expected(spec, look.months, as_of),
        activity=_activity(look),
        covered_until=look.covered_until,
        whole_at=vitals.care.whole_at if vitals.care else None,
        statistics_since=vitals.clock.statistics_since if vitals.clock else None,
        sized=vitals.sized,
        unread=vitals.unread,
    )


def _without(state: State, at: str, name: str) -> Figure:
    """A figure of a table that there is nothing to ask of."""
    if name == "missing" and state is State.MISSING:
        return Figure(name, 1.0, f"{at} is under care, and it is not there or no partitioned table.")
    return Figure(name, None, f"{state}.")


def _activity(look: Look) -> tuple[Activity, ...]:
    return tuple(
        Activity(one.name, pulse.inserted, pulse.updated, pulse.deleted, one.seq_scans, one.index_scans, one.dead_rows)
        for one, _ in look.attached
        if (pulse := look.pulses.get(one.oid)) is not None
    )
