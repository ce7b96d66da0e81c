"""A statement of a workload as a tree, and the way back from the tree to a workload's text.

`{table}` and `%(name)s` are no SQL. Each is replaced by an identifier of the same length before sqlglot reads the text: what a token says of
its place in the one holds in the other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import sqlglot
from sqlglot import ErrorLevel, Token, exp
from sqlglot.errors import ParseError, SqlglotError

LONGEST = 20_000
"""Characters of a statement; as in a workload file."""
MOST_NESTED = 6
"""Arrays in arrays: sqlglot takes twice as long for each."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BEGINS = re.compile(r"[\s(]*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|TABLE)\b", re.IGNORECASE)
_TOKEN = re.compile(
    r"""(?P<closed>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      |(?P<comment>--[^\n]*|/\*.*?\*/)
      |%\((?P<parameter>\w+)\)s
      |(?P<table>\{table\})
      |(?P<odd>%\(|(?<![\w$])\$\d+|;|\0|[uU]&['"])""",
    re.VERBOSE | re.DOTALL,
)


class Unreadable(Exception):
    """The statement could not be read for certain; the text says why, for a DBA."""


STRANGE = "the parser made a tree of it that is not known here"


@dataclass(frozen=True)
class Statement:
    """A statement that was read. Everything in it that is `{table}` is an identifier named `table`."""

    text: str  # as it was given
    masked: str  # of the same length, as sqlglot read it
    tree: exp.Expression
    table: str
    parameters: dict[str, str]  # mark -> name

    @cached_property
    def tokens(self) -> list[Token]:
        """The tokens; their places are those in `text`."""
        return list(sqlglot.tokenize(self.masked, read="postgres"))

    def after(self, token: Token) -> int:
        """Where the text goes on after a token; the mark of a parameter is shorter than what it stands for."""
        marks = (found for found in _TOKEN.finditer(self.text) if found["parameter"])
        return next((found.end() for found in marks if found.start() <= token.start < found.end()), token.end + 1)

    def written(self, node: exp.Expression) -> str:
        """A part of the tree as text of a workload."""
        return text_of(node.transform(self._unmasked))

    def _unmasked(self, node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Placeholder) and node.name in self.parameters:
            return exp.Var(this=f"%({self.parameters[node.name]})s")
        if isinstance(node, exp.Identifier) and node.name == self.table:
            return exp.Identifier(this="{table}", quoted=False)
        return node


@contextmanager
def guarded() -> Iterator[None]:
    """Around everything that is done with a tree: what goes wrong there is Unreadable.

    sqlglot reads far more than PostgreSQL takes, into trees of any form. Its warnings quote what it could not read, which may be somebody's data:
    they are not shown.
    """
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise Unreadable(f"{STRANGE} ({type(error).__name__})") from error
    finally:
        logger.setLevel(level)


def parse(text: str) -> Statement:
    """Read one statement, within `guarded`. Raises Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable(f"it is longer than {LONGEST:,} characters")
    masked, table, parameters = _masked(text)
    if not _BEGINS.match(re.sub(r"--[^\n]*|/\*.*?\*/", " ", masked, flags=re.DOTALL)):
        raise Unreadable("it is no SELECT, INSERT, UPDATE, DELETE or MERGE")
    try:
        trees = sqlglot.parse(masked, read="postgres", error_level=ErrorLevel.RAISE)
    except ParseError as error:
        raise Unreadable(_where(error)) from None
    except (
        SqlglotError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:  # the latter where half a statement is no tree, such as { =
        raise Unreadable(f"the parser gave up on it ({type(error).__name__})") from None
    found = [tree for tree in trees if tree is not None]
    if len(found) != 1 or isinstance(found[0], exp.Command):
        raise Unreadable("it is not one statement that the parser knows")
    tree = found[0].transform(lambda node: _normal(node, parameters))
    _agree(masked, tree, table, parameters)
    return Statement(text, masked, tree, table, parameters)


def text_of(node: exp.Expression) -> str:
    """A tree as PostgreSQL's text, without comments."""
    return node.sql(dialect="postgres", comments=False, unsupported_level=ErrorLevel.IGNORE)


