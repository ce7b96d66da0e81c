"""Periods and bounds: where a partition begins, where it ends, and what lies between two of them.

All of it is pure and in UTC: a bound that followed the session's TimeZone would differ between sessions.
A lower bound is inclusive, an upper bound exclusive, as in PostgreSQL's FOR VALUES FROM (...) TO (...).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from atlas_ops.errors import AtlasError

MOST_PERIODS = 10_000
"""More partitions than this are a slip of the pen (from: 0204-01-01): no server plans well over so many."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_MONTHS_OF_A_YEAR = 12


class Every(StrEnum):
    """How long one partition is. Weeks are ISO weeks: they begin on Monday."""

    day = "day"
    week = "week"
    month = "month"
    quarter = "quarter"
    year = "year"


_DAYS = {Every.day: 1, Every.week: 7}
_MONTHS = {Every.month: 1, Every.quarter: 3, Every.year: _MONTHS_OF_A_YEAR}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One partition's stretch of time: `lower` inclusive, `upper` exclusive, both aware and in UTC.

    Made by `period_of`, which puts both on a bound of `every`.
    """

    lower: datetime
    upper: datetime
    every: Every

    @property
    def suffix(self) -> str:
        """How the partition's name ends: 2024_01_05, 2024w01 (the ISO year), 2024_01, 2024q1, 2024."""
        return self._written(day="{y:04}_{m:02}_{d:02}", week="{iy:04}w{w:02}", month="{y:04}_{m:02}", q="q")

    @property
    def label(self) -> str:
        """How the period is shown: 2024-01-05, 2024-W01 (the ISO year), 2024-01, 2024-Q1, 2024."""
        return self._written(day="{y:04}-{m:02}-{d:02}", week="{iy:04}-W{w:02}", month="{y:04}-{m:02}", q="-Q")

    def next(self) -> Period:
        """The period that begins where this one ends. Raises AtlasError after the year 9999."""
        return period_of(self.every, self.upper)

    def previous(self) -> Period:
        """The period that ends where this one begins. Raises AtlasError before the year 1."""
        if self.lower == _EARLIEST:
            raise _beyond_the_calendar(self.every, self.lower.date())
        return period_of(self.every, self.lower - timedelta(microseconds=1))

    def _written(self, *, day: str, week: str, month: str, q: str) -> str:
        form = {
            Every.day: day,
            Every.week: week,
            Every.month: month,
            Every.quarter: "{y:04}" + q + "{q}",
            Every.year: "{y:04}",
        }[self.every]
        iso_year, iso_week, _ = self.lower.isocalendar()
        return form.format(
            y=self.lower.year,
            m=self.lower.month,
            d=self.lower.day,
            q=(self.lower.month + 2) // 3,
            iy=iso_year,
            w=iso_week,
        )


def period_of(every: Every, instant: date) -> Period:
    """The period that holds `instant`: an aware datetime, or a date, which is its midnight in UTC.

    Raises ValueError for a datetime without a zone, AtlasError where the calendar ends (the year 9999).
    """
    lower = _lower(every, _utc(instant).date())
    return Period(_midnight(lower), _midnight(_following(every, lower)), every)


def aligned(every: Every, day: date, word: str) -> None:
    """Refuse a day that is no bound of `every`, naming the nearest two. `word` is the key it stands under."""
    lower = _lower(every, day)
    if lower == day:
        return
    upper = _following(every, lower)
    raise AtlasError(
        what=f"{word} is {day}.",
        why=f"A partition by {every} cannot begin or end there: the nearest bounds are {lower} and {upper}.",
        next=f"Write {word}: {lower}, or {word}: {upper}.",
    )


def periods(every: Every, start: date, until: date) -> tuple[Period, ...]:
    """The periods that tile `start` (inclusive) to `until` (exclusive), in order.

    Raises AtlasError if either is no bound of `every`, if `until` is not after `start`, over MOST_PERIODS.
    """
    aligned(every, start, "from")
    aligned(every, until, "until")
    if until <= start:
        raise AtlasError(
            what=f"until is {until}.",
            why=f"until is exclusive and must lie after from, which is {start}.",
            next=f"Write until: {_following(every, start)} or later.",
        )
    return _tiles(every, _midnight(start), _midnight(until))


