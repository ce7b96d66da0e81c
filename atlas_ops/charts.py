"""Charts of tables and their partitions, and of the waits at an exchange; those of queries are in `query_charts`.

Each maker takes plain rows, already aggregated by SQL, and returns a `Chart`; its title states what the
picture shows.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas_ops.drawing import PALE, WIDTH, Chart, Row, Spec, coloured, finished, milliseconds, plural, records, stacked
from atlas_ops.tables import AMBER, BLUE, GREY, RED, count, size

Moment = tuple[float, float, bool]
"""When a statement was sent, how long it took in ms, whether it failed."""
Span = tuple[str, float, float]
"""What lasted from when until when, in seconds."""

_MONTH = re.compile(r"(?<!\d)(\d{4})\D?(0[1-9]|1[0-2])(?!\d)")
_BEFORE, _AFTER, _NO_KEY = "before", "after", "no key"
_OUTSIDE = (_BEFORE, _AFTER, _NO_KEY)
_MOMENTS = 380  # of a chart over time: two pixels each
_AROUND_S = 0.25  # drawn before and after an exchange


def rows_per_month(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """How many rows each month holds: rows of (table, label, count), one panel a table.

    `label` is 'YYYY-MM', or 'before', 'after' (outside the planned bounds) or 'no key' (NULL partition
    key), which are drawn in another colour and carry their number, however small. Months without rows
    inside the range show as gaps.
    """
    panels, sentences = [], []
    for table, group in _by_table(rows, ("table", "label", "count")):
        counts = _sums((label, n) for label, n in group)
        labels = _filled(counts)
        values = [
            {
                "label": label,
                "rows": counts.get(label, 0),
                "kind": "outside" if label in _OUTSIDE else "month",
            }
            for label in labels
        ]
        months = sum(1 for label in labels if label not in _OUTSIDE and counts.get(label, 0))
        outside = [f"{count(counts[x])} {_outside_words(x)}" for x in _OUTSIDE if counts.get(x)]
        sentence = ", ".join([f"{count(sum(counts.values()))} rows in {plural(months, 'month')}", *outside])
        sentences.append(f"{table}: {sentence}")
        panels.append(_month_bars(table, sentence, labels, values))
    return stacked("How many rows does each month hold?", panels, sentences)


def both_sides(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """Original and partitioned side by side: rows of (table, label, original, partitioned), one panel a
    table.

    A month that differs is red and labelled with the difference (partitioned minus original).
    """
    panels, sentences, differing = [], [], 0
    for table, group in _by_table(rows, ("table", "label", "original", "partitioned")):
        sides = {str(label): (int(a or 0), int(b or 0)) for label, a, b in group}
        labels = _filled(sides)
        different = {label: b - a for label, (a, b) in sides.items() if a != b}
        differing += len(different)
        values = []
        for label in labels:
            a, b = sides.get(label, (0, 0))
            kind = "differs" if label in different else "partitioned"
            text = f"{different[label]:+,}" if label in different else ""
            values += [
                {
                    "label": label,
                    "side": "original",
                    "rows": a,
                    "kind": "original",
                    "text": "",
                    "top": max(a, b),
                },
                {
                    "label": label,
                    "side": "partitioned",
                    "rows": b,
                    "kind": kind,
                    "text": text,
                    "top": max(a, b),
                },
            ]
        sentence = _difference(sum(a for a, _ in sides.values()), sum(b for _, b in sides.values()), different)
        sentences.append(f"{table}: {sentence}")
        panels.append(_paired_bars(table, sentence, labels, values))
    title = (
        f"{plural(differing, 'month')} {'differs' if differing == 1 else 'differ'} between the two tables"
        if differing
        else "Every month holds as many rows on both sides"
    )
    return stacked(title, panels, sentences)


def partition_sizes(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """Bytes on disk: rows of (table, partition, heap_bytes, index_bytes), stacked, one panel a table.

    Partitions are drawn in the order given. Each panel has its own unit, so that a small table can be read
    next to a large one.
    """
    panels, sentences = [], []
    for table, group in _by_table(rows, ("table", "partition", "heap_bytes", "index_bytes")):
        heap, index = sum(int(r[1]) for r in group), sum(int(r[2]) for r in group)
        unit, divisor = unit_of(max((int(r[1]) + int(r[2]) for r in group), default=0))
        values = [
            {"label": label, "part": part, "size": n / divisor, "order": order}
            for label, (_, *parts) in zip(_short_names(table, [r[0] for r in group]), group, strict=True)
            for order, (part, n) in enumerate(zip(("rows", "indexes"), parts, strict=True))
        ]
        sentence = f"{size(heap + index)} in {plural(len(group), 'partition')}, {size(index)} of it indexes"
        sentences.append(f"{table}: {sentence}")
        panels.append(_size_bars(table, sentence, list(dict.fromkeys(v["label"] for v in values)), values, unit))
    return stacked("How large is each partition?", panels, sentences)


def runway(rows: Iterable[Sequence[Any] | Row], as_of: dt.date | dt.datetime | str) -> Chart:
    """How far the partitions reach: rows of (table, partition, lower, upper, kind), one line a table.

    `kind` is 'holds rows', 'empty', 'default' or 'gap' (a range that no partition covers). Bounds are
    dates, datetimes or ISO text; a default partition has none, and stands at the right end. `as_of` is the
    day that is marked: what lies to its right is the runway.
    """
    today = _day(as_of)
    values: list[Spec] = []
    sentences: list[str] = []
    groups = _by_table(rows, ("table", "partition", "lower", "upper", "kind"))
    ends = [_day(r[2]) for _, group in groups for r in group if r[2] is not None]
    horizon = max([today, *ends])
    for table, group in groups:
        bounded = [(p, _day(lo), _day(up), kind) for p, lo, up, kind in group if lo is not None and up is not None]
        values += [
            {"table": table, "partition": p, "lower": lo.isoformat(), "upper": up.isoformat(), "kind": kind}
            for p, lo, up, kind in bounded
        ]
        values += [
            {
                "table": table,
                "partition": p,
                "lower": (horizon + dt.timedelta(days=20)).isoformat(),
                "upper": (horizon + dt.timedelta(days=75)).isoformat(),
                "kind": "default",
            }
            for p, _, _, kind in group
            if kind == "default"
        ]
        sentences.append(f"{table} {_reach(today, bounded)}")
    return _timeline(values, sentences, today)


def archive_timeline(rows: Iterable[Sequence[Any] | Row]) -> Chart:
    """What an archive would take: rows of (table, partition, bytes, fate), one panel a table.

    `fate` is 'keep' or 'archive'.
    """
    panels, sentences = [], []
    for table, group in _by_table(rows, ("table", "partition", "bytes", "fate")):
        unit, divisor = unit_of(max((int(r[1]) for r in group), default=0))
        labels = _short_names(table, [r[0] for r in group])
        values = [
            {"label": label, "size": int(n) / divisor, "fate": fate}
            for label, (_, n, fate) in zip(labels, group, strict=True)
        ]
        gone = [int(n) for _, n, fate in group if fate == "archive"]
        total = size(sum(int(r[1]) for r in group))
        sentence = f"archive {len(gone)} of {plural(len(group), 'partition')}, {size(sum(gone))} of {total}"
        sentences.append(f"{table}: {sentence}")
        panels.append(_fate_bars(table, sentence, labels, values, unit))
    return stacked("Which partitions are old enough to archive?", panels, sentences)


def stalls(rows: Iterable[tuple[str, Sequence[Moment], Sequence[Span], Sequence[Span]]]) -> Chart:
    """How long the clients of a rehearsal waited: (table, statements, stages, holds), one panel a table and one an exchange.

    A statement is (seconds since the beginning, ms until it was answered, whether it failed); a stage or a hold is (name, from, to) in
    seconds. Of the statements that are alike the slowest are drawn; around an exchange all of them.
    """
    panels, sentences = [], []
    for table, statements, stages, holds in rows:
        inside = {name: _longest(statements, low, high) for name, low, high in holds}
        said = ", ".join(f"{milliseconds(longest)} at the {name.replace(' ', '-')}" for name, longest in inside.items())
        median = sorted(ms for _, ms, _ in statements)[len(statements) // 2] if statements else 0.0
        failed = sum(failed for _, _, failed in statements)
        sentence = f"longest wait {said or 'unknown'}; median {milliseconds(median)}; {count(failed)} failed"
        sentences.append(f"{table}: {sentence}")
        panels.append(_waits_over_time(table, sentence, statements, stages, holds))
        panels += [_waits_around(statements, holds)] if holds else []
    return stacked("How long did a client wait?", panels, sentences)


# --- rows to values ---


def _by_table(rows: Iterable[Sequence[Any] | Row], fields: Sequence[str]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The rows of each table without its name, tables in the order of their first row."""
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for table, *rest in records(rows, fields):
        groups.setdefault(str(table), []).append(tuple(rest))
    return list(groups.items())


