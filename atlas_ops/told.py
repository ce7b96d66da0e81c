"""A record as it tells itself: what the last cell of an executed notebook came to, and where the record lies. Pure; `shelf` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

OK, PLANNED, NOTHING, STOPPED = "ok", "planned", "nothing_to_do", "stopped"
UNFINISHED, BROKEN = "unfinished", "broken"
DONE = (OK, NOTHING)


@dataclass(frozen=True, slots=True)
class Told:
    """One record. Paths are relative to the folder of all records, with slashes; empty: there is none."""

    database: str
    stage: str
    started: datetime
    verdict: str  # of the report, or unfinished (it runs, or it was killed), or broken (no JSON, or no notebook)
    headline: str = ""
    seconds: float | None = None
    tables: tuple[str, ...] = ()  # as the specification writes them
    checks: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    notebook: str = ""
    page: str = ""

    @property
    def finished(self) -> bool:
        """Whether it came to a verdict."""
        return self.verdict not in (UNFINISHED, BROKEN)

    @property
    def link(self) -> str:
        """Where to read it: the page, or else the notebook."""
        return self.page or self.notebook

    def verdict_of(self, table: str) -> str:
        """What the stage came to for one table: red if a check of that table is, or if the stage stopped for none in particular."""
        reds = {str(check.get("table", "")) for check in self.checks if check.get("severity") == "stop"}
        if self.verdict != STOPPED or not reds or any(same_table(red, table) for red in reds):
            return self.verdict
        return OK


def same_table(one: str, other: str) -> bool:
    """Whether two spellings are of one table: some checks write `messages`, the specification `public.messages`."""
    return one == other or one.rsplit(".", 1)[-1] == other.rsplit(".", 1)[-1]


def newest(records: Iterable[Told], stage: str) -> Told | None:
    """The newest finished record of a stage; None without one."""
    return next((one for one in in_order(records, stage) if one.finished), None)


def in_order(records: Iterable[Told], *stages: str) -> list[Told]:
    """Records of these stages, the newest first."""
    return sorted((one for one in records if one.stage in stages), key=lambda one: one.started, reverse=True)


def tables_of(records: Iterable[Told]) -> list[str]:
    """Every table that a record is about, in the order of the newest record that names it; two spellings of one table once."""
    found: list[str] = []
    for one in sorted(records, key=lambda each: each.started, reverse=True):
        for table in one.tables:
            if not any(same_table(table, known) for known in found):
                found.append(table)
    return found


def severities(record: Told, *names: str) -> Mapping[str, str]:
    """The severity of each of these checks, the worst where several tables have one; without those that were not asked."""
    order = ("stop", "warn", "note", "ok")
    found: dict[str, str] = {}
    for check in record.checks:
        name, severity = str(check.get("name", "")), str(check.get("severity", ""))
        if name in names and severity in order:
            found[name] = min(found.get(name, "ok"), severity, key=order.index)
    return found


def health_of(record: Told) -> Sequence[Mapping[str, Any]]:
    """The tables of a record of 09, as `announcement.table` wrote them."""
    tables = record.figures.get("tables", ())
    return [table for table in tables if isinstance(table, Mapping)] if isinstance(tables, list) else []
