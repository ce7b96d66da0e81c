"""Builds the site: one static page from the records, that asks nothing of anywhere. A web server or a CI artifact can show it as it is.

The page is written under another name and renamed; a second run, or two at once, leave one whole page. Records are linked where they lie, or copied
beside the page, so that the folder can be moved.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from atlas_ops import dashboard, query_charts, record, trend_charts
from atlas_ops.dashboard import Dashboard
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.shelf import Shelf, shelves
from atlas_ops.stages import STAGES
from atlas_ops.tables import duration
from atlas_ops.told import Told

PAGE = "index.html"
COPIES = "records"
_SCALE = 1.5  # of the pictures


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart as the page holds it: its PNG in base64, its width in CSS pixels, and what it says in words."""

    png: str
    width: int
    words: str


def build(records: Path, out: Path, *, copy: bool = False, now: datetime | None = None) -> Path:
    """Write `out`/index.html from the records; `copy`: with those that it links to. Raises AtlasError where it cannot be written.

    A folder without records makes a page that says so: a scheduler's first run is no error.
    """
    at = now or datetime.now(UTC)
    found = shelves(records)
    pages = [dashboard.dashboard(one.database, one.records, one.count, tuple(STAGES), at) for one in found]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if copy:
            _copy(records, out / COPIES, _linked(pages))
        base = COPIES if copy else Path(os.path.relpath(records.resolve(), out.resolve())).as_posix()
        return _write(out / PAGE, _render(pages, found, base, at))
    except OSError as error:
        raise AtlasError(
            what=f"The site cannot be written to {out}.",
            why=f"{error.strerror}.",
            next="Give another folder with --out, or cure this one.",
        ) from None


def _render(pages: Sequence[Dashboard], found: Sequence[Shelf], base: str, at: datetime) -> str:
    import jinja2  # noqa: PLC0415 - comes with nbconvert, as for the index of the records

    source = (files("atlas_ops") / "assets" / "site.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["link"] = lambda path: f"{quote(base)}/{quote(path)}" if path else ""
    pictures = {one.database: list(_pictures(one)) for one in found}
    page = environment.from_string(source).render(
        dashboards=sorted(
            pages,
            key=lambda one: (dashboard.LEVELS.index(one.level) if one.level in dashboard.LEVELS else 9, one.database),
        ),
        worst=dashboard.worst(pages),
        pictures=pictures,
        at=at,
        duration=duration,
    )
    record.require_no_password(page, "The page of the site holds a password and was not kept.")
    return page


def _pictures(shelf: Shelf) -> Iterator[Picture]:
    """Runway, sizes and query ratios, where records tell of them."""
    runways, sizes = dashboard.runways(shelf.records), dashboard.sizes(shelf.records)
    _, ratios = dashboard.ratios(shelf.records)
    if runways:
        yield _picture(trend_charts.runways(runways))
    if sizes:
        yield _picture(trend_charts.sizes(sizes))
    if ratios:
        yield _picture(query_charts.query_ratios(ratios))


def _picture(chart: Chart) -> Picture:
    width, _ = struct.unpack(">II", chart.png[16:24])
    return Picture(base64.b64encode(chart.png).decode(), round(width / _SCALE), chart.summary)


def _linked(pages: Sequence[Dashboard]) -> Iterator[str]:
    """Every record that the page links to, and its notebook."""
    for page in pages:
        told: list[Told] = [
            *page.loose,
            *(line.record for line in page.scorecard if line.record),
            *([page.look] if page.look else []),
        ]
        yield from (path for one in told for path in (one.page, one.notebook) if path)
        yield from (cell.link for _, cells in page.verdicts for cell in cells if cell.link)


def _copy(records: Path, folder: Path, paths: Iterator[str]) -> None:
    """Each file once, under another name until it is whole; one that is there already is left as it is: a record never changes."""
    for path in dict.fromkeys(paths):
        target = folder / path
        if target.exists() and target.stat().st_size == (records / path).stat().st_size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        shutil.copyfile(records / path, part)
        part.replace(target)


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return part.replace(path)
