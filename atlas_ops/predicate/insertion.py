"""A condition put into the text of a statement, and the proof that nothing else changed."""

from __future__ import annotations

from sqlglot import exp

from atlas_ops.predicate.condition import conjuncts
from atlas_ops.predicate.statement import Statement, Unreadable, argument, parse

_ENDS = frozenset(
    (
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "FOR",
        "WINDOW",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "RETURNING",
        "ON",
    )
)
"""Words that may follow a WHERE, and cannot be in it but within brackets or quotes."""
_BLOCKS = (exp.Select, exp.Update, exp.Delete, exp.Merge, exp.Insert)


def inserted(statement: Statement, block: exp.Expression, condition: str) -> str | None:
    """The statement with AND `condition` at the end of the WHERE of a block of its tree.

    All else of the text stays as it is. None unless the parser reads just that: the statement, and the condition more.
    """
    for place, token in enumerate(statement.tokens):
        if token.text.upper() != "WHERE" or statement.text[token.start] in "\"'$":
            continue
        end = _end(statement, place)
        written = f"{statement.text[:end]} AND {condition}{statement.text[end:]}"
        if _is_one_more(statement, block, written, condition):
            return written
    return None


def _end(statement: Statement, where: int) -> int:
    """Where the condition after a WHERE ends in the text."""
    depth = 0
    last = statement.tokens[where]
    for before, token in zip(statement.tokens[where:], statement.tokens[where + 1 :], strict=False):
        first = statement.text[token.start]
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0) if first in "()[]" else 0
        word = token.text.upper().partition(" ")[0]
        if depth < 0 or (depth == 0 and word in _ENDS and first not in "\"'$" and before.text != "."):
            break
        last = token
    return statement.after(last)


def _is_one_more(statement: Statement, block: exp.Expression, written: str, condition: str) -> bool:
    try:
        after, added = parse(written), parse(f"SELECT FROM {{table}} WHERE {condition}")
    except Unreadable:
        return False
    place = next(place for place, each in enumerate(statement.tree.find_all(*_BLOCKS)) if each is block)
    expected = _unmasked(statement)
    where = argument(next(each for i, each in enumerate(expected.find_all(*_BLOCKS)) if i == place), "where")
    if where is None:
        return False
    whole = where.this.copy()
    for each in conjuncts(argument(_unmasked(added), "where").this):
        whole = exp.And(this=whole, expression=each.copy())
    where.set("this", whole)
    return bool(expected == _unmasked(after))


def _unmasked(statement: Statement) -> exp.Expression:
    """A copy of the tree with the table and the parameters by their own names."""
    names = {**statement.parameters, statement.table: "{table}"}
    tree = statement.tree.copy()
    for node in tree.find_all(exp.Placeholder, exp.Identifier):
        node.set("this", names.get(node.name, node.name))
    return tree