def covered(every: Every, start: date, until: date | None, ahead: int, as_of: date) -> tuple[Period, ...]:
    """The periods a partitioned table should have at `as_of` (an aware datetime, or a date in UTC).

    They reach from `start` to the later of `until` and the period that holds `as_of` plus `ahead` more.
    Raises AtlasError as `periods` does, and if `start` lies beyond all of them.
    """
    aligned(every, start, "from")
    last = period_of(every, as_of)
    for _ in range(ahead):
        last = last.next()
    end = last.upper.date() if until is None else max(until, last.upper.date())
    if end <= start:
        raise AtlasError(
            what=f"from is {start}.",
            why=f"The last period wanted is {last.label} (the current one and {ahead} ahead): none is left.",
            next=f"Write from: {period_of(every, as_of).lower.date()} or earlier, or set until.",
        )
    return periods(every, start, end)


KEY_TYPES = ("date", "timestamp", "timestamptz")
"""What a table can be partitioned by here, as pg_type has it; `literal` writes a bound of each."""


def literal(instant: datetime, key_type: str) -> str:
    """The text of a bound for a partition key of `key_type` (as format_type prints it), without quotes.

    A timestamptz says its offset, so that the session's TimeZone has no say. Raises AtlasError for a key of
    any other type, ValueError for an instant that is no midnight where the key is a date.
    """
    moment = _utc(instant)
    written = moment.replace(tzinfo=None).isoformat(sep=" ")
    match re.sub(r"\(\d\)", "", key_type):  # timestamp(3) with time zone
        case "timestamp with time zone" | "timestamptz":
            return written + "+00"
        case "timestamp without time zone" | "timestamp":
            return written
        case "date" if moment.time() == time.min:
            return moment.date().isoformat()
        case "date":
            raise ValueError(f"{instant} is not a day: a bound of a date key is midnight UTC")
        case _:
            raise AtlasError(
                what=f"The partition key is of type {key_type}.",
                why="Partitions by time need a key of type timestamp with time zone, timestamp or date.",
                next="Name a column of one of these types as partition_key.",
            )


@dataclass(frozen=True, slots=True)
class Bound:
    """A partition's bound as read from `text`; None is unbounded: MINVALUE, MAXVALUE, or beyond a datetime.

    A partition that lies wholly beyond (BC, infinity) is an empty stretch at its end of the calendar. Where
    `text` is no range over one column of time (LIST, HASH, several columns), `readable` is false and the rest
    says nothing.
    """

    lower: datetime | None
    upper: datetime | None
    is_default: bool
    text: str
    readable: bool = True


_RANGE = re.compile(r"FOR VALUES FROM \((.*)\) TO \((.*)\)", re.DOTALL)
_TIME = re.compile(
    r"(?P<year>\d{4,7})(?P<day>-\d\d-\d\d)"
    r"(?P<time> \d\d:\d\d:\d\d(\.\d{1,6})?(?P<zone>[+-]\d\d(:\d\d){0,2})?)?(?P<bc> BC)?",
    re.ASCII,
)


def parse_bound(expr: str) -> Bound:
    """Read what pg_get_expr(relpartbound, oid) prints under DateStyle ISO; a zone left unsaid is UTC.

    Never raises: a bound that is not ours comes back with `readable` false, so that an inspection can go on.
    """
    if expr == "DEFAULT":
        return Bound(None, None, is_default=True, text=expr)
    values = _RANGE.fullmatch(expr)
    lower, upper = (_value(values[1]), _value(values[2])) if values else (None, None)
    if lower is None or upper is None:
        return Bound(None, None, is_default=False, text=expr, readable=False)
    return Bound(
        None if lower == _EARLIEST else lower,
        None if upper == _LATEST else upper,
        is_default=False,
        text=expr,
    )


def condition(expr: str, key: str) -> str:
    """SQL that is true of the rows of a partition with that bound; `key` is the column, quoted. `true` where the bound is no range of time."""
    values = _RANGE.fullmatch(expr)
    if values is None or not parse_bound(expr).readable:
        return "true"
    ends = ((values[1], ">=", "MINVALUE"), (values[2], "<", "MAXVALUE"))
    told = [f"{key} {sign} {value}" for value, sign, open_ in ends if value != open_]
    return " AND ".join([f"{key} IS NOT NULL", *told])


def gaps(bounds: Iterable[Bound]) -> list[tuple[datetime, datetime]]:
    """The stretches between the first range and the last that none covers."""
    found, end = [], None
    for lower, upper in _ranges(bounds):
        if end is not None and lower > end:
            found.append((end, lower))
        end = upper if end is None else max(end, upper)
    return found


