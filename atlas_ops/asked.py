"""What a statement asks of a table: proven by parsing, never guessed from its text. Pure.

A name in a text may be a column, an alias, a CTE, the beginning of a longer name. Each place where the table's name stands is marked, the
statement is parsed by sqlglot, and only a mark that comes out as a table in a FROM, a JOIN or as a target counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from atlas_ops.querytext import NAME_BYTES, PARAMETER, TABLE, Bare, Unclear, bare, marked, masked

if TYPE_CHECKING:
    Node = exp.Expr

Verb = Literal["select", "insert", "update", "delete", "merge", "copy", "truncate"]
How = Literal["value", "array", "lower", "upper", "limit", "page", "offset", "field", "set", "insert", "unknown"]
"""limit is that of the whole statement, page one further in."""

OURS = "atlas_ops"
_ASKS = re.compile(r"[\s(]*(SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|TABLE|VALUES|COPY|TRUNCATE)\b", re.IGNORECASE)
# The same before a text is taken apart: comments and brackets may come first, and what gives the statement a name.
_MAY_ASK = re.compile(
    r"(?:\s|\(|--[^\n\r]*|/\*.*?\*/)*(?:SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|TABLE|VALUES|COPY|TRUNCATE|PREPARE|DECLARE)\b",
    re.IGNORECASE | re.DOTALL,
)
# Words that sqlglot does not read, and that no column or table stands in.
_UNREAD = re.compile(
    r"\bESCAPE\s+\$\d+|\bOVERRIDING\s+(?:SYSTEM|USER)\s+VALUE\b"
    r"|\bTABLESAMPLE\s+\w+\s*\([^()]*\)(?:\s*REPEATABLE\s*\([^()]*\))?",
    re.IGNORECASE,
)
_COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_PRUNES = (exp.EQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_TARGETS: Mapping[type[Node], Verb] = {
    exp.Insert: "insert",
    exp.Update: "update",
    exp.Delete: "delete",
    exp.Merge: "merge",
}
_WRITTEN_TO = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
_SCOPES = (exp.Select, *_WRITTEN_TO)
_BOUNDS: Mapping[type, tuple[How, How]] = {
    exp.GT: ("lower", "upper"),  # column > $1, $1 > column
    exp.GTE: ("lower", "upper"),
    exp.LT: ("upper", "lower"),
    exp.LTE: ("upper", "lower"),
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter and where it stands: `column` of the table, as the catalogs have its name, where it is compared with or put into one."""

    number: int
    how: How
    column: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One statement on the table.

    `bounds_key`: a condition compares the partition key itself; None for a statement without any. `arbiter`: the columns of ON CONFLICT.
    """

    verb: Verb
    writes: bool  # row locks too: a read-only transaction takes none
    bounds_key: bool | None
    slots: tuple[Slot, ...]
    arbiter: tuple[str, ...]
    tables: frozenset[tuple[str, str]]  # schema (may be empty) and name of every other table
    masked: str
    _bare: Bare
    _roles: Mapping[str, str]  # a mark of the table's name: table, aliased or qualifier

    def text(self, table: str, parameter: Callable[[int], str]) -> str:
        """The statement with `table` in place of the table's name, and each parameter as `parameter` writes it."""
        # parameters first: a name put in later may hold $1 itself
        found = re.sub(r"\$(\d+)", lambda number: parameter(int(number[1])), self._bare.text)
        for mark, role in self._roles.items():
            written = self._bare.written[mark]
            put = {"table": "\0", "aliased": f"\0 AS {written}", "qualifier": written}[role]
            found = re.sub(rf"(?:[\w$\u0080-\U0010ffff]+\s*\.\s*)*\b{mark}\b", lambda _, put=put: put, found)  # type: ignore[misc]
        for mark, written in self._bare.written.items():
            found = re.sub(rf"\b{mark}\b", lambda _, written=written: written, found)  # type: ignore[misc]
        return found.replace("\0", table)

    def compared(self) -> tuple[str, ...]:
        """The columns that conditions compare with a parameter, each once, in their order."""
        return tuple(
            dict.fromkeys(slot.column for slot in self.slots if slot.column and slot.how not in ("set", "insert"))
        )


