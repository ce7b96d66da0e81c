"""The alerts as others read them: the line of a Nagios check, a message to a channel, a JSON document. Pure.

None of them holds a row: names of tables and partitions, figures, our own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from atlas_ops.alerts import Alert, Judged, Judgement, Level, sorted_by_level, worst
from atlas_ops.errors import AtlasError
from atlas_ops.tables import count, visible
from atlas_ops.thresholds import FIGURES

MOST_PERFORMANCE = 6_000  # bytes of performance data: Nagios cuts a check's output at 8 kB
MOST_TOLD = 5  # alerts in a line
MOST_SECTION = 2_900  # characters: Slack takes 3,000 in a section
MOST_SECTIONS = 40  # and 50 blocks in a message
MARKS = {Level.CRITICAL: "🔴", Level.WARNING: "🟠", Level.UNKNOWN: "⚪", Level.OK: "🟢"}


def level(found: Iterable[Judgement]) -> Level:
    """The level of all tables together: the exit code."""
    return worst(alert for one in found for alert in one.alerts)


def nagios(found: Sequence[Judgement]) -> str:
    """One line as the Monitoring Plugins' guidelines have it: the level, what is wrong, and after a bar the performance data."""
    alerts = sorted_by_level(alert for one in found for alert in one.alerts)
    told = "; ".join(f"{alert.table} {alert.figure}: {alert.told.rstrip('.')}" for alert in alerts[:MOST_TOLD])
    more = f"; and {count(len(alerts) - MOST_TOLD)} more" if len(alerts) > MOST_TOLD else ""
    well = f"{count(len(found))} tables, nothing to report"
    return (
        f"ATLAS_OPS {level(found).name} - {_one_line(told + more if alerts else well)} | {_performance(found)}".rstrip(
            " |"
        )
    )


def nagios_stop(stop: AtlasError) -> str:
    """The line of a look that was not possible."""
    return f"ATLAS_OPS {Level.UNKNOWN.name} - {_one_line(stop.what)}"


def _performance(found: Sequence[Judgement]) -> str:
    """'table figure'=value;warning;critical of each figure that has a value; a range says where it warns."""
    words: list[str] = []
    room = MOST_PERFORMANCE
    for judgement in found:
        own = [_datum(judgement.health.table, one) for one in judgement.judged if one.figure.value is not None]
        room -= sum(len(word.encode()) + 1 for word in own)
        if room < 0:
            break
        words += own
    return " ".join(words)


def _datum(table: str, one: Judged) -> str:
    watch = FIGURES[one.figure.name]
    label = _one_line(f"{table} {one.figure.name}").replace("'", "''").replace("=", "_")
    warning, critical = (_range(bound, watch.falls) for bound in (one.warning, one.critical))
    unit = "%" if watch.unit == "percent" else ""
    return f"'{label}'={_number(one.figure.value or 0)}{unit};{warning};{critical}"


def _range(bound: float | None, falls: bool) -> str:
    """A threshold as a range: `5:` is bad below 5, `@5:` is bad from 5 on."""
    if bound is None:
        return ""
    return f"{_number(bound)}:" if falls else f"@{_number(bound)}:"


