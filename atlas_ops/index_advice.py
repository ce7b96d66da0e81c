"""The index that lets a query with ORDER BY the partition key and LIMIT stop as soon as it has enough. Pure.

PostgreSQL reads the partitions of a range in order of their bounds (an ordered Append), where each can give its rows in that order: by an index on
the columns that the query sets equal, and then the key. A default partition may hold any row: while it is among them, the first row of each is looked
for (a Merge Append), which is an index descent a partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlglot
from psycopg import sql as composed
from sqlglot import exp
from sqlglot.errors import SqlglotError

from atlas_ops.definition import name, text
from atlas_ops.model import Index
from atlas_ops.predicate.condition import conjuncts
from atlas_ops.predicate.reading import Reading, readings
from atlas_ops.predicate.statement import Statement, Unreadable, argument, guarded, named, parse, text_of
from atlas_ops.predicate.value import short
from atlas_ops.rewrites import RewriteFacts, equal_columns

_SELECTIVE = frozenset({"uuid", "int"})
"""Types of ids: such a column alone leaves few rows, which one of three roles does not."""


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that a query is missing."""

    columns: tuple[str, ...]
    statement: str
    because: str


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A column of an ORDER BY or of an index, and its direction."""

    column: str
    descending: bool
    nulls_first: bool

    @property
    def backwards(self) -> _Ordered:
        return _Ordered(self.column, not self.descending, not self.nulls_first)

    def sql(self) -> composed.Composable:
        """As CREATE INDEX takes it; PostgreSQL's own place for nulls is left unsaid."""
        parts: list[composed.Composable] = [composed.Identifier(self.column)]
        parts += [composed.SQL("DESC")] if self.descending else []
        if self.nulls_first != self.descending:
            parts += [composed.SQL("NULLS FIRST") if self.nulls_first else composed.SQL("NULLS LAST")]
        return composed.SQL(" ").join(parts)


def index_advice(
    sql: str,
    facts: RewriteFacts,
    indexes: Sequence[Index],
    at: tuple[str, str],
    *,
    types: Mapping[str, str] | None = None,
) -> IndexAdvice | None:
    """The index that a workload's statement needs on the table `at` (schema, name), whose indexes are given; None where it has one or needs none."""
    try:
        with guarded():
            statement = parse(sql)
            found = list(readings(statement, facts.subject(types or {})))
            return _advice(statement, found[0], facts, indexes, at) if len(found) == 1 else None
    except Unreadable:
        return None


def _advice(
    statement: Statement, reading: Reading, facts: RewriteFacts, indexes: Sequence[Index], at: tuple[str, str]
) -> IndexAdvice | None:
    block, where = reading.block, argument(reading.block, "where")
    ordered = _order(block, reading, facts)
    if not ordered or ordered[0].column != facts.key:
        return None
    equal = list(equal_columns(statement, reading, facts)) if where is not None else []
    equal = [column for column in equal if column not in {each.column for each in ordered}]
    met = {_said(each, reading) for each in conjuncts(where.this)} if where is not None else set()
    if any(_serves(index, equal, ordered, met, facts) for index in indexes):
        return None
    listed = [composed.Identifier(column) for column in equal] + [each.sql() for each in ordered]
    create = composed.SQL("CREATE INDEX ON {} ({})").format(name(*at), composed.SQL(", ").join(listed))
    per = f"For each {' and '.join(equal)} it" if equal else "It"
    return IndexAdvice(
        (*equal, *(each.column for each in ordered)),
        text(create),
        f"{per} gives the rows in order of {facts.key}. The query stops at its LIMIT and reads as many partitions as that takes; while a default "
        "partition is among them, it looks for the first row of each.",
    )


