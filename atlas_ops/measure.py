"""Asks both tables the queries of a workload, under EXPLAIN (ANALYZE), and hands the plans to `explain`.

Every statement runs in a transaction of its own that is rolled back, reads on a read-only connection. What a
transaction cannot take back stays: sequences advance, a few dead rows wait for vacuum, and a trigger that
reaches out of the database has done so. Locks last for the one statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from atlas_ops import explain
from atlas_ops.database import Session, connect, identifier, translate
from atlas_ops.errors import AtlasError
from atlas_ops.explain import Document, Failure, QueryResult, Side
from atlas_ops.spec import TableSpec
from atlas_ops.workload import Query, asks, parameters, statement

STATEMENT_TIMEOUT_MS = 30_000
MOST_REPEATS = 1_000


@dataclass(frozen=True, slots=True)
class _Binding:
    """The parameters of a query: each value as the text the server wrote, and its type."""

    values: Mapping[str, str | None]
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Question:
    """A query as one of the two tables is asked it."""

    query: Query
    statement: str  # for psycopg
    claims: str | None  # an expression for psycopg
    values: Mapping[str, str | None]
    search_path: str


def workload(where: Session, spec: TableSpec, queries: Sequence[Query], repeat: int = 3) -> tuple[QueryResult, ...]:
    """Measure those of `queries` that ask the table of `spec`, on the original and on the partitioned table.

    Each side is asked once to warm the cache, `repeat` times (1 to 1,000) in turn with the other, and once
    more with its nodes timed. A query that fails, or runs over 30 s (or the session's own statement_timeout),
    is a result with a `failure`. Raises AtlasError where there is no partitioned table or the connection is
    lost.
    """
    if not 1 <= repeat <= MOST_REPEATS:
        raise AtlasError(
            what=f"repeat is {repeat}.",
            why=f"A query is measured 1 to {MOST_REPEATS:,} times.",
            next="Write repeat=3, or more where the figures waver.",
        )
    where = replace(where, statement_timeout_ms=where.statement_timeout_ms or STATEMENT_TIMEOUT_MS)
    asked = [query for query in queries if asks(query, spec)]
    with ExitStack() as connections:
        reader = connections.enter_context(connect(where))
        bench = _Bench(spec, _leaves(reader, spec), reader, reader)
        if any(query.writes for query in asked):
            writer = connections.enter_context(connect(where, write=True))
            writer.execute(
                "SET atlas_ops.writes = 'allowed'"
            )  # a copy that follows refuses others; these are rolled back
            bench = replace(bench, writer=writer)
        return tuple(bench.compare(query, repeat) for query in asked)


def _leaves(connection: psycopg.Connection, spec: TableSpec) -> frozenset[str]:
    """The names of the leaf partitions."""
    table = identifier(*spec.partitioned_at)
    found = connection.execute(
        "SELECT c.relname::text FROM pg_partition_tree(to_regclass(%s)) AS t"
        " JOIN pg_class AS c ON c.oid = t.relid WHERE t.isleaf AND t.level > 0",
        (table,),
    ).fetchall()
    if not found:
        raise AtlasError(
            what=f"{table} is not there, or has no partitions.",
            why="A query is asked of both tables: both must be there and hold the same rows.",
            next="Run 02 Apply migration, then 03 Verify counts.",
        )
    return frozenset(name for (name,) in found)


@dataclass(frozen=True, slots=True)
class _Bench:
    """Both tables, and the connections to ask them on."""

    spec: TableSpec
    leaves: frozenset[str]
    reader: psycopg.Connection
    writer: psycopg.Connection

    @property
    def search_path(self) -> str:
        """Where the application's unqualified names are found."""
        return ", ".join(dict.fromkeys((identifier(self.spec.schema), identifier("public"))))

    def compare(self, query: Query, repeat: int) -> QueryResult:
        """Ask both tables in turn."""
        spec = self.spec
        original = identifier(*spec.original_at)
        partitioned = identifier(*spec.partitioned_at)
        bound = _bound(self.reader, query, original, self.search_path)
        sides = (
            self._asked(query, query.sql, original, bound),
            self._asked(query, query.sql_partitioned or query.sql, partitioned, bound),
        )
        for asked in sides:
            asked.ask()  # fills the cache, and the catalog caches that an application's connections have full
        for number in range(repeat):
            for asked in sides if number % 2 == 0 else sides[::-1]:  # neither side is always the second
                asked.run()
        return QueryResult(
            query,
            spec.partition_key,
            original=sides[0].side(frozenset(), spec.partition_key),
            partitioned=sides[1].side(self.leaves, spec.partition_key),
        )

    def _asked(self, query: Query, text: str, table: str, bound: _Binding | Failure) -> _Asked:
        question = bound if isinstance(bound, Failure) else _question(query, text, table, bound, self.search_path)
        return _Asked(self.writer if query.writes else self.reader, question)


class _Asked:
    """One side of a query, asked again and again until it fails."""

    def __init__(self, connection: psycopg.Connection, question: _Question | Failure) -> None:
        self.connection, self.question = connection, question
        self.runs: list[Document] = []

    def ask(self, *, timed: bool = False) -> Document | None:
        """The plan of one run; None if this or one before failed."""
        if isinstance(self.question, Failure):
            return None
        found = _explained(self.connection, self.question, timed=timed)
        if isinstance(found, Failure):
            self.question = found
            return None
        return found

    def run(self) -> None:
        """One run that counts: the clock is not read at every node, which would cost the larger plan more."""
        if document := self.ask():
            self.runs.append(document)

    def side(self, leaves: frozenset[str], key: str) -> Side:
        """What the runs came to, after one more whose nodes are timed."""
        timed = self.ask(timed=True)
        if isinstance(self.question, Failure):
            return Side(failure=self.question)
        assert timed is not None
        return explain.side(self.runs, timed, leaves, key)


def _question(query: Query, text: str, table: str, binding: _Binding, search_path: str) -> _Question | Failure:
    missing = [name for part in (text, query.claims or "") for name in parameters(part) if name not in binding.types]
    if missing:
        return Failure(f"bindings has no column {missing[0]}, which the SQL asks for.")
    claims = statement(query.claims, table, binding.types) if query.claims else None
    return _Question(query, statement(text, table, binding.types), claims, binding.values, search_path)


def _bound(connection: psycopg.Connection, query: Query, table: str, search_path: str) -> _Binding | Failure:
    """The parameters, from the original table: both sides get the same.

    Values stay the server's own text: Python has no datetime for infinity, and needs none.
    """
    if query.bindings is None:
        return _Binding({}, {})
    # in a sub-select it can only read; two rows are enough to know that there is more than one
    text = f"SELECT * FROM (\n{statement(query.bindings, table, {})}\n) AS bindings LIMIT %(most)s"  # noqa: S608
    try:
        with _one_statement(connection, search_path):
            cursor = connection.execute(text, {"most": 2})
            columns, result = cursor.description or (), cursor.pgresult
            if cursor.rowcount != 1 or result is None:
                found = "no row" if cursor.rowcount == 0 else "more than one row; let it end with LIMIT 1"
                return Failure(f"bindings found {found}.")
            raw = {column.name: result.get_value(0, i) for i, column in enumerate(columns)}
            types = {column.name: _type_name(connection, column.type_code) for column in columns}
    except psycopg.Error as error:
        failure = _failure(error, connection, query)
        return replace(failure, what=f"bindings: {failure.what}")
    values = {name: None if value is None else bytes(value).decode() for name, value in raw.items()}
    return _Binding(values, types)


def _type_name(connection: psycopg.Connection, oid: int) -> str:
    row = connection.execute("SELECT format_type(%s::oid, NULL)", (oid,)).fetchone()
    assert row is not None
    return str(row[0])


@contextmanager
def _one_statement(connection: psycopg.Connection, search_path: str) -> Iterator[None]:
    """A transaction that is rolled back whatever happens, in which the application's names are found."""
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('search_path', %s, true)", (search_path,))
        yield


def _explained(connection: psycopg.Connection, question: _Question, *, timed: bool) -> Document | Failure:
    """The plan of one run, planned for these values as a statement is that nobody prepared."""
    query = question.query
    options = ["ANALYZE", "BUFFERS", "SETTINGS", f"TIMING {'ON' if timed else 'OFF'}", "FORMAT JSON"]
    options += ["WAL"] if query.writes else []
    text = f"EXPLAIN ({', '.join(options)}) {question.statement}"
    try:
        with _one_statement(connection, question.search_path):
            if question.claims is not None:
                claims = f"SELECT set_config('request.jwt.claims', ({question.claims})::text, true)"
                connection.execute(claims, question.values, binary=True)
            if query.role is not None:
                connection.execute("SET LOCAL row_security = on")
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(query.role)))
            # binary: psycopg then takes the extended protocol, which runs one statement and no second
            row = connection.execute(text, question.values, binary=True).fetchone()
    except psycopg.Error as error:
        return _failure(error, connection, query)
    assert row is not None
    document: dict[str, Any] = row[0][0]
    return document


_WHAT = {
    "22023": "the role is not there, or a value is none that PostgreSQL takes.",
    "25006": "it writes, and the workload does not say writes: true.",
    "42501": "the role lacks a right.",
    "42P10": "no unique constraint fits ON CONFLICT: on the partitioned table it holds the partition key too,"
    " so write sql_partitioned.",
    "55P03": "somebody else held a lock for longer than lock_timeout.",
    "57014": "statement_timeout ended it, or somebody cancelled it.",
}


def _failure(error: psycopg.Error, connection: psycopg.Connection, query: Query) -> Failure:
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
        message = explain.without_literals((error.diag.message_primary or "").splitlines()[0])
        return Failure(f"{message}.", state)
    named = ".".join(filter(None, (error.diag.table_name, error.diag.constraint_name)))
    return Failure(f"{type(error).__name__}{f' ({named})' if named else ''}.", state)
