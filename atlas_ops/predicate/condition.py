"""A boolean expression of a statement as a condition on the partition key. Pure.

What PostgreSQL does to an expression before it prunes is done here too: NOT goes inwards (negate_clause), BETWEEN, IN and rows are taken apart.
A key that is wrapped in anything is no key any more, except in a cast to its own type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from atlas_ops.predicate.halfopen import Wrapped, follows, follows_moved
from atlas_ops.predicate.pruning import (
    MIRRORED,
    NEGATED,
    Compare,
    Condition,
    Everything,
    Nothing,
    Operator,
    Unknown,
    both,
    either,
)
from atlas_ops.predicate.statement import Statement
from atlas_ops.predicate.value import TIMES, UNTYPED, Typing, Value, comparing, function_name, short, value_of

RANGES_PRUNE_FROM = 170_000
"""`key <@ range` is taken apart by the planner from this server_version_num on."""

_OPERATORS: Mapping[type[exp.Expression], Operator] = {
    exp.LT: "<",
    exp.LTE: "<=",
    exp.EQ: "=",
    exp.GTE: ">=",
    exp.GT: ">",
}
_SPELLED: Mapping[str, type[exp.Expression]] = {
    "<": exp.LT, "<=": exp.LTE, "=": exp.EQ, ">=": exp.GTE, ">": exp.GT, "<>": exp.NEQ,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression stands: which column is the key there, and what else is known."""

    statement: Statement
    key: str  # as a DBA reads it
    key_type: str
    is_key: Callable[[exp.Column], bool]
    typing: Typing
    exists: Callable[[exp.Exists], Condition]
    askable: Callable[[exp.Expression], bool]  # whether a value can be asked for outside of the statement
    time_zone: str = ""

    def bare(self, node: exp.Expression) -> bool:
        """Whether an expression is the key and nothing more, or the key cast to its own type."""
        node = _inner(node)
        if isinstance(node, exp.Cast) and not node.args["to"].expressions:
            same = short(node.args["to"].sql("postgres")) == self.key_type
            return same and self.bare(node.this)
        return isinstance(node, exp.Column) and self.is_key(node)

    def keys(self, node: exp.Expression) -> list[exp.Column]:
        """The places where an expression names the key, sub-selects left out."""
        return [column for column in _columns(node) if self.is_key(column)]


def condition(node: exp.Expression, place: Place, negated: bool = False) -> Condition:  # noqa: PLR0911 - one line a kind
    """What `node` (negated: what NOT node) leaves of the partitions."""
    node = _inner(node)
    match node:
        case exp.And() | exp.Or():
            parts = [condition(each, place, negated) for each in _operands(node)]
            return both(parts) if isinstance(node, exp.And) != negated else either(parts)
        case exp.Not():
            return condition(node.this, place, not negated)
        case exp.Boolean():
            return Everything() if bool(node.this) != negated else Nothing()
        case exp.Null():
            return Nothing()
        case exp.Between():
            return condition(_between(node), place, negated)
        case exp.Exists():
            return Everything() if negated else place.exists(node)
        case exp.In():
            return _in(node, place, negated)
        case exp.Is():
            return _is(node, place, negated != bool(node.args.get("negate")))
        case exp.Operator() if str(node.args.get("operator")).removeprefix("pg_catalog.") in _SPELLED:
            spelled = _SPELLED[str(node.args["operator"]).removeprefix("pg_catalog.")]
            return condition(_made(spelled, node.this, node.expression), place, negated)
        case exp.ArrayContainedBy() | exp.ArrayContainsAll():
            return _in_range(node, place, negated)
        case exp.LT() | exp.LTE() | exp.EQ() | exp.GTE() | exp.GT() | exp.NEQ():
            return _comparison(node, place, negated)
        case _:
            return _wrapped(node, place)


def conjuncts(node: exp.Expression | None) -> Iterator[exp.Expression]:
    """The parts of a condition that all must hold, each without brackets around it."""
    if node is None:
        return
    inner = _inner(node)
    if isinstance(inner, exp.And):
        for each in _operands(inner):
            yield from conjuncts(each)
    else:
        yield inner


