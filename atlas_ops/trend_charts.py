"""Trends over the records of 09: how the runway and the sizes went. Each maker takes plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from atlas_ops.charts import unit_of
from atlas_ops.drawing import PALE, Chart, finished, plural, stacked
from atlas_ops.health_charts import VIOLET
from atlas_ops.tables import AMBER, BLUE, GREEN, GREY, count, size

TONES = (BLUE, AMBER, GREEN, VIOLET, GREY, PALE)
WIDTH, HEIGHT = 450, 150


def runways(rows: Sequence[tuple[str, datetime, float]]) -> Chart:
    """Days of runway at each look: (table, when, days), the oldest first. A line that only falls is a schedule that has stopped."""
    title = "How did the runway go?"
    values = [{"table": table, "at": _utc(at), "value": days} for table, at, days in rows]
    return _lines(title, values, "days", [f"{table}: {count(days)} days" for table, days in _last(rows).items()], rows)


def sizes(rows: Sequence[tuple[str, datetime, int]]) -> Chart:
    """Bytes on disk at each look: (table, when, bytes), the oldest first."""
    unit, divisor = unit_of(max((held for *_, held in rows), default=0))
    values = [{"table": table, "at": _utc(at), "value": held / divisor} for table, at, held in rows]
    return _lines(
        "How did the size go?", values, unit, [f"{table}: {size(held)}" for table, held in _last(rows).items()], rows
    )


def _last(rows: Sequence[tuple[str, datetime, Any]]) -> dict[str, Any]:
    return {table: value for table, _, value in rows}


def _utc(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(
    title: str, values: list[dict[str, Any]], unit: str, last: list[str], rows: Sequence[tuple[str, datetime, Any]]
) -> Chart:
    import altair as alt  # noqa: PLC0415 - a second that only a chart needs

    if not values:
        return stacked(title, [], [])
    moments = sorted({at for _, at, _ in rows})
    looks = plural(len(moments), "look")
    whole = moments[-1] - moments[0]
    form = "%H:%M" if whole < timedelta(days=2) else "%b %d" if whole < timedelta(days=400) else "%b %Y"
    tables = list(dict.fromkeys(value["table"] for value in values))
    tones = alt.Color(
        "table:N",
        scale=alt.Scale(domain=tables, range=[TONES[number % len(TONES)] for number in range(len(tables))]),
        legend=alt.Legend(title=None, orient="top", columns=3, labelLimit=240),
    )
    base = alt.Chart(alt.Data(values=values))
    x = alt.X(
        "at:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(format=form, labelOverlap=True, tickCount=6)
    )
    y = alt.Y("value:Q", title=unit, scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=4))
    lines = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=tones)
    dots = base.mark_circle(size=28, opacity=1).encode(x=x, y=y, color=tones)
    return finished(
        (lines + dots).properties(width=WIDTH, height=HEIGHT),
        title,
        [*last, looks],
        subtitle=[f"{looks}; " + "; ".join(last[:3])],
    )