def _order(block: exp.Expression, reading: Reading, facts: RewriteFacts) -> list[_Ordered]:
    """The columns of ORDER BY as far as they are the table's own; empty where nothing can stop early."""
    order, limit = block.args.get("order"), block.args.get("limit")
    stopped = block.args.get("group") or block.args.get("distinct") or block.find(exp.AggFunc, exp.Window)
    if not isinstance(block, exp.Select) or order is None or limit is None or stopped:
        return []
    found: list[_Ordered] = []
    for each in order.expressions:
        column = each.this
        if not isinstance(column, exp.Column) or not _is_own(column, reading, facts, block):
            break
        found.append(_direction(each, named(column.this)))
    return found


def _is_own(column: exp.Column, reading: Reading, facts: RewriteFacts, block: exp.Select) -> bool:
    """A bare name in ORDER BY is that of an output column first."""
    if named(column.args.get("table")) in reading.names:
        return named(column.this) in facts.columns
    renamed = [
        each.this
        for each in block.expressions
        if isinstance(each, exp.Alias) and named(each.args["alias"]) == named(column.this)
    ]
    plain = all(isinstance(each, exp.Column) and named(each.this) == named(column.this) for each in renamed)
    bare = not column.args.get("table") and len(reading.level.sources) == 1
    return bare and plain and named(column.this) in facts.columns


def _direction(ordered: exp.Ordered, column: str) -> _Ordered:
    descending = bool(ordered.args.get("desc"))
    # sqlglot sets nulls_first for what is not said as the dialect has it: in PostgreSQL nulls are large
    told = ordered.args.get("nulls_first")
    return _Ordered(column, descending, descending if told is None else bool(told))


def _serves(
    index: Index, equal: Sequence[str], ordered: Sequence[_Ordered], met: set[str], facts: RewriteFacts
) -> bool:
    """Whether an index gives the rows in order: columns that are set equal, in any order, and then the key."""
    parsed = _parsed(index)
    if parsed is None or not index.valid:
        return False
    columns, predicate = parsed
    leading = 0
    while leading < len(columns) and columns[leading].column in equal:
        leading += 1
    if not predicate <= met or leading == len(columns):
        return False
    narrows = {column.column for column in columns[:leading]}
    enough = set(equal) <= narrows or any(short(facts.columns[column]) in _SELECTIVE for column in narrows)
    return enough and columns[leading] in (ordered[0], ordered[0].backwards)


def _parsed(index: Index) -> tuple[list[_Ordered], set[str]] | None:
    """The columns of a btree index, an expression being one without a name, and the conditions of a partial one."""
    if not index.tail.lower().startswith("using btree "):
        return None
    try:
        tree = sqlglot.parse_one(f"CREATE INDEX i ON t {index.tail}", read="postgres")
    except (SqlglotError, RecursionError):
        return None
    parameters = tree.find(exp.IndexParameters)
    if parameters is None:
        return None
    columns = [_column(each) for each in parameters.args.get("columns") or ()]
    where = parameters.args.get("where")
    return columns, {_written(each) for each in conjuncts(where.this)} if where is not None else set()


def _column(node: exp.Expression) -> _Ordered:
    ordered = node if isinstance(node, exp.Ordered) else exp.Ordered(this=node)
    inner = ordered.this
    while isinstance(inner, exp.Opclass | exp.Collate):
        inner = inner.this
    return _direction(ordered, named(inner.this) if isinstance(inner, exp.Column) else "")


def _said(node: exp.Expression, reading: Reading) -> str:
    """A condition of the statement, its columns without what qualifies them, to be compared with that of a partial index."""
    bare = node.copy()
    for column in bare.find_all(exp.Column):
        if named(column.args.get("table")) in reading.names:
            column.set("table", None)
    return _written(bare)


def _written(node: exp.Expression) -> str:
    plain = node.transform(lambda each: each.this if isinstance(each, exp.Paren | exp.Cast) else each)
    for identifier in plain.find_all(exp.Identifier):
        identifier.set("this", named(identifier))
        identifier.set("quoted", True)
    return text_of(plain)
