"""Rows that arrive after their month has left are seen, and told with what can be done about them, which then works."""

from __future__ import annotations

import pytest
from archives.road import Road

from atlas_ops import months, quarantine
from atlas_ops.report import Check, Severity

MONTH = "diary_2024_01"
LATE = "INSERT INTO diary_partitioned (id, at, body) VALUES (1000, '2024-01-05', 'late'), (1001, '2024-01-31 23:59:59.999999', '')"


def told(road: Road) -> list[Check]:
    found = road.archive
    return [
        check
        for check in quarantine.checks(found.spec, found.snapshot, found.apart, months.late(found))
        if check.name == "late rows"
    ]


@pytest.mark.parametrize("exported", [False, True])
def test_late_rows_are_moved_into_their_month_by_the_statement_that_is_shown(diary: Road, exported: bool) -> None:
    diary.detach()
    if exported:
        diary.export()
    assert told(diary) == []
    diary.run(LATE, "INSERT INTO diary_partitioned (id, at) VALUES (1002, '2030-01-01')")
    [check] = told(diary)
    assert check.severity is Severity.WARN and check.what == f"2 rows of {MONTH} arrived after it had left."
    diary.run(check.sql)
    assert told(diary) == []
    assert diary.value(f"SELECT count(*) FROM partitions.{MONTH}") == 33
    diary.export(*([MONTH] if exported else []))
    diary.prove()
    assert diary.month(MONTH).export.rows == 33
    diary.drop()
    diary.restore(MONTH)
    assert diary.digest()[0] == 34


def test_late_rows_of_a_month_that_is_in_the_archive_only_are_told_without_a_statement(diary: Road) -> None:
    diary.away()
    diary.run(LATE)
    [check] = told(diary)
    assert check.sql == "" and "07 Maintain partitions" in check.cure


def test_rows_that_another_table_refers_to_are_not_moved_by_a_delete(diary: Road) -> None:
    """It would act on what refers to them: here it would delete that."""
    diary.detach()
    diary.run(
        LATE,
        "CREATE TABLE mention (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES diary_partitioned ON DELETE CASCADE)",
        "INSERT INTO mention VALUES (1000, '2024-01-05')",
    )
    [check] = told(diary)
    assert check.sql == "" and "07 Maintain partitions" in check.cure
