"""Charts of queries: what they say, in which order, and that nothing leaves the plot."""

from __future__ import annotations

import math
from typing import Any

import pytest

from atlas_ops import query_charts
from atlas_ops.drawing import Chart


def layers(chart: Chart) -> list[dict[str, Any]]:
    return chart.spec["layer"]


def lines(chart: Chart) -> list[dict[str, Any]]:
    """The rows that are drawn, one a query or one a part of a bar."""
    return next(place["data"]["values"] for place in (chart.spec, layers(chart)[-1]) if "data" in place)


def order(chart: Chart) -> list[str]:
    return layers(chart)[-1]["encoding"]["y"]["sort"]


def domain(chart: Chart) -> list[float]:
    return next(
        layer["encoding"]["x"]["scale"]["domain"] for layer in layers(chart) if "scale" in layer["encoding"]["x"]
    )


def test_partitions_touched_says_how_many_queries_prune():
    chart = query_charts.partitions_touched([("count", 1, 36), ("history", 36, 36)])
    assert chart.summary == "1 of 2 queries read only some of the partitions. count: 1 of 36; history: 36 of 36"


RATIOS = [
    ("history", 2.5, 2.1, 3.0, "slower"),
    ("count", 0.08, 0.07, 0.09, "faster"),
    ("sync", 0.52, 0.4, 0.65, "faster"),
    ("latest", 0.7, 0.66, 0.74, "faster"),
    ("insert", 1.02, 0.9, 1.2, "same"),
    ("gone", None, None, None, "failed"),
]


def test_ratios_are_sorted_counted_and_told_in_words():
    chart = query_charts.query_ratios(RATIOS)
    assert order(chart) == ["count", "sync", "latest", "insert", "history"]
    assert chart.summary == (
        "3 of 5 queries faster, 1 slower on the partitioned table. At least 40 % less time, as the guide promises: 1 of 5; "
        "1 query failed, and is not shown; "
        "count: 0.080 (0.070 to 0.090), faster; sync: 0.52 (0.40 to 0.65), faster; latest: 0.70 (0.66 to 0.74), faster; "
        "insert: 1.02 (0.90 to 1.20), about the same; history: 2.5 (2.1 to 3.0), slower"
    )
    assert [line["text"] for line in lines(chart)] == [
        "1/12 of the time", "48 % less time", "30 % less time", "about the same, 1.02×", "2.5× the time",
    ]  # fmt: skip


def test_a_verdict_is_told_by_its_shape_and_not_by_its_colour_alone():
    dots = next(layer for layer in layers(query_charts.query_ratios(RATIOS)) if "shape" in layer["encoding"])
    shapes = dict(zip(*(dots["encoding"]["shape"]["scale"][key] for key in ("domain", "range")), strict=True))
    assert shapes == {"faster": "triangle-left", "about the same": "circle", "slower": "triangle-right"}


def test_a_word_for_a_verdict_that_nobody_knows_here_is_shown_as_it_is():
    chart = query_charts.query_ratios([("q", 0.5, 0.2, 1.3, "undecided")])
    assert chart.summary.startswith("0 of 1 query faster, 0 slower")
    assert chart.summary.endswith("none of 1; q: 0.50 (0.20 to 1.30), undecided")


def test_the_line_at_1_and_the_promise_are_always_in_the_plot():
    chart = query_charts.query_ratios([("q", 0.99, 0.98, 1.0, "same")])
    low, high = domain(chart)
    assert low < query_charts.PROMISED < 1 < high
    rules = [layer["data"]["values"][0]["ratio"] for layer in layers(chart) if layer["mark"]["type"] == "rule"]
    assert rules[:2] == [1, query_charts.PROMISED]


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (None, None, None),
        (0.4, None, None),
        (None, 0.6, None),
        (math.nan, 0.6, None),
        (0.0, math.inf, (0.001, 1000.0)),
        (-1.0, 0.6, (0.001, 0.6)),
        (0.4, 0.6, (0.4, 0.6)),
    ],
)
def test_an_interval_that_is_missing_or_has_no_end_is_no_error(low, high, ends):
    chart = query_charts.query_ratios([("q", 0.5, low, high, "faster")])
    (line,) = lines(chart)
    assert ("low" in line) is bool(ends)
    if ends:
        assert (line["low"], line["high"]) == ends
        assert domain(chart)[0] < ends[0] and ends[1] < domain(chart)[1]


@pytest.mark.parametrize("ratio", [None, 0, -1.0, math.nan, math.inf])
def test_a_ratio_that_is_no_ratio_is_not_drawn(ratio):
    chart = query_charts.query_ratios([("q", ratio, None, None, "faster"), ("r", 0.5, None, None, "faster")])
    assert order(chart) == ["r"]
    assert "1 query failed, and is not shown" in chart.summary


