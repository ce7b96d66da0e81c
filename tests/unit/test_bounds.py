"""Periods tile time; bounds are read as PostgreSQL prints them. No database, no clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops.bounds import (
    MOST_PERIODS,
    Bound,
    Every,
    aligned,
    covered,
    gaps,
    literal,
    overlaps,
    parse_bound,
    period_of,
    periods,
    runway,
    stretch,
)
from atlas_ops.errors import AtlasError

ZONES = st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), timezone(timedelta(hours=14))])
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9997, 1, 1), timezones=ZONES)  # noqa: DTZ001  (Hypothesis adds it)
DAYS = st.dates(date(2, 1, 1), date(9930, 1, 1))  # sixty years before the calendar ends
EVERY = st.sampled_from(Every)


def utc(year: int, month: int = 1, day: int = 1, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def ranged(lower: datetime | None, upper: datetime | None) -> Bound:
    return Bound(lower, upper, is_default=False, text="")


# periods


@given(EVERY, INSTANTS)
def test_every_instant_lies_in_its_period(every: Every, instant: datetime) -> None:
    period = period_of(every, instant)
    assert period.lower <= instant < period.upper
    assert period.lower.utcoffset() == timedelta(0) and period.lower.time() == time.min


@given(EVERY, INSTANTS)
def test_neighbours_meet(every: Every, instant: datetime) -> None:
    period = period_of(every, instant)
    assert period.next().lower == period.upper
    assert period.next().previous() == period
    assert period.previous().upper == period.lower


@given(EVERY, DAYS, st.integers(1, 60))
def test_periods_tile_without_gap_or_overlap_and_their_suffixes_sort(every: Every, day: date, count: int) -> None:
    first = last = period_of(every, day)
    for _ in range(count - 1):
        last = last.next()
    tiles = periods(every, first.lower.date(), last.upper.date())
    assert len(tiles) == count
    assert (tiles[0].lower, tiles[-1].upper) == (first.lower, last.upper)
    bounds = [ranged(tile.lower, tile.upper) for tile in tiles]
    assert gaps(bounds) == [] and overlaps(bounds) == []
    suffixes = [tile.suffix for tile in tiles]
    assert suffixes == sorted(set(suffixes))
    assert len({tile.label for tile in tiles}) == count


@given(EVERY, INSTANTS, st.sampled_from(["timestamp with time zone", "timestamp without time zone", "date"]))
def test_a_literal_reads_back_as_the_same_instant(every: Every, instant: datetime, key_type: str) -> None:
    period = period_of(every, instant)
    text = f"FOR VALUES FROM ('{literal(period.lower, key_type)}') TO ('{literal(period.upper, key_type)}')"
    assert parse_bound(text) == Bound(period.lower, period.upper, is_default=False, text=text)


@pytest.mark.parametrize(
    ("every", "day", "suffix", "label", "upper"),
    [
        ("day", date(2024, 2, 29), "2024_02_29", "2024-02-29", utc(2024, 3, 1)),
        ("day", date(2023, 2, 28), "2023_02_28", "2023-02-28", utc(2023, 3, 1)),
        ("week", date(2024, 1, 1), "2024w01", "2024-W01", utc(2024, 1, 8)),
        ("week", date(2021, 1, 3), "2020w53", "2020-W53", utc(2021, 1, 4)),
        ("week", date(2018, 12, 31), "2019w01", "2019-W01", utc(2019, 1, 7)),
        ("month", date(2024, 2, 29), "2024_02", "2024-02", utc(2024, 3, 1)),
        ("month", date(2100, 2, 28), "2100_02", "2100-02", utc(2100, 3, 1)),
        ("month", date(2024, 12, 31), "2024_12", "2024-12", utc(2025, 1, 1)),
        ("month", date(204, 7, 31), "0204_07", "0204-07", utc(204, 8, 1)),
        ("quarter", date(2024, 3, 31), "2024q1", "2024-Q1", utc(2024, 4, 1)),
        ("quarter", date(2024, 12, 31), "2024q4", "2024-Q4", utc(2025, 1, 1)),
        ("year", date(2024, 2, 29), "2024", "2024", utc(2025, 1, 1)),
    ],
)
def test_names_and_ends_of_periods(every: str, day: date, suffix: str, label: str, upper: datetime) -> None:
    period = period_of(Every(every), day)
    assert (period.suffix, period.label, period.upper) == (suffix, label, upper)


def test_daylight_saving_moves_no_bound() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert period_of(Every.month, datetime(2024, 4, 1, 1, 59, tzinfo=berlin)).suffix == "2024_03"
    assert period_of(Every.month, datetime(2024, 4, 1, 2, 0, tzinfo=berlin)).suffix == "2024_04"
    assert {p.upper - p.lower for p in periods(Every.day, date(2024, 3, 1), date(2024, 4, 1))} == {timedelta(days=1)}


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        period_of(Every.month, datetime(2024, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("every", "start", "until", "told"),
    [
        (Every.month, date(2024, 1, 15), date(2024, 3, 1), "from: 2024-01-01, or from: 2024-02-01"),
        (Every.month, date(2024, 1, 1), date(2024, 12, 31), "until: 2024-12-01, or until: 2025-01-01"),
        (Every.week, date(2024, 1, 2), date(2024, 3, 4), "from: 2024-01-01, or from: 2024-01-08"),
        (Every.quarter, date(2024, 2, 1), date(2025, 1, 1), "from: 2024-01-01, or from: 2024-04-01"),
        (Every.year, date(2024, 1, 1), date(2024, 7, 1), "until: 2024-01-01, or until: 2025-01-01"),
        (Every.month, date(2024, 3, 1), date(2024, 3, 1), "until: 2024-04-01 or later"),
        (Every.month, date(2024, 3, 1), date(2023, 3, 1), "until: 2024-04-01 or later"),
        (Every.day, date(204, 1, 1), date(2024, 1, 1), "Check the years"),
        (Every.month, date(2024, 1, 1), date(9999, 12, 31), "Check the years"),
    ],
)
def test_bounds_that_are_none_are_refused(every: Every, start: date, until: date, told: str) -> None:
    with pytest.raises(AtlasError) as stop:
        periods(every, start, until)
    assert told in stop.value.next


def test_a_bound_is_aligned_with_itself() -> None:
    aligned(Every.week, date(2024, 1, 1), "from")
    with pytest.raises(AtlasError, match="from is 2024-01-02"):
        aligned(Every.week, date(2024, 1, 2), "from")


def test_most_periods_is_the_most() -> None:
    start = date(2000, 1, 1)
    assert len(periods(Every.day, start, start + timedelta(days=MOST_PERIODS))) == MOST_PERIODS
    with pytest.raises(AtlasError, match="10,000"):
        periods(Every.day, start, start + timedelta(days=MOST_PERIODS + 1))


def test_the_calendar_ends_with_a_word() -> None:
    with pytest.raises(AtlasError, match="end of the calendar"):
        period_of(Every.month, utc(9999, 12, 31))
    with pytest.raises(AtlasError, match="end of the calendar"):
        period_of(Every.month, utc(1)).previous()


# covered


@pytest.mark.parametrize(
    ("until", "ahead", "as_of", "last"),
    [
        (None, 3, utc(2026, 11, 23), "2027-02"),
        (date(2027, 1, 1), 3, utc(2026, 11, 23), "2027-02"),
        (date(2028, 1, 1), 3, utc(2026, 11, 23), "2027-12"),
        (date(2027, 1, 1), 1, utc(2024, 1, 1), "2026-12"),
        (None, 1, date(2024, 1, 31), "2024-02"),
        (None, 0, datetime(2024, 2, 1, 0, 30, tzinfo=ZoneInfo("Europe/Berlin")), "2024-01"),
    ],
)
def test_covered_reaches_the_later_of_until_and_ahead(until: date | None, ahead: int, as_of: date, last: str) -> None:
    found = covered(Every.month, date(2024, 1, 1), until, ahead, as_of)
    assert (found[0].label, found[-1].label) == ("2024-01", last)


def test_the_guides_36_months() -> None:
    assert len(covered(Every.month, date(2024, 1, 1), date(2027, 1, 1), 3, utc(2025, 1, 10))) == 36


def test_covered_refuses_a_start_beyond_its_end() -> None:
    with pytest.raises(AtlasError) as stop:
        covered(Every.month, date(2030, 1, 1), None, 3, utc(2026, 11, 23))
    assert "from: 2026-11-01 or earlier" in stop.value.next


# literals


@pytest.mark.parametrize(
    ("key_type", "text"),
    [
        ("timestamp with time zone", "2024-01-01 00:00:00+00"),
        ("timestamp(3) with time zone", "2024-01-01 00:00:00+00"),
        ("timestamptz", "2024-01-01 00:00:00+00"),
        ("timestamp without time zone", "2024-01-01 00:00:00"),
        ("timestamp", "2024-01-01 00:00:00"),
        ("date", "2024-01-01"),
    ],
)
def test_literals(key_type: str, text: str) -> None:
    assert literal(utc(2024), key_type) == text
    assert literal(datetime(2024, 1, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), key_type) == text


def test_a_key_that_is_no_time_is_refused() -> None:
    with pytest.raises(AtlasError, match="of type uuid"):
        literal(utc(2024), "uuid")
    with pytest.raises(ValueError, match="not a day"):
        literal(utc(2024, 1, 1, 6), "date")


# bounds as PostgreSQL prints them

LATEST = datetime.max.replace(tzinfo=UTC)
EARLIEST = datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "lower", "upper"),
    [
        ("('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')", utc(2024), utc(2024, 2)),
        ("('2024-01-01 00:00:00') TO ('2024-02-01 00:00:00')", utc(2024), utc(2024, 2)),
        ("('2024-01-01') TO ('2024-02-01')", utc(2024), utc(2024, 2)),
        ("('2024-01-01 05:30:00+05:30') TO ('2024-01-31 19:00:00-05')", utc(2024), utc(2024, 2)),
        ("('2024-01-01 00:00:00.5+00') TO ('2024-01-01 00:00:01+00')",
         utc(2024) + timedelta(seconds=0.5), utc(2024) + timedelta(seconds=1)),
        ("(MINVALUE) TO ('2024-01-01 00:00:00+00')", None, utc(2024)),
        ("('2024-01-01 00:00:00+00') TO (MAXVALUE)", utc(2024), None),
        ("(MINVALUE) TO (MAXVALUE)", None, None),
        ("('-infinity') TO ('infinity')", None, None),
        ("('infinity') TO (MAXVALUE)", LATEST, None),
        ("('0044-03-15 00:00:00+00 BC') TO ('2024-01-01 00:00:00+00')", None, utc(2024)),
        ("('0044-03-15 BC') TO ('0043-03-15 BC')", None, EARLIEST),
        ("('2024-01-01') TO ('20240-01-01')", utc(2024), None),
        ("('10000-01-01 00:00:00+00') TO ('294276-01-01 00:00:00+00')", LATEST, None),
        ("('0001-01-01 00:00:00+05') TO ('9999-12-31 23:00:00-05')", None, None),
    ],
)  # fmt: skip
def test_ranges_are_read(values: str, lower: datetime | None, upper: datetime | None) -> None:
    text = f"FOR VALUES FROM {values}"
    assert parse_bound(text) == Bound(lower, upper, is_default=False, text=text)


def test_default_is_read() -> None:
    assert parse_bound("DEFAULT") == Bound(None, None, is_default=True, text="DEFAULT")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FOR VALUES IN ('2024-01-01')",
        "FOR VALUES WITH (modulus 4, remainder 0)",
        "FOR VALUES FROM ('2024-01-01', 1) TO ('2024-02-01', 1)",
        "FOR VALUES FROM ('2024-01-01', MINVALUE) TO ('2024-02-01', MINVALUE)",
        "FOR VALUES FROM (1) TO (10)",
        "FOR VALUES FROM ('1') TO ('10')",
        "FOR VALUES FROM ('01/02/2024') TO ('02/02/2024')",
        "FOR VALUES FROM ('2024-13-01') TO ('2024-14-01')",
        "FOR VALUES FROM ('٢٠٢٤-01-01') TO ('2024-14-01')",
        "FOR VALUES FROM (''') TO (''') TO ('2024-01-01')",
        "FOR VALUES FROM ('x'); DROP TABLE messages; --') TO ('y')",
        "for values from ('2024-01-01') to ('2024-02-01')",
    ],
)
def test_what_is_not_ours_is_unreadable_and_no_error(text: str) -> None:
    assert parse_bound(text) == Bound(None, None, is_default=False, text=text, readable=False)


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert parse_bound(text).text == text
    assert parse_bound(f"FOR VALUES FROM ('{text}') TO ('{text}')").is_default is False


# gaps, overlaps, runway

DEFAULT = parse_bound("DEFAULT")
FOREIGN = parse_bound("FOR VALUES WITH (modulus 4, remainder 0)")


@pytest.mark.parametrize(
    ("bounds", "holes", "shared"),
    [
        ([], [], []),
        ([DEFAULT, FOREIGN], [], []),
        ([ranged(utc(2024, 3), utc(2024, 4)), DEFAULT, ranged(utc(2024), utc(2024, 2))],
         [(utc(2024, 2), utc(2024, 3))], []),
        ([ranged(None, utc(2024)), ranged(utc(2024), None)], [], []),
        ([ranged(None, utc(2024)), ranged(utc(2025), None)], [(utc(2024), utc(2025))], []),
        ([ranged(utc(2024), utc(2024, 3)), ranged(utc(2024, 2), utc(2024, 4))],
         [], [(utc(2024, 2), utc(2024, 3))]),
        ([ranged(utc(2024), None), ranged(utc(2025), None)], [], [(utc(2025), None)]),
        ([ranged(None, utc(2025)), ranged(None, utc(2024))], [], [(None, utc(2024))]),
        ([ranged(utc(2020), utc(2030)), ranged(utc(2021), utc(2022)), ranged(utc(2031), utc(2032))],
         [(utc(2030), utc(2031))], [(utc(2021), utc(2022))]),
        ([ranged(None, EARLIEST), ranged(None, utc(2024))], [], []),
    ],
)  # fmt: skip
def test_gaps_and_overlaps(
    bounds: list[Bound],
    holes: list[tuple[datetime, datetime]],
    shared: list[tuple[datetime | None, datetime | None]],
) -> None:
    assert gaps(bounds) == holes
    assert overlaps(bounds) == shared
    assert gaps(bounds[::-1]) == holes


@pytest.mark.parametrize(
    ("as_of", "left"),
    [
        (utc(2024), timedelta(days=60)),
        (utc(2024, 1, 31, 12), timedelta(days=29, hours=12)),
        (utc(2024, 3), timedelta(0)),
        (utc(2024, 3, 15), timedelta(0)),
        (utc(2024, 4), None),
        (utc(2023), timedelta(0)),
    ],
)
def test_runway_ends_at_the_first_hole(as_of: datetime, left: timedelta | None) -> None:
    months = [ranged(utc(2024), utc(2024, 2)), ranged(utc(2024, 2), utc(2024, 3)), ranged(utc(2024, 4), None)]
    assert runway([DEFAULT, FOREIGN, *reversed(months)], as_of) == left


def test_default_is_no_runway() -> None:
    assert runway([DEFAULT], utc(2024)) == timedelta(0)


@given(EVERY, INSTANTS, st.integers(0, 30))
def test_the_runway_of_covered_outlasts_ahead(every: Every, as_of: datetime, ahead: int) -> None:
    period = period_of(every, as_of)
    made = covered(every, period.lower.date(), None, ahead, as_of)
    assert len(made) == ahead + 1
    assert runway([ranged(p.lower, p.upper) for p in made], as_of) == made[-1].upper - as_of


# The stretch that the ranges cover


def _read(*ends: str) -> list[Bound]:
    return [
        parse_bound("DEFAULT"),
        *(parse_bound(f"FOR VALUES FROM ({each.split()[0]}) TO ({each.split()[1]})") for each in ends),
    ]


@pytest.mark.parametrize(
    ("ends", "covered"),
    [
        (("'2024-01-01' '2024-02-01'", "'2024-02-01' '2024-03-01'"), (utc(2024, 1, 1), utc(2024, 3, 1))),
        (("'2024-02-01' '2024-03-01'", "'2024-01-01' '2024-02-01'"), (utc(2024, 1, 1), utc(2024, 3, 1))),
        (("'2024-01-01' '2024-02-01'", "'2024-02-02' '2024-03-01'"), None),
        (("MINVALUE '2024-02-01'", "'2024-02-01' MAXVALUE"), (None, None)),
        (("'2024-01-01' '2024-02-01'", "'a' 'b'"), None),
        ((), None),
    ],
)
def test_the_stretch_that_ranges_cover(ends: tuple[str, ...], covered: object) -> None:
    assert stretch(_read(*ends)) == covered
