"""Asks both tables the queries of a workload, in turn, under EXPLAIN (ANALYZE), and hands the plans to `queryplan`.

Every statement runs in a transaction of its own that is rolled back, reads on a read-only connection. What a
transaction cannot take back stays: sequences advance, a few dead rows wait for vacuum, and a trigger that
reaches out of the database has done so. Locks last for the one statement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from atlas_ops import bindings, catalog, queryplan, sqlfile, timing
from atlas_ops.alternatives import Alternative, Alternatives, search_path
from atlas_ops.bindings import Values, failure_of
from atlas_ops.comparison import Failure, QueryResult, Side, Variant
from atlas_ops.database import Session, connect, identifier
from atlas_ops.errors import AtlasError
from atlas_ops.queryplan import Document, Leaves, PlanFigures
from atlas_ops.spec import TableSpec
from atlas_ops.timing import LEAST_PAIRS, MOST_PAIRS, Pair
from atlas_ops.workload import Query, asks, parameters, prepared, statement

STATEMENT_TIMEOUT_MS = 30_000
QUERY_S = 2.0
"""When a query has had its pairs, it is asked on for this long at most to narrow its interval."""
LONGEST_S = 60.0
"""A query that takes longer than this for its pairs is judged by those it had, five at least."""
FEWEST_PAIRS = 5
LOOKS = 2
NO_PLAN = (
    "the server's EXPLAIN (FORMAT JSON) is no JSON, so there is no plan to read: the statement ran and was rolled back. Ask the same in another way "
    "as sql_partitioned (MERGE as INSERT ... ON CONFLICT, or as UPDATE), or leave it out of the workload."
)
SERIALIZES = 170000  # EXPLAIN (SERIALIZE): the rows are turned into text, as they are for the application


@dataclass(frozen=True, slots=True)
class _Question:
    """A query as one of the two tables is asked it."""

    query: Query
    text: str  # as the workload writes it
    table: str
    values: Values
    search_path: str
    generic: bool = False

    @property
    def statement(self) -> str:
        """For psycopg."""
        return statement(self.text, self.table, self.values.types)


def workload(
    where: Session,
    spec: TableSpec,
    queries: Sequence[Query],
    pairs: int = LEAST_PAIRS,
    *,
    cold: bool = False,
    told: Callable[[Query], None] = lambda _: None,
) -> tuple[QueryResult, ...]:
    """Measure those of `queries` that ask the table of `spec`, on the original and on the partitioned table.

    Each way is asked once to warm the cache, then in turn with the others until there are `pairs` (1 to 100) of
    them and the interval is narrow, or 2 s have passed; and once more with its nodes timed. `cold` adds a run of
    each on empty shared buffers, where the server allows to empty them. `told` hears of each query that is done. A
    query that fails, or runs over 30 s (or the session's own statement_timeout), is a result with a `failure`. Raises
    AtlasError where there is no partitioned table or the connection is lost.
    """
    if not 1 <= pairs <= MOST_PAIRS:
        raise AtlasError(
            what=f"pairs is {pairs}.",
            why=f"A query is measured in 1 to {MOST_PAIRS} pairs.",
            next=f"Write pairs={LEAST_PAIRS}, or more where the intervals are wide.",
        )
    where = replace(where, statement_timeout_ms=where.statement_timeout_ms or STATEMENT_TIMEOUT_MS)
    asked = [query for query in queries if asks(query, spec)]
    with ExitStack() as connections:
        reader = connections.enter_context(connect(where))
        leaves, evictor = _leaves(reader, spec), _evictor(reader) if cold else None
        others = Alternatives.of(reader, spec, search_path(spec))
        leaves = replace(leaves, default=others.default_partition)
        bench = _Bench(spec, leaves, reader, reader, evictor, others)
        if any(query.writes for query in asked):
            writer = connections.enter_context(connect(where, write=True))
            # a copy that follows refuses the writes of others; these are rolled back
            writer.execute("SET atlas_ops.writes = 'allowed'")
            bench = replace(bench, writer=writer)
        results = []
        for query in asked:
            results.append(bench.compare(query, pairs))
            told(query)
        return tuple(results)


def _leaves(connection: psycopg.Connection, spec: TableSpec) -> Leaves:
    table = identifier(*spec.partitioned_at)
    found = catalog.leaf_indexes(connection, table)
    if not found:
        raise AtlasError(
            what=f"{table} is not there, or has no partitions.",
            why="A query is asked of both tables: both must be there and hold the same rows.",
            next="Run 02 Apply migration, then 03 Verify counts.",
        )
    return Leaves.of(found)


def _evictor(connection: psycopg.Connection) -> str:
    schema = catalog.buffer_eviction(connection)
    if schema is None:
        raise AtlasError(
            what="Shared buffers cannot be emptied here.",
            why="That takes pg_buffercache_evict: PostgreSQL 17 or later, the extension pg_buffercache, and a superuser.",
            next="Leave cold out. The blocks of a query on a warm cache are those it would read from a cold one.",
        )
    return schema


@dataclass(frozen=True, slots=True)
class _Bench:
    """Both tables, and the connections to ask them on."""

    spec: TableSpec
    leaves: Leaves
    reader: psycopg.Connection
    writer: psycopg.Connection
    evictor: str | None  # the schema of pg_buffercache
    alternatives: Alternatives

    @property
    def search_path(self) -> str:
        """Where the application's unqualified names are found."""
        return self.alternatives.search_path

    def compare(self, query: Query, pairs: int) -> QueryResult:
        """Ask both tables in turn."""
        original, partitioned = identifier(*self.spec.original_at), identifier(*self.spec.partitioned_at)
        values = bindings.bound(self.reader, query, original, self.search_path)
        text = query.sql_partitioned or query.sql
        before = self._asked(query, query.sql, original, values, Leaves())
        after = self._asked(query, text, partitioned, values, self.leaves)
        was_prepared = self._asked(query, query.sql, original, values, Leaves(), generic=True)
        generic = self._asked(query, text, partitioned, values, self.leaves, generic=True)
        others = [
            (each, self._asked(query, each.sql, partitioned, each.values, self.leaves))
            for each in self._others(query, values)
        ]
        ways = [before, after, was_prepared, generic, *(asked for _, asked in others)]
        _in_turn(ways, pairs)
        types = {} if isinstance(values, Failure) else values.types
        result = QueryResult(
            query,
            self.spec.partition_key,
            original=before.side(self.spec.partition_key, self.evictor),
            partitioned=after.side(self.spec.partition_key, self.evictor),
            timing=_timing(before, after),
            same_rows=_same_rows(before, after),
            generic=Variant(
                "generic plan",
                "planned once for any value, as a statement is that was prepared",
                text,
                generic.side(self.spec.partition_key, None),
                _timing(before, generic),
                same_rows=True,  # a plan of the same statement
            ),
            rewrites=tuple(
                Variant(
                    each.name,
                    each.description,
                    each.sql,
                    asked.side(self.spec.partition_key, None),
                    _timing(before, asked),
                    # of the table that both are asked of: what the copy has otherwise is no fault of the rewrite
                    _same_rows(before if isinstance(after.question, Failure) else after, asked),
                    each.counterexamples,
                )
                for each, asked in others
            ),
            prepared=_timing(was_prepared, generic),
            foreseen=self.alternatives.foreseen(query, types),
            index=self.alternatives.index(query, types),
        )
        for way in ways:
            way.forget()
        return result

    def _others(self, query: Query, values: Values | Failure) -> list[Alternative]:
        """The rewritten statements; none where the query itself cannot be asked."""
        if isinstance(values, Failure):
            return []
        try:
            return list(self.alternatives.of_query(self.reader, query, values))
        except psycopg.Error as error:
            failure_of(error, self.reader, query)  # a lost connection stops
            return []

    def _asked(
        self,
        query: Query,
        text: str,
        table: str,
        values: Values | Failure,
        leaves: Leaves,
        *,
        generic: bool = False,
    ) -> _Asked:
        connection = self.writer if query.writes else self.reader
        if isinstance(values, Failure):
            return _Asked(connection, values, leaves)
        missing = [name for part in (text, query.claims or "") for name in parameters(part) if name not in values.types]
        if missing:
            return _Asked(connection, Failure(f"bindings has no column {missing[0]}, which the SQL asks for."), leaves)
        return _Asked(connection, _Question(query, text, table, values, self.search_path, generic), leaves)


def _in_turn(ways: Sequence[_Asked], pairs: int) -> None:
    """Ask every way in turn, forwards and backwards by rounds (ABBA), until the first two can be told apart or time is up."""
    for way in ways:
        for number in range(way.rows):
            way.ask(number)  # fills the cache, and the catalog caches that an application's connections have full
    rows, begun = max(1, *(way.rows for way in ways)), time.perf_counter()
    for turn in range(MOST_PAIRS):
        if _enough(ways[0], ways[1], turn, pairs, time.perf_counter() - begun):
            break
        number, forwards = turn % rows, turn // rows % 2 == 0
        for way in ways if forwards else ways[::-1]:
            way.run(number)


def _enough(before: _Asked, after: _Asked, turns: int, pairs: int, seconds: float) -> bool:
    if isinstance(before.question, Failure) and isinstance(after.question, Failure):
        return True
    if turns < pairs:
        return turns >= FEWEST_PAIRS and seconds > LONGEST_S
    if seconds > QUERY_S or pairs < LEAST_PAIRS:
        return True
    found = _timing(before, after)
    return found is None or found.narrow


def _timing(before: _Asked, after: _Asked) -> timing.Timing | None:
    """Both ways' times with the same values, next to each other; None where one of them failed."""
    if isinstance(before.question, Failure) or isinstance(after.question, Failure):
        return None
    pairs = [
        Pair(
            number, first["Planning Time"] + first["Execution Time"], second["Planning Time"] + second["Execution Time"]
        )
        for (number, first), (_, second) in zip(before.runs, after.runs, strict=True)
    ]
    return timing.compared(pairs) if pairs else None


class _Asked:
    """One way to ask a query, asked again and again until it fails."""

    def __init__(self, connection: psycopg.Connection, question: _Question | Failure, leaves: Leaves) -> None:
        self.connection, self.question, self.leaves = connection, question, leaves
        self.runs: list[tuple[int, Document]] = []  # which of the values, and the plan
        self.locks = 0
        self._is_prepared = False
        self._name = f"atlas_ops_{id(self)}"  # of its prepared statement

    @property
    def rows(self) -> int:
        """How many rows of values there are."""
        return 0 if isinstance(self.question, Failure) else len(self.question.values.rows)

    def ask(self, number: int, *, timed: bool = False) -> Document | None:
        """The plan of one run with the values of that number; None if this or one before failed."""
        question = self.question
        if isinstance(question, Failure):
            return None
        try:
            with _one_statement(self.connection, question, number):
                if question.generic:
                    self._prepare(question)
                found = _explained(self.connection, question, number, self._name, timed=timed)
                if timed:
                    self.locks = catalog.locks_taken(self.connection, question.table)
        except psycopg.Error as error:
            self.question = failure_of(error, self.connection, question.query)
            return None
        except ValueError:
            self.question = Failure(NO_PLAN)
            return None
        return found

    def run(self, number: int) -> None:
        """One run that counts: the clock is not read at every node, which would cost the larger plan more."""
        if document := self.ask(number):
            self.runs.append((number, document))

    def _prepare(self, question: _Question) -> None:
        self.connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        if self._is_prepared:
            return
        types = ", ".join(question.values.types[name] for name in parameters(question.text))
        made = prepared(question.text, question.table, question.values.types)
        self.connection.execute(f"PREPARE {self._name}{f' ({types})' if types else ''} AS {made}".encode())
        self._is_prepared = True

    def forget(self) -> None:
        """Drop what was prepared: a prepared statement outlives its transaction."""
        if self._is_prepared:
            self.connection.execute(f"DEALLOCATE {self._name}".encode())
            self._is_prepared = False

    def side(self, key: str, evictor: str | None) -> Side:
        """What the runs came to, after one more whose nodes are timed."""
        timed = self.ask(0, timed=True)
        cold = self._cold(key, evictor) if evictor else None
        if isinstance(self.question, Failure):
            return Side(failure=self.question)
        assert timed is not None
        return Side(
            figures=self._figures(key),
            runs_ms=tuple(run["Planning Time"] + run["Execution Time"] for _, run in self.runs),
            plan=queryplan.masked(timed),
            leaves=self.leaves.names,
            shape=queryplan.shape(timed, self.leaves),
            locks=self.locks,
            cold=cold,
            unindexed=queryplan.unindexed(timed, self.leaves),
            unordered=queryplan.unordered(timed, self.leaves),
        )

    def _figures(self, key: str) -> PlanFigures:
        """Of each of the values the run with the median time speaks; then their average."""
        by_values: dict[int, list[PlanFigures]] = {}
        for number, run in self.runs:
            by_values.setdefault(number, []).append(queryplan.plan_figures(run, self.leaves.names, key))
        for found in by_values.values():
            found.sort(key=lambda each: each.total_ms)
        return queryplan.average([found[(len(found) - 1) // 2] for found in by_values.values()])

    def _cold(self, key: str, evictor: str) -> PlanFigures | None:
        if isinstance(self.question, Failure):
            return None
        table = sql.SQL("{}").format(sql.Literal(self.question.table))
        self.connection.execute(sqlfile.template("evict", table=table, schema=sql.Identifier(evictor)))
        found = self.ask(0)
        return queryplan.plan_figures(found, self.leaves.names, key) if found else None


# One statement


@contextmanager
def _one_statement(connection: psycopg.Connection, question: _Question, number: int) -> Iterator[None]:
    """A transaction that is rolled back whatever happens: the application's names are found, its role asks."""
    query, values = question.query, question.values.rows[number]
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('search_path', %s, true)", (question.search_path,))
        if query.claims is not None:
            claims = statement(query.claims, question.table, question.values.types)
            connection.execute(f"SELECT set_config('request.jwt.claims', ({claims})::text, true)", values, binary=True)
        if query.role is not None:
            connection.execute("SET LOCAL row_security = on")
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(query.role)))
        yield


def _explained(
    connection: psycopg.Connection, question: _Question, number: int, prepared_as: str, *, timed: bool
) -> Document:
    """The plan of one run: planned for these values as a statement is that nobody prepared, or once for all."""
    options = ["ANALYZE", "BUFFERS", "SETTINGS", f"TIMING {'ON' if timed else 'OFF'}", "FORMAT JSON"]
    options += ["WAL"] if question.query.writes else []
    options += ["SERIALIZE TEXT"] if connection.info.server_version >= SERIALIZES and not question.query.writes else []
    explain, values = f"EXPLAIN ({', '.join(options)}) ", question.values.rows[number]
    if question.generic:
        cursor = connection.execute((explain + _execute(connection, question, values, prepared_as)).encode())
    else:
        # binary: psycopg then takes the extended protocol, which runs one statement and no second
        cursor = connection.execute((explain + question.statement).encode(), values, binary=True)
    told = cursor.pgresult.get_value(0, 0) if cursor.pgresult else None
    assert told is not None
    return queryplan.read(told.decode())


def _execute(
    connection: psycopg.Connection, question: _Question, values: Mapping[str, str | None], prepared_as: str
) -> str:
    """EXECUTE with its values. It takes no parameters: they wait in settings that end with the transaction, and so stand in no log."""
    given = []
    for place, name in enumerate(parameters(question.text)):
        if values[name] is None:
            given.append("NULL")
            continue
        setting = f"atlas_ops.value_{place}"
        connection.execute("SELECT set_config(%s, %s, true)", (setting, values[name]))
        given.append(f"current_setting('{setting}')::{question.values.types[name]}")
    arguments = f" ({', '.join(given)})" if given else ""
    return f"EXECUTE {prepared_as}{arguments}"


# What both answer


def _same_rows(before: _Asked, after: _Asked) -> bool | None:
    """Whether both ways answer alike for each of the values; None where one of them failed.

    Of a read the rows, in whatever order, as numbers that the server makes of them: no row comes here. Of a
    write how many rows it reached. The application may write between the two: a difference is looked at twice.
    """
    first, second = before.question, after.question
    if isinstance(first, Failure) or isinstance(second, Failure):
        return None
    connection = before.connection
    answer = _reached if first.query.writes else _digest
    try:
        return all(
            any(answer(connection, first, number) == answer(connection, second, number) for _ in range(LOOKS))
            for number in range(before.rows)
        )
    except psycopg.Error as error:
        failure_of(error, connection, first.query)  # a lost connection stops
        return None


def _digest(connection: psycopg.Connection, question: _Question, number: int) -> tuple[int, object]:
    """How many rows it returns, and the sum of their hashes."""
    text = f"SELECT count(*), sum(hashtextextended(answer::text, 0)) FROM (\n{question.statement}\n) AS answer"  # noqa: S608
    with _one_statement(connection, question, number):
        row = connection.execute(text.encode(), question.values.rows[number], binary=True).fetchone()
    assert row is not None
    return row[0], row[1]


def _reached(connection: psycopg.Connection, question: _Question, number: int) -> tuple[int, object]:
    with _one_statement(connection, question, number):
        return connection.execute(question.statement.encode(), question.values.rows[number], binary=True).rowcount, None
