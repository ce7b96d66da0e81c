"""The success criteria of the guide, each ticked from a record, open, or refuted with the figure. Pure.

A line is ticked only by what a record says; nothing is taken on trust, and an old record does not speak for today where today is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from atlas_ops.tables import count, duration
from atlas_ops.told import DONE, PLANNED, STOPPED, Told, health_of, in_order, newest, severities

PROMISED = 0.60
"""What the guide leaves of a query's time: 40 % less, at least."""

FRESH = timedelta(days=8)
"""A look that is older says nothing of a dashboard that somebody keeps: it was to be weekly at least."""


class State(StrEnum):
    """How a line stands."""

    TICKED = "ticked"
    OPEN = "open"
    REFUTED = "refuted"


@dataclass(frozen=True, slots=True)
class Line:
    """One criterion: the guide's own words, how it stands, and what says so."""

    part: str
    text: str
    state: State
    told: str
    record: Told | None = None


Answer = tuple[State, str, Told | None]
Rule = Callable[[Sequence[Told], datetime], Answer]


def scorecard(records: Sequence[Told], now: datetime) -> tuple[Line, ...]:
    """Every line of the guide, in its order, for the records of one database."""
    return tuple(Line(part, text, *rule(records, now)) for part, lines in _CRITERIA.items() for text, rule in lines)


def _open(told: str, record: Told | None = None) -> Answer:
    return State.OPEN, told, record


# deployment


def _migrated(records: Sequence[Told], _: datetime) -> Answer:
    record = newest(records, "apply_migration")
    if record is None:
        return _open("02 Apply migration has not run.")
    if record.verdict == STOPPED:
        return State.REFUTED, record.headline, record
    if record.verdict == PLANNED:
        return _open(record.headline, record)
    ran = f" It took {duration(record.seconds)}." if record.seconds else ""
    return State.TICKED, f"{record.headline}{ran}", record


_BUILT = ("missing", "gaps", "overlaps", "misaligned", "not_attached", "detach_pending")
_INSPECTED = ("partitioned table", "gaps", "overlaps", "not attached", "detach pending")


def _built(records: Sequence[Told], _: datetime) -> Answer:
    def judged(record: Told, states: Mapping[str, str]) -> Answer:
        wrong = [f"{name} ({told})" for name, told in states.items() if told not in ("ok", "note")]
        partitions = sum(int(table.get("partitions", 0)) for table in health_of(record)) or record.figures.get(
            "partitions"
        )
        if wrong:
            return State.REFUTED, f"To look at: {', '.join(wrong)}.", record
        if not partitions:
            return _open("There are no partitions yet.", record)
        return (
            State.TICKED,
            f"{count(partitions)} partitions, none missing between them and none left unattached.",
            record,
        )

    return _of_newest(records, _BUILT, _INSPECTED, judged)


def _counted(records: Sequence[Told], _: datetime) -> Answer:
    record = newest(_with(records, "parts"), "verify_counts")
    if record is None:
        return _open("03 Verify counts has compared nothing yet.")
    parts = _mappings(record.figures["parts"])
    differ = [part for part in parts if _pair(part, "rows")[0] != _pair(part, "rows")[1] and part.get("lost", 1)]
    rows = sum(int(_pair(part, "rows")[0]) for part in parts)
    if record.verdict == STOPPED or differ:
        named = ", ".join(f"{part.get('table')} {part.get('part')}" for part in differ[:3]) or record.headline
        return State.REFUTED, f"{count(len(differ))} of {count(len(parts))} parts differ: {named}.", record
    return (
        State.TICKED,
        f"{count(rows)} rows on both sides in {count(len(parts))} parts, keys and content compared too.",
        record,
    )


