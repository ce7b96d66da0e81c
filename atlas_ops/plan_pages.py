"""The plans of an executed notebook as pages beside it: drawn by pev2, they open without Jupyter and without a network.

`plans/<notebook>/<query>_<side>.html`, the plan as EXPLAIN printed it in the `.json` of that name, and an `index.html`.
What draws them lies once in `plans/assets/`, for all the notebooks of a folder.

A cell shows plans as an output of type `MIME`: {"plans": [{"query", "side", "title", "sql", "plan"}, ...]}, the plan being
one document of EXPLAIN (FORMAT JSON), masked of its literals by whoever shows it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from atlas_ops import record
from atlas_ops.errors import AtlasError

MIME = "application/vnd.atlas.plans+json"
INDEX = "index.html"
_LONGEST_NAME = 80  # characters of a file's name, which may be 255 bytes with its ending and its number


class _Shown(BaseModel):
    """A plan as a cell shows it."""

    model_config = ConfigDict(strict=True, frozen=True)

    query: str
    side: str
    title: str = ""
    sql: str = ""
    plan: dict[str, Any]

    @field_validator("plan")
    @classmethod
    def _document(cls, plan: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(plan.get("Plan"), dict):
            raise ValueError("no document of EXPLAIN (FORMAT JSON)")
        return plan


class _Output(BaseModel):
    """The content of an output of type MIME."""

    plans: list[_Shown]


@dataclass(frozen=True, slots=True)
class _Page:
    """A plan with the name of its files, without ending."""

    name: str
    query: str
    side: str
    title: str
    sql: str
    document: Mapping[str, Any]

    def milliseconds(self, key: str) -> str:
        """A time of the whole statement; nothing where it was planned only."""
        value = self.document.get(key)
        return f"{value:,.3f}" if isinstance(value, int | float) else ""


def write(notebook: Path) -> list[Path]:
    """Write the pages of the plans that an executed notebook shows; returns the index, then each plan's page and JSON.

    A notebook without plans gets none: the list is empty. What an earlier call left there is replaced, and what is no
    longer shown goes. Raises AtlasError where the notebook cannot be read, holds a password of this machine's libpq
    files, or the folder cannot be written to: then nothing is there that was not there before, or what is complete.
    """
    shown = list(_shown(notebook))
    pages = _named(shown)
    if not pages:
        return []
    # Before it is escaped for a page: what a page shows is all in here.
    everything = json.dumps([plan.model_dump() for plan in shown], ensure_ascii=False)
    record.require_no_password(everything, "The plans hold a password, and no page of them was written.")
    place = record.plans_folder(notebook)
    texts = {INDEX: _index(notebook, pages)}
    for page in pages:
        texts[f"{page.name}.html"] = _page(page, [other for other in pages if other.query == page.query])
        texts[f"{page.name}.json"] = json.dumps([page.document], indent=2, ensure_ascii=False) + "\n"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for asset in _assets():
            _put(place.parent / record.PLAN_ASSETS / asset.name, asset.read_bytes())
        for name, text in reversed(texts.items()):  # the index last: it leads to nothing that is not there
            _put(place / name, text.encode(errors="backslashreplace"))
        for old in place.iterdir():
            if old.suffix in (".html", ".json") and old.name not in texts:
                old.unlink()
    except OSError as error:
        raise AtlasError(
            what=f"The plans of {notebook.name} cannot be written to {place}.",
            why=f"{error.strerror}.",
            next="Cure the folder, then: atlas-ops plans " + str(notebook),
        ) from None
    return [place / name for name in texts]


def _shown(notebook: Path) -> Iterator[_Shown]:
    """Every plan that a cell shows, each once, in the order of the cells."""
    seen = []
    for output in record.outputs(_read(notebook)):
        if MIME not in output.get("data", {}):
            continue
        try:
            plans = _Output.model_validate(output["data"][MIME]).plans
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "the output"
            raise AtlasError(
                what=f"The plans in {notebook.name} cannot be read.",
                why=f"{where} is not as this version writes it: {error.errors()[0]['msg']}.",
                next="Run the notebook again with this version.",
            ) from None
        for plan in plans:
            if plan not in seen:
                seen.append(plan)
                yield plan


def _read(notebook: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror
    except ValueError:
        why = "It is no JSON"
    else:
        if isinstance(content, dict) and isinstance(content.get("cells"), list):
            return content
        why = "It has no cells"
    raise AtlasError(
        what=f"The notebook {notebook} cannot be read.",
        why=f"{why}.",
        next="Give an executed notebook, such as records/demo/20261123T060000Z_explain_analysis.ipynb.",
    )


def _named(shown: Iterable[_Shown]) -> list[_Page]:
    """Pages with names that are a file's on every system, and differ there."""
    pages, taken = [], {Path(INDEX).stem}
    for plan in shown:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{plan.query}_{plan.side}").strip("._-")[:_LONGEST_NAME] or "plan"
        name, number = stem, 1
        while name.casefold() in taken:  # some file systems do not tell capitals
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        pages.append(_Page(name, plan.query, plan.side, plan.title, plan.sql, plan.plan))
    return pages


def _page(page: _Page, sides: Sequence[_Page]) -> str:
    return _rendered("plan.html.j2", plan=page, sides=sides)


def _index(notebook: Path, pages: Sequence[_Page]) -> str:
    kept = notebook.with_suffix(".html")
    return _rendered("plans.html.j2", notebook=notebook.name, plans=pages, record=kept.name if kept.exists() else "")


def _rendered(template: str, **values: Any) -> str:
    import jinja2  # noqa: PLC0415 - comes with nbconvert

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    # A plan's keys stand in the order in which PostgreSQL printed them.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    source = (files("atlas_ops") / "assets" / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def _assets() -> list[Traversable]:
    """What every page needs beside it, with the licences."""
    folder = files("atlas_ops") / "assets"
    return [folder / "plan.js", *(file for file in (folder / "pev2").iterdir() if not file.name.endswith(".md"))]


def _put(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; one that is there as it should be stays."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
