"""Each type is stored where every value of it is held exactly, and as text everywhere else."""

from __future__ import annotations

import json

import pytest

from atlas_ops import parquet
from atlas_ops.definition import text
from atlas_ops.export import ARROW, read_csv
from atlas_ops.model import Column


def column(name: str, type_: str, base: str | None = None, kind: str = "b", generated: str = "") -> Column:
    return Column(name, type_, base or type_, kind, False, None, "", generated, None, None, None)


@pytest.mark.parametrize(
    ("type_", "base", "kind", "stored", "read"),
    [
        ("boolean", "bool", "b", "bool", '"c"'),
        ("smallint", "int2", "b", "int16", '"c"'),
        ("bigint", "int8", "b", "int64", '"c"'),
        ("real", "float4", "b", "float", '"c"'),
        ("double precision", "float8", "b", "double", '"c"'),
        ("date", "date", "b", "date32[day]", '"c"'),
        ("timestamp(3) without time zone", "timestamp", "b", "timestamp[us]", '"c"'),
        ("timestamp with time zone", "timestamptz", "b", "timestamp[us, tz=UTC]", "(\"c\" AT TIME ZONE 'UTC')"),
        ("numeric(10,4)", "numeric", "b", "string", 'TRY_CAST("c" AS DECIMAL(10,4))'),
        ("numeric(50,4)", "numeric", "b", "string", '"c"'),
        ("numeric", "numeric", "b", "string", '"c"'),
        ("time without time zone", "time", "b", "string", '"c"'),
        ("interval", "interval", "b", "string", '"c"'),
        ("uuid", "uuid", "b", "string", 'TRY_CAST("c" AS UUID)'),
        ("bytea", "bytea", "b", "string", '"c"'),
        ("jsonb", "jsonb", "b", "string", 'TRY_CAST("c" AS JSON)'),
        ("money", "money", "b", "string", '"c"'),
        ("integer[]", "_int4", "b", "string", '"c"'),
        ("public.mood", "mood", "e", "string", '"c"'),
        ("public.code", "text", "d", "string", '"c"'),
        ("public.count", "int4", "d", "string", '"c"'),
        ("public.int4", "int4", "b", "string", '"c"'),
        ("tstzrange", "tstzrange", "r", "string", '"c"'),
    ],
)
def test_a_type_is_stored_exactly(type_: str, base: str, kind: str, stored: str, read: str) -> None:
    field = parquet.field_of(column("c", type_, base, kind))
    assert (field.stored, parquet.read_as(field)) == (stored, read)
    assert str(ARROW[stored]) == stored
    assert parquet.from_json(json.loads(json.dumps(parquet.as_json([field])))) == (field,)


def test_a_time_beyond_the_calendar_makes_its_column_text() -> None:
    columns = [
        column("at", "timestamp with time zone", "timestamptz"),
        column("day", "date"),
        column("twice", "integer", "int4", generated="s"),
    ]
    fields = parquet.fields_of(columns, ["at"])
    assert [(field.name, field.stored) for field in fields] == [("at", "string"), ("day", "date32[day]")]
    assert parquet.read_as(fields[0]) == 'TRY_CAST("at" AS TIMESTAMP)'
    assert [each.name for each in parquet.times(columns)] == ["at", "day"]
    assert text(parquet.beyond(columns)).count("bool_or") == 2
    assert text(parquet.beyond([])) == "array_remove(ARRAY[]::text[], NULL)"


def test_null_and_an_empty_text_and_a_blank_line_are_told_apart() -> None:
    [one] = parquet.fields_of([column("c", "text")])
    assert read_csv(b'\n""\n" "\n"\\."\nNULL\n', [one])["c"].to_pylist() == [None, "", " ", "\\.", "NULL"]
