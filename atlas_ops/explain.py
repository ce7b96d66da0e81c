"""What was measured of a workload, told: a sentence, tables, rows for charts, figures for the record. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from atlas_ops import advice, queryplan, regression
from atlas_ops.comparison import PROMISED_SHARE, Foreseen, QueryResult, Side, Variant, judged
from atlas_ops.errors import AtlasError
from atlas_ops.queryplan import PlanFigures
from atlas_ops.tables import Column, Table
from atlas_ops.timing import SMALLEST_MS, Timing

WAYS = ("original", "partitioned", "generic")


def verdict_sentence(results: Sequence[QueryResult]) -> str:
    """How many queries are faster, the same, slower, and what is left of the guide's claim."""
    measured = [result for result in results if result.verdict != "failed"]
    if not measured:
        return "No query was measured on both tables." if results else "No query was asked."
    number = Counter(result.verdict for result in results)
    kept = sum(result.keeps_promise for result in measured)
    failed = f", {number['failed']} failed" if number["failed"] else ""
    noun = "query" if len(results) == 1 else "queries"
    return (
        f"{number['faster']} of {len(results)} {noun} faster, {number['same']} the same, "
        f"{number['slower']} slower{failed}; the guide's 40 % holds for {kept or 'none'}."
        f"{_overall(measured)}"
    )


def average_call(results: Sequence[QueryResult]) -> tuple[float, float, bool]:
    """The time of an average call in ms on either table, and whether it is by the number of calls.

    It is where the workload tells a weight of every query that was measured; otherwise each counts once. Results
    that failed are left out; one at least was measured.
    """
    measured = [(result.query.weight, result.timing) for result in results if result.timing is not None]
    by_calls = all(weight is not None for weight, _ in measured)
    weighted = [((weight if by_calls and weight else 1.0), timing) for weight, timing in measured]
    calls = sum(weight for weight, _ in weighted)
    before = sum(weight * timing.before_ms for weight, timing in weighted) / calls
    after = sum(weight * timing.after_ms for weight, timing in weighted) / calls
    return before, after, by_calls


def _overall(measured: Sequence[QueryResult]) -> str:
    before, after, by_calls = average_call(measured)
    counted = "By the number of calls" if by_calls else "Each query counted once"
    return (
        f" {counted}, a call takes {before:.2f} ms on the original and {after:.2f} on the partitioned table:"
        f" {after / max(before, SMALLEST_MS):.2f} times as long, where the guide promises at most {1 - PROMISED_SHARE:.2f}."
    )


# Rows for charts


def ratio_rows(results: Iterable[QueryResult]) -> list[tuple[str, float, float, float, str]]:
    """(query, ratio, low, high, verdict) for `query_charts.query_ratios`; queries that failed are left out."""
    return [
        (result.name, timing.ratio, timing.low, timing.high, result.verdict)
        for result, timing, *_ in _measured(results)
    ]


def touched_rows(results: Iterable[QueryResult]) -> list[tuple[str, int, int]]:
    """(query, partitions read, partitions) for `query_charts.partitions_touched`; without those that failed."""
    return [(result.name, after.touched, after.partitions) for result, _, _, after in _measured(results)]


def buffer_rows(results: Iterable[QueryResult]) -> list[tuple[str, int, int]]:
    """(query, blocks of the original, blocks of the partitioned table) for `query_charts.query_buffers`."""
    return [(result.name, _blocks(before), _blocks(after)) for result, _, before, after in _measured(results)]


def planning_rows(results: Iterable[QueryResult]) -> list[tuple[str, str, float, float]]:
    """(query, side, planning ms, execution ms), two rows a query, for `query_charts.planning_and_execution`."""
    return [
        (result.name, side, figures.planning_ms, figures.execution_ms)
        for result, _, before, after in _measured(results)
        for side, figures in (("original", before), ("partitioned", after))
    ]


def _measured(results: Iterable[QueryResult]) -> Iterator[tuple[QueryResult, Timing, PlanFigures, PlanFigures]]:
    """The results that have figures of both sides, with these."""
    for result in results:
        before, after = result.original.figures, result.partitioned.figures
        if result.timing and before and after:
            yield result, result.timing, before, after


def _blocks(figures: PlanFigures) -> int:
    return figures.hit_blocks + figures.read_blocks


# For the record