def asked(text: str, at: tuple[str, str], key: str, columns: Sequence[str] = ()) -> Asked | None:
    """What `text` asks of the table `at` (schema, name), or None where it does not ask it.

    `key` is the partition key, `columns` are all those of the table in their order; a bare table name is taken for this one's. What says
    atlas_ops is ours, and never the application's. Raises Unclear where the text cannot be read for certain: no word of it may be shown.
    """
    if OURS in text.lower() or not _MAY_ASK.match(text) or not _says(text, at[1]):
        return None
    found = bare(text, at[1])
    if not _ASKS.match(found.text) or TABLE not in found.text:
        return None
    try:
        tree = sqlglot.parse_one(marked(_UNREAD.sub(" ", found.text)), read="postgres")
    except (SqlglotError, RecursionError):
        raise Unclear from None
    return _Reader(found, tree, at, key, columns).read(masked(text))


def _says(text: str, name: str) -> bool:
    """Whether the name stands there as a word, in whatever role; one of full length may have been cut."""
    quoted = re.escape(name.replace('"', '""'))
    whole = name.isidentifier() and len(name.encode()) < NAME_BYTES
    return re.search(rf"(?<![\w$]){quoted}(?![\w$])" if whole else quoted, text, re.IGNORECASE) is not None


class _Reader:
    """One parsed statement."""

    def __init__(self, found: Bare, tree: Node, at: tuple[str, str], key: str, columns: Sequence[str]) -> None:
        self.bare, self.tree, self.at, self.key, self.columns = found, tree, at, key, columns
        self.ours = {id(table): table for table in tree.find_all(exp.Table) if self._is_ours(table)}

    def read(self, shown: str) -> Asked | None:
        verb = self._verb()
        if not self.ours or verb is None:
            return None
        slots = tuple(sorted(self._slots(), key=lambda slot: slot.number))
        writes = verb in ("copy", "truncate") or self.tree.find(*_WRITTEN_TO, exp.Lock) is not None
        return Asked(
            verb,
            writes,
            self._bounds_key(verb),
            slots,
            self._arbiter(),
            self._others(),
            shown,
            self.bare,
            self._roles(),
        )

    def _verb(self) -> Verb | None:
        if isinstance(self.tree, exp.Copy | exp.TruncateTable):
            return "copy" if isinstance(self.tree, exp.Copy) else "truncate"
        if not isinstance(self.tree, exp.Query | exp.Insert | exp.Update | exp.Delete | exp.Merge):
            return None
        if self.tree.find(exp.Into):
            return None  # SELECT INTO makes a table
        for node in self.tree.find_all(*_WRITTEN_TO):
            if self._target(node) is not None:
                return next(verb for kind, verb in _TARGETS.items() if isinstance(node, kind))
        return "select"

    # the table

    def _is_ours(self, table: exp.Table) -> bool:
        if not isinstance(table.this, exp.Identifier) or not table.name.startswith(TABLE):
            return False
        schema = table.args.get("db")
        if schema is not None:
            return self._name(schema) == self.at[0] and not isinstance(table.parent, exp.Lock)
        return not isinstance(table.parent, exp.Lock) and not self._is_cte(table)

    def _is_cte(self, table: exp.Table) -> bool:
        """Whether a WITH around it has a query of that name which it can see: those before its own, all of them where it is RECURSIVE."""
        path: list[Node] = [table, *_ancestors(table)]
        for inside, node in pairwise(path):
            with_ = _argument(node, "with")
            if with_ is None:
                continue
            visible = list(with_.expressions)
            if inside is with_ and not with_.args.get("recursive"):
                visible = visible[: next(i for i, cte in enumerate(visible) if any(cte is one for one in path))]
            if any(self._alias(cte) == self._name(table.this) for cte in visible):
                return True
        return False

    def _target(self, node: Node) -> exp.Table | None:
        """The table that a statement writes to, if it is ours."""
        target = node.this
        if isinstance(target, exp.Schema):
            target = target.this
        return self.ours.get(id(target))

    def _others(self) -> frozenset[tuple[str, str]]:
        return frozenset(
            (self._name(table.args["db"]) if table.args.get("db") else "", self._name(table.this))
            for table in self.tree.find_all(exp.Table)
            if isinstance(table.this, exp.Identifier) and id(table) not in self.ours
        )

    def _roles(self) -> dict[str, str]:
        """What each mark stands for. The table keeps its name as an alias where the statement says it anywhere else."""
        tables = list(self.ours.values())
        marks = {table.name for table in tables}
        said = {mark for mark in self.bare.written if mark.startswith(TABLE)} - marks
        roles = {table.name: "aliased" if said and not table.alias else "table" for table in tables}
        for column in self.tree.find_all(exp.Column):
            qualifier = column.args.get("table")
            if qualifier is not None and column.args.get("db") is not None and qualifier.name in said:
                roles[qualifier.name] = "qualifier"
        return roles

    # names

    def _name(self, identifier: Node) -> str:
        return self.bare.name(identifier.name)

    def _alias(self, node: Node) -> str:
        return self.bare.name(node.alias) if node.alias else ""

    def _called(self, source: Node) -> str:
        return self._alias(source) or (self._name(source.this) if isinstance(source, exp.Table) else "")

    def _column(self, node: Node | None) -> str:
        """The name of the table's own column that an expression is, brackets and casts aside; empty for anything else."""
        while isinstance(node, exp.Paren | exp.Cast):
            node = node.this
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier) or _number(node):
            return ""
        name = self._name(node.this)
        if self.columns and name not in self.columns:
            return ""
        qualifier = node.args.get("table")
        for scope in _ancestors(node):
            if not isinstance(scope, _SCOPES):
                continue
            sources = list(_sources(scope))
            if qualifier is None and sources:
                return name if any(id(source) in self.ours for source in sources) else ""
            for source in sources:
                if qualifier is not None and self._called(source) == self._name(qualifier):
                    return name if id(source) in self.ours else ""
        return ""

    # conditions

    def _bounds_key(self, verb: Verb) -> bool | None:
        if verb in ("copy", "truncate"):
            return None
        if verb == "insert" and all(self._is_target(table) for table in self.ours.values()):
            return None
        return any(self._is_bound(column) for column in self.tree.find_all(exp.Column))

    def _is_target(self, table: exp.Table) -> bool:
        around = table.parent.parent if isinstance(table.parent, exp.Schema) else table.parent
        return isinstance(around, exp.Insert)

    def _is_bound(self, column: exp.Column) -> bool:
        """Whether the partition key itself is compared here, in a condition: in a cast, a function or a row it does not prune."""
        if self.bare.name(column.name) != self.key or self._column(column) != self.key:
            return False
        node: Node = column
        parent: Node | None = column.parent
        while isinstance(parent, exp.Paren):
            node, parent = parent, parent.parent
        compares = isinstance(parent, _PRUNES) and not _assigns(parent)
        compares |= isinstance(parent, exp.In | exp.Between) and parent.this is node
        return compares and column.find_ancestor(exp.Where, exp.Join, exp.Merge) is not None

    def _arbiter(self) -> tuple[str, ...]:
        conflict = self.tree.find(exp.OnConflict)
        keys = (conflict.args.get("conflict_keys") or []) if conflict else []
        return tuple(self._name(name) for key in keys for name in key.find_all(exp.Identifier))

    # parameters

    def _slots(self) -> Iterator[Slot]:
        there = sorted({int(number) for number in re.findall(r"\$(\d+)", self.bare.text)})
        found: dict[int, Slot] = {number: Slot(number, "field") for number in self.bare.fields}
        for identifier in self.tree.find_all(exp.Identifier):
            number = _number(identifier)
            if number and found.get(number, Slot(number, "unknown")).how == "unknown":
                start = identifier.parent if isinstance(identifier.parent, exp.Column) else identifier
                found[number] = self._slot(number, start)
        return iter(found.get(number, Slot(number, "unknown")) for number in there)

    def _slot(self, number: int, node: Node) -> Slot:
        position: int | None = None  # in a row
        listed, any_of = False, False  # an element of ARRAY[...]; = ANY (...)
        while (parent := node.parent) is not None:
            if isinstance(parent, exp.Paren) or (isinstance(parent, exp.Cast) and parent.this is node):
                pass
            elif isinstance(parent, exp.Array) and not listed and not any_of:
                listed = True
            elif isinstance(parent, exp.Any | exp.All) and not any_of:
                any_of = True
            elif isinstance(parent, exp.Tuple) and position is None:
                position = _position(parent.expressions, node)
            else:
                break
            node = parent
        if parent is None or (listed and not any_of):
            return Slot(number, "unknown")
        return self._placed(number, node, parent, position, "array" if any_of and not listed else "value")

    def _placed(self, number: int, node: Node, parent: Node, position: int | None, how: How) -> Slot:
        """The parameter, or the row with it, is `node`; what is around it decides."""
        if isinstance(parent, exp.Limit | exp.Fetch):
            return Slot(number, "limit" if parent.parent is self.tree else "page")
        if isinstance(parent, exp.Offset):
            return Slot(number, "offset")
        if isinstance(parent, exp.In | exp.Between) and parent.this is not node:
            how = {"low": "lower", "high": "upper"}.get(node.arg_key or "", how)  # type: ignore[assignment]
            return self._with(number, how, _element(parent.this, position))
        if isinstance(parent, _COMPARED):
            return self._across(number, node, parent, position, how)
        return self._inserted(number, node, parent, position)

    def _across(self, number: int, node: Node, parent: exp.Binary, position: int | None, how: How) -> Slot:
        """What a comparison, or the = of a SET, has on its other side."""
        other = _element(parent.expression if node is parent.this else parent.this, position)
        if _assigns(parent):
            return self._put(number, "set", other, parent)
        if how == "value" and position is None and type(parent) in _BOUNDS:
            how = _BOUNDS[type(parent)][node is parent.this]
        return self._with(number, how, other)

    def _with(self, number: int, how: How, other: Node | None) -> Slot:
        column = self._column(other)
        return Slot(number, how, column) if column else Slot(number, "unknown")

    def _put(self, number: int, how: How, column: Node | None, where: Node) -> Slot:
        """A value that is put into a column of the table that the statement around it writes to."""
        written = next((node for node in _ancestors(where) if isinstance(node, _WRITTEN_TO) and node.this), None)
        name = self._name(column.this if isinstance(column, exp.Column) else column) if column is not None else ""
        ours = written is not None and self._target(written) is not None
        if not ours or not name or (self.columns and name not in self.columns):
            return Slot(number, "unknown")
        return Slot(number, how, name)

    def _inserted(self, number: int, node: Node, parent: Node, position: int | None) -> Slot:
        """A value of VALUES, or of the SELECT, that an INSERT takes its rows from."""
        if isinstance(parent, exp.Select) and node.arg_key == "expressions":
            position = _position(parent.expressions, node)
        elif not isinstance(parent, exp.Values):
            position = None
        insert = parent.parent
        if position is None or not isinstance(insert, exp.Insert) or insert.args.get("expression") is not parent:
            return Slot(number, "unknown")
        named = insert.this.expressions if isinstance(insert.this, exp.Schema) else []
        columns = [self._name(one) for one in named] or list(self.columns)
        if self._target(insert) is None or position >= len(columns):
            return Slot(number, "unknown")
        return Slot(number, "insert", columns[position])


