"""FROM: what stands beside a table in one query block, how the joins bind it, and which columns are constants in disguise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from atlas_ops.predicate.condition import conjuncts
from atlas_ops.predicate.statement import Unreadable, above, argument, named

Block = exp.Select | exp.Update | exp.Delete | exp.Merge
"""A query block: it has sources, and a condition on them."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table or sub-select of a FROM, and the join that brought it in (the first has none)."""

    node: exp.Expression
    join: exp.Join | None

    @property
    def side(self) -> str:
        """LEFT, RIGHT, FULL, or empty for a join that adds no rows."""
        return str(self.join.args.get("side") or "").upper() if self.join is not None else ""


@dataclass(frozen=True, slots=True)
class Level:
    """One list of sources: a block's FROM, or joined tables in brackets. `owner` is the block or the bracket."""

    owner: exp.Expression
    sources: tuple[Source, ...]

    def place(self, node: exp.Expression) -> int:
        """Where `node` stands among the sources."""
        return next(place for place, source in enumerate(self.sources) if source.node is node)


def level_of(node: exp.Expression) -> Level:
    """The level that a table, a sub-select or a bracket stands on. Raises Unreadable where there is none."""
    below, owner = node, above(node)
    while owner is not None and (isinstance(owner, exp.From | exp.Join | exp.Lateral) or _hosts(owner, below)):
        below, owner = owner, above(owner)
    if owner is not None and (isinstance(owner, exp.Select | exp.Update | exp.Delete | exp.Merge) or is_bracket(owner)):
        level = Level(owner, tuple(_sources(owner)))
        if any(source.node is node for source in level.sources):
            return level
    raise Unreadable("{table} stands where it is not expected")


def is_bracket(node: exp.Expression | None) -> bool:
    """Joined tables in brackets, which are no query of their own."""
    if not isinstance(node, exp.Subquery):
        return False
    body = _body(node.this)
    return isinstance(body, exp.Subquery) or not isinstance(body, exp.Query | exp.Values)


def _body(node: exp.Expression) -> exp.Expression:
    """What is in any number of brackets; a bracket that has joins is more than what is in it."""
    while isinstance(node, exp.Subquery) and not node.args.get("joins"):
        node = node.this
    return node


def _hosts(owner: exp.Expression | None, below: exp.Expression) -> bool:
    """Whether the joins of `owner` hold `below`: sqlglot hangs those of UPDATE, DELETE and brackets on the first table."""
    return isinstance(owner, exp.Table | exp.Subquery) and any(join is below for join in owner.args.get("joins") or ())


def _sources(owner: exp.Expression) -> Iterator[Source]:
    first = argument(owner, "from")
    if isinstance(owner, exp.Select):
        if first is not None:
            yield from _expanded(first.this, None)
        for join in owner.args.get("joins") or ():
            yield from _expanded(join.this, join)
        return
    yield from _expanded(owner.this, None)
    if isinstance(owner, exp.Update) and first is not None:
        yield from _expanded(first.this, None)
    if isinstance(owner, exp.Delete):
        for each in owner.args.get("using") or ():
            yield from _expanded(each, None)
    if isinstance(owner, exp.Merge):
        yield from _expanded(owner.args["using"], None)


def _expanded(node: exp.Expression, join: exp.Join | None) -> Iterator[Source]:
    if isinstance(node, exp.Lateral):
        node = node.this
    if not isinstance(node, exp.Expression):
        raise Unreadable("a table is missing where one should be")
    yield Source(node, join)
    for each in node.args.get("joins") or ():
        yield from _expanded(each.this, each)


@dataclass(frozen=True, slots=True)
class Joined:
    """What the joins of a level say of one source; `nullable`: an outer join may make rows of it that hold nothing."""

    conditions: tuple[tuple[exp.Expression, bool], ...]  # each with whether it counts only if it rejects such rows
    outside: tuple[exp.Expression, ...]  # of outer joins that keep the rows of the source that do not match
    nullable: bool


def joined(level: Level, place: int) -> Joined:
    """What the joins of a level say of the source at `place`."""
    found: list[tuple[exp.Expression, bool]] = []
    outside: list[exp.Expression] = []
    nullable = False
    for position, source in enumerate(level.sources):
        if position < place or source.join is None:
            continue
        if str(source.join.args.get("method") or "").upper() == "NATURAL":
            raise Unreadable("NATURAL JOIN does not say which columns it compares")
        on = list(conjuncts(source.join.args.get("on")))
        if _reaches(source, position == place):
            found += [(each, nullable) for each in on]
        else:
            outside += on
        nullable = nullable or source.side in ("FULL", "LEFT" if position == place else "RIGHT")
    return Joined(tuple(found), tuple(outside), nullable)


def _reaches(source: Source, own: bool) -> bool:
    """Whether the condition of a join filters the rows of its own source, or of one before it."""
    return source.side in ("", "LEFT" if own else "RIGHT")