def figures(results: Iterable[QueryResult]) -> list[dict[str, Any]]:
    """The results as JSON types, for the record and the gate: figures, verdicts and SQLSTATEs, no value and no plan."""
    return [
        {
            "query": result.name,
            "text": regression.digest(result.query),
            "table": result.query.table,
            "verdict": result.verdict,
            **_timed(result.timing),
            "why": advice.why(result),
            "what_to_do": advice.what_to_do(result),
            "weight": result.query.weight,
            "prunes_to": result.query.prunes_to,
            "max_slowdown": result.query.max_slowdown,
            "plan": result.partitioned.shape or None,
            "same_rows": result.same_rows,
            "keeps_promise": result.keeps_promise,
            "original": _side_figures(result.original),
            "partitioned": _side_figures(result.partitioned),
            "prepared": _timed(result.prepared),
            "generic": _variant_figures(result.generic) if result.generic else None,
            "rewrites": [_variant_figures(each) for each in result.rewrites],
        }
        for result in results
    ]


def _timed(timing: Timing | None) -> dict[str, Any]:
    if timing is None:
        return {"ratio": None, "low": None, "high": None, "pairs": 0}
    return {"ratio": timing.ratio, "low": timing.low, "high": timing.high, "pairs": timing.pairs}


def _variant_figures(variant: Variant) -> dict[str, Any]:
    told = {"name": variant.name, "verdict": judged(variant.timing), **_timed(variant.timing)}
    told |= {"same_rows": variant.same_rows, "counterexamples": variant.counterexamples}
    return told | {"figures": _side_figures(variant.side)}


def _side_figures(side: Side) -> dict[str, Any]:
    if side.failure:
        return asdict(side.failure)
    told = asdict(side.figures) if side.figures else {}
    cold = {"cold": asdict(side.cold)} if side.cold else {}
    return {**told, **cold, "locks": side.locks, "runs_ms": [round(ms, 3) for ms in side.runs_ms]}


def plans(results: Iterable[QueryResult]) -> list[dict[str, Any]]:
    """Every plan that was kept, masked, as `plan_pages` takes them."""
    return [
        {
            "query": result.name,
            "side": way,
            "title": f"{result.name}, {way}: {result.query.description}",
            "sql": sql,
            "plan": side.plan,
        }
        for result in results
        for way, side, sql in _ways(result)
        if side.plan is not None
    ]


def _ways(result: QueryResult) -> Iterator[tuple[str, Side, str]]:
    """Each way the query was asked: its name, the side, the statement as the workload writes it."""
    asked = result.query.sql_partitioned or result.query.sql
    yield "original", result.original, result.query.sql
    yield "partitioned", result.partitioned, asked
    if result.generic:
        yield "generic", result.generic.side, asked
    for each in result.rewrites:
        yield each.name, each.side, each.sql


# For reading


_READS = {
    "none": "none",
    "one": "one",
    "some": "some",
    "all": "every one",
    "routed": "its own",
    "unknown": "not known",
}
_WHEN = {"plan": "when it is planned", "run": "when it runs", "": None}


def foreseen_table(found: Sequence[Foreseen]) -> Table:
    """A line a query: which partitions its text lets it do without, when that is known, and why."""
    return Table(
        ["query", Column("reads partitions", "text"), Column("of", "count"), Column("known", "text"), "why"],
        [
            (
                each.query.name,
                _READS[each.foresight.reads]
                if each.partitions is None
                else f"{each.partitions:,} ({_READS[each.foresight.reads]})",
                each.there,
                _WHEN[each.foresight.when],
                each.foresight.because,
            )
            for each in found
        ],
        caption="By the text alone, for the values of the workload: no partition was asked, and none need be there.",
    )


def foreseen_figures(found: Iterable[Foreseen]) -> list[dict[str, Any]]:
    """What the texts tell, as JSON types, for the record."""
    return [
        {
            "query": each.query.name,
            "reads": each.foresight.reads,
            "when": each.foresight.when,
            "partitions": each.partitions,
            "of": each.there,
            "because": each.foresight.because,
        }
        for each in found
    ]


def overview(results: Sequence[QueryResult]) -> Table:
    """A line a query: times, ratio with its interval, blocks, partitions read, the verdict and why."""
    pairs = min((result.timing.pairs for result in results if result.timing), default=0)
    return Table(
        [
            "query",
            Column("verdict", "verdict"),
            Column("times as long", "text"),
            Column("95 % sure", "text"),
            "original ms",
            "partitioned ms",
            "blocks",
            "blocks partitioned",
            Column("partitions read", "text"),
        ],
        [_line(result) for result in results],
        caption=f"Planning and execution on a warm cache, both tables in turn, {pairs} pairs or more a query.",
    )


