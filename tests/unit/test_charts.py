"""Charts of tables and partitions, and of waits: what they say and what they are made of."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest

from atlas_ops import charts
from atlas_ops.drawing import Chart

MONTHS = [f"{year}-{month:02d}" for year in range(2022, 2027) for month in range(1, 13)]


def panels(chart: Chart) -> list[dict]:
    return chart.spec["vconcat"]


def values(chart: Chart, panel: dict) -> list[dict]:
    """The rows a panel draws, wherever altair has put them."""
    places = [panel, *panel.get("layer", []), chart.spec]
    return next(place["data"]["values"] for place in places if "data" in place)


def axis(panel: dict) -> dict:
    return (panel.get("encoding") or panel["layer"][0]["encoding"])["x"]


def test_rows_per_month_counts_what_lies_outside_and_shows_gaps():
    chart = charts.rows_per_month(
        [
            ("messages", "2024-01", 5),
            ("messages", "2024-03", 7),
            ("messages", "no key", 2),
            ("messages", "before", 1),
            ("usage_logs", "2024-01", 9),
        ]
    )
    assert chart.summary == (
        "How many rows does each month hold? messages: 15 rows in 2 months, 1 before the bounds, "
        "2 without a key; usage_logs: 9 rows in 1 month"
    )
    first, second = panels(chart)
    labels = [row["label"] for row in values(chart, first)]
    assert labels == ["before", "2024-01", "2024-02", "2024-03", "no key"]
    assert [row["rows"] for row in values(chart, first)] == [1, 5, 0, 7, 2]
    assert len(values(chart, second)) == 1


def test_rows_may_be_dicts():
    rows = [("messages", "2024-01", 5)]
    named = [{"table": "messages", "label": "2024-01", "count": 5, "more": "ignored"}]
    assert charts.rows_per_month(named).spec == charts.rows_per_month(rows).spec


def test_both_sides_marks_a_month_that_differs_and_only_that():
    chart = charts.both_sides(
        [("messages", "2024-01", 5, 5), ("messages", "2024-02", 7, 4), ("messages", "no key", 1, None)]
    )
    assert chart.summary.startswith("2 months differ between the two tables")
    assert "13 rows in the original, 9 partitioned: 2024-02 -3, no key -1" in chart.summary
    marked = {(v["label"], v["text"]) for v in values(chart, panels(chart)[0]) if v["kind"] == "differs"}
    assert marked == {("2024-02", "-3"), ("no key", "-1")}


def test_both_sides_says_that_all_is_equal():
    chart = charts.both_sides([("messages", "2024-01", 5, 5)])
    assert chart.summary == "Every month holds as many rows on both sides. messages: 5 rows on both sides"


def test_partition_sizes_reads_the_month_from_the_name_and_picks_a_unit_a_table():
    chart = charts.partition_sizes(
        [
            ("public.messages", "messages_2024_01", 3 << 30, 1 << 30),
            ("public.messages", "messages_default", 0, 8192),
            ("usage_logs", "usage_logs_p202401", 8192, 8192),
        ]
    )
    first, second = panels(chart)
    assert [v["label"] for v in values(chart, first)] == ["2024-01", "2024-01", "default", "default"]
    assert first["encoding"]["y"]["title"] == "GB"
    assert second["encoding"]["y"]["title"] == "kB"
    assert "4.0 GB in 2 partitions" in chart.summary


def test_partitions_whose_short_names_clash_keep_their_own():
    chart = charts.archive_timeline(
        [("t", "a_2024_01", 1, "archive"), ("t", "b_2024_01", 1, "keep"), ("t", "t_99999", 1, "keep")]
    )
    assert [v["label"] for v in values(chart, panels(chart)[0])] == ["a_2024_01", "b_2024_01", "t_99999"]
    assert "archive 1 of 3 partitions, 1 B of 3 B" in chart.summary


def waits(n: int) -> list[tuple[float, float, bool]]:
    return [(number / 100, 2.0 + number % 7, False) for number in range(n)]


STAGES = [("before", 0.0, 4.0), ("cut over", 4.0, 4.2), ("after", 4.2, 10.0)]


def test_stalls_shows_the_slowest_of_many_and_all_around_an_exchange():
    slow, failed = (4.06, 90.0, False), (7.003, 1.0, True)
    chart = charts.stalls([("messages", [*waits(1_000), slow, failed], STAGES, [("cut over", 4.05, 4.1)])])
    assert "messages: longest wait 90 ms at the cut-over; median 5 ms; 1 failed" in chart.summary
    overview, glass = panels(chart)
    rects, _, _, _, dots = overview["layer"]
    assert [row["kind"] for row in rects["data"]["values"]] == ["0", "exchange", "0"]
    drawn = dots["data"]["values"]
    assert len(drawn) < 2 * charts._MOMENTS + 2
    assert {"at": 4.06, "ms": 90.0, "end": "answered"} in drawn
    assert {"at": 7.003, "ms": 1.0, "end": "failed"} in drawn
    (around,) = glass["hconcat"]
    lines = around["layer"][1]["data"]["values"]
    assert 50 <= len(lines) <= 60, "every statement that was under way, and no other"
    (stalled,) = [row for row in lines if row["ms"] == 90.0]
    assert stalled["at"] == pytest.approx(10.0) and stalled["to"] == pytest.approx(100.0)


def test_stalls_of_nothing_is_no_error():
    assert charts.stalls([]).png.startswith(b"\x89PNG")
    assert "longest wait unknown; median 0 ms; 0 failed" in charts.stalls([("t", [], [], [])]).summary


@pytest.mark.parametrize(
    ("as_of", "said"),
    [
        ("2024-01-15", "covered up to 2024-03-01, 46 days from 2024-01-15"),
        (dt.date(2024, 2, 29), "covered up to 2024-03-01, 1 day from 2024-02-29"),
        (
            dt.datetime(2024, 3, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            "covered up to 2024-03-01, 1 day",
        ),
        ("2024-03-05", "has no partition for 2024-03-05"),
    ],
)
def test_runway_counts_the_days_without_a_gap(as_of, said):
    rows = [
        ("messages", "m1", dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "2024-02-01", "holds rows"),
        ("messages", "m2", dt.date(2024, 2, 1), "2024-03-01 00:00:00+00", "empty"),
        ("messages", "", "2024-03-01", "2024-04-01", "gap"),
        ("messages", "m4", "2024-04-01", "2024-05-01", "empty"),
        ("messages", "messages_default", None, None, "default"),
    ]
    assert said in charts.runway(rows, as_of).summary


@pytest.mark.parametrize("months", [1, 12, 13, 30, 31, 60])
def test_words_under_an_axis_never_touch(months):
    chart = charts.rows_per_month([("messages", label, 1) for label in MONTHS[:months]])
    words = axis(panels(chart)[0])["axis"]["values"]
    width = panels(chart)[0]["width"]
    assert 1 <= len(words) <= 13
    positions = [MONTHS.index(word) for word in words]
    nearest = min((b - a for a, b in itertools.pairwise(positions)), default=months)
    assert nearest * width / months >= 24  # the width of three letters


def test_a_thousand_partitions_are_drawn():
    chart = charts.partition_sizes([("t", f"t_{n}", n, n) for n in range(1000)])
    assert len(axis(panels(chart)[0])["axis"]["values"]) <= 10
    assert chart.png