def _sums(pairs: Iterable[tuple[Any, Any]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for label, n in pairs:
        sums[str(label)] = sums.get(str(label), 0) + int(n)
    return sums


def _filled(labels: Iterable[str]) -> list[str]:
    """Labels in the order of time, with the months that are missing inside their range."""
    given = list(labels)
    months = sorted(label for label in given if _MONTH.fullmatch(label))
    others = [label for label in given if label not in _OUTSIDE and not _MONTH.fullmatch(label)]
    if months:
        first, last = (int(m[:4]) * 12 + int(m[-2:]) - 1 for m in (months[0], months[-1]))
        months = [f"{n // 12:04d}-{n % 12 + 1:02d}" for n in range(first, last + 1)]
    head, tail = [x for x in (_BEFORE,) if x in given], [x for x in (_AFTER, _NO_KEY) if x in given]
    return [*head, *months, *others, *tail]


def _short_names(table: str, partitions: Sequence[Any]) -> list[str]:
    """'2024-01' for messages_2024_01, 'default' for messages_default; whole names where that is ambiguous."""
    names = [str(name) for name in partitions]
    relation = table.rsplit(".", 1)[-1]
    short = []
    for name in names:
        bare = name.rsplit(".", 1)[-1]
        month = _MONTH.search(bare)
        short.append(f"{month[1]}-{month[2]}" if month else bare.removeprefix(relation).strip("_") or bare)
    return short if len(set(short)) == len(short) else names


def _longest(statements: Iterable[Moment], low: float, high: float) -> float:
    """The longest wait of a statement that was under way between the two moments."""
    return max((ms for at, ms, _ in statements if at < high and at + ms / 1000 > low), default=0.0)


def _thinned(statements: Sequence[Moment], end: float) -> list[Moment]:
    """The slowest and the fastest of each of some hundred moments, and every one that failed."""
    shown: dict[int, list[Moment]] = {}
    for one in statements:
        shown.setdefault(int(one[0] / max(end, 1e-9) * _MOMENTS), []).append(one)
    kept = [one for ones in shown.values() for one in {max(ones, key=_wait), min(ones, key=_wait)}]
    return kept + [one for one in statements if one[2] and one not in kept]


def _wait(one: Moment) -> float:
    return one[1]


def unit_of(largest: int) -> tuple[str, int]:
    """The unit, and its bytes, in which the largest value has one to three digits before the point."""
    for power, name in enumerate(("bytes", "kB", "MB", "GB")):
        if largest < 1000 * 1024**power:
            return name, 1024**power
    return "TB", 1024**4


def _day(value: dt.date | dt.datetime | str) -> dt.date:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).date() if value.tzinfo else value.date()
    return value if isinstance(value, dt.date) else dt.date.fromisoformat(value[:10])


def _reach(today: dt.date, bounded: Sequence[tuple[Any, dt.date, dt.date, str]]) -> str:
    """Words for the last day that is covered without a gap from today on."""
    edge = today
    for _, lower, upper, kind in sorted(bounded, key=lambda row: row[1]):
        if kind != "gap" and lower <= edge < upper:
            edge = upper
    if edge == today:
        return f"has no partition for {today.isoformat()}"
    days = (edge - today).days
    return f"is covered up to {edge.isoformat()}, {plural(days, 'day')} from {today.isoformat()}"


def _difference(original: int, partitioned: int, different: Mapping[str, int]) -> str:
    if not different:
        return f"{count(original)} rows on both sides"
    worst = sorted(different, key=lambda label: -abs(different[label]))[:3]
    named = ", ".join(f"{label} {different[label]:+,}" for label in worst)
    more = f" and {len(different) - len(worst)} more" if len(different) > len(worst) else ""
    return f"{count(original)} rows in the original, {count(partitioned)} partitioned: {named}{more}"


def _outside_words(label: str) -> str:
    return "without a key" if label == _NO_KEY else f"{label} the bounds"


# --- values to pictures ---


def _month_bars(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec]) -> Any:
    import altair as alt  # noqa: PLC0415 - a second that only a chart needs

    base = panel(table, sentence, labels, values)
    x, y = along(labels), _rows_axis()
    bars = base.mark_bar().encode(x=x, y=y, color=coloured("kind", {"month": BLUE, "outside": AMBER}, legend=False))
    text = base.mark_text(dy=-6, color=AMBER, fontWeight="bold").encode(x=x, y=y, text=alt.Text("rows:Q", format=","))
    return bars + text.transform_filter("datum.kind == 'outside'")


