"""Charts of what queries do on the original and on the partitioned table.

A line a query, its name at the left, what it came to in words at the right. Blue is better, red is worse, and each is
also a shape or a word: nobody has to tell colours apart. A query that failed on either side is in no picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_ops.drawing import PALE, Chart, Row, Spec, coloured, finished, milliseconds, records, stacked
from atlas_ops.tables import AMBER, BLUE, GREY, RED, count

PROMISED = 0.6
"""The guide promises at least 40 % less time: this much of it is left."""

_MOST = 1_000.0  # times as long, or as short: beyond it a mark stands at the edge
_TICKS = (0.001, 0.01, 0.1, 1, 10, 100, 1000)
_BETWEEN = (0.2, 0.5, 2, 5)  # more ticks, where there is room for them
_SAME_SHARE = 0.10  # of the original's blocks, or
_SAME_BLOCKS = 2  # blocks: a page or two of an index are no difference that anybody waits for
_A_TENTH = 0.1  # from there on down a fraction says more than per cent
_PLOT = 380  # CSS pixels, with 280 for the names and 220 for the words
_STEP = 22
_TWO = 2  # digits


def query_ratios(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """Time on the partitioned table over time on the original: (query, ratio, low, high, verdict), sorted by ratio.

    `low` and `high` bound the ratio's confidence interval; where either is None there is none to show. The verdict
    is faster, same, slower, or failed: then the query is left out and counted. The axis is a log axis, so that
    twice as fast and twice as slow are equally far from 1; beyond 1,000 a mark stands at the edge.
    """
    given = records(rows, ("query", "ratio", "low", "high", "verdict"))
    shown = [row for row in given if row[4] != "failed" and _positive(row[1])]
    values = _told_apart([_ratio(*row) for row in sorted(shown, key=lambda row: float(row[1]))])
    number = {verdict: sum(row[4] == verdict for row in shown) for verdict in ("faster", "slower")}
    title = (
        f"{number['faster']} of {_queries(len(values))} faster, {number['slower']} slower on the partitioned table"
        if values
        else "No query was measured on both tables"
    )
    kept = sum(value["verdict"] == "faster" and value["most"] <= PROMISED for value in values)
    under = [f"At least 40 % less time, as the guide promises: {kept or 'none'} of {len(values)}"] if values else []
    failed = len(given) - len(shown)
    under += [f"{_queries(failed)} failed, and {'is' if failed == 1 else 'are'} not shown"] if failed else []
    return _ratio_dots(title, under, values)


def query_buffers(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """Blocks of 8 kB that each query asks for, in the cache or on disk: (query, original, partitioned).

    Sorted by the share that is left. Within 10 %, or two blocks, is as many. The axis is logarithmic but for its first block, so that
    0 has a place on it.
    """
    given = records(rows, ("query", "original", "partitioned"))
    shown = sorted(
        (row for row in given if row[1] is not None and row[2] is not None), key=lambda row: (row[2] + 1) / (row[1] + 1)
    )
    values = _told_apart([_blocks(str(query), int(before), int(after)) for query, before, after in shown])
    number = {kind: sum(value["kind"] == kind for value in values) for kind in ("fewer", "more")}
    title = (
        f"{number['fewer']} of {_queries(len(values))} read fewer blocks on the partitioned table, "
        f"{number['more']} read more"
    )
    return _block_pairs(title, values)


def planning_and_execution(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """Where the time goes: (query, side, planning_ms, execution_ms), the sides of a query below each other.

    Queries and sides stand in the order given. Each query has a scale of its own, whose end is its longest side: what
    takes 0.2 ms is as legible as what takes 2 s, and the times are written beside.
    """
    sides: dict[str, list[tuple[str, float, float]]] = {}
    for query, side, planning, execution in records(rows, ("query", "side", "planning_ms", "execution_ms")):
        if planning is not None and execution is not None:
            name, number = str(query), 1
            while any(known == side for known, _, _ in sides.get(name, ())):  # another query of this name
                number += 1
                name = f"{query} ({number})"
            sides.setdefault(name, []).append((str(side), max(float(planning), 0.0), max(float(execution), 0.0)))
    values = [value for query, found in sides.items() for value in _shares(query, found)]
    longer: dict[str, list[bool]] = {}  # of each side, whether planning takes longer
    for found in sides.values():
        for side, planning, execution in found:
            longer.setdefault(side, []).append(planning > execution)
    counts = [f"{sum(each)} of {len(each)} {_ON.get(side, side)}" for side, each in longer.items()]
    said = ", ".join(counts[:2])  # the two tables; of generic plans and rewrites the words beside tell
    return _time_shares(f"Planning takes longer than execution: {said or 'no query was measured'}", values)


def partitions_touched(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """How many partitions each query reads: rows of (query, touched, total)."""
    values = [
        {
            "query": str(query),
            "touched": int(touched),
            "total": int(total),
            "kind": "reads all" if total and touched >= total else "pruned",
            "text": f"{touched} of {total}",
        }
        for query, touched, total in records(rows, ("query", "touched", "total"))
    ]
    pruned = sum(v["kind"] == "pruned" for v in values)
    return _touched_bars(f"{pruned} of {_queries(len(values))} read only some of the partitions", values)


# --- rows to values ---

_ON: Mapping[str, str] = {"original": "on the original", "partitioned": "on the partitioned table"}


def _queries(n: int) -> str:
    return "1 query" if n == 1 else f"{count(n)} queries"


def _positive(value: Any) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _told_apart(values: list[Spec]) -> list[Spec]:
    """Two queries of one name, in the workloads of two tables, keep a line each."""
    seen: dict[str, int] = {}
    for value in values:
        seen[value["query"]] = number = seen.get(value["query"], 0) + 1
        value["query"] += f" ({number})" if number > 1 else ""
    return values


def _ratio(query: Any, ratio: Any, low: Any, high: Any, verdict: Any) -> Spec:
    """A line of query_ratios. A bound that is 0 or infinite, as bounds of few runs may be, goes to the edge."""
    exact, known = float(ratio), low is not None and high is not None and not math.isnan(low + high)
    kind = "about the same" if verdict == "same" else str(verdict)
    between = f" ({_times(low)} to {_times(high)})" if known else ""
    certain = verdict in ("faster", "slower")
    text = _left(exact, "less time", "of the time", "the time") if certain else f"{kind}, {_times(exact)}×"
    ends = {"low": _edged(low), "high": _edged(high)} if known else {}
    said = f"{_times(exact)}{between}, {kind}"
    return {
        **{"query": str(query), "verdict": str(verdict), "exact": exact, "ratio": _edged(exact), "kind": kind},
        "most": float(high) if known else exact,  # what the promise is held against: the whole interval
        **{"text": text, "said": said, **ends},
    }


def _edged(ratio: float) -> float:
    return min(max(float(ratio), 1 / _MOST), _MOST)


def _times(ratio: float) -> str:
    """A factor with the digits that a measurement bears: 0.0012, 0.32, 1.04, 2.5, 31, 1,200."""
    if not _positive(ratio):
        return f"{ratio:g}"
    digits = 0 if ratio >= 10 else 1 if ratio >= _TWO else _TWO  # noqa: PLR2004
    return f"{ratio:,.{max(digits, 1 - math.floor(math.log10(ratio)))}f}"


def _blocks(query: str, before: int, after: int) -> Spec:
    near = abs(after - before) <= max(_SAME_SHARE * before, _SAME_BLOCKS)
    kind = "as many" if near else "fewer" if after < before else "more"
    words = kind if near or not before else _left(after / before, "fewer", "of them", "as many")
    text = f"{count(before)} → {count(after)}, {words}"
    return {"query": query, "original": before, "partitioned": after, "kind": kind, "text": text}


def _left(ratio: float, less: str, part: str, multiple: str) -> str:
    """A ratio in words: 68 % less, 1/31 of it, 2.5× it."""
    if ratio >= 1:
        return f"{_times(ratio)}× {multiple}"
    return f"{round(100 * (1 - ratio))} % {less}" if ratio >= _A_TENTH or not ratio else f"1/{_times(1 / ratio)} {part}"


def _shares(query: str, found: Sequence[tuple[str, float, float]]) -> list[Spec]:
    """The two parts of each side of a query, as shares of the query's longest side."""
    longest = max(planning + execution for _, planning, execution in found) or 1.0
    values = []
    for side, planning, execution in found:
        text = f"{side}: {milliseconds(planning)} + {milliseconds(execution)}"
        where = {"query": query, "lane": f"{query}: {side}"}
        values.append({**where, "part": "planning", "from": 0.0, "to": planning / longest, "text": text})
        values.append(
            {**where, "part": "execution", "from": planning / longest, "to": (planning + execution) / longest}
        )
    return values


