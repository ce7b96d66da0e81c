"""Tables: what a DBA reads, whatever the values are called."""

from __future__ import annotations

import datetime as dt
import decimal
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops.report import Severity, Verdict
from atlas_ops.tables import Column, Table, count, duration, size

DASH = "—"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (None, DASH), (0, "0 B"), (999, "999 B"), (1023, "1.0 kB"), (1024, "1 kB"), (1536, "1.5 kB"),
        (12 << 20, "12 MB"), (999 << 20, "999 MB"), (1000 << 20, "1.0 GB"), (5 << 40, "5 TB"),
        (5000 << 40, "5,000 TB"), (-(3 << 30), "-3 GB"),
    ],
)  # fmt: skip
def test_size(n, text):
    assert size(n) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, DASH), (0, "0 ms"), (0.0004, "0.4 ms"), (0.42, "420 ms"), (0.9996, "1.0 s"), (4.23, "4.2 s"),
        (59.96, "1 min 00 s"), (200, "3 min 20 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min"),
        (86_400, "1 d 00 h"), (270_000, "3 d 03 h"), (-4.2, "-4.2 s"),
    ],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"), [(None, DASH), (0, "0"), (1234567, "1,234,567"), (decimal.Decimal("1e6"), "1,000,000")]
)
def test_count(n, text):
    assert count(n) == text


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("rows", 200_000, "200,000"),
        ("heap size", 12 << 20, "12 MB"),
        ("seconds", 4.23, "4.2 s"),
        ("ratio", 0.12345, "0.1235"),
        ("ratio", 2.0, "2"),
        ("ratio", float("nan"), "nan"),
        ("ratio", decimal.Decimal("NaN"), "nan"),
        ("valid", True, "yes"),
        ("at", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2024-01-02 03:04:05 UTC"),
        ("month", dt.date(2024, 1, 1), "2024-01-01"),
        ("columns", ["a", "b"], "a, b"),
        ("columns", [], DASH),
        ("key", b"\x00\xff", "<2 bytes>"),
        ("any", None, DASH),
        (Column("year", "text"), 2024, "2024"),
    ],
)
def test_a_value_reads_as_its_column_says(column, value, text):
    assert Column.of(column).text(value) == text


def test_the_plain_form_is_aligned():
    table = Table(["table", "rows", "seconds"], [["messages", 200_000, 4.23], ["usage_logs", None, 0.02]], "Counted")
    assert repr(table).splitlines() == [
        "Counted",
        "table          rows  seconds",
        "----------  -------  -------",
        "messages    200,000    4.2 s",
        "usage_logs        —    20 ms",
    ]


def test_numbers_stand_right_and_words_left():
    html = Table(["table", "rows"], [["messages", 1234567]])._repr_html_()
    assert re.search(r'<td style="text-align:left[^"]*">messages</td>', html)
    assert re.search(r'<td style="text-align:right[^"]*">1,234,567</td>', html)


def test_styling_is_inline_only():
    html = Table(["verdict", "sql"], [["ok", "SELECT 1\nFROM t"]], "A caption")._repr_html_()
    assert not re.search(r"<style|<script|class=|<link|url\(", html)


@pytest.mark.parametrize("word", [*map(str, Severity), *map(str, Verdict), "differs", "slower"])
def test_a_verdict_has_a_colour_a_mark_and_its_word(word):
    html = Table(["verdict"], [[word]])._repr_html_()
    assert re.search(rf"<span style=\"color:#\w{{6}};[^\"]*\">[✓·!✗] {re.escape(word)}</span>", html)


def test_a_word_of_a_user_is_no_verdict():
    assert "<span" not in Table(["name"], [["ok"]])._repr_html_()


def test_long_sql_keeps_its_lines_and_short_sql_its_line():
    html = Table(["sql"], [["    CREATE TABLE t\n      (i int)"], ["SELECT 1"]])._repr_html_()
    assert "CREATE TABLE t\n  (i int)</pre>" in html
    assert ">SELECT 1</code>" in html


def test_a_long_table_says_how_much_it_hides_but_keeps_it():
    table = Table(["n"], [[n] for n in range(1000, 1072)])
    assert "and 12 more" in table._repr_html_()
    assert repr(table).endswith("1,059\nand 12 more")
    assert len(table) == len(table.frame()) == 72
    assert "1,060" not in table._repr_html_()


def test_an_empty_table_says_so():
    table = Table(["table", "rows"], [])
    assert repr(table).endswith("no rows")
    assert "no rows" in table._repr_html_()
    assert list(table.frame().columns) == ["table", "rows"]


def test_the_frame_holds_the_values_unformatted():
    frame = Table(["table", Column("size", "size")], [["messages", 123]]).frame()
    assert frame.to_dict("records") == [{"table": "messages", "size": 123}]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 1 has 1 values for 2 columns"):
        Table(["a", "b"], [[1, 2], [1]])


def test_a_name_cannot_write_another_name():
    html = Table(["na\u202eme"], [["a\u202eb\x00\x1b[31m"]], "c\u2028d")._repr_html_()
    assert not re.search("[\u202e\u2028\x00\x1b]", html)
    assert "\\u202e" in html


@given(st.text(), st.text(), st.text())
def test_nothing_of_a_text_becomes_markup(name, value, caption):
    table = Table([name, "sql", "verdict"], [[value, value, value]], caption)
    tags = set(re.findall(r"</?(\w+)", table._repr_html_()))
    assert tags <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "pre", "code"}
    assert len(repr(table).split("\n")) == (4 if caption else 3)
