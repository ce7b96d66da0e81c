"""Reads the package's `.sql` files, once each. The folders and their rules are told in `sql/README.md`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from psycopg import sql

ROOT = files(__package__) / "sql"
_TAG = re.compile(r"\$(\w+)\$")


@cache
def text(folder: str, name: str) -> str:
    """The text of `sql/<folder>/<name>.sql`."""
    return (ROOT / folder / f"{name}.sql").read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    """The names of the files in a folder, without `.sql`, sorted."""
    return sorted(entry.name.removesuffix(".sql") for entry in (ROOT / folder).iterdir() if entry.name.endswith(".sql"))


def template(name: str, **parts: sql.Composable) -> sql.Composed:
    """`sql/template/<name>.sql` with its `{part}`s filled in; a part is an Identifier, a Literal or composed of them."""
    return filled(text("template", name), **parts)


def filled(statement: str, **parts: sql.Composable) -> sql.Composed:
    """A statement with its `{part}`s filled in. Where a part holds the tag of one of its dollar quotes, which would end there, the tag
    grows until it stands in no part: a table may be called `$do$`."""
    written = "\n".join(part.as_string(None) for part in parts.values())
    for tag in set(_TAG.findall(statement)):
        fresh = tag
        while f"${fresh}$" in written:
            fresh += "_"
        statement = statement.replace(f"${tag}$", f"${fresh}$")
    return sql.SQL(statement).format(**parts)