def _number(value: float) -> str:
    return f"{value:.10g}" if value == int(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def _one_line(text: str) -> str:
    """Text that neither ends the line nor begins the performance data."""
    return visible(" ".join(text.split())).replace("|", "¦")


# a terminal


def text(found: Sequence[Judgement]) -> str:
    """A paragraph a table: how it is, then each alert with why it matters, what to do, and the SQL."""
    return "\n\n".join("\n".join(_paragraph(one)) for one in found)


def _paragraph(one: Judgement) -> Iterator[str]:
    health = one.health
    runway = health.figure("runway").told if health.months else ""
    yield f"{visible(health.table)}: {worst(one.alerts).name.lower()}, {health.state}. {runway}".rstrip()
    for alert in sorted_by_level(one.alerts):
        yield f"  {alert.level.name} {alert.figure.replace('_', ' ')}: {visible(alert.told)}"
        yield f"    because: {alert.why}"
        yield f"       next: {alert.cure}"
        yield from (f"        SQL: {visible(line)}" for line in alert.sql.splitlines())


# a message to a channel


def message(database: str, found: Sequence[Judgement]) -> dict[str, Any]:
    """The body of a webhook in the form that Slack takes; others read its `text`."""
    alerts = sorted_by_level(alert for one in found for alert in one.alerts)
    worst_level = level(found)
    headline = f"{MARKS[worst_level]} {database}: {_tally(alerts) if alerts else 'partitions are well'}"
    sections = [
        _section(
            f"{MARKS[alert.level]} *{_plain(alert.table)}* {alert.figure}: {_plain(alert.told)}\n_{_plain(alert.cure)}_"
        )
        for alert in alerts
    ]
    if len(sections) > MOST_SECTIONS:
        sections = [*sections[:MOST_SECTIONS], _section(f"and {count(len(sections) - MOST_SECTIONS)} more")]
    return {"text": headline, "blocks": [_section(f"*{_plain(headline)}*"), *sections]}


def message_stop(database: str, stop: AtlasError) -> dict[str, Any]:
    """The same for a look that was not possible: what, and nothing of what the server or the driver said."""
    headline = f"{MARKS[Level.UNKNOWN]} {database}: {stop.what}"
    return {"text": headline, "blocks": [_section(_plain(headline))]}


def _tally(alerts: Sequence[Alert]) -> str:
    words = {Level.CRITICAL: "critical", Level.WARNING: "warning", Level.UNKNOWN: "not read"}
    numbers = {each: sum(alert.level is each for alert in alerts) for each in words}
    return ", ".join(f"{count(number)} {words[each]}" for each, number in numbers.items() if number)


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:MOST_SECTION]}}


def _plain(text: str) -> str:
    """The three characters that Slack reads as markup (its documentation: Escaping text), so that no name mentions a channel."""
    return visible(text, kept="\n").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signature(found: Sequence[Judgement]) -> list[list[str]]:
    """Which alerts there are, without their figures: two looks with the same need one message."""
    return sorted([alert.table, alert.figure, alert.level.name] for one in found for alert in one.alerts)


# a document


def document(database: str, found: Sequence[Judgement], looked_at: datetime) -> dict[str, Any]:
    """Everything, as JSON types."""
    return {
        "database": database,
        "looked_at": looked_at.isoformat(),
        "level": level(found).name.lower(),
        "tables": [table(one) for one in found],
    }


def table(one: Judgement) -> dict[str, Any]:
    """One table, as JSON types: its state, figures with thresholds, alerts, periods and what is expected. Sizes in bytes."""
    health = one.health
    return {
        "table": health.table,
        "partitioned_table": health.partitioned_table,
        "state": str(health.state),
        "level": worst(one.alerts).name.lower(),
        "covered_until": health.covered_until.date().isoformat() if health.covered_until else None,
        "whole_at": health.whole_at.isoformat() if health.whole_at else None,
        "partitions": len(health.months),
        "bytes": _bytes(health.rows),
        "figures": {
            each.figure.name: {
                "value": each.figure.value,
                "unit": FIGURES[each.figure.name].unit,
                "warning": each.warning,
                "critical": each.critical,
                "level": each.level.name.lower(),
                "told": each.figure.told,
            }
            for each in one.judged
        },
        "alerts": [
            {"figure": alert.figure, "level": alert.level.name.lower(), "told": alert.told, "cure": alert.cure}
            for alert in one.alerts
        ],
        "periods": [
            {"label": month.label, "when": str(month.when), "rows": month.rows, "bytes": month.bytes}
            for month in health.months
        ],
        "expected": [{"label": each.label, "rows": each.rows, "bytes": each.bytes} for each in health.expected],
    }


def _bytes(rows: Iterable[Any]) -> Mapping[str, int]:
    kept = list(rows)
    return {kind: sum(getattr(row, f"{kind}_bytes") for row in kept) for kind in ("heap", "index", "toast")}