def _paired_bars(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec]) -> Any:
    import altair as alt  # noqa: PLC0415

    base = panel(table, sentence, labels, values)
    x = along(labels)
    tones = coloured("kind", {"original": PALE, "partitioned": BLUE, "differs": RED})
    bars = base.mark_bar().encode(x=x, y=_rows_axis(), xOffset=alt.XOffset("side:N"), color=tones)
    text = base.mark_text(dy=-6, color=RED, fontWeight="bold").encode(x=x, y=alt.Y("top:Q"), text="text:N")
    return bars + text.transform_filter("datum.text != ''")


def _size_bars(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec], unit: str) -> Any:
    import altair as alt  # noqa: PLC0415

    return (
        panel(table, sentence, labels, values)
        .mark_bar()
        .encode(
            x=along(labels),
            y=alt.Y("sum(size):Q", title=unit, axis=alt.Axis(tickCount=4)),
            color=coloured("part", {"rows": BLUE, "indexes": PALE}),
            order=alt.Order("order:Q"),
        )
    )


def _fate_bars(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec], unit: str) -> Any:
    import altair as alt  # noqa: PLC0415

    return (
        panel(table, sentence, labels, values)
        .mark_bar()
        .encode(
            x=along(labels),
            y=alt.Y("size:Q", title=unit, axis=alt.Axis(tickCount=4)),
            color=coloured("fate", {"archive": AMBER, "keep": BLUE}),
        )
    )


