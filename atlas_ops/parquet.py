"""How each type of PostgreSQL is stored in Parquet, told once. Pure.

The server writes every value by its own output function under pinned settings (COPY ... CSV), so a value that is stored as text comes back
exactly: the input function is the inverse of the output function. Only types whose every value Parquet's own type holds exactly are stored in
that; the rest is text: numeric (its scale, NaN, infinity), interval, time (24:00:00), uuid, bytea, jsonb, arrays, enums, ranges, domains, ...

Times are stored as such where every value of the column lies between the years 1 and 9999. What does not (infinity, BC) is looked for in
the read that counts the rows; a column that holds one is stored as text as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from atlas_ops.definition import name
from atlas_ops.model import Column

TEXT = "string"
STORED: Mapping[str, str] = {
    "bool": "bool",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "oid": "int64",
    "float4": "float",
    "float8": "double",
    "date": "date32[day]",
    "timestamp": "timestamp[us]",
    "timestamptz": "timestamp[us, tz=UTC]",
}
"""pg_type → the Arrow type as Arrow prints it. What is not here is text."""

TIMES = frozenset({"date", "timestamp", "timestamptz"})
MOST_DIGITS = 38  # of a decimal in DuckDB


@dataclass(frozen=True, slots=True)
class Field:
    """A column as the archive holds it. Generated columns are no fields: the server computes them again."""

    name: str
    type: str  # as format_type prints it
    base_type: str  # typname below any domain
    type_kind: str
    stored: str = TEXT

    @property
    def builtin(self) -> bool:
        """A type that every server has: with an empty search_path all others are printed with their schema."""
        return "." not in self.type


def field_of(column: Column, beyond: Collection[str] = ()) -> Field:
    """The field of a column; `beyond`: the columns of time with a value that Parquet's own type cannot hold."""
    made = Field(column.name, column.type, column.base_type, column.type_kind)
    native = made.builtin and column.type_kind == "b" and column.name not in beyond
    stored = STORED.get(column.base_type, TEXT) if native else TEXT
    return Field(made.name, made.type, made.base_type, made.type_kind, stored)


def fields_of(columns: Iterable[Column], beyond: Collection[str] = ()) -> tuple[Field, ...]:
    """The fields of a table: its columns in their order, without generated ones."""
    return tuple(field_of(column, beyond) for column in columns if not column.generated)


def times(columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns that have to be looked through for values beyond the calendar."""
    return tuple(
        column for column in columns if column.base_type in TIMES and column.type_kind == "b" and not column.generated
    )


def beyond(columns: Iterable[Column]) -> sql.Composable:
    """SQL over the row `r`: the names of the columns that hold a time which Parquet cannot, as text[]."""
    looked = [
        sql.SQL("CASE WHEN bool_or(NOT ({0} >= '0001-01-01' AND {0} < '9999-12-31')) THEN {1} END").format(
            name("r", column.name), sql.Literal(column.name)
        )
        for column in times(columns)
    ]
    return sql.SQL("array_remove(ARRAY[{}]::text[], NULL)").format(sql.SQL(", ").join(looked))


def read_as(field: Field) -> str:
    """SQL of DuckDB that reads the field in a type to calculate with; text that is none becomes NULL."""
    column = '"' + field.name.replace('"', '""') + '"'
    if field.stored == "timestamp[us, tz=UTC]":
        return f"({column} AT TIME ZONE 'UTC')"  # a time without a zone, in UTC: needs no database of zones
    if field.stored != TEXT or field.type_kind != "b" or not field.builtin:
        return column
    wanted = _decimal(field.type) or {
        "uuid": "UUID", "date": "DATE", "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMP", "jsonb": "JSON", "json": "JSON",
    }.get(field.base_type)  # fmt: skip
    return f"TRY_CAST({column} AS {wanted})" if wanted else column


def _decimal(type_: str) -> str:
    """DECIMAL(p,s) for a numeric whose digits are limited; empty: any scale, which stays text."""
    found = re.fullmatch(r"numeric\((\d+),(\d+)\)", type_)
    return f"DECIMAL({found[1]},{found[2]})" if found and int(found[1]) <= MOST_DIGITS else ""


def as_json(fields: Sequence[Field]) -> list[dict[str, Any]]:
    """The fields as the manifest and the file's own metadata keep them."""
    return [asdict(field) for field in fields]


def from_json(kept: Iterable[Mapping[str, Any]]) -> tuple[Field, ...]:
    """The inverse of `as_json`."""
    return tuple(Field(**field) for field in kept)
