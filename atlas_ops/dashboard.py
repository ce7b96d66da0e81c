"""What the page of the site shows of one database: what is wrong now, the verdict of each stage for each table, trends, the scorecard. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from atlas_ops.scorecard import Line, State, scorecard
from atlas_ops.tables import count, size
from atlas_ops.told import BROKEN, UNFINISHED, Told, health_of, in_order, newest, same_table, tables_of

STALE = timedelta(days=2)  # a look that is older says nothing of now
MOST_UNFINISHED = 20

LEVELS = ("critical", "warning", "unknown", "ok")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One alert of the newest look."""

    level: str
    table: str
    figure: str
    told: str
    cure: str


@dataclass(frozen=True, slots=True)
class Cell:
    """The newest verdict of a stage for one table; None of it where there is no record."""

    verdict: str = ""
    started: datetime | None = None
    link: str = ""
    headline: str = ""


@dataclass(frozen=True, slots=True)
class TableLine:
    """How one table is by the newest look that names it."""

    table: str
    state: str
    level: str
    runway: str
    until: str
    size: str
    rows: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One database."""

    database: str
    level: str  # critical, warning, unknown, ok, or none: nobody has looked
    headline: str
    look: Told | None
    stale: bool
    troubles: tuple[Trouble, ...]
    tables: tuple[TableLine, ...]
    stages: tuple[str, ...]
    verdicts: tuple[tuple[str, tuple[Cell, ...]], ...]  # a line a table, a cell a stage
    scorecard: tuple[Line, ...]
    loose: tuple[Told, ...]  # records that were cut off or are broken, the newest first
    records: int

    @property
    def ticked(self) -> str:
        """How the scorecard stands, in words."""
        number = {state: sum(line.state is state for line in self.scorecard) for state in State}
        return ", ".join(f"{number[state]} {state}" for state in State if number[state])


def dashboard(database: str, records: Sequence[Told], how_many: int, stages: Sequence[str], now: datetime) -> Dashboard:
    """The page of one database. `stages` in the order of the notebooks; others that left records come after them."""
    look = newest(records, "monitor_health")
    level, headline = _level(look)
    shown = [*(stage for stage in stages if in_order(records, stage)), *_others(records, stages)]
    tables = tables_of(records) or ["—"]
    loose = [one for one in records if one.verdict in (UNFINISHED, BROKEN)]
    return Dashboard(
        database=database,
        level=level,
        headline=headline,
        look=look,
        stale=look is not None and now - look.started > STALE,
        troubles=tuple(_troubles(look)),
        tables=tuple(_table(found) for found in _healths(records)),
        stages=tuple(shown),
        verdicts=tuple((table, tuple(_cell(records, stage, table) for stage in shown)) for table in tables),
        scorecard=scorecard(records, now),
        loose=tuple(sorted(loose, key=lambda one: one.started, reverse=True)[:MOST_UNFINISHED]),
        records=how_many,
    )


def worst(found: Iterable[Dashboard]) -> str:
    """The level of all databases together; ok where none has been looked at."""
    levels = [one.level for one in found if one.level in LEVELS]
    return min(levels, key=LEVELS.index, default="ok")


def _level(look: Told | None) -> tuple[str, str]:
    if look is None:
        return "none", "Nobody has looked: run 09 Monitor health."
    if not health_of(look):
        return ("critical" if look.verdict == "stopped" else "unknown"), look.headline
    level = str(look.figures.get("level", "unknown"))
    return (level if level in LEVELS else "unknown"), look.headline


def _troubles(look: Told | None) -> list[Trouble]:
    found = [
        Trouble(
            str(alert.get("level")),
            str(table.get("table")),
            str(alert.get("figure")).replace("_", " "),
            str(alert.get("told")),
            str(alert.get("cure")),
        )
        for table in (health_of(look) if look else ())
        for alert in table.get("alerts", ())
        if isinstance(alert, Mapping)
    ]
    return sorted(found, key=lambda one: LEVELS.index(one.level) if one.level in LEVELS else len(LEVELS))


def _healths(records: Sequence[Told]) -> list[Mapping[str, Any]]:
    """Each table by the newest look that names it."""
    found: dict[str, Mapping[str, Any]] = {}
    for look in in_order(records, "monitor_health"):
        for table in health_of(look):
            found.setdefault(str(table.get("table")), table)
    return list(found.values())


def _table(found: Mapping[str, Any]) -> TableLine:
    figures = found.get("figures", {})
    runway = figures.get("runway", {}).get("value") if isinstance(figures, Mapping) else None
    held, periods = found.get("bytes"), found.get("periods")
    rows = (
        [period.get("rows") or 0 for period in periods if isinstance(period, Mapping)]
        if isinstance(periods, list)
        else []
    )
    return TableLine(
        table=str(found.get("table")),
        state=str(found.get("state")),
        level=str(found.get("level")),
        runway=f"{count(runway)} days" if isinstance(runway, int | float) else "—",
        until=str(found.get("covered_until") or "—"),
        size=size(sum(held.values())) if isinstance(held, Mapping) and any(held.values()) else "—",
        rows=count(sum(rows)) if rows else "—",
    )


def _others(records: Iterable[Told], stages: Sequence[str]) -> list[str]:
    return sorted({one.stage for one in records} - set(stages))


def _cell(records: Sequence[Told], stage: str, table: str) -> Cell:
    for one in in_order(records, stage):
        if not one.tables or any(same_table(table, own) for own in one.tables):
            return Cell(one.verdict_of(table), one.started, one.link, one.headline)
    return Cell()


# trends


def runways(records: Sequence[Told]) -> list[tuple[str, datetime, float]]:
    """(table, when, days) of every look that knows it, the oldest first."""
    return [
        (str(table.get("table")), look.started, float(value))
        for look, table in _looks(records)
        if isinstance(value := _value(table, "runway"), int | float)
    ]


def sizes(records: Sequence[Told]) -> list[tuple[str, datetime, int]]:
    """(table, when, bytes) of every look, the oldest first."""
    return [
        (str(table.get("table")), look.started, sum(held.values()))
        for look, table in _looks(records)
        if isinstance(held := table.get("bytes"), Mapping)
        and all(isinstance(one, int) for one in held.values())
        and any(held.values())
    ]


def ratios(
    records: Sequence[Told],
) -> tuple[Told | None, list[tuple[str, float | None, float | None, float | None, str]]]:
    """The newest record of 05 that measured something: (query, ratio, low, high, verdict), for `query_charts.query_ratios`."""
    for record in in_order(records, "explain_analysis"):
        queries = record.figures.get("queries")
        if isinstance(queries, list) and queries:
            found = [
                (
                    str(query.get("query")),
                    query.get("ratio"),
                    query.get("low"),
                    query.get("high"),
                    str(query.get("verdict")),
                )
                for query in queries
                if isinstance(query, Mapping)
            ]
            return record, found
    return None, []


def _looks(records: Sequence[Told]) -> list[tuple[Told, Mapping[str, Any]]]:
    looks = reversed(in_order(records, "monitor_health"))
    return [(look, table) for look in looks for table in health_of(look)]


def _value(table: Mapping[str, Any], figure: str) -> Any:
    figures = table.get("figures")
    found = figures.get(figure) if isinstance(figures, Mapping) else None
    return found.get("value") if isinstance(found, Mapping) else None
