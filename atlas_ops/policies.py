"""Policies that call `auth.uid()` and its like once for every row, and the form that calls them once for a query. Pure.

PostgreSQL evaluates a sub-select without a FROM once, as an InitPlan: `(SELECT auth.uid())`. Nothing here changes a policy: what comes out is a
statement for a DBA to read. sqlglot tells where the calls are; what is rewritten is the text as PostgreSQL prints it, all else in it untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlglot
from psycopg import sql
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from atlas_ops.cutover import turned
from atlas_ops.definition import name, raw, text
from atlas_ops.model import Policy, Relation, Snapshot
from atlas_ops.tables import GREEN, Column, Table
from atlas_ops.views import Words

AUTH = frozenset({"uid", "jwt", "role", "email"})
SETTING = "current_setting"
_MARK = "atlas_ops_call_"
LOOK = "Look at it yourself: its expression could not be read here for certain."


@dataclass(frozen=True, slots=True)
class Advice:
    """A policy that calls a function for every row, and the statement to try; None where the expression could not be read for certain."""

    table: str  # as SQL writes it
    policy: Policy
    statement: str | None


@dataclass(frozen=True, slots=True)
class _Call:
    """A call in the text of an expression: its first character, and the one after its last."""

    start: int
    end: int


def per_row(relation: Relation) -> tuple[Policy, ...]:
    """The policies of a table that call such a function for every row, or may do so."""
    return tuple(advice.policy for advice in advices(relation))


def advices(relation: Relation) -> tuple[Advice, ...]:
    """For each of these policies the statement to try."""
    at = name(relation.table.schema, relation.table.name)
    return tuple(advice for policy in relation.policies if (advice := _advice(at, policy)) is not None)


def shown(snapshots: Sequence[Snapshot]) -> Table | Words:
    """Policy, expression now, statement to try; of both tables, or after the cut-over of the one that the application uses."""
    relations = [
        relation
        for each in snapshots
        for relation in (None if turned(each) else each.original, each.partitioned)
        if relation is not None
    ]
    found = [advice for relation in relations for advice in advices(relation)]
    if not found:
        return Words("Nothing to do.", "No policy calls auth.uid() or its like for every row.", GREEN)
    rows = [
        (each.table, each.policy.name, _now(each.policy), f"{each.statement};" if each.statement else LOOK)
        for each in found
    ]
    return Table(["table", "policy", Column("expression now", "sql"), Column("statement to try", "sql")], rows)


def once(expression: str) -> str | None:
    """The expression with each call in a sub-select, the same text where there is none to wrap; None where it cannot be read for certain."""
    try:
        calls = list(_calls(expression))
        for call in reversed(calls):
            inside = expression[call.start : call.end]
            expression = f"{expression[: call.start]}( SELECT {inside}){expression[call.end :]}"
        return expression if not calls or not list(_calls(expression)) else None
    except (SqlglotError, _Unclear):
        return None


class _Unclear(Exception):
    """The text and what sqlglot made of it do not agree, or a sub-select would mean something else there."""


def _advice(at: sql.Identifier, policy: Policy) -> Advice | None:
    clauses = [("USING", policy.using), ("WITH CHECK", policy.check)]
    there = [(clause, expression, once(expression)) for clause, expression in clauses if expression is not None]
    if all(expression == rewritten for _, expression, rewritten in there):
        return None
    statement = sql.SQL("ALTER POLICY {} ON {}").format(name(policy.name), at)
    for clause, _, rewritten in there:
        if rewritten is None:
            return Advice(text(at), policy, None)
        statement += sql.SQL(" {} ({})").format(raw(clause), raw(rewritten))
    return Advice(text(at), policy, text(statement))


def _now(policy: Policy) -> str:
    clauses = [("USING", policy.using), ("WITH CHECK", policy.check)]
    return "\n".join(f"{clause} ({expression})" for clause, expression in clauses if expression is not None)


def _calls(expression: str) -> Iterator[_Call]:
    """The calls that are made for every row, in the order of the text. Raises SqlglotError or _Unclear.

    Each gets a name of its own before the text is parsed: by that it is found again.
    """
    tokens = sqlglot.tokenize(expression, read="postgres")
    named = [position for position in range(len(tokens)) if _is_named(tokens, position)]
    marked = expression
    for position in reversed(named):
        marked = f"{marked[: tokens[position].start]}{_MARK}{position}{marked[tokens[position].end + 1 :]}"
    nodes = sqlglot.parse_one(marked, read="postgres").find_all(exp.Anonymous) if named else ()
    found = {node.name: node for node in nodes if node.name.startswith(_MARK)}
    if set(found) != {f"{_MARK}{position}" for position in named}:
        raise _Unclear
    for position in named:
        call = found[f"{_MARK}{position}"]
        if not _is_wrapped(call) and not call.find(exp.Column):
            yield _span(tokens, position, call)


def _is_named(tokens: Sequence[Token], position: int) -> bool:
    """Whether this token is the name of such a function, and a call follows."""
    if position + 1 >= len(tokens) or tokens[position + 1].token_type != TokenType.L_PAREN:
        return False
    before = [token.text for token in tokens[max(position - 2, 0) : position]]
    if before[-1:] == ["."]:
        return before == ["auth", "."] and tokens[position].text in AUTH
    return tokens[position].text == SETTING


def _is_wrapped(call: exp.Expression) -> bool:
    """Whether it stands in a sub-select without a FROM: evaluated once already."""
    around = call.find_ancestor(exp.Select)
    return around is not None and around.args.get("from_") is None and around.args.get("from") is None


def _span(tokens: Sequence[Token], position: int, call: exp.Expression) -> _Call:
    """From the schema's name to the closing bracket."""
    first = tokens[position - 2] if position >= 2 and tokens[position - 1].text == "." else tokens[position]  # noqa: PLR2004
    around = call.parent
    while isinstance(around, exp.Dot | exp.Paren):
        around = around.parent
    if isinstance(around, exp.Any | exp.All):
        raise _Unclear  # = ANY (SELECT ...) asks rows, not the elements of an array
    depth = 0
    for token in tokens[position + 1 :]:
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if depth == 0:
            return _Call(first.start, token.end + 1)
    raise _Unclear
