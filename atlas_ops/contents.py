"""Whether a table holds the rows of an archive: what to ask, and the statement that refuses. Pure.

The digest is that of `verify`, in the form that is the same on every server, over the columns that are archived: generated ones follow from
them. It is computed by the server before anything is exported, and again from what was restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from atlas_ops import bounds, parquet, sqlfile
from atlas_ops.definition import name, raw, text
from atlas_ops.model import Column
from atlas_ops.parquet import Field
from atlas_ops.verify import content_hash, exact


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: one row of `sql/template/archive_figures.sql`."""

    rows: int
    content: int  # the sum of the rows' hashes
    lowest: str | None  # of the key, as text in UTC; None: no row
    highest: str | None
    beyond: tuple[str, ...] = ()  # columns with a time that Parquet cannot hold
    outside: int = 0  # rows that are not of the table's bound


def hashed(fields: Sequence[Field]) -> sql.Composed:
    """The hash of the row `r`."""
    return content_hash([exact(field, anywhere=True) for field in fields])


def figures_query(schema: str, table: str, columns: Sequence[Column], key: str, bound: str) -> sql.Composed:
    """One row of `Contents` of a table that has, or had, that bound."""
    return sqlfile.template(
        "archive_figures",
        content_hash=hashed(parquet.fields_of(columns)),
        key=name("r", key),
        beyond=parquet.beyond(columns),
        inside=raw(bounds.condition(bound, text(name("r", key)))),
        table=name(schema, table),
    )


def sums(table: sql.Identifier, fields: Sequence[Field]) -> sql.Composed:
    """The query of one row: how many rows a table holds, and the digest of their content. Of parts of a table, both add up."""
    return sqlfile.template("archive_sums", content_hash=hashed(fields), table=table)


def same_statement(found: sql.Composed, rows: int, content: int, *, what: str, cure: str) -> str:
    """Raises XX001 in the server, and with it rolls the transaction back, where `found`, a query as `sums` is one, finds other rows."""
    return text(
        sqlfile.template(
            "archive_same",
            found=found,
            rows=sql.Literal(rows),
            content=sql.SQL(str(content)),
            what=sql.Literal(what),
            cure=sql.Literal(cure),
        )
    )
