"""What is left of a WHERE once only the partition key counts, and which partitions that leaves. Pure.

The rules are PostgreSQL's own (partprune.c): each comparison leaves a set of partitions, AND intersects, OR unites. So `k > '05-10' AND
k < '05-05'` leaves the partition that holds both, unless the planner sees the contradiction, which it does for constants alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal

from atlas_ops.bounds import Bound, Period

Operator = Literal["<", "<=", "=", ">=", ">"]
Known = Literal["plan", "run", "join"]
"""When a value is known: while planning; when the statement starts or a sub-select ended; row by row of a join."""

MIRRORED: Mapping[Operator, Operator] = {"<": ">", "<=": ">=", "=": "=", ">=": "<=", ">": "<"}
NEGATED: Mapping[Operator, Operator] = {"<": ">=", "<=": ">", ">=": "<", ">": "<="}


@dataclass(frozen=True, slots=True)
class Compare:
    """The key is compared with a value, or with any or all elements of an array."""

    operator: Operator
    sql: str  # the value, as text of a workload
    known: Known
    instant: str  # the same as a timestamp that can be laid beside a bound
    over: Literal["", "ANY", "ALL"] = ""
    why: str = ""  # why it is not known to the planner


@dataclass(frozen=True, slots=True)
class Everything:
    """It leaves every partition. `cause`: what stands in the way of more; empty where nothing is said of the key."""

    cause: str = ""
    rewrite: str = ""  # a condition that follows from it and does bound the key


@dataclass(frozen=True, slots=True)
class Nothing:
    """No row can match. `null`: but a row without a key, which only a default partition can hold."""

    null: bool = False
    why: str = "no row can match"


@dataclass(frozen=True, slots=True)
class Unknown:
    """What it leaves cannot be told from the text."""

    cause: str


@dataclass(frozen=True, slots=True)
class Both:
    """AND."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """OR."""

    parts: tuple[Condition, ...]


Condition = Compare | Everything | Nothing | Unknown | Both | Either


def both(parts: Iterable[Condition]) -> Condition:
    """AND of the parts, as short as it can be said."""
    flat = list(_flat(parts, Both))
    for part in flat:
        if isinstance(part, Nothing):
            return part
    bounding = [part for part in flat if isinstance(part, Compare | Either)]
    if bounding:
        return bounding[0] if len(bounding) == 1 else Both(tuple(dict.fromkeys(bounding)))
    for part in flat:
        if isinstance(part, Unknown):
            return part
    causes = [part for part in flat if isinstance(part, Everything) and part.cause]
    return next((part for part in causes if part.rewrite), causes[0] if causes else Everything())


def either(parts: Iterable[Condition]) -> Condition:
    """OR of the parts, as short as it can be said."""
    flat = list(_flat(parts, Either))
    left = [part for part in flat if not isinstance(part, Nothing) or part.null]
    if not left:
        return next(iter(flat), Nothing())
    bounded = any(isinstance(part, Compare | Both) for part in left)
    for part in left:
        if isinstance(part, Everything):
            return Everything(part.cause or ("one branch of an OR does not bound it" if bounded else ""))
    for part in left:
        if isinstance(part, Unknown):
            return part
    return left[0] if len(left) == 1 else Either(tuple(dict.fromkeys(left)))


def rejects_null(condition: Condition) -> bool:
    """Whether no row without a key can match: then an outer join that would make such rows is an inner one."""
    match condition:
        case Compare():
            return True
        case Nothing(null):
            return not null
        case Both(parts):
            return any(rejects_null(part) for part in parts)
        case Either(parts):
            return all(rejects_null(part) for part in parts)
        case _:
            return False


def compares(condition: Condition) -> Iterator[Compare]:
    """Every comparison in it."""
    if isinstance(condition, Compare):
        yield condition
    elif isinstance(condition, Both | Either):
        for part in condition.parts:
            yield from compares(part)


Answers = Mapping[str, object]
"""For each comparison's `instant` what the server answers: seconds since 1970 (Decimal) or an aware datetime; of an array a list of these."""


def remaining(
    condition: Condition, partitions: Sequence[Bound | Period], answers: Answers, known: Sequence[Known]
) -> frozenset[int]:
    """Which of the partitions remain, by their place; only values that are known by then count."""
    ranges = [_Range.of(partition) for partition in partitions]
    found = _remaining(condition, ranges, answers, known)
    return frozenset() if _contradicts(condition, answers) else found


def _flat(parts: Iterable[Condition], kind: type[Both] | type[Either]) -> Iterator[Condition]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


