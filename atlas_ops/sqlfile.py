"""Reads the package's `.sql` files, once each. The folders and their rules are told in `sql/README.md`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from psycopg import sql

ROOT = files(__package__) / "sql"


@cache
def text(folder: str, name: str) -> str:
    """The text of `sql/<folder>/<name>.sql`."""
    return (ROOT / folder / f"{name}.sql").read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    """The names of the files in a folder, without `.sql`, sorted."""
    return sorted(entry.name.removesuffix(".sql") for entry in (ROOT / folder).iterdir() if entry.name.endswith(".sql"))


def template(name: str, **parts: sql.Composable) -> sql.Composed:
    """`sql/template/<name>.sql` with its `{part}`s filled in; a part is an Identifier, a Literal or composed of them."""
    return sql.SQL(text("template", name)).format(**parts)