def using(level: Level, place: int, key: str) -> tuple[bool, bool]:
    """Whether a join compares the key by USING, and whether the bare name then still is this source's column."""
    compared, bare = False, True
    for position, source in enumerate(level.sources):
        names = [named(each) for each in (source.join.args.get("using") or ())] if source.join is not None else []
        if position < place or key not in names:
            continue
        compared = compared or _reaches(source, position == place)
        if position == place:
            bare = source.side == "RIGHT"
        elif source.side in ("RIGHT", "FULL"):
            bare = False
    return compared, bare


def alias_of(node: exp.Expression) -> str:
    """The alias of a source; empty for none."""
    alias = node.args.get("alias")
    if alias is None and isinstance(node.parent, exp.Lateral):
        alias = node.parent.args.get("alias")
    return named(alias.this) if isinstance(alias, exp.TableAlias) else ""


def renamed(node: exp.Expression) -> tuple[str, ...]:
    """The names that an alias gives to the columns of a source."""
    alias = node.args.get("alias")
    if alias is None and isinstance(node.parent, exp.Lateral):
        alias = node.parent.args.get("alias")
    return tuple(named(each) for each in alias.args.get("columns") or ()) if isinstance(alias, exp.TableAlias) else ()


def name_of(node: exp.Expression) -> str:
    """What the columns of a source are qualified by."""
    return alias_of(node) or (named(node.this) if isinstance(node, exp.Table) else "")


Constants = dict[tuple[str, str], exp.Expression]
"""(qualifier, column) of a source that is one row of values -> the value. The planner puts it in the column's place."""


def constants(level: Level) -> Constants:
    """The columns of `(SELECT now() AS since) AS x`, of a VALUES of one row, and of a CTE that is used once and is either."""
    found: Constants = {}
    for source in level.sources:
        node = source.node
        row = _row(node) if source.side == "" else None
        if row is None:
            continue
        names = renamed(node)
        for place, (label, value) in enumerate(row):
            found[name_of(node), names[place] if place < len(names) else label] = value
    return found


def _row(node: exp.Expression) -> list[tuple[str, exp.Expression]] | None:
    """The labelled values of a source that is one row without a FROM."""
    if isinstance(node, exp.Table):
        cte = cte_of(node)
        if cte is None or cte.args.get("materialized") is True or len(uses(cte)) != 1:
            return None
        row = _row(cte.this)
        labels = renamed(cte)
        return row and [(labels[i] if i < len(labels) else label, value) for i, (label, value) in enumerate(row)]
    body = _body(node)
    if isinstance(body, exp.Values) and len(body.expressions) == 1:
        values = body.expressions[0].expressions
        return [(f"column{place + 1}", value) for place, value in enumerate(values)]
    if not isinstance(body, exp.Select) or argument(body, "from") is not None or set(_told(body)) - {"expressions"}:
        return None
    return [
        (named(each.args["alias"]) if isinstance(each, exp.Alias) else _label(each), _value(each))
        for each in body.expressions
    ]


def _told(node: exp.Expression) -> Iterator[str]:
    return (name for name, value in node.args.items() if value)


def _label(node: exp.Expression) -> str:
    return named(node.this) if isinstance(node, exp.Column) else ""


def _value(node: exp.Expression) -> exp.Expression:
    value = node.this if isinstance(node, exp.Alias) else node
    assert isinstance(value, exp.Expression)
    return value


def substituted(node: exp.Expression, values: Constants) -> exp.Expression:
    """A copy of `node` with the constants in place of their columns."""
    if not values:
        return node

    def put(each: exp.Expression) -> exp.Expression:
        if not isinstance(each, exp.Column):
            return each
        qualifier, column = named(each.args.get("table")), named(each.this)
        matches = [value for (of, name), value in values.items() if name == column and qualifier in ("", of)]
        return exp.Paren(this=matches[0].copy()) if len(matches) == 1 else each

    return node.transform(put)


def cte_of(table: exp.Table) -> exp.CTE | None:
    """The CTE that a table's name stands for, or None."""
    if table.args.get("db") is not None:
        return None
    around: exp.Expression | None = table
    while around is not None:
        clause = argument(around, "with")
        if isinstance(clause, exp.With):
            listed = clause.expressions
            own = next((place for place, cte in enumerate(listed) if _within(table, cte)), len(listed))
            for cte in listed if clause.args.get("recursive") else listed[:own]:
                if isinstance(cte, exp.CTE) and alias_of(cte) == named(table.this):
                    return cte
        around = above(around)
    return None


def uses(cte: exp.CTE) -> list[exp.Table]:
    """The places where a CTE is read."""
    clause = cte.parent
    scope = clause.parent if clause is not None else None
    if scope is None:
        return []
    return [table for table in scope.find_all(exp.Table) if named(table.this) == alias_of(cte) and cte_of(table) is cte]


def _within(node: exp.Expression, around: exp.Expression) -> bool:
    current: exp.Expression | None = node
    while current is not None and current is not around:
        current = above(current)
    return current is around