def _ancestors(node: Node) -> Iterator[Node]:
    while (parent := node.parent) is not None:
        yield parent
        node = parent


def _argument(node: Node, name: str) -> Node | None:
    """An argument that sqlglot has with an underscore at its end since 28."""
    found: Node | None = node.args.get(f"{name}_") or node.args.get(name)
    return found


def _sources(scope: Node) -> Iterator[Node]:
    """The tables and sub-selects that the names in a statement come from, without those of statements inside of it."""
    roots = [] if isinstance(scope, exp.Select) else [scope.this]
    from_ = _argument(scope, "from")
    roots += [from_.this] if from_ else []
    using = scope.args.get("using") or []
    roots += using if isinstance(using, list) else [using]
    for root in (*roots, *(scope.args.get("joins") or ()), *(scope.args.get("laterals") or ())):
        yield from _joined(root)


def _joined(root: Node | None) -> Iterator[Node]:
    if isinstance(root, exp.Join | exp.Schema):
        yield from _joined(root.this)
        return
    if isinstance(root, exp.Subquery) and isinstance(root.this, exp.Table):  # (a JOIN b)
        yield from _joined(root.this)
    elif root is not None:
        yield root
    for join in root.args.get("joins") or () if root is not None else ():
        yield from _joined(join)


def _number(node: Node) -> int:
    """The number of the parameter that a mark stands for; 0 for any other name."""
    found = re.fullmatch(rf"{PARAMETER}(\d+)", node.name)
    return int(found[1]) if found else 0


def _assigns(equals: Node) -> bool:
    """Whether it is column = value of a SET."""
    return equals.arg_key == "expressions" and isinstance(equals.parent, exp.Update | exp.OnConflict)


def _element(node: Node | None, position: int | None) -> Node | None:
    """The element of a row that stands across from the one at `position`; without a row the expression itself."""
    if position is None:
        return node
    while isinstance(node, exp.Paren):
        node = node.this
    inside = node.expressions if isinstance(node, exp.Tuple) else []
    return inside[position] if position < len(inside) else None


def _position(among: Sequence[Node], node: Node) -> int:
    """By identity: two parameters may look alike."""
    return next(i for i, one in enumerate(among) if one is node)
