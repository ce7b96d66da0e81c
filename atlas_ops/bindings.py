"""The values a workload's query is asked with, from the data; and what the server says against a query, in our words.

Values stay the server's own text: Python has no datetime for infinity, and needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg

from atlas_ops import queryplan
from atlas_ops.comparison import Failure
from atlas_ops.database import identifier, translate
from atlas_ops.workload import MOST_BINDINGS, Query, statement


@dataclass(frozen=True, slots=True)
class Values:
    """The parameters of a query: rows of values, each as the text the server wrote, and their types."""

    rows: tuple[Mapping[str, str | None], ...]
    types: Mapping[str, str]


@contextmanager
def rolled_back(connection: psycopg.Connection, search_path: str) -> Iterator[None]:
    """A transaction that is rolled back whatever happens, in which the application's names are found."""
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('search_path', %s, true)", (search_path,))
        yield


def bound(connection: psycopg.Connection, query: Query, table: str, search_path: str) -> Values | Failure:
    """The parameters of a query, from the original `table` (quoted): both sides get the same."""
    if query.bindings is None:
        return Values(({},), {})
    # in a sub-select it can only read; one row more than there may be tells that there are too many
    text = f"SELECT * FROM (\n{statement(query.bindings, table, {})}\n) AS bindings LIMIT %(most)s"  # noqa: S608
    try:
        with rolled_back(connection, search_path):
            found = _values(connection, connection.execute(text.encode(), {"most": MOST_BINDINGS + 1}))
    except psycopg.Error as error:
        failure = failure_of(error, connection, query)
        return replace(failure, what=f"bindings: {failure.what}")
    if not found.rows:
        return Failure("bindings found no row.")
    if len(found.rows) > MOST_BINDINGS:
        return Failure(f"bindings found more than {MOST_BINDINGS} rows; let it end with LIMIT 3.")
    return found


def extended(
    connection: psycopg.Connection, values: Values, more: Sequence[tuple[str, str]], table: str, search_path: str
) -> Values:
    """Each row with further values: `more` names them, and tells the SQL that fetches each. Raises psycopg's errors."""
    if not more:
        return values
    asked = ", ".join(f"({statement(text, table, values.types)}) AS {identifier(name)}" for name, text in more)
    rows, types = [], dict(values.types)
    for row in values.rows:
        with rolled_back(connection, search_path):
            found = _values(connection, connection.execute(f"SELECT {asked}".encode(), row))
        rows.append({**row, **found.rows[0]})
        types |= found.types
    return Values(tuple(rows), types)


def _values(connection: psycopg.Connection, cursor: psycopg.Cursor) -> Values:
    columns, result = cursor.description or (), cursor.pgresult
    assert result is not None
    rows = [
        {column.name: result.get_value(number, i) for i, column in enumerate(columns)}
        for number in range(cursor.rowcount)
    ]
    return Values(
        tuple({name: None if value is None else bytes(value).decode() for name, value in row.items()} for row in rows),
        {column.name: _type_name(connection, column.type_code) for column in columns},
    )


def _type_name(connection: psycopg.Connection, oid: int) -> str:
    row = connection.execute("SELECT format_type(%s::oid, NULL)", (oid,)).fetchone()
    assert row is not None
    return str(row[0])


# What the server says against a query


_WHAT = {
    "22023": "the role is not there, or a value is none that PostgreSQL takes.",
    "25006": "it writes, and the workload does not say writes: true.",
    "42501": "the role lacks a right.",
    "42P10": "no unique constraint fits ON CONFLICT: on the partitioned table it holds the partition key too,"
    " so write sql_partitioned.",
    "55P03": "somebody else held a lock for longer than lock_timeout.",
    "57014": "statement_timeout ended it, or somebody cancelled it.",
}


def failure_of(error: psycopg.Error, connection: psycopg.Connection, query: Query) -> Failure:
    """A failure of a query, in our words and names of objects: a server's message may quote a row's values.

    Raises AtlasError where the connection is lost, and whatever is no answer of the server's.
    """
    if connection.closed:
        raise translate(error, f"Measuring {query.name}") from None
    state = error.sqlstate
    if state is None:
        raise error
    if state in _WHAT:
        return Failure(_WHAT[state], state)
    if state.startswith("42"):  # syntax and names: what the server says is of the SQL, not of rows
        message = queryplan.without_literals((error.diag.message_primary or "").splitlines()[0])
        return Failure(f"{message}.", state)
    named = ".".join(filter(None, (error.diag.table_name, error.diag.constraint_name)))
    return Failure(f"{type(error).__name__}{f' ({named})' if named else ''}.", state)