# --- values to pictures ---


def _ratio_dots(title: str, under: Sequence[str], values: Sequence[Spec]) -> Chart:
    import altair as alt  # noqa: PLC0415 - a second that only a chart needs

    if not values:
        return stacked(title, [], under)
    edges = [value[key] for value in values for key in ("ratio", "low", "high") if key in value]
    domain = [min(0.5, *edges) / 1.15, max(2, *edges) * 1.15]
    scale = alt.Scale(type="log", domain=domain, nice=False)
    x = alt.X(
        "ratio:Q",
        title="time on the partitioned table ÷ time on the original (log scale)",
        scale=scale,
        axis=alt.Axis(values=_ticks(*domain), labelExpr=_FRACTION),
    )
    y = _lines(values)
    base = alt.Chart(alt.Data(values=list(values)))
    tones = {value["kind"]: {"faster": BLUE, "slower": RED}.get(value["kind"], GREY) for value in values}
    shapes = [{"faster": "triangle-left", "slower": "triangle-right"}.get(kind, "circle") for kind in tones]
    legend = alt.Legend(title=None, orient="top", offset=18)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(tones), range=list(tones.values())), legend=legend)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=list(tones), range=shapes), legend=legend)
    ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    dots = base.mark_point(filled=True, size=90, opacity=1).encode(x=x, y=y, color=colour, shape=shape)
    marks = [
        *_line_at(1, "as long", scale, "left", [], 1.5),
        *_line_at(PROMISED, "guide: 40 % less", scale, "right", [4, 3], 1),
        ends.encode(x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, color=colour),
        dots,
        _beside(base, y),
    ]
    drawing = alt.layer(*marks).properties(width=_PLOT, height=alt.Step(_STEP))
    said = [*under, *(f"{value['query']}: {value['said']}" for value in values)]
    return finished(drawing, title, said, subtitle=under)


