"""Every chart shows wherever a record is opened, and is drawn without a network."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from atlas_ops import charts, query_charts

MONTHS = [f"{year}-{month:02d}" for year in range(2022, 2027) for month in range(1, 13)]

ALL = [
    charts.rows_per_month([("<b>messages</b>", month, 5) for month in MONTHS]),
    charts.both_sides([("messages", month, 5, 5) for month in MONTHS[:3]]),
    charts.partition_sizes([("messages", "messages_2024_01", 5, 5)]),
    charts.runway([("messages", "m", "2024-01-01", "2024-02-01", "empty")], "2024-01-05"),
    query_charts.query_ratios([("q", 0.5, 0.4, 0.6, "faster"), ("q 'quoted' \"twice\"", 2, None, None, "slower")]),
    query_charts.query_buffers([("q", 0, 2)]),
    query_charts.planning_and_execution([("q", "original", 0.1, 2), ("q", "partitioned", 0.8, 1)]),
    query_charts.partitions_touched([("q", 1, 2)]),
    charts.archive_timeline([("messages", "messages_2024_01", 5, "keep")]),
    charts.rows_per_month([]),
    charts.both_sides([]),
    charts.runway([], "2024-01-05"),
    query_charts.query_ratios([]),
    query_charts.query_buffers([]),
    query_charts.planning_and_execution([]),
    query_charts.partitions_touched([]),
]


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: chart.summary[:40])
def test_a_chart_shows_wherever_a_record_is_opened(chart):
    data, metadata = chart._repr_mimebundle_()
    assert data["application/vnd.vegalite.v5+json"]["$schema"].endswith("/v5.json")
    assert data["text/plain"] == f"<chart: {chart.summary}>"
    png = base64.b64decode(data["image/png"])
    width, height, depth, colours = struct.unpack(">IIBB", png[16:26])
    assert metadata == {"image/png": {"width": round(width / 1.5), "height": round(height / 1.5)}}
    assert metadata["image/png"]["width"] <= 900
    assert (depth, colours) == (8, 6)  # with transparency, so that a dark theme shows through
    assert chart.spec["config"]["background"] == "transparent"
    assert "http" not in json.dumps({key: part for key, part in chart.spec.items() if key != "$schema"})
    output = new_output("display_data", data=data, metadata=metadata)
    nbformat.validate(new_notebook(cells=[new_code_cell(outputs=[output])]))


def test_the_png_is_packed_and_whole():
    png = ALL[0].png
    position, pixels = 8, b""
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        body = png[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", png[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        pixels += body if kind == b"IDAT" else b""
        position += 12 + length
    width, height = struct.unpack(">II", png[16:24])
    assert len(zlib.decompress(pixels)) == height * (1 + 4 * width)
    assert len(png) < 60_000
