"""Reads the records of every database for the site: the newest of each stage whole, of others only what their names tell.

A record that was cut off, or is no JSON, is on the shelf like any other, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_ops import record
from atlas_ops.record import Found
from atlas_ops.report import Verdict
from atlas_ops.told import BROKEN, UNFINISHED, Told

NEWEST = 12  # of each stage: a table that the last run left out is in an earlier one
LOOKS = 200  # of 09: the trend


@dataclass(frozen=True, slots=True)
class Shelf:
    """The records of one database: those that were read, the newest first, and how many there are."""

    database: str
    records: tuple[Told, ...]
    count: int


def shelves(records: Path) -> tuple[Shelf, ...]:
    """One a database that has a record, by name. A folder that is not there has none."""
    if not records.is_dir():
        return ()
    found = (_shelf(records, place) for place in sorted(records.iterdir()) if place.is_dir())
    return tuple(one for one in found if one.count)


def _shelf(records: Path, place: Path) -> Shelf:
    listed = record.listed(place)
    read = [_told(records, one) for one in _wanted(listed)]
    return Shelf(place.name, tuple(sorted(read, key=lambda one: one.started, reverse=True)), len(listed))


def _wanted(listed: list[Found]) -> Iterator[Found]:
    """The newest of each stage, more of them where a trend is drawn; every one that was cut off is told, and costs nothing."""
    taken: dict[str, int] = {}
    for one in sorted(listed, key=lambda each: each.started, reverse=True):
        number = taken.get(one.stage, 0)
        if one.part or number < (LOOKS if one.stage == "monitor_health" else NEWEST):
            taken[one.stage] = number + (not one.part)
            yield one


def _told(records: Path, found: Found) -> Told:
    notebook = _json(found.path)
    try:
        return _read(records, found, notebook) if notebook is not None else _nothing(records, found)
    except (AttributeError, TypeError, KeyError, ValueError):  # JSON, and no notebook as they are made here
        return _nothing(records, found)


def _page(records: Path, path: Path) -> str:
    page = path.with_suffix(".html")
    return page.relative_to(records).as_posix() if page.exists() else ""


def _nothing(records: Path, found: Found) -> Told:
    verdict, told = (UNFINISHED, "It runs, or it was killed.") if found.part else (BROKEN, "It holds no notebook.")
    return Told(
        database=found.path.parent.name,
        stage=found.stage,
        started=found.started,
        verdict=verdict,
        headline=told,
        notebook=found.path.relative_to(records).as_posix(),
        page=_page(records, found.path),
    )


def _read(records: Path, found: Found, notebook: Mapping[str, Any]) -> Told:
    said, stopped = record.result(notebook) or {}, record.stop(notebook)
    verdict = str(Verdict.STOPPED) if stopped else UNFINISHED if found.part else str(said.get("verdict", ""))
    headline = stopped[0].removeprefix("STOPPED: ") if stopped else str(said.get("headline", ""))
    if not verdict:
        verdict, headline = BROKEN, "It came to no result."
    elif verdict == UNFINISHED:
        headline = headline or "It runs, or it was killed."
    return Told(
        database=found.path.parent.name,
        stage=found.stage,
        started=found.started,
        verdict=verdict,
        headline=headline,
        seconds=_number(notebook.get("metadata", {}).get("papermill", {}).get("duration")),
        tables=_tables(notebook, said),
        checks=_mappings(said.get("checks")),
        figures=figures if isinstance(figures := said.get("figures"), Mapping) else {},
        steps=_mappings(said.get("steps")),
        notebook=found.path.relative_to(records).as_posix(),
        page=_page(records, found.path),
    )


def _json(path: Path) -> dict[str, Any] | None:
    """The notebook; None where it is none: a run that was killed before its first cell, a file that was cut."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        return None
    return found if isinstance(found.get("metadata", {}), dict) else None


def _tables(notebook: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[str, ...]:
    """The tables that a record is about: as it says, or by its parameters, or by its checks."""
    told = said.get("tables")
    if not told:
        given = notebook.get("metadata", {}).get("papermill", {}).get("parameters", {}).get("tables")
        told = [one.get("table") for one in _mappings(given)] or [
            one.get("table") for one in _mappings(said.get("checks"))
        ]
    return tuple(dict.fromkeys(str(table) for table in told if table)) if isinstance(told, list) else ()


def _mappings(found: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple(one for one in found if isinstance(one, Mapping)) if isinstance(found, list) else ()


def _number(found: Any) -> float | None:
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
