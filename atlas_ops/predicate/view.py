"""What a query block shows of the key to the query around it, and whether a condition from there may come in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest

from sqlglot import exp

from atlas_ops.predicate.statement import Unreadable, named


@dataclass(frozen=True, slots=True)
class View:
    """What of the table is to be seen at some place: under which names, and whether the bare name is its own.

    `nullable`: an outer join further in may have made rows of it that hold nothing.
    """

    names: frozenset[str]
    keys: frozenset[str]
    bare: bool = True
    nullable: bool = False

    def is_key(self, node: exp.Expression) -> bool:
        """Whether an expression is the key's column."""
        if not isinstance(node, exp.Column):
            return False
        qualifier = named(node.args.get("table"))
        return named(node.this) in self.keys and (qualifier in self.names if qualifier else self.bare)

    def is_star(self, node: exp.Expression) -> bool:
        """Whether an expression of a select list brings in all of its columns."""
        qualified = isinstance(node, exp.Column) and isinstance(node.this, exp.Star)
        return isinstance(node, exp.Star) or (qualified and named(node.args.get("table")) in self.names)


@dataclass(frozen=True, slots=True)
class Exported:
    """A label a column, empty for one that is not the key, and the names that `*` brings in."""

    labels: tuple[str, ...] = ()
    starred: frozenset[str] = frozenset()
    open: bool = True
    nullable: bool = False

    def keys(self, renamed_to: tuple[str, ...]) -> frozenset[str]:
        """The key's names outside, where an alias may rename the columns. Raises Unreadable where they cannot be told."""
        if renamed_to and self.starred:
            raise Unreadable("the columns of a sub-select are renamed")
        pairs = zip_longest(self.labels, renamed_to, fillvalue="")
        return frozenset({name or label for label, name in pairs if label}) | self.starred

    def through(self, around: exp.Expression, inside: exp.Expression) -> Exported:
        """What is left of it outside of a set operation, or of brackets with a LIMIT."""
        closed = isinstance(around, exp.Except) or bool(around.args.get("limit") or around.args.get("offset"))
        labels = self.labels
        if isinstance(around, exp.SetOperation):
            other = around.expression if around.this is inside else around.this
            is_union_all = isinstance(around, exp.Union) and not around.args.get("distinct")
            closed = closed or not (is_union_all or all(is_open(each, None) for each in _arms(other)))
            labels = _of_first_arm(around, labels)
        return replace(self, labels=labels, open=self.open and not closed)


def exported(select: exp.Select, view: View) -> Exported:
    """What a block shows of the key that it sees as `view`."""
    labels: list[str] = []
    starred: frozenset[str] = frozenset()
    for each in select.expressions:
        inner = each.this if isinstance(each, exp.Alias) else each
        if view.is_star(inner):
            starred = view.keys
        label = named(each.args["alias"]) if isinstance(each, exp.Alias) else named(inner.args.get("this"))
        labels.append(label if view.is_key(inner) else "")
    return Exported(tuple(labels), starred, is_open(select, view), view.nullable)


def is_open(select: exp.Select, view: View | None) -> bool:
    """Whether a condition on the key may come into a block: it may not where it would change which rows are counted or kept."""
    group, distinct = select.args.get("group"), select.args.get("distinct")
    on = distinct.args.get("on") if isinstance(distinct, exp.Distinct) else None
    lists = [list(each.args.get("partition_by") or ()) for each in select.find_all(exp.Window)]
    lists += [on.expressions] if on is not None else []
    kept = all(view is not None and any(view.is_key(each) for each in listed) for listed in lists)
    counted = select.args.get("limit") or select.args.get("offset")
    return kept and not counted and not (group is not None and has_sets(group))


def has_sets(group: exp.Expression) -> bool:
    """Whether a GROUP BY has several lists: ROLLUP, CUBE, GROUPING SETS."""
    return group.find(exp.Rollup, exp.Cube, exp.GroupingSets) is not None


def _arms(node: exp.Expression) -> list[exp.Select]:
    if isinstance(node, exp.Subquery):
        return _arms(node.this)
    if isinstance(node, exp.SetOperation):
        return _arms(node.this) + _arms(node.expression)
    return [node] if isinstance(node, exp.Select) else []


def _of_first_arm(operation: exp.SetOperation, labels: tuple[str, ...]) -> tuple[str, ...]:
    """A set operation has the labels of its first arm."""
    first = _arms(operation)
    if not first or len(first[0].expressions) != len(labels):
        return labels
    there = [each.alias_or_name for each in first[0].expressions]
    return tuple(name if label else "" for label, name in zip(labels, there, strict=True))
