"""An archive is asked where it lies, in the types that its columns had."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from archives.road import Road

from atlas_ops import charts, inplace
from atlas_ops.errors import AtlasError


def test_the_files_answer_for_the_table(diary: Road) -> None:
    diary.away()
    rows = inplace.rows_per_month([diary.archive])
    assert rows == [("diary", "2024-01", 31), ("diary", "2024-02", 27)]
    assert "58 rows in 2 months" in charts.rows_per_month(rows).summary
    found = inplace.ask(
        [diary.archive],
        'SELECT mood, count(*) AS n, sum(cost::DECIMAL(18,3)) AS cost, min("at")::DATE AS begun FROM diary GROUP BY 1',
    )
    assert [tuple(row) for row in found.rows] == [("calm", 58, Decimal("213.875"), date(2024, 1, 1))]


def test_what_it_cannot_answer_is_told_without_a_value(diary: Road) -> None:
    diary.away()
    with pytest.raises(AtlasError, match="could not be asked") as stop:
        inplace.ask([diary.archive], "SELECT body::INT FROM diary")
    assert "day 1" not in str(stop.value)
    with pytest.raises(AtlasError, match="could not be asked"):
        inplace.ask([diary.archive], "SELECT nothing FROM diary")
    assert inplace.rows_per_month([diary.archive])


def test_an_archive_without_a_month_answers_nothing(diary: Road) -> None:
    assert inplace.rows_per_month([diary.archive]) == []
    diary.away()
    for name in diary.files():
        if name.endswith(".parquet"):
            diary.archive.kept.remove(name)
    assert inplace.rows_per_month([diary.archive]) == []
