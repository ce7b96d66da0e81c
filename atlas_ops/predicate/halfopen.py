"""A key that is wrapped (cast to date, truncated, moved) cannot be pruned by. What follows for the bare key from such a comparison.

What is said is implied, never assumed: a local time that a clock shows twice, or never, moves a bound by less than a day, so where the zone is not
UTC a bound is a day wider than it would be there. A day by the session's clock lies within three by UTC's, whatever the zone; said so, the planner
knows the bounds, which it does not where they follow the session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlglot import exp

from atlas_ops.predicate.pruning import Operator
from atlas_ops.predicate.value import TIMES, UNTYPED, Value

UTC = frozenset({"utc", "gmt", "etc/utc", "etc/gmt", "zulu", "z", "uct", "etc/uct", "universal", "etc/universal"})
"""Zones whose clock never turns."""
_UNITS = frozenset({"hour", "day", "week", "month", "quarter", "year"})
_OF_CLOCK = re.compile(r"\s*(\d+\s*(hours?|minutes?|mins?|seconds?|secs?|h|m|s)\s*)+", re.IGNORECASE)
_OF_CALENDAR = re.compile(
    r"\s*(\d+\s*(weeks?|days?|hours?|minutes?|mins?|seconds?|secs?|w|d|h|m|s)\s*)+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A comparison of an expression over the key with a value: `outer` of `inner` of the key."""

    key: str  # the key's column as the statement writes it
    key_type: str
    operator: Operator
    value: str  # as text of a workload
    value_type: str
    time_zone: str  # of the application's sessions; empty: not known


def follows(node: exp.Expression, wrapped: Wrapped) -> str:
    """The condition on the bare key that follows from `node operator value`; empty where none is known.

    `node` holds one column, the key's.
    """
    inner, kind = _peeled(node)
    local = _local(inner)
    if local is None or (local and wrapped.key_type != "timestamptz"):
        return ""
    zone = local.strip("'") or wrapped.time_zone
    counted = wrapped.key_type == "date" and kind not in _UNITS
    by_clock = wrapped.key_type == "timestamp" and wrapped.value_type != "timestamptz"
    by_day = kind == "date" and not local and wrapped.key_type == "timestamptz"
    exact = by_clock or counted or (zone.lower() in UTC and not by_day)
    ends = _ends(node, kind, wrapped, local, 0 if exact else 1)
    if ends is None:
        return ""
    lower, upper, inclusive = ends
    clock = "'UTC'" if by_day else local
    return _said(wrapped, _placed(lower, clock), _placed(upper, clock), inclusive)


def _peeled(node: exp.Expression) -> tuple[exp.Expression, str]:
    """What the outermost wrapping is of, and its kind: date, a unit of date_trunc, year, sum, or empty for none."""
    match node:
        case exp.Date():
            return node.this, "date"
        case exp.Cast() if node.args["to"].this == exp.DataType.Type.DATE:
            return node.this, "date"
        case exp.TimestampTrunc():
            zone = node.args.get("zone")
            inner = exp.AtTimeZone(this=node.this, zone=zone) if zone else node.this
            unit = node.args["unit"].name.lower()
            return inner, unit if unit in _UNITS else "other"
        case exp.Extract() if node.this.name.lower() == "year":
            return node.expression, "year of"
        case _:
            return node, ""


def _local(inner: exp.Expression) -> str | None:
    """The zone whose clock is read, as SQL; empty: the session's. None where `inner` is more than the key."""
    while isinstance(inner, exp.Paren):
        inner = inner.this
    if isinstance(inner, exp.Column):
        return ""
    zone = inner.args.get("zone") if isinstance(inner, exp.AtTimeZone) else None
    plain = isinstance(zone, exp.Literal) and zone.is_string and isinstance(inner.this, exp.Column)
    return f"'{zone.name}'" if plain and zone is not None and re.fullmatch(r"[\w/+-]+", zone.name) else None


