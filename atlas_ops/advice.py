"""Why a query is as fast as it is on the partitioned table, and what to do about it: sentences out of the figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from atlas_ops.comparison import QueryResult, Side, Variant, judged
from atlas_ops.queryplan import PlanFigures, sorts

MANY_BLOCKS = 1.2
"""Blocks beyond this multiple are told: they are what a cold cache would have to read."""
MOST_NAMED = 3


def why(result: QueryResult) -> str:
    """What the plans tell about the verdict, in a sentence or a few."""
    return " ".join(_reasons(result))


def what_to_do(result: QueryResult) -> str:
    """What makes it faster, or that nothing has to be done."""
    return " ".join(_cures(result)) or "Nothing."


def _reasons(result: QueryResult) -> Iterator[str]:
    for where, side in (("the original", result.original), ("the partitioned table", result.partitioned)):
        if side.failure:
            state = f" ({side.failure.sqlstate})" if side.failure.sqlstate else ""
            yield f"On {where}: {side.failure.what}{state}"
    before, after = result.original.figures, result.partitioned.figures
    if before is None or after is None:
        return
    if result.same_rows is False:
        yield (
            "Not the same answer from both tables: see 03 Verify counts, or drain first; with a LIMIT, rows that"
            " the ORDER BY does not tell apart may differ."
        )
    yield _pruning(result, after)
    if result.as_expected is False:
        yield f"Expected were at most {result.query.prunes_to}."
    yield from _cost(result, before, after)
    if result.partitioned.unindexed:
        yield f"{_some(result.partitioned.unindexed)} is read row by row: it lacks the index that the others have."
    if result.generic:
        yield from _generic(result.generic, after)


def _pruning(result: QueryResult, after: PlanFigures) -> str:
    touched, there = after.touched, after.partitions
    reads = f"Reads {touched} of {there} partitions"
    if touched >= there:
        return f"Reads all {there} partitions: {_unbounded(result, after)}."
    if after.never_executed and not after.bounds_key:
        return f"{reads} and has enough, {after.never_executed} more are planned: {_unbounded(result, after)}."
    if after.planned > touched:
        return f"{reads}; {after.planned} are planned, the rest drops out as it runs."
    return f"{reads}."


def _unbounded(result: QueryResult, after: PlanFigures) -> str:
    """Why nothing was pruned: what the text tells, or else what the plan does."""
    if result.foreseen and result.foreseen.reads == "all":
        return result.foreseen.because.split(". ")[0].removesuffix(
            "."
        )  # what may be enough before the last one was measured
    return f"{result.partition_key} is " + ("bounded, but none drops out" if after.bounds_key else "not bounded")


def _cost(result: QueryResult, before: PlanFigures, after: PlanFigures) -> Iterator[str]:
    """What the time went into, where there is more of it."""
    slower = result.verdict == "slower"
    more_planning, more = after.planning_ms - before.planning_ms, after.total_ms - before.total_ms
    if slower and more_planning > more / 2:
        yield f"Most of the difference is planning: {after.planning_ms:.1f} ms instead of {before.planning_ms:.1f}."
    blocks = (before.hit_blocks + before.read_blocks, after.hit_blocks + after.read_blocks)
    if slower and blocks[1] > MANY_BLOCKS * blocks[0] and after.touched > 1:
        yield f"Descends an index in each partition: {blocks[1]:,} blocks instead of {blocks[0]:,}."
    if after.temp_blocks > before.temp_blocks:
        yield "It sorts or hashes on disk."
    elif slower and _sorts(result.partitioned) > _sorts(result.original):
        yield "It sorts what the original reads in order."
    if result.timing is not None and not result.timing.narrow and result.verdict == "same":
        yield f"The times waver: the ratio may be {result.timing.low:.2f} to {result.timing.high:.2f}."


def _generic(generic: Variant, custom: PlanFigures) -> Iterator[str]:
    """What becomes of the query once its plan is made for any value: PREPARE, or a driver that prepares after some calls."""
    figures = generic.side.figures
    if figures is None:
        return
    if figures.touched > custom.touched:
        yield f"A generic plan reads {figures.touched} partitions instead of {custom.touched}."
    elif figures.removed:
        yield f"A generic plan drops {figures.removed} of its {figures.planned} partitions as it starts."


def _cures(result: QueryResult) -> Iterator[str]:
    before, after, timing = result.original.figures, result.partitioned.figures, result.timing
    if before is None or after is None or timing is None:
        if result.partitioned.failure:
            yield "Write the statement that the partitioned table needs as sql_partitioned, and change the application with it."
        return
    if result.partitioned.unindexed:
        yield f"Create the missing index on {_some(result.partitioned.unindexed)}; 04 Inspect partitions names it."
    rewrite = result.rewrite
    if rewrite and rewrite.timing:
        yield (
            f"{_sentence(rewrite.description)} ({rewrite.name}): {rewrite.timing.ratio:.2f} times the original instead of"
            f" {timing.ratio:.2f} ({rewrite.timing.low:.2f} to {rewrite.timing.high:.2f}), {judged(rewrite.timing)}."
        )
    generic, prepared = result.generic, result.prepared
    if result.verdict == "slower" and prepared and generic and generic.timing and generic.timing.high < timing.low:
        yield (
            f"Prepared, with plan_cache_mode = force_generic_plan for its role, it takes {prepared.after_ms:.2f} ms instead of"
            f" {timing.after_ms:.2f}: {prepared.ratio:.2f} times the original prepared alike."
        )
    if result.verdict == "slower" and result.index:
        yield f"An index that is read in order and can stop early: {result.index}."
    against = {each.counterexamples: each.name for each in reversed(result.rewrites) if each.counterexamples}
    for count, rewritten in against.items():
        yield f"{rewritten} is no way: {count:,} rows of the data would be answered otherwise."


def _sorts(side: Side) -> int:
    return sorts(side.plan) if side.plan else 0


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return f"{shown} and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else shown


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")
