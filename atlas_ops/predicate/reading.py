"""Where a statement reads the table, and which conditions reach it there: those of its own block, and those that come down. Pure.

A condition on a sub-select or CTE comes down to the table where PostgreSQL lets it (subquery_is_pushdown_safe, inline_cte): not past LIMIT, not into
a window that is not partitioned by the key, not into a CTE that is materialized or read twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp

from atlas_ops.predicate.condition import condition, conjuncts
from atlas_ops.predicate.pruning import (
    Both,
    Compare,
    Condition,
    Either,
    Everything,
    Nothing,
    Unknown,
    both,
    rejects_null,
)
from atlas_ops.predicate.scope import Scope, Subject, pinned, volatility
from atlas_ops.predicate.sources import (
    Level,
    alias_of,
    constants,
    is_bracket,
    joined,
    level_of,
    renamed,
    substituted,
    uses,
    using,
)
from atlas_ops.predicate.statement import Statement, Unreadable, above, argument, named
from atlas_ops.predicate.view import Exported, View, exported, has_sets

_OUTER = "an outer join, which keeps the rows that do not match"
_ONLY = "ONLY reads the partitioned table itself, which holds no row"


@dataclass(frozen=True, slots=True)
class Reading:
    """One place where the statement reads the table."""

    table: exp.Table
    block: exp.Expression  # SELECT, UPDATE, DELETE or MERGE
    level: Level
    names: frozenset[str]  # what its columns may be qualified by
    condition: Condition


def readings(statement: Statement, subject: Subject) -> Iterator[Reading]:
    """Every place where `{table}` is read; raises Unreadable where one cannot be followed."""
    for table in statement.tree.find_all(exp.Table, bfs=False):
        if table.name == statement.table and not is_target(table) and not isinstance(table.parent, exp.Lock):
            yield _reading(statement, subject, table)


def stops(reading: Reading, key: str) -> bool:
    """Whether the first rows in order of the key are asked for: ORDER BY and LIMIT."""
    block = reading.block
    order, limit = block.args.get("order"), block.args.get("limit")
    if order is None or limit is None or block.args.get("group") or block.args.get("distinct"):
        return False
    first = order.expressions[0].this
    own = isinstance(first, exp.Column) and named(first.args.get("table")) in (*reading.names, "")
    return bool(own and named(first.this) == key)


def follows_from_where(statement: Statement, subject: Subject, reading: Reading) -> str:
    """What follows for the bare key from the WHERE of the block itself, and may be put there; empty for nothing.

    What follows from an ON, or from a condition on a sub-select, holds there and not here.
    """
    where = argument(reading.block, "where")
    values = constants(reading.level)
    here = Scope(
        statement, subject, reading.level, reading.table, View(reading.names, frozenset({subject.key}))
    ).place()
    asked = conjuncts(where.this if where is not None else None)
    found = both(condition(substituted(each, values), here) for each in asked)
    return found.rewrite if isinstance(found, Everything) else ""


def is_target(table: exp.Table) -> bool:
    """Whether rows are inserted into it here."""
    around = above(table)
    around = above(around) if isinstance(around, exp.Schema) else around
    return isinstance(around, exp.Insert) and table.find_ancestor(exp.Query, exp.Insert) is around


def _reading(statement: Statement, subject: Subject, table: exp.Table) -> Reading:
    if renamed(table):
        raise Unreadable("the columns of {table} are renamed")
    alias = alias_of(table)
    names = frozenset({alias} if alias else {statement.table, subject.name or statement.table})
    level = level_of(table)
    is_only = table.args.get("only")
    view = View(names, frozenset({subject.key}))
    found = Nothing(why=_ONLY) if is_only else both(_reaching(statement, subject, table, view))
    owner = level.owner
    while is_bracket(owner):
        owner = level_of(owner).owner
    return Reading(table, owner, level, names, found)


def _reaching(statement: Statement, subject: Subject, node: exp.Expression, view: View) -> Iterator[Condition]:
    """The conditions that reach `node`, block by block outwards."""
    level = level_of(node)
    place = level.place(node)
    bound = joined(level, place)
    for key in view.keys:
        compared, bare = using(level, place, key)
        view = replace(view, bare=view.bare and bare)
        if compared:
            yield Compare("=", "(...)", "join", "", why="what USING joins")
    asked = [(each, strict or view.nullable) for each, strict in bound.conditions]
    view = replace(view, nullable=view.nullable or bound.nullable)
    scope = Scope(statement, subject, level, node, view)
    owner = level.owner
    if isinstance(owner, exp.Merge):
        asked += [(each, False) for each in _merged(owner, node)]
    elif not is_bracket(owner):
        where = argument(owner, "where")
        asked += [(each, view.nullable) for each in conjuncts(where.this if where is not None else None)]
    yield from _conditions(scope, asked)
    yield from (_outside(each, subject, _OUTER) for each in _conditions(scope, [(on, False) for on in bound.outside]))
    if is_bracket(owner):
        if renamed(owner):
            raise Unreadable("the columns of a join are renamed")
        seen = replace(view, names=frozenset({alias_of(owner)})) if alias_of(owner) else view
        yield from _reaching(statement, subject, owner, seen)
    elif isinstance(owner, exp.Select):
        yield from _conditions(scope, [(each, view.nullable) for each in _of_groups(owner)])
        yield from _from_outside(statement, subject, owner, exported(owner, view))


def _merged(merge: exp.Merge, node: exp.Expression) -> Iterator[exp.Expression]:
    """ON of a MERGE, as it reaches its target or its source: WHEN NOT MATCHED keeps the rows of a side that match none."""
    whens = [when for when in merge.args["whens"].expressions if when.args["then"].name != "DO NOTHING"]
    kept = {bool(when.args.get("source")) for when in whens if not when.args.get("matched")}
    by_source = merge.this is node
    return iter(()) if by_source in kept else conjuncts(merge.args.get("on"))


def _of_groups(block: exp.Select) -> list[exp.Expression]:
    """HAVING without an aggregate is a WHERE, unless there are grouping sets."""
    having, group = block.args.get("having"), block.args.get("group")
    if having is None or group is None or has_sets(group):
        return []
    return [each for each in conjuncts(having.this) if not each.find(exp.AggFunc, exp.Query, exp.Anonymous)]


def _conditions(scope: Scope, asked: list[tuple[exp.Expression, bool]]) -> Iterator[Condition]:
    """What expressions say of the key, each with whether it counts only if it rejects rows that an outer join made up."""
    values = constants(scope.level)
    parts = [(substituted(each, values), strict) for each, strict in asked]
    here = scope.place()
    pin = pinned([part for part, _ in parts], here)
    for part, strict in parts:
        found = condition(part, here)
        if strict and not rejects_null(found):
            found = _outside(found, scope.subject, _OUTER)
        by_pin = pin is not None and isinstance(found, Compare) and found.known == "join" and found.operator == "="
        if not by_pin:
            yield found
    if pin is not None:
        yield pin


def _from_outside(
    statement: Statement, subject: Subject, block: exp.Expression, shown: Exported
) -> Iterator[Condition]:
    """The conditions on a sub-select or CTE that come down into it."""
    inside, around = block, above(block)
    while isinstance(around, exp.SetOperation | exp.Subquery) and not _is_source(around):
        shown = shown.through(around, inside)
        inside, around = around, above(around)
    if isinstance(around, exp.Subquery):
        keys = shown.keys(renamed(around))
        view = View(frozenset({alias_of(around)}), keys, nullable=shown.nullable)
        found = both(_reaching(statement, subject, around, view)) if keys else Everything()
        yield (
            found
            if shown.open
            else _outside(
                found, subject, "a sub-select that counts or keeps some of its rows, and reads all of them first"
            )
        )
    elif isinstance(around, exp.CTE):
        yield _into_cte(statement, subject, around, shown)


def _outside(found: Condition, subject: Subject, of: str) -> Condition:
    """A condition that does not reach the table, as the reason why it does not."""
    bounds = isinstance(found, Compare | Both | Either | Nothing)
    return Everything(f"{subject.key} is bounded outside of {of}" if bounds else "")


def _is_source(node: exp.Expression) -> bool:
    if not isinstance(node, exp.Subquery):
        return False
    beside = exp.From | exp.Join | exp.Lateral | exp.Update | exp.Delete | exp.Merge
    return isinstance(node.parent, beside) or is_bracket(above(node))


def _into_cte(statement: Statement, subject: Subject, cte: exp.CTE, shown: Exported) -> Condition:
    reads, calls = uses(cte), volatility(cte.this)
    if not reads:
        return Nothing(why="A CTE that nothing reads is not run")
    keys = shown.keys(renamed(cte))
    if len(reads) > 1 and cte.args.get("materialized") is False:
        raise Unreadable("a CTE that is NOT MATERIALIZED is read more than once")
    if not keys or any(renamed(read) for read in reads):
        return Everything()
    view = View(frozenset({alias_of(reads[0]) or named(reads[0].this)}), keys, nullable=shown.nullable)
    found = both(_reaching(statement, subject, reads[0], view))
    if len(reads) > 1:
        return _outside(found, subject, "a CTE that is read more than once, and so reads everything first")
    if cte.args.get("materialized") or cte.this.find(exp.Lock) or calls.when == "volatile" or not shown.open:
        return _outside(found, subject, "a CTE that is materialized, and so reads everything first")
    if calls.when == "unknown" and isinstance(found, Compare | Both | Either):
        return Unknown(f"{calls.why}, and a CTE that is volatile is not merged")
    return found