def _guarded(records: Sequence[Told], _: datetime) -> Answer:
    compared = in_order(_with(records, "ledger"), "apply_migration", "cut_over")
    ledgers = [one for one in compared if one.finished and isinstance(one.figures["ledger"], Mapping)]
    if not ledgers:
        return _open("No record compares the policies of the two tables: 02 and 06 do, in their ledger.")
    red = {
        table: lines.get("red", 0)
        for table, lines in ledgers[0].figures["ledger"].items()
        if isinstance(lines, Mapping)
    }
    if any(red.values()):
        told = ", ".join(f"{table}: {count(number)}" for table, number in red.items() if number)
        return (
            State.REFUTED,
            f"Properties that differ between the two tables, policies and grants among them: {told}.",
            ledgers[0],
        )

    def judged(record: Told, states: Mapping[str, str]) -> Answer:
        wrong = [name for name, told in states.items() if told not in ("ok", "note")]
        if wrong:
            return State.REFUTED, f"To look at: {', '.join(wrong)}.", record
        same = "The ledger has no red line: policies, row security and grants are those of the original"
        return State.TICKED, f"{same}; every partition is closed.", record

    return _of_newest(records, ("row_security", "grants"), ("row security", "privileges"), judged)


def _indexed(records: Sequence[Told], _: datetime) -> Answer:
    def judged(record: Told, states: Mapping[str, str]) -> Answer:
        wrong = [name for name, told in states.items() if told not in ("ok", "note")]
        if wrong:
            return State.REFUTED, f"To look at: {', '.join(wrong)}.", record
        return State.TICKED, "Every partition has every index, and all are valid.", record

    return _of_newest(records, ("indexes_missing", "indexes_invalid"), ("indexes",), judged)


# performance


def _faster(records: Sequence[Told], _: datetime) -> Answer:
    record, queries = _explained(records)
    if record is None:
        return _open("05 Explain analysis has measured nothing yet.")
    kept = [query for query in queries if _keeps(query)]
    slower = sum(query.get("verdict") == "slower" for query in queries)
    left = _left(queries)
    if left is None:
        return _open("No query was measured on both tables.", record)
    promised = f"{left:.2f} times as long over all, where at most {PROMISED:.2f} was promised"
    told = f"{promised}; {count(len(kept))} of {count(len(queries))} queries take at least 40 % less, {count(slower)} are slower."
    return (State.TICKED if left <= PROMISED else State.REFUTED), told, record


def _pruned(records: Sequence[Told], _: datetime) -> Answer:
    record, queries = _explained(records)
    if record is None:
        return _open("05 Explain analysis has measured nothing yet.")
    bound = [
        side
        for query in queries
        if (side := query.get("partitioned")) and isinstance(side, Mapping) and side.get("bounds_key")
    ]
    if not bound:
        return _open("No query of the workload has a bound on the partition key.", record)
    read_all = [side for side in bound if int(side.get("touched", 0)) >= int(side.get("partitions", 0)) > 1]
    told = f"{count(len(bound) - len(read_all))} of {count(len(bound))} queries with a bound on the partition key read only some partitions."
    return (State.REFUTED if read_all else State.TICKED), told, record


def _unchanged(records: Sequence[Told], _: datetime) -> Answer:
    """As far as records go: the same rows from every query, and an exchange after which nothing was rolled back."""
    record, queries = _explained(records)
    if record is None:
        return _open("05 Explain analysis has compared no answers yet.")
    failed = [query for query in queries if _failed(query, "partitioned") and not _failed(query, "original")]
    other = [query for query in queries if query.get("same_rows") is False]
    if failed or other:
        told = [
            *(f"{query.get('query')} fails" for query in failed),
            *(f"{query.get('query')} answers otherwise" for query in other),
        ]
        return State.REFUTED, f"On the partitioned table: {', '.join(told[:4])}.", record
    if not all(query.get("same_rows") for query in queries):
        return _open("The answers of some queries could not be compared.", record)
    return (
        State.TICKED,
        f"{count(len(queries))} queries of the workload give the same rows on both tables. What no query covers, only its tests can tell.",
        record,
    )