def _line(result: QueryResult) -> tuple[object, ...]:
    before, after, timing = result.original.figures, result.partitioned.figures, result.timing
    return (
        result.name,
        result.verdict,
        timing and f"{timing.ratio:.2f}",
        timing and f"{timing.low:.2f} to {timing.high:.2f}",
        timing and round(timing.before_ms, 3),
        timing and round(timing.after_ms, 3),
        before and _blocks(before),
        after and _blocks(after),
        f"{after.touched} of {after.partitions}" if after else None,
    )


def reasons(results: Sequence[QueryResult]) -> Table:
    """A line a query: why it is as fast as it is, and what makes it faster."""
    return Table(
        ["query", Column("verdict", "verdict"), "why", "what to do"],
        [(result.name, result.verdict, advice.why(result), advice.what_to_do(result)) for result in results],
    )


def rewrites(results: Sequence[QueryResult]) -> Table:
    """A line each rewritten statement that was tried: against the original, its rows compared, what speaks against it."""
    return Table(
        [
            "query",
            "rewrite",
            Column("verdict", "verdict"),
            Column("times as long", "text"),
            Column("95 % sure", "text"),
            Column("partitions read", "text"),
            Column("same rows", "text"),
            Column("rows against it", "count"),
            Column("statement", "sql"),
        ],
        [_tried(result, each) for result in results for each in result.rewrites],
        caption="Each was run in the same turns as the query. Rows against it are those of the whole table that it would answer otherwise.",
    )


def _tried(result: QueryResult, each: Variant) -> tuple[object, ...]:
    figures, timing = each.side.figures, each.timing
    return (
        result.name,
        each.name,
        judged(timing),
        timing and f"{timing.ratio:.2f}",
        timing and f"{timing.low:.2f} to {timing.high:.2f}",
        f"{figures.touched} of {figures.partitions}" if figures else None,
        {True: "yes", False: "no", None: None}[each.same_rows],
        each.counterexamples,
        each.sql,
    )


def cold(results: Sequence[QueryResult]) -> Table:
    """A line a query that was asked on empty shared buffers: one run of either table."""
    rows = []
    for result in results:
        before, after = result.original.cold, result.partitioned.cold
        if before and after:
            rows.append((result.name, before.total_ms, after.total_ms, before.read_blocks, after.read_blocks))
    return Table(
        ["query", "original ms", "partitioned ms", "blocks read", "blocks read partitioned"],
        rows,
        caption="One run each on empty shared buffers; the operating system's cache was as it was.",
    )


def pruning(results: Sequence[QueryResult]) -> Table:
    """A line a query: partitions planned and read, for a plan of its own and for a generic one, locks, the plan's shape."""
    return Table(
        [
            "query",
            "partitions",
            "planned",
            "read",
            "generic: planned",
            "generic: dropped at start",
            "generic: read",
            "locks",
            "locks on the original",
            "planning ms",
            "plan",
        ],
        [_pruned(result) for result in results if result.partitioned.figures],
        caption="A plan is made for the values at hand, or once for any (generic); its eight digits stay the same while it does.",
    )


def _pruned(result: QueryResult) -> tuple[object, ...]:
    own, generic = result.partitioned.figures, result.generic.side.figures if result.generic else None
    assert own is not None
    return (
        result.name,
        own.partitions,
        own.planned,
        own.touched,
        generic and generic.planned,
        generic and generic.removed,
        generic and generic.touched,
        result.partitioned.locks,
        result.original.locks,
        round(own.planning_ms, 2),
        result.partitioned.shape,
    )


def plan_table(result: QueryResult, way: str) -> Table:
    """The plan of one way to ask ("original", "partitioned", "generic" or a rewritten one), a line a node.

    Raises AtlasError for another.
    """
    ways = {name: side for name, side, _ in _ways(result)}
    if way not in ways:
        raise AtlasError(
            what="There is no such side.",
            why="A query is measured in several ways; each has its plan.",
            next="Write one of: " + ", ".join(ways) + ".",
        )
    side = ways[way]
    caption = f"{result.name}, {way}"
    if side.plan is None:
        return Table(["node", "relation"], [], caption + (f": {side.failure.what}" if side.failure else ""))
    return queryplan.plan_table(side.plan, side.leaves, caption)
