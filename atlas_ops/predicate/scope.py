"""What a name means at a place of the statement: the key, another column of its row, a column of another table, a sub-select."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from atlas_ops.predicate.condition import Place, condition, conjuncts
from atlas_ops.predicate.pruning import Compare, Condition, Everything, both
from atlas_ops.predicate.sources import Level, alias_of, name_of
from atlas_ops.predicate.statement import Statement, argument, named
from atlas_ops.predicate.value import UNTYPED, Typing, Value, short, value_of, worst
from atlas_ops.predicate.view import View


@dataclass(frozen=True, slots=True)
class Subject:
    """The table that a statement is looked at for."""

    key: str
    key_type: str  # date, timestamp or timestamptz
    types: Mapping[str, str]  # of the parameters, as format_type prints them
    columns: Collection[str] = ()  # of the table; empty: not known
    name: str = ""  # by which the statement may qualify its columns without an alias
    version: int = 0
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """A source of a level, and what it shows of the table."""

    statement: Statement
    subject: Subject
    level: Level
    node: exp.Expression
    view: View

    def place(self) -> Place:
        """How an expression of this level is to be read."""
        ctes = {alias_of(cte) for cte in self.statement.tree.find_all(exp.CTE)}
        here = Place(
            self.statement,
            self.subject.key,
            self.subject.key_type,
            self.view.is_key,
            Typing(self._parameter, self._column, self._query, self.subject.version),
            lambda each: _exists(each, here),
            lambda each: not ctes & {named(table.this) for table in each.find_all(exp.Table)},
            self.subject.time_zone,
        )
        return here

    def _parameter(self, node: exp.Placeholder) -> str:
        name = self.statement.parameters.get(node.name, "")
        return short(self.subject.types[name]) if name in self.subject.types else UNTYPED

    def _column(self, column: exp.Column) -> Value:
        qualifier, name = named(column.args.get("table")), named(column.this)
        if qualifier in self.view.names and qualifier:
            return Value("other", "row")
        others = {name_of(source.node) for source in self.level.sources if source.node is not self.node}
        if qualifier:
            beside = "another table" if qualifier in others else "the query around it"
            return Value("other", "join", f"a column of {beside}")
        alone = len(self.level.sources) == 1
        if name in self.subject.columns or name in self.view.keys or (alone and not self.subject.columns):
            return Value("other", "row")
        if self.subject.columns:
            return Value("other", "join", "a column of another table")
        return Value("other", "unknown", f"nothing says whose column {name} is, which")

    def _query(self, node: exp.Expression) -> Value:
        outer = {named(column.args.get("table")) for column in node.find_all(exp.Column) if not _hides(node, column)}
        if self.view.names & outer:
            return Value("other", "row", "a sub-select over its own row")
        if any(outer):
            return Value("other", "join", "a sub-select over another row")
        return Value(_type_of_query(node), "run", "a sub-select is known once it ran")


def _type_of_query(node: exp.Expression) -> str:
    while isinstance(node, exp.Subquery):
        node = node.this
    listed = node.expressions if isinstance(node, exp.Select) else []
    value = listed[0].unalias() if len(listed) == 1 else None
    return short(value.args["to"].sql("postgres")) if isinstance(value, exp.Cast) else "other"


def _hides(query: exp.Expression, column: exp.Column) -> bool:
    """Whether what qualifies a column in a sub-select is a source of that; a bare name is taken for one of its own."""
    qualifier = named(column.args.get("table"))
    return not qualifier or any(
        name_of(each) == qualifier for each in query.find_all(exp.Table, exp.Subquery) if each is not query
    )


_OF_PLAIN_QUERY = frozenset({"expressions", "from", "from_", "joins", "where", "kind"})


def _exists(node: exp.Exists, here: Place) -> Condition:
    """EXISTS becomes a join: what it says of the outer row alone holds for that row."""
    query = node.this
    while isinstance(query, exp.Subquery):
        query = query.this
    plain = (
        isinstance(query, exp.Select) and not {name for name, value in query.args.items() if value} - _OF_PLAIN_QUERY
    )
    where = argument(query, "where") if plain else None
    if where is None:
        return Everything()
    inner = replace(
        here,
        is_key=lambda column: here.is_key(column) and not _hides(query, column),
        typing=replace(here.typing, column=lambda _: Value("other", "row")),
    )
    return both(condition(each, inner) for each in conjuncts(where.this))


def pinned(parts: list[exp.Expression], here: Place) -> Compare | None:
    """What the key equals by way of columns that equal it: `a.key = b.x AND b.x = value`."""
    equal = [(part.this, part.expression) for part in parts if isinstance(part, exp.EQ)]
    keys = [side for pair in equal for side in pair if here.bare(side)]
    same = {_text(key) for key in keys}
    for _ in equal:
        for pair in equal:
            sides = {_text(side) for side in pair}
            same |= sides if "" not in sides and same & sides else set()
    for one, other in (*equal, *((other, one) for one, other in equal)):
        if keys and _text(one) in same and not here.bare(one) and value_of(other, here.typing).when in ("plan", "run"):
            found = condition(exp.EQ(this=keys[0].copy(), expression=other.copy()), here)
            return found if isinstance(found, Compare) else None
    return None


def _text(node: exp.Expression) -> str:
    return f"{named(node.args.get('table'))}.{named(node.this)}" if isinstance(node, exp.Column) else ""


def volatility(query: exp.Expression) -> Value:
    """Whether a function in a query is volatile, or may be."""
    typing = Typing(lambda _: UNTYPED, lambda _: Value("other"), lambda _: Value("other"))
    skipped = exp.AggFunc | exp.Connector | exp.Binary | exp.SubqueryPredicate
    calls = (call for call in query.find_all(exp.Func) if not isinstance(call, skipped))
    return worst(value_of(call, typing) for call in calls if isinstance(call, exp.Expression))
