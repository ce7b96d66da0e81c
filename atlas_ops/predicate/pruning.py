"""What is left of a WHERE once only the partition key counts, and which partitions that leaves. Pure.

The rules are PostgreSQL's own (partprune.c): each comparison leaves a set of partitions, AND intersects, OR unites. So `k > '05-10' AND
k < '05-05'` leaves the partition that holds both, unless the planner sees the contradiction, which it does for constants alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    why: str = "No row can match"


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
    following = dict.fromkeys(part.rewrite for part in causes if part.rewrite)
    first = next((part for part in causes if part.rewrite), causes[0] if causes else Everything())
    return Everything(first.cause, " AND ".join(following))


def either(parts: Iterable[Condition]) -> Condition:
    """OR of the parts, as short as it can be said."""
    flat = list(_flat(parts, Either))
    left = [part for part in flat if not isinstance(part, Nothing) or part.null]
    if not left:
        return next(iter(flat), Nothing())
    bounded = any(isinstance(part, Compare | Both) for part in left)
    for part in left:
        if isinstance(part, Everything):
            return Everything(part.cause or ("One branch of an OR does not bound the key" if bounded else ""))
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
    """Which of the partitions remain, by their place; only values that are known by then count.

    One whose bound cannot be read always remains. The default partition does where a stretch that no other covers remains, or rows without a key.
    """
    if _contradicts(condition, answers):
        return frozenset()
    places = [place for place, each in enumerate(partitions) if not _is_odd(each)]
    ranges = [_Range.of(partitions[place]) for place in places]
    gaps = list(_gaps(ranges))
    found = _remaining(condition, _Space((*ranges, *gaps)), answers, known)
    in_gap = any(each == _NULL or each >= len(ranges) for each in found)
    odd = {
        place
        for place, each in enumerate(partitions)
        if isinstance(each, Bound) and (not each.readable or (each.is_default and in_gap))
    }
    return frozenset(places[each] for each in found if 0 <= each < len(ranges)) | odd


def _flat(parts: Iterable[Condition], kind: type[Both] | type[Either]) -> Iterator[Condition]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


_EARLIEST, _LATEST = Decimal("-Infinity"), Decimal("Infinity")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _is_odd(partition: Bound | Period) -> bool:
    """Whether nothing is said of a stretch of time: the default partition, or a bound that could not be read."""
    return isinstance(partition, Bound) and (partition.is_default or not partition.readable)


@dataclass(frozen=True, slots=True)
class _Range:
    """A stretch of time in seconds since 1970."""

    lower: Decimal
    upper: Decimal

    @classmethod
    def of(cls, partition: Bound | Period) -> _Range:
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


_NULL = -1
"""Stands for the rows without a key."""


@dataclass(frozen=True, slots=True)
class _Space:
    """The whole of time in stretches: those of the partitions, and those that none covers."""

    ranges: tuple[_Range, ...]

    @property
    def whole(self) -> frozenset[int]:
        return frozenset({_NULL, *range(len(self.ranges))})

    def meeting(self, operator: Operator, value: object) -> frozenset[int]:
        """The stretches that hold an instant that compares so; none for NULL."""
        if value is None:
            return frozenset()
        instant = _seconds(value)
        return frozenset(place for place, each in enumerate(self.ranges) if each.meets(operator, instant))


def _remaining(condition: Condition, space: _Space, answers: Answers, known: Sequence[Known]) -> frozenset[int]:
    match condition:
        case Compare() if condition.known in known and condition.instant in answers:
            return _compared(condition, space, answers[condition.instant])
        case Nothing(null):
            return frozenset({_NULL} if null else ())
        case Both(parts):
            alternatives = _one_equality(parts)
            return frozenset().union(
                *(
                    frozenset.intersection(*(_remaining(each, space, answers, known) for each in kept))
                    for kept in alternatives
                )
            )
        case Either(parts):
            return frozenset().union(*(_remaining(part, space, answers, known) for part in parts))
        case _:
            return space.whole


def _one_equality(parts: Sequence[Condition]) -> list[Sequence[Condition]]:
    """Of several values that the key equals the planner keeps one, and compares the others with that: nobody knows which."""
    equal = [
        part
        for part in parts
        if isinstance(part, Compare) and part.operator == "=" and not part.over and part.known != "join"
    ]
    if len(equal) < 2:  # noqa: PLR2004
        return [parts]
    others = [part for part in parts if part not in equal]
    return [[one, *others] for one in equal]


def _compared(compare: Compare, space: _Space, answer: object) -> frozenset[int]:
    if not compare.over or answer is None:
        return space.meeting(compare.operator, answer)
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise TypeError(f"{type(answer).__name__} is no array")
    each = [space.meeting(compare.operator, value) for value in answer]
    if compare.over == "ALL":
        return space.whole.intersection(*each)
    return frozenset().union(*each) if any(value is not None for value in answer) else space.whole


def _gaps(ranges: Sequence[_Range]) -> Iterator[_Range]:
    end = _EARLIEST
    for each in sorted(ranges, key=lambda one: one.lower):
        if end < each.lower:
            yield _Range(end, each.lower)
        end = max(end, each.upper)
    if end < _LATEST:
        yield _Range(end, _LATEST)


def _contradicts(condition: Condition, answers: Answers) -> bool:
    """Whether the planner sees that no value can meet all of it: two constants of the outermost AND that exclude each other."""
    if not isinstance(condition, Both):
        return False
    known = [part for part in condition.parts if isinstance(part, Compare) and part.known == "plan" and not part.over]
    values = [
        (part.operator, _seconds(answers[part.instant])) for part in known if answers.get(part.instant) is not None
    ]
    if len(_one_equality(condition.parts)) > 1:
        values = [(operator, value) for operator, value in values if operator != "="]
    lower = [(value, operator != ">") for operator, value in values if operator in (">", ">=", "=")]
    upper = [(value, operator != "<") for operator, value in values if operator in ("<", "<=", "=")]
    return any(
        high < low or (high == low and not (at_low and at_high)) for low, at_low in lower for high, at_high in upper
    )
