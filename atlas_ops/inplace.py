"""Asks an archive where it lies: DuckDB over the Parquet files, a view a table. Nothing is restored, nothing is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from atlas_ops import parquet
from atlas_ops.errors import AtlasError
from atlas_ops.manifest import Month
from atlas_ops.months import Archive
from atlas_ops.store import Store
from atlas_ops.tables import Table

MEMORY = "1GB"


@contextmanager
def opened(archives: Sequence[Archive]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with a view a table, by the schema and name that it has in PostgreSQL; text in types to calculate with where that is sure."""
    with duckdb.connect(
        ":memory:", config={"memory_limit": MEMORY, "autoinstall_known_extensions": False}
    ) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schemas = []
        for each in archives:
            parts = [_part(connection, each.kept, month) for month in _whole(each)] if each.store is not None else []
            if parts:
                schema = _quoted(each.spec.schema)
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                connection.execute(
                    f"CREATE VIEW {schema}.{_quoted(each.spec.name)} AS {' UNION ALL BY NAME '.join(parts)}"
                )
                schemas.append(each.spec.schema)
        if schemas:
            path = ",".join(_quoted(schema) for schema in dict.fromkeys(schemas))
            connection.execute("SET search_path = " + _literal(path))
        yield connection


def ask(archives: Sequence[Archive], query: str) -> Table:
    """What a query of DuckDB's SQL answers. Raises AtlasError for one that fails; the message never holds a value of a row."""
    with opened(archives) as connection:
        try:
            found = connection.execute(query)
            columns = [column[0] for column in found.description or []]
            return Table(list(columns), found.fetchall())
        except duckdb.Error as error:
            raise _refused(error) from None


def rows_per_month(archives: Sequence[Archive]) -> list[tuple[str, str, int]]:
    """(table, YYYY-MM, rows) as the files have them, for `charts.rows_per_month`."""
    found = []
    with opened(archives) as connection:
        for each in archives:
            if each.store is None or not _whole(each):
                continue
            table = f"{_quoted(each.spec.schema)}.{_quoted(each.spec.name)}"
            key = _quoted(each.spec.partition_key)
            query = f"SELECT coalesce(strftime({key}, '%Y-%m'), 'no key') AS month, count(*) FROM {table} GROUP BY 1 ORDER BY 1"  # noqa: S608
            try:
                counted = connection.execute(query).fetchall()
            except duckdb.Error as error:
                raise _refused(error) from None
            found += [(each.spec.table, month, rows) for month, rows in counted]
    return found


def _whole(found: Archive) -> list[Month]:
    """The months whose Parquet file is there; one that was cut says so when it is read."""
    return [month for month in found.months.values() if found.kept.size(month.export.files["parquet"].name) is not None]


def _part(connection: duckdb.DuckDBPyConnection, store: Store, month: Month) -> str:
    export = month.export
    name = export.files["parquet"].name
    fields = ", ".join(f"{parquet.read_as(field)} AS {_quoted(field.name)}" for field in export.fields)
    return f"SELECT {fields} FROM read_parquet({_literal(store.readable(connection, name))})"  # noqa: S608


def _refused(error: duckdb.Error) -> AtlasError:
    first = (str(error).splitlines() or [""])[0]
    return AtlasError(
        what="The archive could not be asked.",
        why=re.sub(r"\"[^\"]*\"|'[^']*'", "…", first) if "Conversion" in first or "Invalid Input" in first else first,
        next="It is DuckDB's SQL, over the tables that were exported: SELECT * FROM duckdb_views() WHERE NOT internal.",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
