"""How a look reads in a notebook and on a terminal: what is wrong first, then every figure of every table. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_ops import alerts
from atlas_ops.alerts import Judged, Judgement, Level
from atlas_ops.health import Health
from atlas_ops.tables import AMBER, GREEN, RED, Column, Table, count, size
from atlas_ops.thresholds import FIGURES
from atlas_ops.views import Folded, Stacked, Words

TONES = {Level.CRITICAL: RED, Level.WARNING: AMBER, Level.UNKNOWN: AMBER, Level.OK: GREEN}
MARKS = {Level.CRITICAL: "critical", Level.WARNING: "warning", Level.UNKNOWN: "unknown", Level.OK: "ok"}


def headline(found: Sequence[Judgement]) -> str:
    """What is wrong, in a sentence."""
    every = [alert for one in found for alert in one.alerts]
    words = {Level.CRITICAL: "critical", Level.WARNING: "to look at", Level.UNKNOWN: "not read"}
    parts = [
        f"{count(number)} {words[level]}" for level in words if (number := sum(alert.level is level for alert in every))
    ]
    tables = f"{count(len(found))} table{'s' if len(found) != 1 else ''}"
    return f"{tables}: {', '.join(parts)}." if parts else f"{tables}: nothing to report."


def alerts_table(found: Sequence[Judgement]) -> Folded:
    """What is wrong, the critical first, with why it matters and what to do; the SQL, and what is well, folded below."""
    every = alerts.sorted_by_level(alert for one in found for alert in one.alerts)
    worst = alerts.worst(every)
    strong = {Level.OK: "All is well.", Level.UNKNOWN: "Not all could be read.", Level.WARNING: "Have a look."}
    words = Words(strong.get(worst, "Act now."), headline(found), TONES[worst])
    notes = [(check.table, check.what, check.cure) for one in found for check in alerts.noted(one.health)]
    parts: list[Words | Table] = [words]
    if every:
        columns: list[Column | str] = [
            Column("level", "verdict"),
            "table",
            "figure",
            "what",
            "why it matters",
            "what to do",
        ]
        rows = [(MARKS[one.level], one.table, _spoken(one.figure), one.told, one.why, one.cure) for one in every]
        parts.append(Table(columns, rows, limit=len(rows)))
    if notes:
        parts.append(Table(["table", "note", "what to do"], notes, limit=len(notes)))
    cures = Table(["table", "figure", "SQL"], [(one.table, _spoken(one.figure), one.sql) for one in every if one.sql])
    passed = [(check.table, check.name, check.what) for one in found for check in alerts.passed(one)]
    well = Table(["table", "figure", "what"], passed, limit=max(len(passed), 1))
    folded = [
        ("SQL to look closer or to cure, ready to paste", cures),
        (f"{count(len(passed))} figures are well", well),
    ]
    return Folded(Stacked(*parts), *((title, table) for title, table in folded if table.rows))


def _spoken(figure: str) -> str:
    return figure.replace("_", " ")


def states_table(found: Sequence[Judgement]) -> Table:
    """A line a table: how far it has come, how long it lasts, how large it is."""
    columns: list[Column | str] = [
        "table",
        Column("level", "verdict"),
        "state",
        Column("partitions", "count"),
        Column("rows", "count"),
        Column("on disk", "size"),
        Column("runway, days", "count"),
        Column("until", "text"),
        Column("expected to come", "text"),
    ]
    return Table(columns, [_state(one) for one in found], limit=max(len(found), 1))


def _state(one: Judgement) -> tuple[object, ...]:
    health = one.health
    return (
        health.table,
        MARKS[alerts.worst(one.alerts)],
        str(health.state),
        len(health.months) or None,
        sum(row.rows or 0 for row in health.rows) if health.rows else None,
        health.bytes if health.rows else None,
        health.figure("runway").value,
        health.covered_until.date().isoformat() if health.covered_until else None,
        _expected(health),
    )


def _expected(health: Health) -> str | None:
    """What the periods to come add, in words."""
    to_come = health.expected[1:]
    if not to_come:
        return None
    rows, bytes_ = sum(each.rows for each in to_come), sum(each.bytes for each in to_come)
    return f"{count(rows)} rows, {size(bytes_)} up to the end of {to_come[-1].label}"


def figures_table(found: Sequence[Judgement]) -> Table:
    """Every figure of every table against its thresholds: a line a figure, a column a table."""
    tables = [one.health.table for one in found]
    by_name = {one.health.table: {judged.figure.name: judged for judged in one.judged} for one in found}
    columns: list[Column | str] = [
        "figure",
        "unit",
        *(Column(table, "text") for table in tables),
        Column("warns", "text"),
        Column("critical", "text"),
    ]
    rows = [
        (
            _spoken(name),
            watch.unit,
            *(_shown(by_name[table][name]) for table in tables),
            _bounds([by_name[table][name].warning for table in tables], watch.falls),
            _bounds([by_name[table][name].critical for table in tables], watch.falls),
        )
        for name, watch in FIGURES.items()
    ]
    return Table(columns, rows, limit=len(rows))


def _shown(judged: Judged) -> str | None:
    value = judged.figure.value
    if value is None:
        return None
    text = count(value) if value == int(value) else f"{value:,.2f}"
    mark = {Level.CRITICAL: " ✗", Level.WARNING: " !"}.get(judged.level, "")
    return f"{text}{mark}"


def _bounds(values: Sequence[float | None], falls: bool) -> str | None:
    known = sorted({value for value in values if value is not None})
    if not known:
        return None
    return ("below " if falls else "from ") + " or ".join(f"{value:,.10g}" for value in known)