def test_extreme_ratios_stand_at_the_edges_and_are_told_as_they_are():
    chart = query_charts.query_ratios([("slow", 123456, None, None, "slower"), ("fast", 0.00004, None, None, "faster")])
    assert [line["ratio"] for line in lines(chart)] == [0.001, 1000]
    assert [line["text"] for line in lines(chart)] == ["1/25,000 of the time", "123,456× the time"]
    assert chart.png.startswith(b"\x89PNG")
    ticks = layers(chart)[-2]["encoding"]["x"]["axis"]["values"]
    assert ticks == [0.001, 0.01, 0.1, 1, 10, 100, 1000], "seven words have room, eleven have not"


def test_that_nothing_could_be_measured_is_said():
    chart = query_charts.query_ratios([("q", None, None, None, "failed"), ("r", None, None, None, "failed")])
    assert chart.summary == "No query was measured on both tables. 2 queries failed, and are not shown"
    assert query_charts.query_ratios([]).summary == "No query was measured on both tables. nothing to show"


def test_queries_of_one_name_keep_a_line_each():
    ratios = query_charts.query_ratios([("q", 0.5, None, None, "faster"), ("q", 2, None, None, "slower")])
    assert order(ratios) == ["q", "q (2)"]
    times = [("q", side, 1, ms) for ms in (1, 2) for side in ("original", "partitioned")]
    assert "q (2), partitioned: 1 ms + 2 ms" in query_charts.planning_and_execution(times).summary


def test_buffers_are_sorted_by_what_is_left_and_zero_has_a_place():
    rows = [("more", 4, 140), ("none", 0, 0), ("some", 0, 9), ("gone", 9, 0), ("few", 1240, 32), ("like", 1000, 1099)]
    chart = query_charts.query_buffers([*rows, ("page", 7, 9), ("half", 90, 42), ("failed", 5, None)])
    assert order(chart) == ["few", "gone", "half", "none", "like", "page", "some", "more"]
    assert chart.summary == (
        "3 of 8 queries read fewer blocks on the partitioned table, 2 read more. few: 1,240 → 32, 1/39 of them; "
        "gone: 9 → 0, 100 % fewer; half: 90 → 42, 53 % fewer; none: 0 → 0, as many; like: 1,000 → 1,099, as many; "
        "page: 7 → 9, as many; some: 0 → 9, more; more: 4 → 140, 35× as many"
    )
    scale = layers(chart)[0]["encoding"]["x"]["scale"]
    assert scale["type"] == "symlog" and scale["domain"][0] == 0 and scale["domain"][1] > 1240
    assert layers(chart)[0]["encoding"]["x"]["axis"]["values"] == [0, 1, 10, 100, 1000]


def test_planning_and_execution_are_stacked_on_a_scale_of_each_query():
    chart = query_charts.planning_and_execution(
        [
            ("count", "original", 0.2, 7.8),
            ("count", "partitioned", 3.0, 1.0),
            ("failed", "partitioned", None, None),
            ("tiny", "original", 0, 0),
        ]
    )
    assert chart.summary == (
        "Planning takes longer than execution: 0 of 2 on the original, 1 of 1 on the partitioned table. "
        "count, original: 0.2 ms + 7.8 ms; count, partitioned: 3 ms + 1 ms; tiny, original: 0 ms + 0 ms"
    )
    bars = [(line["lane"], line["part"], line["from"], line["to"]) for line in lines(chart)]
    assert bars[:4] == [
        ("count: original", "planning", 0, pytest.approx(0.025)),
        ("count: original", "execution", pytest.approx(0.025), 1),
        ("count: partitioned", "planning", 0, pytest.approx(0.375)),
        ("count: partitioned", "execution", pytest.approx(0.375), pytest.approx(0.5)),
    ]
    assert order(chart) == ["count: original", "count: partitioned", "space 2", "tiny: original"]


def test_sides_beyond_the_two_tables_are_lanes_of_their_own():
    sides = ("original", "partitioned", "generic", "rewrite with a bound")
    chart = query_charts.planning_and_execution([("q", side, 2, 1) for side in sides])
    assert order(chart) == [f"q: {side}" for side in sides]
    assert chart.summary.startswith(
        "Planning takes longer than execution: 1 of 1 on the original, 1 of 1 on the partitioned table. q, original"
    )


@pytest.mark.parametrize("number", [1, 16])
def test_no_picture_is_wider_than_the_page(number):
    name = "a_very_long_name_of_a_query-up-to-41-chars"[:41]
    rows = [(f"{name[:-2]}{n:02d}", n) for n in range(1, number + 1)]
    pictures = [
        query_charts.query_ratios([(query, n / 10, n / 20, n, "same") for query, n in rows]),
        query_charts.query_buffers([(query, n**5, n) for query, n in rows]),
        query_charts.planning_and_execution([(query, "partitioned", n, n**4) for query, n in rows]),
    ]
    for picture in pictures:
        assert picture._repr_mimebundle_()[1]["image/png"]["width"] <= 960