_EARLIEST, _LATEST = Decimal("-Infinity"), Decimal("Infinity")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Range:
    """A stretch of time in seconds since 1970; of a default partition nothing is said."""

    lower: Decimal
    upper: Decimal
    is_default: bool = False

    @classmethod
    def of(cls, partition: Bound | Period) -> _Range:
        if isinstance(partition, Bound) and (partition.is_default or not partition.readable):
            return cls(_EARLIEST, _LATEST, is_default=True)
        lower = _EARLIEST if partition.lower is None else _seconds(partition.lower)
        return cls(lower, _LATEST if partition.upper is None else _seconds(partition.upper))

    def meets(self, operator: Operator, value: Decimal) -> bool:
        """Whether some instant in it compares so."""
        endless = self.upper == _LATEST
        match operator:
            case "<":
                return self.lower < value or self.lower == _EARLIEST
            case "<=":
                return self.lower <= value
            case "=":
                return self.lower <= value and (value < self.upper or endless)
            case _:
                return value < self.upper or endless


def _seconds(value: object) -> Decimal:
    """An answer of the server's, or a bound, in seconds since 1970. Raises TypeError for anything else."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return Decimal((moment - _EPOCH) // timedelta(microseconds=1)) / 1_000_000
    if isinstance(value, date):
        return _seconds(datetime.combine(value, time.min, UTC))
    if isinstance(value, Decimal | int | float | str):
        return Decimal(value)
    raise TypeError(f"{type(value).__name__} is no instant")


def _remaining(
    condition: Condition, ranges: Sequence[_Range], answers: Answers, known: Sequence[Known]
) -> frozenset[int]:
    match condition:
        case Compare():
            if condition.known not in known or condition.instant not in answers:
                return frozenset(range(len(ranges)))
            return _compared(condition, ranges, answers[condition.instant])
        case Nothing(null):
            return frozenset(place for place, each in enumerate(ranges) if null and each.is_default)
        case Both(parts):
            return _together(frozenset.intersection, (_remaining(part, ranges, answers, known) for part in parts))
        case Either(parts):
            return _together(frozenset.union, (_remaining(part, ranges, answers, known) for part in parts))
        case _:
            return frozenset(range(len(ranges)))


def _together(how: Callable[..., frozenset[int]], sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return how(*sets)


def _compared(compare: Compare, ranges: Sequence[_Range], answer: object) -> frozenset[int]:
    nothing: frozenset[int] = frozenset()
    if answer is None:
        return nothing
    if not compare.over:
        return _met(compare.operator, ranges, _seconds(answer))
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise TypeError(f"{type(answer).__name__} is no array")
    each = [nothing if value is None else _met(compare.operator, ranges, _seconds(value)) for value in answer]
    if compare.over == "ANY":
        return nothing.union(*each)
    return frozenset(range(len(ranges))).intersection(*each)


def _met(operator: Operator, ranges: Sequence[_Range], value: Decimal) -> frozenset[int]:
    """The partitions that one value leaves; the default one where it leads into a gap between the others."""
    gap = any(each.meets(operator, value) for each in _gaps(ranges))
    return frozenset(
        place for place, each in enumerate(ranges) if (gap if each.is_default else each.meets(operator, value))
    )


def _gaps(ranges: Sequence[_Range]) -> Iterator[_Range]:
    end = _EARLIEST
    for each in sorted((one for one in ranges if not one.is_default), key=lambda one: one.lower):
        if end < each.lower:
            yield _Range(end, each.lower)
        end = max(end, each.upper)
    if end < _LATEST:
        yield _Range(end, _LATEST)


def _contradicts(condition: Condition, answers: Answers) -> bool:
    """Whether the planner sees that no value can meet all of it: constants of the outermost AND alone."""
    if not isinstance(condition, Both):
        return False
    lower, upper, open_lower, open_upper = _EARLIEST, _LATEST, False, False
    for part in condition.parts:
        answer = answers.get(part.instant) if isinstance(part, Compare) and not part.over else None
        if answer is None or not isinstance(part, Compare) or part.known != "plan":
            continue
        value = _seconds(answer)
        if part.operator in (">", ">=", "=") and (value, part.operator == ">") > (lower, open_lower):
            lower, open_lower = value, part.operator == ">"
        if part.operator in ("<", "<=", "=") and (value, part.operator != "<") < (upper, not open_upper):
            upper, open_upper = value, part.operator == "<"
    return lower > upper or (lower == upper and (open_lower or open_upper))
