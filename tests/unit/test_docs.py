"""The pages in docs/ say what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic.fields import FieldInfo

from atlas_ops import metrics
from atlas_ops.settings import Settings
from atlas_ops.spec import TableSpec
from atlas_ops.thresholds import FIGURES

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def described(heading: str) -> dict[str, str]:
    """Key and default of each row of the table below a heading of docs/parameters.md, in its order."""
    page = (ROOT / "docs" / "parameters.md").read_text()
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| \S.* \|$", section, re.MULTILINE)
    return {key: default.strip("`") for key, default in rows}


def declared(fields: dict[str, FieldInfo]) -> dict[str, str]:
    """Key and default of each field, as YAML writes them."""
    return {field.alias or name: _written(field) for name, field in fields.items()}


def _written(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory:
        return "by every"  # keep
    return field.default if field.default and isinstance(field.default, str) else json.dumps(field.default)


def test_every_key_of_a_table_is_described_with_its_default() -> None:
    fields = cast(Any, TableSpec).__pydantic_fields__
    assert list(described("A table").items()) == list(declared(fields).items())


def test_every_key_of_a_parameters_file_is_described_with_its_default() -> None:
    assert list(described("The file").items()) == list(declared(Settings.model_fields).items())


def test_every_figure_is_described_with_its_thresholds_and_its_metric() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \| `(\w+)` \|$", page, re.MULTILINE)

    def written(name: str, bound: float | None) -> str:
        return "by `ahead`" if name == "runway" else "never" if bound is None else str(int(bound))

    assert rows == [
        (
            name,
            f"{watch.unit} {watch.what}",
            written(name, watch.warning),
            written(name, watch.critical),
            metrics.name_of(name),
        )
        for name, watch in FIGURES.items()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
