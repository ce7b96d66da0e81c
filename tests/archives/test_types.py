"""A value of every type comes back from either form as it was, to the letter; what Parquet cannot hold is text there, and all else is what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pyarrow.parquet
import pytest
from archives import everything
from archives.road import Road

NATIVE = {
    "bool": "bool", "int2": "int16", "int4": "int32", "int8": "int64", "oid": "int64", "float4": "float", "float8": "double",
    "date": "date32[day]", "timestamp": "timestamp[us]", "timestamptz": "timestamp[us, tz=UTC]", "timestamptz(3)": "timestamp[us, tz=UTC]",
}  # fmt: skip


def unbuilt(db: Any) -> tuple[str, ...]:
    """The types that this server was not built with."""
    with psycopg.connect(db.conninfo, autocommit=True) as conn:
        try:
            conn.execute("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            return ("xml",)
    return ()


@pytest.fixture
def everything_there_is(empty: Any, road: Callable[..., Road]) -> Road:
    found = road(empty, *everything.made(unbuilt(empty)), table="everything", partition_key="at")
    found.migrate()
    return found


def content(road: Road) -> list[tuple[str | None, ...]]:
    """Each value of each row as the server prints it, and each type."""
    names = [everything.name(each) for each in everything.VALUES if each not in unbuilt(road.db)]
    return road.rows("public.everything_partitioned", ["id", "at", *names])


def test_the_table_has_a_column_of_every_type_there_is(everything_there_is: Road) -> None:
    """Of the server's: base, range and multirange types. What has none is internal."""
    with psycopg.connect(everything_there_is.db.conninfo) as conn:
        there = {
            name
            for (name,) in conn.execute(
                "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A' "
                "AND typrelid = 0"
            )
        }
        stored = {
            name
            for (name,) in conn.execute(
                "SELECT t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = 'everything'::regclass"
            )
        }
    assert there - stored - everything.INTERNAL == set(unbuilt(everything_there_is.db))


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_every_value_comes_back_from_either_form(everything_there_is: Road, form: str) -> None:
    road = everything_there_is
    before, values = (road.digest(), road.ledger()), content(road)
    names = road.away()
    assert len(names) == 2 and road.digest()[0] == 0
    road.restore(*names, form=form)
    assert (road.digest(), road.ledger()) == before
    after = content(road)
    assert after == values
    assert len(values) == everything.ROWS
    [empty_row] = [row for row in values if row[0] == "1"]
    assert set(empty_row[2:]) == {None}


def test_what_parquet_holds_is_stored_as_such_and_all_else_as_text(everything_there_is: Road) -> None:
    road = everything_there_is
    [name, _] = road.detach()
    road.export()
    store = road.archive.kept
    assert store.local is not None
    schema = pyarrow.parquet.read_schema(store.local / road.month(name).export.files["parquet"].name)
    columns = {
        each: str(schema.field(everything.name(each).strip('"')).type)
        for each in everything.VALUES
        if each not in unbuilt(road.db)
    }
    assert columns == {each: NATIVE.get(each, "string") for each in columns}
    told = {field.name: (field.metadata or {})[b"postgresql_type"].decode() for field in schema}
    assert (
        told["numeric(30,10)"] == "numeric(30,10)"
        and told["place[]"] == "public.place[]"
        and told["timestamptz far"] == "timestamp with time zone"
    )