def _timeline(values: Sequence[Spec], sentences: Sequence[str], today: dt.date) -> Chart:
    import altair as alt  # noqa: PLC0415

    if not values:
        return stacked("How far do the partitions reach?", [], [])
    tables = list(dict.fromkeys(v["table"] for v in values))
    # UTC: in the reader's own zone the first of a month would fall into the month before.
    x = alt.X("lower:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(format="%b %Y", labelOverlap=True))
    y = alt.Y("table:N", title=None, sort=tables, scale=alt.Scale(paddingInner=0.5, paddingOuter=0.5))
    base = alt.Chart(alt.Data(values=list(values)))
    palette = {"holds rows": BLUE, "empty": PALE, "default": AMBER, "gap": RED}
    tones = coloured("kind", {kind: tone for kind, tone in palette.items() if kind in {v["kind"] for v in values}})
    outlined = base.mark_bar(stroke=GREY, strokeWidth=0.5, strokeOpacity=0.6)
    bars = outlined.encode(x=x, x2="upper:T", y=y, color=tones)
    words = (
        base.mark_text(align="left", dy=-19, fontWeight="bold")
        .encode(x=x, y=y, text="kind:N", color=tones)
        .transform_filter("datum.kind == 'gap' || datum.kind == 'default'")
    )
    mark = alt.Chart(alt.Data(values=[{"lower": today.isoformat(), "text": f"as of {today.isoformat()}"}]))
    rule = mark.mark_rule(color=GREY, strokeDash=[4, 3], strokeWidth=1.5).encode(x=x)
    note = mark.mark_text(color=GREY, baseline="bottom", dy=-3).encode(x=x, y=alt.value(0), text="text:N")
    drawing = (bars + words + rule + note).properties(width=WIDTH, height=max(70, 58 * len(tables)))
    return finished(drawing, "How far do the partitions reach?", sentences, subtitle=sentences)


def _waits_over_time(
    table: str, sentence: str, statements: Sequence[Moment], stages: Sequence[Span], holds: Sequence[Span]
) -> Any:
    import altair as alt  # noqa: PLC0415

    end = max((high for _, _, high in stages), default=1.0)
    title = alt.TitleParams(table, subtitle=sentence, anchor="start", fontSize=12, subtitleColor=GREY)
    scale = alt.Scale(domain=[0, end], nice=False)
    x = alt.X("at:Q", title="seconds; of each moment the slowest and the fastest statement", scale=scale)
    names = {name for name, _, _ in holds}
    bands = alt.Chart(
        alt.Data(
            values=[
                {"at": low, "to": high, "stage": name, "kind": "exchange" if name in names else str(number % 2)}
                for number, (name, low, high) in enumerate(stages)
            ]
        )
    )
    shades = alt.Color(
        "kind:N", legend=None, scale=alt.Scale(domain=["0", "1", "exchange"], range=[PALE, "transparent", AMBER])
    )
    rects = bands.mark_rect(opacity=0.3).encode(x=x, x2="to:Q", color=shades)
    # a band of some tenths of a second is too narrow to be seen: a rule marks it
    marks = bands.transform_filter("datum.kind == 'exchange'").mark_rule(color=AMBER, strokeWidth=2).encode(x=x)
    wide = bands.transform_filter(f"datum.to - datum.at > {end * 0.09} && datum.kind != 'exchange'")
    words = wide.mark_text(align="left", dx=3, baseline="bottom", color=GREY).encode(
        x=x, y=alt.value(-3), text="stage:N"
    )
    loud = bands.transform_filter("datum.kind == 'exchange'").mark_text(
        align="right", dx=-4, color=AMBER, fontWeight="bold"
    )
    told = loud.encode(x=x, y=alt.value(9), text="stage:N")
    values = [
        {"at": at, "ms": max(ms, 0.01), "end": "failed" if failed else "answered"}
        for at, ms, failed in _thinned(statements, end)
    ]
    y = alt.Y("ms:Q", title="ms until answered", scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=4))
    tones = alt.Color("end:N", legend=None, scale=alt.Scale(domain=["answered", "failed"], range=[BLUE, RED]))
    dots = alt.Chart(alt.Data(values=values)).mark_circle(size=14, opacity=0.8).encode(x=x, y=y, color=tones)
    whole = alt.layer(rects, marks, words, told, dots).resolve_scale(color="independent")
    return whole.properties(width=WIDTH, height=150, title=title)