_FRACTION = "datum.value < 1 ? '1/' + format(1 / datum.value, ',') : format(datum.value, ',')"


def _line_at(at: float, words: str, scale: Any, align: str, dash: Sequence[int], width: float) -> list[Any]:
    """A vertical line and, above the plot, what it stands for."""
    import altair as alt  # noqa: PLC0415

    mark = alt.Chart(alt.Data(values=[{"ratio": at, "text": words}]))
    x = alt.X("ratio:Q", scale=scale)
    note = mark.mark_text(color=GREY, align=align, baseline="bottom", dx=-3 if align == "right" else 3, dy=-3)
    return [
        mark.mark_rule(color=GREY, strokeDash=list(dash), strokeWidth=width).encode(x=x),
        note.encode(x=x, y=alt.value(0), text="text:N"),
    ]


def _ticks(low: float, high: float) -> list[float]:
    wide = high / low > 500  # noqa: PLR2004 - from there on the words would touch
    return sorted(tick for tick in (*_TICKS, *(() if wide else _BETWEEN)) if low <= tick <= high)


def _block_pairs(title: str, values: Sequence[Spec]) -> Chart:
    import altair as alt  # noqa: PLC0415

    if not values:
        return stacked(title, [], [])
    most = max(max(value["original"], value["partitioned"]) for value in values)
    ticks = [0, *(10**power for power in range(len(str(most)) + 1) if 10**power <= max(most, 1) * 1.1)]
    scale = alt.Scale(type="symlog", constant=1, domain=[0, max(most, 1) * 1.3], nice=False)
    axis = alt.Axis(values=ticks, labelExpr="format(datum.value, '~s')")
    x = alt.X("original:Q", title="blocks of 8 kB, from the cache or from disk (log scale)", scale=scale, axis=axis)
    after = alt.X("partitioned:Q", scale=scale)
    y = _lines(values)
    base = alt.Chart(alt.Data(values=list(values)))
    tones = {kind: tone for kind, tone in _BLOCK_TONES.items() if kind in {value["kind"] for value in values}}
    colour = coloured("kind", tones)
    ways = base.mark_rule(strokeWidth=2).encode(x=x, x2="partitioned:Q", y=y, color=colour)
    original = base.mark_point(filled=False, size=60, color=GREY, strokeWidth=1.5).encode(x=x, y=y)
    partitioned = base.mark_point(filled=True, size=80, opacity=1).encode(x=after, y=y, color=colour)
    drawing = alt.layer(ways, original, partitioned, _beside(base, y)).properties(width=_PLOT, height=alt.Step(_STEP))
    under = ["○ original → ● partitioned"]
    return finished(drawing, title, [f"{value['query']}: {value['text']}" for value in values], subtitle=under)