def _functions(records: Sequence[Told], _: datetime) -> Answer:
    record = newest(records, "inspect_partitions")
    if record is None:
        return _open("04 Inspect partitions, which asks get_partition_sizes() and partition_performance, has not run.")
    if record.verdict == STOPPED and not record.checks:
        return State.REFUTED, record.headline, record
    return State.TICKED, "get_partition_sizes() and partition_performance answered.", record


# operation


def _moved(records: Sequence[Told], _: datetime) -> Answer:
    turns = [
        one
        for one in in_order(records, "cut_over", "roll_back")
        if one.verdict in DONE and (one.steps or one.stage == "cut_over")
    ]
    if turns and turns[0].stage == "roll_back":
        return State.REFUTED, f"Rolled back: {turns[0].headline}", turns[0]
    for record in in_order(records, "monitor_health"):
        states = {str(table.get("table")): str(table.get("state")) for table in health_of(record)}
        waiting = [table for table, state in states.items() if state != "in use"]
        if states and not waiting:
            return State.TICKED, f"In use: {', '.join(states)}.", record
        if states:
            return _open(f"Not in use yet: {', '.join(waiting)}.", record)
    if turns:
        return State.TICKED, turns[0].headline, turns[0]
    return _open("06 Cut over has not run.")


def _watched(records: Sequence[Told], now: datetime) -> Answer:
    record = newest(records, "monitor_health")
    if record is None:
        return _open("09 Monitor health has not run.")
    if now - record.started > FRESH:
        return _open(f"The last look is {(now - record.started).days} days old.", record)
    return State.TICKED, record.headline, record


def _made_by_itself(records: Sequence[Told], _: datetime) -> Answer:
    """By outcome: between two looks the schedule was seen to have left everything there, or the partitions reach further."""
    looks = [one for one in in_order(records, "monitor_health") if health_of(one)]
    if not looks:
        return _open("09 Monitor health has not run.")
    for table in health_of(looks[0]):
        level = _figure(table, "runway").get("level")
        if level in ("warning", "critical"):
            return State.REFUTED, f"{table.get('table')}: {_figure(table, 'runway').get('told')}", looks[0]
    moved = {str(table.get("table")): _advanced(looks, str(table.get("table"))) for table in health_of(looks[0])}
    if moved and all(moved.values()):
        return (
            State.TICKED,
            "Between two looks partitions were made, or all were found there: "
            + "; ".join(filter(None, moved.values()))
            + ".",
            looks[0],
        )
    waiting = ", ".join(table for table, told in moved.items() if not told)
    return _open(f"Nobody has been seen to make the next partitions of {waiting or 'any table'} yet.", looks[0])


def _advanced(looks: Sequence[Told], table: str) -> str:
    """What has moved between the newest look at a table and an earlier one; empty: nothing."""
    seen = [found for look in looks for found in health_of(look) if found.get("table") == table]
    latest = seen[0]
    for earlier in seen[1:]:
        for key, words in (("covered_until", "reaches"), ("whole_at", "whole at")):
            new, old = latest.get(key), earlier.get(key)
            if isinstance(new, str) and isinstance(old, str) and new > old:
                return f"{table} {words} {new[:16].replace('T', ' ')}, before {old[:16].replace('T', ' ')}"
    return ""


def _backed_up(records: Sequence[Told], _: datetime) -> Answer:
    for record in in_order(records, "restore_archive", "plan_archive"):
        steps = [str(step.get("step", "")) for step in record.steps]
        restored = [step for step in steps if step.startswith(("prove ", "restore "))]
        if restored and record.verdict == STOPPED:
            return State.REFUTED, record.headline, record
        if restored and record.verdict in DONE:
            return State.TICKED, f"{count(len(restored))} files were restored and compared: {restored[0]}.", record
    return _open("No file of a partition was restored and compared: 08 Plan archive proves what it exports.")