def _waits_around(statements: Sequence[Moment], holds: Sequence[Span]) -> Any:
    """Each exchange under the glass: a line a statement, from when it was sent to when it was answered, and the hold behind it."""
    import altair as alt  # noqa: PLC0415

    panels = []
    for name, low, high in holds:
        first, last = low - _AROUND_S, high + _AROUND_S
        values = [
            {"at": (at - low) * 1000, "to": (at - low) * 1000 + ms, "ms": ms, "end": "failed" if failed else "answered"}
            for at, ms, failed in statements
            if at < last and at + ms / 1000 > first
        ]
        title = alt.TitleParams(
            f"{name}: locks held for {milliseconds((high - low) * 1000)}",
            anchor="start",
            fontSize=11,
            fontWeight="normal",
        )
        domain = [-_AROUND_S * 1000, (last - low) * 1000]
        x = alt.X("at:Q", title="ms since the first lock", scale=alt.Scale(domain=domain, nice=False))
        y = alt.Y("ms:Q", title="ms until answered", axis=alt.Axis(tickCount=4))
        tones = alt.Color("end:N", legend=None, scale=alt.Scale(domain=["answered", "failed"], range=[BLUE, RED]))
        held = alt.Chart(alt.Data(values=[{"at": 0, "to": (high - low) * 1000}]))
        band = held.mark_rect(color=AMBER, opacity=0.3).encode(x=x, x2="to:Q")
        base = alt.Chart(alt.Data(values=values))
        lines = base.mark_rule(clip=True, strokeWidth=1).encode(x=x, x2="to:Q", y=y, color=tones)
        dots = base.mark_circle(clip=True, size=14).encode(
            x=alt.X("to:Q", title="ms since the first lock"), y=y, color=tones
        )
        panels.append((band + lines + dots).properties(width=(WIDTH - 60) // 2, height=130, title=title))
    return alt.hconcat(*panels, spacing=18)


def panel(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec]) -> Any:
    """A table's own picture, its name and a sentence above it; as wide as its labels ask for."""
    import altair as alt  # noqa: PLC0415

    width = min(WIDTH, max(160, 30 * len(labels)))
    title = alt.TitleParams(table, subtitle=sentence, anchor="start", fontSize=12, subtitleColor=GREY)
    return alt.Chart(alt.Data(values=list(values)), title=title).properties(width=width, height=120)


def along(labels: Sequence[str]) -> Any:
    """The horizontal axis of a panel: every label a band, but only as many words as can be read."""
    import altair as alt  # noqa: PLC0415

    bands = _spaced(labels)
    words = _ticks(labels)
    axis = alt.Axis(
        values=list(words),
        labelExpr=f"({json.dumps(words)})[datum.value]",
        labelAngle=0,
        labelOverlap=False,
        title=None,
    )
    scale = alt.Scale(domain=bands, paddingInner=0.15, paddingOuter=0.1)
    return alt.X("label:N", sort=bands, axis=axis, scale=scale)


def _spaced(labels: Sequence[str]) -> list[str]:
    """Labels with empty bands around those outside the months, whose words are wider than a bar."""
    outside = [label for label in labels if not _MONTH.fullmatch(label)]
    gap = -(-len(labels) // 20) if len(outside) <= len(labels) // 4 else 0
    bands: list[str] = []
    for label in labels:
        if label in outside and label != _BEFORE:
            bands += [f"space {len(bands) + n}" for n in range(gap)]
        bands.append(label)
        if label == _BEFORE:
            bands += [f"space {len(bands) + n}" for n in range(gap)]
    return bands


def _ticks(labels: Sequence[str]) -> dict[str, list[str]]:
    """Label to the lines of its words: every month up to 12, quarters up to 30, Januaries above; others
    always.

    A January, and the first month, carries the year below. Labels that are no month are shown while they
    are few.
    """
    months = [label for label in labels if _MONTH.fullmatch(label)]
    every = 1 if len(months) <= 12 else 3 if len(months) <= 30 else 12  # noqa: PLR2004 - what fits 760 pixels
    shown = [label for label in months if (int(label[-2:]) - 1) % every == 0]
    words = {label: [dt.date(2000, int(label[-2:]), 1).strftime("%b")] for label in shown}
    for label in shown:
        if label == shown[0] or label.endswith("01"):
            words[label].append(label[:4])
    others = [label for label in labels if not _MONTH.fullmatch(label)]
    words.update({label: [label] for label in others[:: -(-len(others) // 10) or 1]})
    return {label: words[label] for label in labels if label in words}


def _rows_axis() -> Any:
    import altair as alt  # noqa: PLC0415

    return alt.Y("rows:Q", title="rows", stack=None, axis=alt.Axis(tickCount=4, format="~s"))
