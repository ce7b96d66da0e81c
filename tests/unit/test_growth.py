"""Growth and where it leads. No database."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from atlas_ops import growth
from atlas_ops.bounds import Every, period_of
from atlas_ops.growth import Month, When
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)


def spec(**keys: Any) -> TableSpec:
    [found] = tables_from([{"table": "event", "partition_key": "at", "from": "2024-01-01", **keys}])
    return found


def months(*rows: int | None, current: int | None = 0) -> list[Month]:
    """Ended months up to the current one, with 100 bytes a row."""
    found, period = [], period_of(Every.month, AS_OF)
    for number, held in enumerate([current, *reversed(rows)]):
        found.append(
            Month(f"event_{number}", period.label, period.lower, period.upper, When.CURRENT if number == 0 else When.ENDED,
                  held, 60 * (held or 0), 40 * (held or 0), 0)
        )  # fmt: skip
        period = period.previous()
    return found[::-1]


def test_a_steady_climb_goes_on() -> None:
    to_come = growth.expected(spec(ahead=3), months(1000, 1100, 1200, 1300, 1400), AS_OF)
    assert [(one.label, one.rows, one.bytes) for one in to_come] == [
        ("2026-11", 1500, 150_000), ("2026-12", 1600, 160_000), ("2027-01", 1700, 170_000), ("2027-02", 1800, 180_000),
    ]  # fmt: skip


def test_one_bulk_load_does_not_bend_the_trend() -> None:
    to_come = growth.expected(spec(ahead=1), months(1000, 1000, 1000, 90_000, 1000, 1000, 1000), AS_OF)
    assert [one.rows for one in to_come] == [1000, 1000]


def test_what_shrinks_does_not_fall_below_nothing() -> None:
    assert [one.rows for one in growth.expected(spec(ahead=3), months(900, 600, 300), AS_OF)] == [0, 0, 0, 0]


@pytest.mark.parametrize("held", [(), (5,), (5, 6), (0, 0, 0, 5, 6), (None, None, None)])
def test_too_few_periods_lead_nowhere(held: tuple[int | None, ...]) -> None:
    assert growth.expected(spec(), months(*held), AS_OF) == ()
    assert growth.newest_against_median(months(*held)) is None


def test_the_newest_is_compared_with_the_median_before_it() -> None:
    found = growth.newest_against_median(months(2000, 2000, 2000, 2000, current=9000))
    assert found is not None and (found[0].label, found[1]) == ("2026-11", 4.5)
    # a month that has hardly begun does not hide the one that has just ended
    found = growth.newest_against_median(months(2000, 2000, 2000, 8000, current=10))
    assert found is not None and (found[0].label, found[1]) == ("2026-10", 4.0)
    assert growth.newest_against_median(months(10, 10, 10, 10, current=900)) is None, "small numbers jump"


def test_years_and_days_have_their_own_words() -> None:
    lower = datetime(2024, 1, 1, tzinfo=UTC)
    assert growth._label(Every.year, lower, datetime(2025, 1, 1, tzinfo=UTC)) == "2024"
    assert growth._label(Every.month, lower, datetime(2025, 1, 1, tzinfo=UTC)) == "2024-01-01"
    assert growth._label(Every.year, datetime(9999, 1, 1, tzinfo=UTC), datetime(9999, 6, 1, tzinfo=UTC)) == "9999-01-01"
