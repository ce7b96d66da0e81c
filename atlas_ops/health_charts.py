"""Charts of how a partition set grows and what is done to it: sizes by kind, rows with the trend, a heat map of activity.

Each maker takes the health of one table or more; `charts.runway` draws how far the partitions reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from atlas_ops.charts import along, panel, unit_of
from atlas_ops.drawing import PALE, Chart, Spec, coloured, plural, stacked
from atlas_ops.growth import When
from atlas_ops.health import Activity, Health
from atlas_ops.tables import BLUE, count, size

VIOLET = "#8f74c9"  # of a contrast above 3 on white and on black, as the others
KINDS = {"rows": BLUE, "indexes": PALE, "TOAST": VIOLET}
FAINT = "#a5a9ae"
MOST = 60  # partitions of a heat map, and periods of growth: the newest

_ACTIVITIES = {
    "inserts": "inserted",
    "updates": "updated",
    "deletes": "deleted",
    "sequential scans": "seq_scans",
    "index scans": "index_scans",
    "dead rows": "dead_rows",
}


def sizes(found: Iterable[Health]) -> Chart:
    """Bytes of each period by kind (rows, indexes, TOAST), one panel a table with a unit of its own."""
    panels, sentences = [], []
    for health in found:
        months = health.months
        if not months:
            continue
        unit, divisor = unit_of(max(month.bytes for month in months))
        labels = _labels([month.label for month in months], [month.partition for month in months])
        values = [
            {"label": label, "part": kind, "size": held / divisor, "order": order}
            for label, month in zip(labels, months, strict=True)
            for order, (kind, held) in enumerate(
                zip(KINDS, (month.heap_bytes, month.index_bytes, month.toast_bytes), strict=True)
            )
        ]
        whole = sum(month.bytes for month in months)
        sentence = (
            f"{size(whole)} in {plural(len(months), 'partition')}, {size(sum(month.index_bytes for month in months))} of it indexes, "
            f"{size(sum(month.toast_bytes for month in months))} TOAST"
        )
        if not health.sized:
            sentence += "; some as of the last VACUUM or ANALYZE"
        sentences.append(f"{health.table}: {sentence}")
        panels.append(_bars(health.table, sentence, labels, values, unit))
    return stacked("How large is each period?", panels, sentences)


def growth(found: Iterable[Health]) -> Chart:
    """Rows of each period, and those that the trend expects of the current one and of those to come."""
    panels, sentences = [], []
    for health in found:
        months = [month for month in health.months if month.when is not When.AHEAD][-MOST:]
        if not months:
            continue
        expected = {one.label: one.rows for one in health.expected}
        held = {month.label: month.rows or 0 for month in months}
        labels = list(dict.fromkeys([*held, *expected]))
        values = [{"label": label, "rows": rows, "kind": "there"} for label, rows in held.items()]
        values += [
            {"label": label, "rows": max(rows - held.get(label, 0), 0), "kind": "expected"}
            for label, rows in expected.items()
        ]
        sentence = _trend(health)
        sentences.append(f"{health.table}: {sentence}")
        panels.append(_rows(health.table, sentence, labels, values))
    return stacked("How does it grow?", panels, sentences)


def activity(found: Iterable[Health]) -> Chart:
    """What was done on each partition since the statistics began to count: a line a kind, the bluer the more of that kind."""
    panels, sentences = [], []
    for health in found:
        shown = health.activity[-MOST:]
        if not shown:
            continue
        names = {month.partition: month.label for month in health.months}
        labels = _labels(
            [names.get(one.partition, _short(health, one.partition)) for one in shown], [one.partition for one in shown]
        )
        values = _cells(labels, shown)
        since = (
            f"since {health.statistics_since:%Y-%m-%d}"
            if health.statistics_since
            else "since the statistics began to count"
        )
        busiest = max(zip(labels, shown, strict=True), key=lambda one: one[1].seq_scans + one[1].index_scans)
        left_out = f", the newest {MOST} of {len(health.activity)}" if len(health.activity) > MOST else ""
        scans = busiest[1].seq_scans + busiest[1].index_scans
        sentence = f"{since}; most scans: {busiest[0]} ({count(scans)}){left_out}"
        sentences.append(f"{health.table}: {sentence}")
        panels.append(_heat(health.table, sentence, labels, values))
    return stacked("What is done to each partition?", panels, sentences)


# --- words and values ---


def _labels(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """The labels; whole names where two labels are the same."""
    return list(labels) if len(set(labels)) == len(labels) else list(names)


def _short(health: Health, partition: str) -> str:
    """'default' of messages_default."""
    table = health.table.rsplit(".", 1)[-1]
    return partition.removeprefix(table).strip("_") or partition


def _trend(health: Health) -> str:
    to_come = health.expected[1:]
    if not to_come:
        return "too few periods hold rows for a trend"
    rows, held = sum(one.rows for one in to_come), sum(one.bytes for one in to_come)
    return f"if the trend goes on, {count(rows)} rows and {size(held)} more up to the end of {to_come[-1].label}"


def _cells(labels: Sequence[str], shown: Sequence[Activity]) -> list[Spec]:
    """A cell a partition and kind; its strength is the square root of its share of the most, so that small ones are seen."""
    cells = []
    for kind, field in _ACTIVITIES.items():
        most = max(getattr(one, field) for one in shown)
        cells += [
            {
                "label": label,
                "kind": kind,
                "n": getattr(one, field),
                "strength": (getattr(one, field) / most) ** 0.5 if most else 0.0,
            }
            for label, one in zip(labels, shown, strict=True)
        ]
    return cells


# --- pictures ---


def _bars(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec], unit: str) -> Any:
    import altair as alt  # noqa: PLC0415 - a second that only a chart needs

    return (
        panel(table, sentence, labels, values)
        .mark_bar()
        .encode(
            x=along(labels),
            y=alt.Y("sum(size):Q", title=unit, axis=alt.Axis(tickCount=4)),
            color=coloured("part", KINDS),
            order=alt.Order("order:Q"),
        )
    )


def _rows(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec]) -> Any:
    import altair as alt  # noqa: PLC0415

    return (
        panel(table, sentence, labels, values)
        .mark_bar()
        .encode(
            x=along(labels),
            y=alt.Y("rows:Q", title="rows", axis=alt.Axis(tickCount=4, format="~s")),
            color=coloured("kind", {"there": BLUE, "expected": PALE}),
            order=alt.Order("kind:N", sort="descending"),
        )
    )


def _heat(table: str, sentence: str, labels: Sequence[str], values: Sequence[Spec]) -> Any:
    import altair as alt  # noqa: PLC0415

    kinds = list(_ACTIVITIES)
    base = panel(table, sentence, labels, values).properties(height=20 * len(kinds))
    y = alt.Y("kind:N", sort=kinds, title=None)
    # From grey to blue and not from pale to dark, which means the opposite on a dark page. Never by opacity: vl-convert cuts the colours of
    # a pixel that is not opaque at its alpha.
    tones = alt.Color("strength:Q", scale=alt.Scale(domain=[0, 1], range=[FAINT, BLUE]), legend=None)
    outlines = base.mark_rect(fill=None, stroke=PALE, strokeWidth=0.4).encode(x=along(labels), y=y)
    cells = base.transform_filter("datum.n > 0").mark_rect(stroke=PALE, strokeWidth=0.4)
    return outlines + cells.encode(x=along(labels), y=y, color=tones)