def _inner(node: exp.Expression) -> exp.Expression:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _operands(node: exp.Expression) -> list[exp.Expression]:
    """Of `a AND b AND c` all three: a long chain is a deep tree."""
    found: list[exp.Expression] = []
    kind = type(node)
    while isinstance(node, kind):
        found.append(node.expression)
        node = node.this
    return [node, *reversed(found)]


def _columns(node: exp.Expression) -> Iterator[exp.Column]:
    top: object = node
    found = node.walk(prune=lambda each: isinstance(each, exp.Query) and each is not top)
    return (each for each in found if isinstance(each, exp.Column))


def _made(kind: type[exp.Expression], left: exp.Expression, right: exp.Expression) -> exp.Expression:
    """A comparison out of copies: a node that is given to another loses its own place in the tree."""
    return kind(this=left.copy(), expression=right.copy())


def _between(node: exp.Between) -> exp.Expression:
    def within(low: exp.Expression, high: exp.Expression) -> exp.Expression:
        return exp.And(this=_made(exp.GTE, node.this, low), expression=_made(exp.LTE, node.this, high))

    low, high = node.args["low"], node.args["high"]
    if node.args.get("symmetric"):
        return exp.Or(this=within(low, high), expression=within(high, low))
    return within(low, high)


def _wrapped(node: exp.Expression, place: Place) -> Condition:
    """An expression that is no comparison, or none that prunes."""
    if not place.keys(node):
        return Everything()
    if isinstance(node, exp.NullSafeEQ | exp.NullSafeNEQ):
        return Everything(f"{place.key} is compared by IS DISTINCT FROM, which no partition bound can match")
    return Everything(f"{place.key} is inside {_name(node)}, which no partition bound can match")


def _is(node: exp.Is, place: Place, negated: bool) -> Condition:
    if isinstance(node.expression, exp.Null) and place.bare(node.this):
        return Everything() if negated else Nothing(null=True)
    if place.keys(node.this):
        return Everything(f"a condition on {place.key} is inside IS, which no partition bound can match")
    return Everything()


def _in(node: exp.In, place: Place, negated: bool) -> Condition:
    query = node.args.get("query")
    listed = node.expressions
    if query is not None or node.args.get("unnest") or any(isinstance(each, exp.Values) for each in listed):
        if negated or not place.bare(node.this):
            return _wrapped(node, place) if place.keys(node.this) else Everything()
        return Compare("=", "(...)", "join", "", "ANY", why="what a sub-select returns")
    if negated:
        return both(_unequal(node.this, each, place) for each in listed)
    return either(condition(_made(exp.EQ, node.this, each), place) for each in listed)


def _comparison(node: exp.Expression, place: Place, negated: bool) -> Condition:  # noqa: PLR0911 - one line a side
    left, right = _inner(node.this), _inner(node.expression)
    for truth, other in ((left, right), (right, left)):
        if isinstance(truth, exp.Boolean) and isinstance(node, exp.EQ | exp.NEQ):
            return condition(other, place, negated != (bool(truth.this) != isinstance(node, exp.EQ)))
    if isinstance(left, exp.Tuple) or isinstance(right, exp.Tuple):
        return _rows(node, left, right, place, negated)
    if isinstance(node, exp.NEQ):
        operator: Operator | None = "=" if negated else None
    else:
        operator = NEGATED.get(_OPERATORS[type(node)]) if negated else _OPERATORS[type(node)]
    if operator is None:
        is_null = isinstance(left, exp.Null) or isinstance(right, exp.Null)
        return Nothing() if is_null else _unequal(left, right, place)
    if place.bare(left):
        return _compared(operator, right, place, negated)
    if place.bare(right):
        return _compared(MIRRORED[operator], left, place, negated)
    if place.keys(left) and not place.keys(right):
        return _of_wrapped(left, operator, right, place)
    if place.keys(right) and not place.keys(left):
        return _of_wrapped(right, MIRRORED[operator], left, place)
    return _wrapped(node, place)


def _unequal(left: exp.Expression, right: exp.Expression, place: Place) -> Condition:
    if place.bare(left) or place.bare(right):
        return Everything(f"{place.key} <> a value leaves every partition")
    return _wrapped(_made(exp.NEQ, left, right), place)