def argument(node: exp.Expression, name: str) -> Any:
    """An argument of a node; sqlglot 28 put a line behind those that Python keeps for itself."""
    return node.args.get(f"{name}_") or node.args.get(name)


def above(node: exp.Expression) -> exp.Expression | None:
    """The node that holds it."""
    return cast("exp.Expression | None", node.parent)


def named(identifier: exp.Expression | None) -> str:
    """An identifier as PostgreSQL reads it: folded to lower case unless it is quoted; empty for none."""
    if not isinstance(identifier, exp.Identifier):
        return ""
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()


def _masked(text: str) -> tuple[str, str, dict[str, str]]:
    """The text with a mark for each `{table}` and parameter, the table's mark, the parameters' marks."""
    table = _unused(text, 7, "_table_", "_tablex", "xtable_", "xtablex")
    prefix = _unused(text, 0, *"qzxjkvwy")
    parameters: dict[str, str] = {}
    marks: dict[str, str] = {}

    def mark(found: re.Match[str]) -> str:
        if found["odd"]:
            raise Unreadable(f"{found[0]!r} has no place in a workload's statement")
        if found["comment"] and "/*" in found[0][2:]:
            raise Unreadable("a comment in a comment")
        if found["table"]:
            return table
        if not found["parameter"]:
            return found[0]
        if found["parameter"] not in marks:
            high, low = divmod(len(marks), len(_DIGITS))
            if high >= len(_DIGITS):
                raise Unreadable("it has too many parameters")
            marks[found["parameter"]] = prefix + _DIGITS[high] + _DIGITS[low]
            parameters[marks[found["parameter"]]] = found["parameter"]
        return f" {marks[found['parameter']]}".ljust(len(found[0]))

    masked = _TOKEN.sub(mark, text)
    if _nested(masked) > MOST_NESTED:
        raise Unreadable(f"it has more than {MOST_NESTED} arrays in arrays")
    return masked, table, parameters


def _unused(text: str, length: int, *candidates: str) -> str:
    """The first of the candidates that no word of the text could be taken for."""
    for candidate in candidates:
        pattern = candidate if length else rf"(?<![^\W_]){candidate}[0-9a-z]{{2}}(?![^\W_])"
        if not re.search(pattern, text, re.IGNORECASE):
            return candidate
    raise Unreadable("its names leave none for our own marks")


def _nested(masked: str) -> int:
    """Square brackets in square brackets."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]]", _TOKEN.sub(lambda found: "" if found["closed"] else found[0], masked)):
        depth += 1 if bracket == "[" else -1
        deepest = max(deepest, depth)
    return deepest


def _normal(node: exp.Expression, parameters: dict[str, str]) -> exp.Expression:
    """A column that stands for a parameter becomes one; `(m).created_at` becomes `m.created_at`, every literal a Literal."""
    if isinstance(node, exp.Column) and len(node.parts) == 1 and node.name in parameters:
        return exp.Placeholder(this=node.name)
    if isinstance(node, exp.RawString | exp.ByteString) and "\\" not in node.name:
        return exp.Literal.string(node.name)
    whole = node.this.this if isinstance(node, exp.Dot) and isinstance(node.this, exp.Paren) else None
    if (
        isinstance(whole, exp.Column)
        and len(whole.parts) == 1
        and isinstance(node.args.get("expression"), exp.Identifier)
    ):
        return exp.Column(this=node.expression.copy(), table=whole.this.copy())
    return node


def _agree(masked: str, tree: exp.Expression, table: str, parameters: dict[str, str]) -> None:
    """Every mark of the text is in the tree, as what it stands for: or the parser took a string for code."""
    tables = sum(node.name == table for node in tree.find_all(exp.Identifier))
    there = [node.name for node in tree.find_all(exp.Placeholder)]
    for mark, name in parameters.items():
        if there.count(mark) != len(re.findall(rf"\b{mark}\b", masked)):
            raise Unreadable(f"%({name})s stands where no value can")
    if tables != masked.count(table):
        raise Unreadable("{table} stands where no table can")


def _where(error: ParseError) -> str:
    places: Iterator[dict[str, Any]] = iter(error.errors)
    place = next(places, {})
    if place.get("line") is None:
        return "it could not be parsed"
    return f"it could not be parsed at line {place['line']}, column {place['col']}"