_BLOCK_TONES: Mapping[str, str] = {"fewer": BLUE, "as many": GREY, "more": RED}


def _time_shares(title: str, values: Sequence[Spec]) -> Chart:
    import altair as alt  # noqa: PLC0415

    if not values:
        return stacked(title, [], [])
    base = alt.Chart(alt.Data(values=list(values)))
    y = _lanes(values)
    x = alt.X(
        "from:Q",
        title="share of the query's longest side: each query has a scale of its own",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", tickCount=4),
    )
    colour = coloured("part", {"planning": AMBER, "execution": BLUE})
    bars = base.mark_bar().encode(x=x, x2="to:Q", y=y, color=colour)
    words = _beside(base.transform_filter("datum.part == 'planning'"), y)
    drawing = (bars + words).properties(width=_PLOT, height=alt.Step(15))
    return finished(drawing, title, [f"{v['query']}, {v['text']}" for v in values if "text" in v])


def _lanes(values: Sequence[Spec]) -> Any:
    """The vertical axis of queries with several sides: a lane a side, an empty one after each query, the name at its first."""
    import altair as alt  # noqa: PLC0415

    first: dict[str, str] = {}
    bands: list[str] = []
    for value in values:
        if value["query"] not in first:
            bands += [f"space {len(bands)}"] if bands else []
            first[value["query"]] = value["lane"]
        bands += [value["lane"]] if value["lane"] not in bands else []
    names = {lane: query for query, lane in first.items()}
    axis = alt.Axis(values=list(names), labelExpr=f"({json.dumps(names)})[datum.value]", labelLimit=280, ticks=False)
    return alt.Y("lane:N", title=None, sort=bands, axis=axis, scale=alt.Scale(domain=bands, paddingInner=0.12))


def _touched_bars(title: str, values: Sequence[Spec]) -> Chart:
    import altair as alt  # noqa: PLC0415

    if not values:
        return stacked(title, [], [])
    base = alt.Chart(alt.Data(values=list(values)))
    y = _lines(values)
    most = max(v["total"] for v in values)
    scale = alt.Scale(domain=[0, max(most, 1)], nice=False)
    axis = alt.Axis(tickMinStep=1, tickCount=6)
    whole = base.mark_bar(height=12, color=PALE, opacity=0.35).encode(x=alt.X("total:Q", scale=scale), y=y)
    tones = coloured("kind", {"pruned": BLUE, "reads all": AMBER})
    read = base.mark_bar(height=12).encode(
        x=alt.X("touched:Q", title="partitions read", scale=scale, axis=axis), y=y, color=tones
    )
    drawing = (whole + read + _beside(base, y)).properties(width=420, height=alt.Step(_STEP))
    return finished(drawing, title, [f"{v['query']}: {v['text']}" for v in values])


def _lines(values: Sequence[Spec]) -> Any:
    """The vertical axis: a line a query, in the order of the rows."""
    import altair as alt  # noqa: PLC0415

    queries = list(dict.fromkeys(value["query"] for value in values))
    return alt.Y("query:N", title=None, sort=queries, axis=alt.Axis(labelLimit=280))


def _beside(base: Any, y: Any) -> Any:
    """The words at the right of a chart, in a column of their own: they cover no mark and no name."""
    import altair as alt  # noqa: PLC0415

    return base.mark_text(align="left", dx=8, color=GREY).encode(x=alt.value("width"), y=y, text="text:N")