_CRITERIA: Mapping[str, Sequence[tuple[str, Rule]]] = {
    "Deployment": (
        ("Migration runs without errors", _migrated),
        ("All partitions created successfully", _built),
        ("Data migrated correctly (counts match)", _counted),
        ("RLS policies working", _guarded),
        ("Indexes created and optimized", _indexed),
    ),
    "Performance": (
        ("Query performance improved by 40%+", _faster),
        ("Partition pruning working (EXPLAIN shows partition elimination)", _pruned),
        ("No regression in application functionality", _unchanged),
        ("Monitoring functions working", _functions),
    ),
    "Operational": (
        ("Application updated to use partitioned tables", _moved),
        ("Monitoring dashboard shows partition health", _watched),
        ("Automatic partition creation working", _made_by_itself),
        ("Backup/restore procedures updated", _backed_up),
    ),
}


# reading


def _with(records: Iterable[Told], figure: str) -> list[Told]:
    """The records that hold a figure."""
    return [one for one in records if one.figures.get(figure)]


def _mappings(found: Any) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _pair(part: Mapping[str, Any], key: str) -> tuple[Any, Any]:
    found = part.get(key)
    return (found[0], found[1]) if isinstance(found, list) and len(found) > 1 else (0, 0)


def _figure(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    figures = table.get("figures")
    found = figures.get(name) if isinstance(figures, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _of_newest(
    records: Sequence[Told],
    figures: Sequence[str],
    checks: Sequence[str],
    judged: Callable[[Told, Mapping[str, str]], Answer],
) -> Answer:
    """By the newer of 09 (its figures) and 04 (its checks)."""
    for record in in_order(records, "monitor_health", "inspect_partitions"):
        states = dict(_levels(record, figures)) if record.stage == "monitor_health" else severities(record, *checks)
        if states:
            return judged(record, states)
    return _open("Neither 04 Inspect partitions nor 09 Monitor health has looked at a partitioned table yet.")


def _levels(record: Told, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each figure's worst level over the tables of a record of 09; of tables that are not migrated yet, none."""
    order = ("critical", "warning", "ok")
    for name in names:
        found = [
            str(_figure(table, name).get("level"))
            for table in health_of(record)
            if table.get("state") not in ("not migrated", "not read") and _figure(table, name)
        ]
        known = [level for level in found if level in order]
        if known:
            yield name.replace("_", " "), min(known, key=order.index)


def _explained(records: Sequence[Told]) -> tuple[Told | None, list[Mapping[str, Any]]]:
    """The newest record of 05 that measured something, and its queries."""
    record = newest(_with(records, "queries"), "explain_analysis")
    return record, _mappings(record.figures["queries"]) if record else []


def _failed(query: Mapping[str, Any], side: str) -> bool:
    found = query.get(side)
    return isinstance(found, Mapping) and "what" in found


def _ratio(query: Mapping[str, Any]) -> float | None:
    found = query.get("ratio")
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _keeps(query: Mapping[str, Any]) -> bool:
    if isinstance(query.get("keeps_promise"), bool):
        return bool(query["keeps_promise"])
    return (_ratio(query) or 1.0) <= PROMISED


def _left(queries: Sequence[Mapping[str, Any]]) -> float | None:
    """What is left of the time of all calls together: weighted by calls where each query has a weight, else each counts once."""
    measured = [(query, ratio, _milliseconds(query)) for query in queries if (ratio := _ratio(query)) is not None]
    known = [one for one in measured if one[2] > 0]
    if not known:
        return None
    weighted = all(isinstance(query.get("weight"), int | float) for query, *_ in known)
    calls = [(float(query["weight"]) if weighted else 1.0, ratio, ms) for query, ratio, ms in known]
    before = sum(weight * ms for weight, _, ms in calls)
    return sum(weight * ratio * ms for weight, ratio, ms in calls) / before if before else None


def _milliseconds(query: Mapping[str, Any]) -> float:
    side = query.get("original")
    if not isinstance(side, Mapping):
        return 0.0
    return float(side.get("planning_ms") or 0.0) + float(side.get("execution_ms") or 0.0)