def _rows(node: exp.Expression, left: exp.Expression, right: exp.Expression, place: Place, negated: bool) -> Condition:
    """`(a, b) = (x, y)` is taken apart; `(a, b) > (x, y)` is not, but the first column must hold its own."""
    pairs = (
        list(zip(left.expressions, right.expressions, strict=True))
        if isinstance(left, exp.Tuple)
        and isinstance(right, exp.Tuple)
        and len(left.expressions) == len(right.expressions)
        else []
    )
    kind = type(node)
    if pairs and (len(pairs) == 1 or kind in (exp.EQ, exp.NEQ)):
        parts = [condition(_made(kind, one, other), place, negated) for one, other in pairs]
        return both(parts) if (kind is exp.EQ) != negated else either(parts)
    if not place.keys(node):
        return Everything()
    return Everything(
        f"{place.key} is compared as part of a row, which no partition bound can match",
        "" if negated or not pairs else _first_of_row(kind, *pairs[0], place),
    )


def _first_of_row(kind: type[exp.Expression], one: exp.Expression, other: exp.Expression, place: Place) -> str:
    operator = {"LT": "<=", "LTE": "<=", "GT": ">=", "GTE": ">="}.get(kind.__name__)
    if operator is None or not place.bare(one) or value_of(other, place.typing).when not in ("plan", "run"):
        return ""
    return f"{place.statement.written(_inner(one))} {operator} {place.statement.written(other)}"


def _compared(operator: Operator, other: exp.Expression, place: Place, negated: bool) -> Condition:
    """The bare key on one side."""
    over, array = _array(other)
    if place.keys(other):
        return Everything(f"{place.key} is compared with {'itself' if place.bare(other) else 'a value made of itself'}")
    if array is None:
        return _known(operator, other, value_of(other, place.typing), place)
    if negated:
        over = "ALL" if over == "ANY" else "ANY"
    if isinstance(array, exp.Query | exp.Values):
        if operator == "=" and over == "ANY":
            return Compare("=", "(...)", "join", "", "ANY", why="what a sub-select returns")
        return Everything(f"{place.key} is compared with {over} of a sub-select, which is never pruned by")
    return _with_array(operator, array, over, place)


def _with_array(operator: Operator, array: exp.Expression, over: str, place: Place) -> Condition:
    value = value_of(array, place.typing)
    if isinstance(array, exp.Array) and value.when != "row":
        each = [_known(operator, one, value_of(one, place.typing), place) for one in array.expressions]
        late = next((one for one in each if isinstance(one, Compare) and one.known != "plan"), None)
        if late is not None:  # an array is known once all of it is
            each = [replace(one, known=late.known, why=late.why) if isinstance(one, Compare) else one for one in each]
        return either(each) if over == "ANY" else both(each)
    if value.when in ("run", "join"):
        return Everything(f"{place.key} is compared with an array that is no constant, which is never pruned by")
    element = Value(value.type.removesuffix("[]"), value.when, value.why)
    return _known(operator, array, element, place, over)


def _array(node: exp.Expression) -> tuple[str, exp.Expression | None]:
    """ANY or ALL and its array or sub-select, where `node` is one."""
    if isinstance(node, exp.Any | exp.All):
        return ("ANY" if isinstance(node, exp.Any) else "ALL"), _inner(node.this)
    if isinstance(node, exp.Anonymous) and node.name.upper() in ("ALL", "ANY", "SOME") and len(node.expressions) == 1:
        return ("ALL" if node.name.upper() == "ALL" else "ANY"), _inner(node.expressions[0])
    return "", None


def _known(operator: Operator, node: exp.Expression, value: Value, place: Place, over: str = "") -> Condition:
    match value.when:
        case "row":
            return Everything(f"{place.key} is compared with {value.why or 'another column of the same row'}")
        case "volatile":
            return Everything(f"{value.why}: a value that may change from row to row never prunes")
        case "unknown":
            return Unknown(f"{value.why}: only what is stable or immutable prunes")
        case _:
            pass
    if value.type not in (*TIMES, UNTYPED, "other"):
        return Unknown(f"{place.key} is compared with {value.type}")
    if isinstance(_inner(node), exp.Null):
        return Nothing()
    why, known = value.why, value.when
    if value.type in TIMES and (across := comparing(place.key_type, value.type)):
        why, known = why or across, "run" if known == "plan" else known
    sql = place.statement.written(node)
    instant = "" if known == "join" or not place.askable(node) else _instant(sql, value.type, place.key_type, over)
    return Compare(operator, sql, known, instant, "ANY" if over == "ANY" else "ALL" if over else "", why)


