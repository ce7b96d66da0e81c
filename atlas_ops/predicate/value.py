"""What the partition key is compared with: its type, and when PostgreSQL knows it.

The planner prunes by what is immutable: constants and parameters. `now()` and casts that follow the session's TimeZone are stable: pruned when
the statement starts. A sub-select is known once it ran, a column of another table row by row. What is volatile or of the row itself never prunes.
Volatilities are those of pg_proc, 15 to 18; a function that is not listed here is not known to be anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from atlas_ops.predicate.statement import named, text_of

When = Literal["plan", "run", "join", "unknown", "row", "volatile"]
"""In the order of what it costs; `row`: of the row that is looked for; `unknown`: a function that is not known here."""
_ORDER: tuple[When, ...] = ("plan", "run", "join", "unknown", "row", "volatile")

TIMES = ("date", "timestamp", "timestamptz")
UNTYPED = "unknown"
"""As PostgreSQL calls a literal whose type the other side decides."""


@dataclass(frozen=True, slots=True)
class Value:
    """The type (short, as pg_type has it; `other` for what does not matter here) and when it is known; `why` not while planning."""

    type: str
    when: When = "plan"
    why: str = ""


_TYPE_NAMES = {
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "smallint": "int",
    "integer": "int",
    "bigint": "int",
    "int2": "int",
    "int4": "int",
    "int8": "int",
    "character varying": "text",
    "varchar": "text",
    "character": "text",
    "char": "text",
    "name": "text",
    "bool": "boolean",
}
_NUMBERS = frozenset({"int", "numeric", "double precision", "real", "float", "decimal"})


def short(name: str) -> str:
    """A type as format_type or a cast writes it, in the words used here: timestamptz, date[], int, text."""
    plain = " ".join(re.sub(r"\(\s*\d+(\s*,\s*\d+)?\s*\)", " ", name).lower().split())
    element = plain.removesuffix("[]").strip()
    return _TYPE_NAMES.get(element, element) + ("[]" if plain.endswith("[]") else "")


_NOT_VOLATILE = (
    *("array_agg", "array_length", "array_to_string", "btrim", "cardinality", "concat", "concat_ws", "dense_rank"),
    *("first_value", "format", "generate_series", "initcap", "json_agg", "json_array_elements", "json_build_array"),
    *("json_build_object", "jsonb_agg", "jsonb_array_elements", "jsonb_build_array", "jsonb_build_object", "jsonb_set"),
    *("lag", "last_value", "lead", "length", "ltrim", "md5", "ntile", "percent_rank", "rank", "regexp_replace"),
    *("row_number", "row_to_json", "rtrim", "split_part", "string_agg", "string_to_array", "strpos", "to_json"),
    *("to_jsonb", "to_tsvector", "ts_rank", "unnest", "websearch_to_tsquery"),
)
"""Of a function in a CTE it matters no more."""

# name -> (type of the result, volatility); '=' the type of the first argument
FUNCTIONS: Mapping[str, tuple[str, When]] = {
    "now": ("timestamptz", "run"),
    "current_timestamp": ("timestamptz", "run"),
    "transaction_timestamp": ("timestamptz", "run"),
    "statement_timestamp": ("timestamptz", "run"),
    "localtimestamp": ("timestamp", "run"),
    "current_date": ("date", "run"),
    "clock_timestamp": ("timestamptz", "volatile"),
    "timeofday": ("text", "volatile"),
    "random": ("double precision", "volatile"),
    "gen_random_uuid": ("uuid", "volatile"),
    "nextval": ("int", "volatile"),
    "make_date": ("date", "plan"),
    "make_timestamp": ("timestamp", "plan"),
    "make_timestamptz": ("timestamptz", "run"),
    "make_interval": ("interval", "plan"),
    "to_date": ("date", "run"),
    "coalesce": ("=", "plan"),
    "greatest": ("=", "plan"),
    "least": ("=", "plan"),
    "nullif": ("=", "plan"),
    "lower": ("=", "plan"),
    "upper": ("=", "plan"),
    "abs": ("=", "plan"),
    "floor": ("numeric", "plan"),
    "ceil": ("numeric", "plan"),
    "round": ("numeric", "plan"),
    "replace": ("text", "plan"),
    "left": ("text", "plan"),
    "right": ("text", "plan"),
    "lpad": ("text", "plan"),
    "substr": ("text", "plan"),
    "substring": ("text", "plan"),
    "trim": ("text", "plan"),
    "date_bin": ("second", "plan"),
    "current_setting": ("text", "run"),
    "to_char": ("text", "run"),
    "age": ("interval", "plan"),
    "justify_interval": ("interval", "plan"),
    "justify_days": ("interval", "plan"),
    "justify_hours": ("interval", "plan"),
    "tstzrange": ("tstzrange", "plan"),
    "tsrange": ("tsrange", "plan"),
    "daterange": ("daterange", "plan"),
    "uuid_extract_timestamp": ("timestamptz", "plan"),
    **dict.fromkeys(_NOT_VOLATILE, ("other", "run")),
}
_RANGES = {"tstzrange": "timestamptz", "tsrange": "timestamp", "daterange": "date"}
_CASTS_BY_ZONE = frozenset({"date", "timestamp", "timestamptz"})


def comparing(left: str, right: str) -> str:
    """Why comparing the two types of time is not immutable; empty where it is."""
    if left != right and "timestamptz" in (left, right):
        return f"{_said(left)} and {_said(right)} are compared by the session's TimeZone"
    return ""


def worst(values: Iterable[Value]) -> Value:
    """Of several values the one that is known last, whose type does not matter."""
    found = Value("other")
    for value in values:
        if _ORDER.index(value.when) > _ORDER.index(found.when):
            found = value
    return found


@dataclass(frozen=True, slots=True)
class Typing:
    """What a value may be made of."""

    parameter: Callable[[exp.Placeholder], str]  # its type, or UNTYPED
    column: Callable[[exp.Column], Value]
    query: Callable[[exp.Expression], Value]  # a sub-select
    version: int = 0  # server_version_num; 0: not known


def value_of(node: exp.Expression, typing: Typing) -> Value:  # noqa: PLR0911, PLR0912 - one line a kind
    """The type of an expression and when it is known."""
    match node:
        case exp.Paren() | exp.Collate():
            return value_of(node.this, typing)
        case exp.Literal():
            return Value(UNTYPED if node.is_string else "int" if node.this.isdigit() else "numeric")
        case exp.Null():
            return Value(UNTYPED)
        case exp.Boolean():
            return Value("boolean")
        case exp.Placeholder():
            return Value(typing.parameter(node))
        case exp.Column():
            return typing.column(node)
        case exp.Subquery() | exp.Select() | exp.SetOperation() | exp.Values():
            return typing.query(node)
        case exp.Interval():
            return _from(Value("interval"), [value_of(node.this, typing)] if node.this else [])
        case exp.Cast():
            return _cast(node, typing)
        case exp.AtTimeZone():
            return _at_time_zone(node, typing)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div() | exp.Neg():
            return _arithmetic(node, typing)
        case exp.Array():
            return _array(node, typing)
        case exp.Case():
            return _case(node, typing)
        case exp.Kwarg():
            return value_of(node.expression, typing)
        case (
            exp.Bracket() | exp.JSONExtract() | exp.JSONExtractScalar() | exp.JSONBExtract() | exp.JSONBExtractScalar()
        ):
            return _from(Value("text"), [value_of(node.this, typing)])
        case exp.Func() if not isinstance(node, exp.Binary | exp.Connector):
            return _function(node, typing)
        case exp.Binary() | exp.Unary() | exp.Between() | exp.In() | exp.Is() | exp.Tuple():
            return _operator(node, typing)
        case _:
            return _function(node, typing)


def _from(value: Value, parts: Iterable[Value]) -> Value:
    """`value`, known once it and all of its parts are."""
    last = worst([*parts, value])
    return Value(value.type, last.when, last.why)


def _cast(node: exp.Cast, typing: Typing) -> Value:
    target = short(text_of(node.args["to"]))
    array = node.this
    while isinstance(array, exp.Paren):
        array = array.this
    if isinstance(array, exp.Array) and target.endswith("[]"):  # PostgreSQL casts each element
        element = target.removesuffix("[]")
        return _from(Value(target), [_coerced(each, element, typing) for each in array.expressions])
    return _coerced(node.this, target, typing)


def _coerced(node: exp.Expression, target: str, typing: Typing) -> Value:
    inner = value_of(node, typing)
    source, kind = inner.type.removesuffix("[]"), target.removesuffix("[]")
    literal = inner.type == UNTYPED and isinstance(node, exp.Literal | exp.Null | exp.Placeholder)
    if literal or source == kind:
        return _from(Value(target), [inner])
    by_zone = source in _CASTS_BY_ZONE and kind in _CASTS_BY_ZONE and "timestamptz" in (source, kind)
    by_style = {source, kind} & _CASTS_BY_ZONE and (source in ("text", UNTYPED, "other") or kind == "text")
    if not (by_zone or by_style):
        return _from(Value(target), [inner])
    return _from(Value(target, "run", f"the cast of {_said(source)} to {_said(kind)} follows the session"), [inner])


def _at_time_zone(node: exp.AtTimeZone, typing: Typing) -> Value:
    inner, zone = value_of(node.this, typing), value_of(node.args["zone"], typing)
    if inner.type == "timestamp":
        return _from(Value("timestamptz"), [inner, zone])
    if inner.type == "date":
        return _from(Value("timestamp", "run", "the cast of a date follows the session's TimeZone"), [inner, zone])
    return _from(Value("timestamp"), [inner, zone])  # a literal is taken for a timestamptz


def _arithmetic(node: exp.Expression, typing: Typing) -> Value:
    operands = [value_of(each, typing) for each in (node.this, node.args.get("expression")) if each is not None]
    types = [operand.type for operand in operands]
    if "timestamptz" in types and isinstance(node, exp.Sub) and types.count("timestamptz") == len(types):
        return _from(Value("interval"), operands)
    if "timestamptz" in types:
        why = "timestamp with time zone and an interval are added by the session's TimeZone"
        return _from(Value("timestamptz", "run", why), operands)
    if "timestamp" in types or ("date" in types and "interval" in types):
        is_distance = isinstance(node, exp.Sub) and "interval" not in types and UNTYPED not in types
        return _from(Value("interval" if is_distance else "timestamp"), operands)
    if "date" in types and "time" in types:
        return _from(Value("timestamp"), operands)
    if "date" in types:
        is_distance = isinstance(node, exp.Sub) and types.count("date") == len(types)
        return _from(Value("int" if is_distance else "date"), operands)
    kind = "interval" if "interval" in types else next((one for one in types if one in _NUMBERS), "other")
    return _from(Value(kind), operands)


def _array(node: exp.Array, typing: Typing) -> Value:
    elements = [value_of(each, typing) for each in node.expressions]
    if len(elements) == 1 and isinstance(node.expressions[0], exp.Select | exp.SetOperation | exp.Values):
        return Value(elements[0].type + "[]", "row", "an array out of a sub-select, which is never pruned by")
    return _from(Value(_common(elements) + "[]"), elements)


def _case(node: exp.Case, typing: Typing) -> Value:
    results = [value_of(each.args["true"], typing) for each in node.args["ifs"]]
    others = [node.this, *(each.this for each in node.args["ifs"]), node.args.get("default")]
    return _from(Value(_common(results)), [*results, *(value_of(each, typing) for each in others if each is not None)])


def _operator(node: exp.Expression, typing: Typing) -> Value:
    """Built-in operators are immutable, but for those that compare or write types of time."""
    operands = [value_of(each, typing) for each in _children(node)]
    times = [operand.type for operand in operands if operand.type in TIMES]
    if isinstance(node, exp.DPipe | exp.Like | exp.ILike):
        why = "a time is written as text by the session's settings" if times else ""
    else:
        why = next((said for one in times if (said := comparing(one, times[0]))), "")
    kind = "text" if isinstance(node, exp.DPipe) else "other"
    return _from(Value(kind, "run" if why else "plan", why), operands)


def _common(values: Iterable[Value]) -> str:
    """The type that several values become."""
    types = {value.type for value in values} - {UNTYPED}
    return max(types, key=lambda one: TIMES.index(one) if one in TIMES else -1, default=UNTYPED)


def _function(node: exp.Expression, typing: Typing) -> Value:
    name = function_name(node)
    arguments = [value_of(each, typing) for each in function_arguments(node)]
    types = [argument.type for argument in arguments]
    if name == "to_timestamp":
        by_format = len(types) > 1 and Value("timestamptz", "run", "to_timestamp() with a format follows the session")
        return _from(by_format or Value("timestamptz"), arguments)
    if name == "date_trunc":
        return _date_trunc(arguments, typing)
    if name == "age" and len(arguments) == 1:
        return _from(Value("interval", "run", "age() counts to the current date"), arguments)
    if name in ("extract", "date_part"):
        return _from(Value("numeric", "run", "extract() follows the session's TimeZone"), arguments)
    if name not in FUNCTIONS:
        return _from(Value("other", "unknown", f"{_called(node)} may be volatile"), arguments)
    kind, when = FUNCTIONS[name]
    if kind == "=":
        kind = _RANGES.get(types[0], _common(arguments)) if types else "other"
    elif kind == "second":
        kind = _common(arguments[1:])
    written = name.upper() if name.startswith(("current_", "local")) else f"{name}()"
    return _from(
        Value(kind, when, "" if when == "plan" else f"{written} is {'stable' if when == 'run' else when}"), arguments
    )


_ZONED_TRUNC_IS_IMMUTABLE = 160_000


def _date_trunc(arguments: list[Value], typing: Typing) -> Value:
    source = arguments[1].type if len(arguments) > 1 else UNTYPED
    if source == "timestamp":
        return _from(Value("timestamp"), arguments)
    if len(arguments) > 2 and typing.version >= _ZONED_TRUNC_IS_IMMUTABLE:  # noqa: PLR2004 - the zone is the third
        return _from(Value("timestamptz"), arguments)
    return _from(Value("timestamptz", "run", "date_trunc() follows the session's TimeZone"), arguments)


def function_name(node: exp.Expression) -> str:
    """The name of a function that PostgreSQL would call; empty where the node is no call, or is qualified by another schema."""
    if isinstance(node, exp.Dot):
        return function_name(node.expression) if named(node.this) == "pg_catalog" else ""
    if not isinstance(node, exp.Func) or isinstance(node, exp.Connector):
        return ""
    found = re.match(r"([A-Za-z_]\w*)(\(|$)", text_of(node))
    name = found[1].lower() if found else ""
    return "now" if name == "current_timestamp" else name


def function_arguments(node: exp.Expression) -> list[exp.Expression]:
    """The arguments of a call, in no order but for those of `date_trunc`: unit, source, zone."""
    if isinstance(node, exp.Dot):
        return function_arguments(node.expression)
    if isinstance(node, exp.TimestampTrunc):
        unit = exp.Literal.string(node.args["unit"].name)
        return [unit, node.this, *filter(None, [node.args.get("zone")])]
    return [each for each in _children(node) if not isinstance(each, exp.Var | exp.DataType | exp.Identifier)]


def _children(node: exp.Expression) -> list[exp.Expression]:
    values = [value if isinstance(value, list) else [value] for value in node.args.values()]
    return [each for value in values for each in value if isinstance(each, exp.Expression)]


def _called(node: exp.Expression) -> str:
    """What a DBA would look up, without its arguments."""
    return text_of(node).partition("(")[0].strip().lower()[:63] or "it"


def _said(kind: str) -> str:
    return {"timestamptz": "timestamp with time zone", UNTYPED: "text", "other": "another type"}.get(kind, kind)
