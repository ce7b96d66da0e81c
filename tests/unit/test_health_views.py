"""The page of 09: tables and pictures of any health, also of one that nothing is known of."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from atlas_ops import alerts, announcement, health_charts, health_views
from atlas_ops.bounds import Every, period_of
from atlas_ops.growth import Expected, Month, When
from atlas_ops.health import Activity, Figure, Health, State
from atlas_ops.partitions import Counted, Kind, PartitionRow
from atlas_ops.settings import tables_from
from atlas_ops.thresholds import FIGURES
from atlas_ops.vitals import Unread

AS_OF = date(2026, 11, 23)
[SPEC] = tables_from([{"table": "public.event", "partition_key": "at", "from": "2024-01-01"}])


def figures(**values: float | None) -> tuple[Figure, ...]:
    return tuple(
        Figure(name, values.get(name, 0.0), f"{name} told.", sql="SELECT 1;" if name in values else "")
        for name in FIGURES
    )


def row(name: str, rows: int | None) -> PartitionRow:
    at = ("public.event", "partitions", name, "", None, None)
    return PartitionRow(
        *at, Kind.HOLDS_ROWS, rows, Counted.COUNTER, 8192, 8192, 0, 0, None, 0, 1, 0, True, (), None, None
    )


def health(periods: int = 5, table: str = "public.event", **values: float | None) -> Health:
    months, period = [], period_of(Every.month, AS_OF)
    for number in range(periods):
        when = When.CURRENT if number == 0 else When.ENDED
        name = f"event_{period.label.replace('-', '_')}"
        months.append(
            Month(
                name, period.label, period.lower, period.upper, when, 100 * number, 8192 * number, 4096 * number, 1024
            )
        )
        period = period.previous()
    months.reverse()
    return Health(
        table,
        "public.event",
        State.IN_USE,
        figures(runway=98.0, **values),
        rows=tuple(row(month.partition, month.rows) for month in months),
        months=tuple(months),
        expected=(Expected("2026-11", 500, 5_000), Expected("2026-12", 600, 6_000)),
        activity=tuple(
            Activity(month.partition, 5 * number, 0, 0, number, 7, 0) for number, month in enumerate(months)
        ),
        covered_until=datetime(2027, 3, 1, tzinfo=UTC),
        sized=True,
    )


NOTHING = Health(
    "public.none",
    "public.none_partitioned",
    State.NOT_MIGRATED,
    tuple(Figure(name, None, "not migrated.") for name in FIGURES),
)


def judged(*found: Health) -> list[alerts.Judgement]:
    return [alerts.judge(SPEC, one, AS_OF) for one in found]


def panels(chart: Any) -> list[dict[str, Any]]:
    return list(chart.spec["vconcat"])


def values_of(chart: Any) -> list[dict[str, Any]]:
    """The rows that the first panel draws, wherever altair has put them."""
    places = [panels(chart)[0], *panels(chart)[0].get("layer", []), chart.spec]
    found: list[dict[str, Any]] = next(place["data"]["values"] for place in places if "data" in place)
    return found


# tables


def test_the_critical_comes_first_and_each_line_says_what_to_do() -> None:
    found = judged(health(gaps=2.0, row_security=1.0, default_rows=None))
    shown = repr(health_views.alerts_table(found))
    lines = [line for line in shown.splitlines() if "public.event" in line]
    assert shown.startswith("Act now. 1 table: 1 critical, 1 to look at.")
    assert lines[0].startswith("critical  public.event  row security  row_security told.")
    assert lines[1].startswith("warning   public.event  gaps          gaps told.")
    assert "21 figures are well" in shown and "SELECT 1;" in shown
    html = health_views.alerts_table(found)._repr_html_()
    assert html.index("✗ critical") < html.index("! warning")


def test_what_is_well_is_said_in_a_line() -> None:
    shown = repr(health_views.alerts_table(judged(health())))
    assert shown.startswith("All is well. 1 table: nothing to report.")
    both = repr(health_views.alerts_table(judged(health(), NOTHING)))
    assert "public.none_partitioned is not there, or not under care" in both and "01 Preflight" in both


def test_what_could_not_be_read_is_said() -> None:
    found = Health(
        "public.event",
        "public.event",
        State.UNREAD,
        NOTHING.figures,
        unread=(Unread("the table public.event", "locked"),),
    )
    shown = repr(health_views.alerts_table(judged(found)))
    assert shown.startswith("Not all could be read. 1 table: 1 not read.") and "the table public.event: locked" in shown


def test_each_table_has_a_line() -> None:
    table = health_views.states_table(judged(health(gaps=1.0), NOTHING))
    assert [line[:3] for line in table.rows] == [
        ("public.event", "warning", "in use"),
        ("public.none", "ok", "not migrated"),
    ]
    assert table.rows[0][6:] == (98.0, "2027-03-01", "not yet", "600 rows, 5.9 kB up to the end of 2026-12")
    assert table.rows[1][3:] == (None,) * 7
    seen = replace(health(), whole_at=datetime(2026, 11, 22, 3, 17, tzinfo=UTC), whole_by="pg_cron")
    assert health_views.states_table(judged(seen)).rows[0][8] == "2026-11-22 03:17, pg_cron"


def test_every_figure_has_a_line_with_its_thresholds() -> None:
    table = health_views.figures_table(judged(health(gaps=1.0, dead_rows=61.5), NOTHING))
    lines = {line[0]: line for line in table.rows}
    assert len(lines) == len(FIGURES)
    assert lines["gaps"] == ("gaps", "stretches", "1 !", None, "from 1", None)
    assert lines["dead rows"][2:] == ("61.50 ✗", None, "from 30", "from 60")
    assert lines["runway"][4:] == ("below 98", "below 30")
    assert health_views.figures_table([]).rows[0][:2] == ("missing", "tables")


# pictures


@pytest.mark.parametrize("maker", [health_charts.sizes, health_charts.growth, health_charts.activity])
@pytest.mark.parametrize(
    "found", [[], [NOTHING], [health()], [health(), health(3, "public.<b>other</b>")], [health(1_000)]]
)
def test_a_picture_of_any_health_is_drawn(maker: Any, found: list[Health]) -> None:
    chart = maker(found)
    data, size = chart._repr_mimebundle_()
    width, height = struct.unpack(">II", base64.b64decode(data["image/png"])[16:24])
    assert 0 < size["image/png"]["width"] <= 900 and height > 20 and width
    assert "http" not in json.dumps({key: part for key, part in chart.spec.items() if key != "$schema"})
    assert chart.spec["config"]["background"] == "transparent"


def test_sizes_are_told_by_kind() -> None:
    chart = health_charts.sizes([health()])
    assert "public.event: 125 kB in 5 partitions, 40 kB of it indexes, 5 kB TOAST" in chart.summary
    [panel] = panels(chart)
    assert {value["part"] for value in values_of(chart)} == {"rows", "indexes", "TOAST"}
    assert panel["encoding"]["color"]["scale"]["domain"] == ["rows", "indexes", "TOAST"]


def test_growth_adds_what_is_missing_from_what_is_expected() -> None:
    chart = health_charts.growth([health()])
    values = [value for value in values_of(chart) if value["kind"] == "expected"]
    assert values == [
        {"label": "2026-11", "rows": 500, "kind": "expected"},
        {"label": "2026-12", "rows": 600, "kind": "expected"},
    ]
    assert "600 rows and 5.9 kB more up to the end of 2026-12" in chart.summary


def test_a_heat_map_has_a_cell_a_partition_and_kind_and_shows_the_newest() -> None:
    chart = health_charts.activity([health(100)])
    values = values_of(chart)
    assert len(values) == health_charts.MOST * 6
    assert "the newest 60 of 100" in chart.summary
    assert {value["strength"] for value in values if value["kind"] == "updates"} == {0.0}
    assert max(value["strength"] for value in values if value["kind"] == "inserts") == 1.0


def test_no_picture_depends_on_opacity() -> None:
    """vl-convert cuts the colours of a pixel that is not opaque."""
    for chart in (
        health_charts.sizes([health()]),
        health_charts.growth([health()]),
        health_charts.activity([health()]),
    ):
        assert "pacity" not in json.dumps({key: part for key, part in chart.spec.items() if key != "config"})


# JSON


def test_the_record_holds_json_types_and_no_infinity() -> None:
    for one in judged(health(gaps=1.0), NOTHING):
        json.dumps(announcement.table(one), allow_nan=False)