def overlaps(bounds: Iterable[Bound]) -> list[tuple[datetime | None, datetime | None]]:
    """The stretches that more than one range covers; None is unbounded.

    PostgreSQL refuses these among attached partitions: they appear when a plan is laid beside what is there.
    """
    found: list[tuple[datetime | None, datetime | None]] = []
    end = _EARLIEST
    for lower, upper in _ranges(bounds):
        shared = min(end, upper)
        if lower < shared:
            found.append((None if lower == _EARLIEST else lower, None if shared == _LATEST else shared))
        end = max(end, upper)
    return found


def runway(bounds: Iterable[Bound], as_of: datetime) -> timedelta | None:
    """How long from `as_of` (aware) every row still finds a partition of its own, DEFAULT not counted.

    Zero where `as_of` itself has none; None where it never ends (MAXVALUE).
    """
    start = end = _utc(as_of)
    for lower, upper in _ranges(bounds):
        if lower <= end:
            end = max(end, upper)
    return None if end == _LATEST else end - start


def _ranges(bounds: Iterable[Bound]) -> Sequence[tuple[datetime, datetime]]:
    """The readable ranges in order, unbounded ends put at the ends of the calendar."""
    ours = (bound for bound in bounds if bound.readable and not bound.is_default)
    return sorted((bound.lower or _EARLIEST, bound.upper or _LATEST) for bound in ours)


_ENDS = {
    "MINVALUE": _EARLIEST,
    "'-infinity'": _EARLIEST,
    "MAXVALUE": _LATEST,
    "'infinity'": _LATEST,
}


def _value(printed: str) -> datetime | None:
    """One value of a bound, held to what a datetime can say; None if it is not one value of time."""
    quoted = re.fullmatch(r"'([^']*)'", printed)
    found = _TIME.fullmatch(quoted[1]) if quoted else None
    if found is None:
        return _ENDS.get(printed)
    year = int(found["year"])
    if found["bc"]:
        return _EARLIEST
    if year > _LATEST.year:
        return _LATEST
    try:
        moment = datetime.fromisoformat(found["year"] + found["day"] + (found["time"] or ""))
        return moment.astimezone(UTC) if found["zone"] else moment.replace(tzinfo=UTC)
    except OverflowError:  # an offset that leads out of the calendar
        return _EARLIEST if year == 1 else _LATEST
    except ValueError:  # month 13
        return None


def _tiles(every: Every, lower: datetime, end: datetime) -> tuple[Period, ...]:
    found: list[Period] = []
    while lower < end:
        if len(found) == MOST_PERIODS:
            raise AtlasError(
                what=f"One partition a {every} up to {end.date()} makes more than {MOST_PERIODS:,}.",
                why="A query that is not pruned locks and plans every one of them.",
                next="Check the years of from and until, or write a longer every.",
            )
        found.append(period_of(every, lower))
        lower = found[-1].upper
    return tuple(found)


def _lower(every: Every, day: date) -> date:
    """The first day of the period that holds `day`."""
    match every:
        case Every.day:
            return day
        case Every.week:
            return day - timedelta(days=day.weekday())
        case Every.month | Every.quarter | Every.year:
            return day.replace(month=day.month - (day.month - 1) % _MONTHS[every], day=1)


def _following(every: Every, lower: date) -> date:
    """The first day of the period after the one that begins on `lower`."""
    try:
        if every in _DAYS:
            return lower + timedelta(days=_DAYS[every])
        years, month = divmod(lower.month - 1 + _MONTHS[every], _MONTHS_OF_A_YEAR)
        return lower.replace(year=lower.year + years, month=month + 1)
    except (OverflowError, ValueError):
        raise _beyond_the_calendar(every, lower) from None


def _beyond_the_calendar(every: Every, day: date) -> AtlasError:
    return AtlasError(
        what=f"The {every} of {day} lies at the end of the calendar.",
        why="A bound must lie between the years 1 and 9999.",
        next="Check the years of from, until and as_of.",
    )


def _utc(instant: date) -> datetime:
    """An aware datetime in UTC; a date is its midnight. A naive one would follow the machine: refused."""
    if not isinstance(instant, datetime):
        return _midnight(instant)
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone")
    return instant.astimezone(UTC)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