def _instant(sql: str, kind: str, key_type: str, over: str) -> str:
    """The value in seconds since 1970, read as the bound of a partition is: by the clock where the key has no zone."""
    own = f"::{key_type}" if kind in (UNTYPED, "other") else ""
    beside = "timestamptz" if key_type == "timestamptz" else "timestamp"
    if not over:
        return f"extract(epoch FROM ({sql}){own}::{beside})"
    array = f"({sql}){own}[]" if own else f"({sql})"
    listed = f"ARRAY(SELECT extract(epoch FROM element::{beside}) FROM unnest({array}) AS element)"
    return f"CASE WHEN ({sql}) IS NOT NULL THEN {listed} END"


def _of_wrapped(node: exp.Expression, operator: Operator, other: exp.Expression, place: Place) -> Condition:
    """The key is inside of one side: no pruning, but something may follow for the bare key."""
    return Everything(
        f"{place.key} is {_how(node)}, which no partition bound can match", _follows(node, operator, other, place)
    )


def _follows(node: exp.Expression, operator: Operator, other: exp.Expression, place: Place) -> str:
    value, columns = value_of(other, place.typing), list(_columns(node))
    if len(columns) != 1 or value.when not in ("plan", "run") or node.find(exp.Query):
        return ""
    written = place.statement.written
    wrapped = Wrapped(written(columns[0]), place.key_type, operator, written(other), value.type, place.time_zone)
    if isinstance(node, exp.Add | exp.Sub):
        distance = node.expression if isinstance(node.this, exp.Column) else node.this
        return follows_moved(node, wrapped, value_of(distance, place.typing), written(distance))
    return follows(node, wrapped)


def _how(node: exp.Expression) -> str:
    """What was done to the key, for a sentence."""
    match node:
        case exp.Date():
            return "cast to date"
        case exp.Cast():
            return f"cast to {node.args['to'].sql('postgres').lower()}"
        case exp.AtTimeZone():
            return "moved by AT TIME ZONE"
        case exp.Add() | exp.Sub():
            return "part of a sum"
        case _:
            return f"inside {_name(node)}"


def _name(node: exp.Expression) -> str:
    name = function_name(node)
    return f"{name}()" if name else "CASE" if isinstance(node, exp.Case) else "an expression"


def _in_range(node: exp.Expression, place: Place, negated: bool) -> Condition:
    """`key <@ range` and `range @> key`."""
    key, span = (node.this, node.expression) if isinstance(node, exp.ArrayContainedBy) else (node.expression, node.this)
    if not place.bare(key):
        return _wrapped(node, place)
    value = value_of(span, place.typing)
    kind = {"timestamptz": "tstzrange", "timestamp": "tsrange", "date": "daterange"}[place.key_type]
    if negated or value.when != "plan" or value.type != kind:
        return Everything(f"{place.key} is compared with a range that is no constant, which is never pruned by")
    if place.typing.version < RANGES_PRUNE_FROM:
        return Everything(f"{place.key} is compared with a range, which prunes from PostgreSQL 17 on")
    typed = f"({place.statement.written(span)})::{kind}"
    parts: list[Condition] = []
    lowest: tuple[Operator, str, str] = (">=", "lower", "-infinity")
    highest: tuple[Operator, str, str] = ("<" if _open(span) or kind == "daterange" else "<=", "upper", "infinity")
    for operator, end, endless in (lowest, highest):
        sql = f"coalesce({end}({typed}), '{endless}')"
        parts.append(Compare(operator, sql, "plan", _instant(sql, place.key_type, place.key_type, "")))
    return both(parts)


def _open(span: exp.Expression) -> bool:
    """Whether the upper end of a range does not belong to it, as far as the text says."""
    ends = span.expressions if isinstance(span, exp.Anonymous) else []
    if len(ends) == 2:  # noqa: PLR2004 - without the third argument it is '[)'
        return True
    return bool(ends) and isinstance(ends[-1], exp.Literal) and ends[-1].name.endswith(")")