def _ends(node: exp.Expression, kind: str, wrapped: Wrapped, local: str, slack: int) -> tuple[str, str, bool] | None:
    """Lower and upper end of what the clock shows, `slack` days wider, and whether the upper one belongs to it. Empty: no end."""
    value, operator = _simple(wrapped.value), wrapped.operator
    earlier, later = (f" {sign} interval '1 day'" if slack else "" for sign in "-+")
    if kind == "":
        if not local or wrapped.value_type not in ("timestamp", UNTYPED):
            return None
        moment = value if wrapped.value_type == "timestamp" else f"{value}::timestamp"
        return *_sides(operator, moment + earlier, moment + later), True
    if kind == "date" and wrapped.value_type in ("date", UNTYPED):
        day = value if wrapped.value_type == "date" else f"{value}::date"
        first, after = f"{day} - {slack}" if slack else day, f"{day} + {1 + slack}"
        return *_whole(
            operator, (first, after), (f"{day} + 1 - {slack}", f"{day} + {slack}") if slack else (after, first)
        ), False
    if kind == "year of" and wrapped.value_type in ("int", UNTYPED) and not value.startswith("'"):
        year = value if wrapped.value_type == "int" else f"{value}::int"
        begin, end = f"make_date({year}, 1, 1)", f"make_date({year} + 1, 1, 1)"
        return *_whole(operator, (begin + earlier, end + later), (end + earlier, begin + later)), False
    if kind in _UNITS and wrapped.value_type in (*TIMES, UNTYPED):
        begin = _truncated(node, value, wrapped, local)
        length = "3 months" if kind == "quarter" else f"1 {kind}"
        return *_sides(operator, begin + earlier, f"{begin} + interval '{length}'{later}"), False
    return None


def _sides(operator: Operator, lower: str, upper: str) -> tuple[str, str]:
    return lower if operator in ("=", ">", ">=") else "", upper if operator in ("=", "<", "<=") else ""


def _whole(operator: Operator, around: tuple[str, str], beyond: tuple[str, str]) -> tuple[str, str]:
    """Of units that are counted, such as days, more than one begins with the next, and less than one ends where it begins."""
    lower = {"=": around[0], ">=": around[0], ">": beyond[0]}.get(operator, "")
    return lower, {"=": around[1], "<=": around[1], "<": beyond[1]}.get(operator, "")


def _truncated(node: exp.Expression, value: str, wrapped: Wrapped, local: str) -> str:
    """The value as the clock shows it: date_trunc() returns an instant where it was given one."""
    by_zone = node.args.get("zone") is not None
    result = "timestamp" if wrapped.key_type == "timestamp" or (local and not by_zone) else "timestamptz"
    typed = value if wrapped.value_type in TIMES else f"{value}::{result}"
    return f"({typed} AT TIME ZONE {local})" if by_zone else typed


def _placed(end: str, local: str) -> str:
    """An end of what the clock shows, as an end for the key."""
    return f"({end})::timestamp AT TIME ZONE {local}" if end and local else end


def follows_moved(node: exp.Add | exp.Sub, wrapped: Wrapped, distance: Value, written: str) -> str:
    """The same of `key + interval operator value`, and of `key - interval`: the interval goes to the other side.

    `distance` is what the interval is, `written` its text.
    """
    on_the_right = not isinstance(node.this, exp.Column)
    if distance.type != "interval" or distance.when not in ("plan", "run"):
        return ""
    if on_the_right and (isinstance(node, exp.Sub) or not isinstance(node.expression, exp.Column)):
        return ""
    value = _simple(wrapped.value)
    typed = value if wrapped.value_type in TIMES else f"{value}::{wrapped.key_type}"
    middle = f"{typed} {'-' if isinstance(node, exp.Add) else '+'} {_simple(written)}"
    slack = _slack(node.this if on_the_right else node.expression, wrapped)
    lower, upper = (f"{middle} {sign} interval '{slack}'" if slack else middle for sign in "-+")
    return _said(wrapped, *_sides(wrapped.operator, lower, upper), inclusive=True)


def _slack(interval: exp.Expression, wrapped: Wrapped) -> str:
    """How far the way back may miss: a month has 28 to 31 days, a day 23 to 25 hours where the clock turns."""
    text = interval.this.name if isinstance(interval, exp.Interval | exp.Cast) and interval.this is not None else ""
    unit = interval.args.get("unit") if isinstance(interval, exp.Interval) else None
    written = f"{text} {unit.name}" if unit is not None else text
    if not _OF_CALENDAR.fullmatch(written):
        return "5 days"
    alike = wrapped.value_type in (wrapped.key_type, UNTYPED)
    by_clock = wrapped.key_type == "timestamp" or _OF_CLOCK.fullmatch(written)
    return "" if (alike and by_clock) or wrapped.time_zone.lower() in UTC else "1 day"


def _said(wrapped: Wrapped, lower: str, upper: str, inclusive: bool) -> str:
    parts = [f"{wrapped.key} >= {lower}"] if lower else []
    parts += [f"{wrapped.key} {'<=' if inclusive else '<'} {upper}"] if upper else []
    return " AND ".join(parts)


def _simple(text: str) -> str:
    """In brackets, unless it is one value already."""
    simple = re.fullmatch(
        r"%\(\w+\)s|(INTERVAL )?'[^']*'|\d+|CAST\([^()]*(\(\w+\)s)?[^()]*\)|[A-Za-z_]\w*(\(\))?", text
    )
    return text if simple else f"({text})"
