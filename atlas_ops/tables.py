"""Tables for a notebook: numbers a DBA can read at a glance, in Lab, on GitHub and in the exported page.

JupyterLab does not trust an executed notebook and strips `<style>` from it, so all styling is inline. Colours
are mid-tones that read on white and on black; none carries a meaning that is not also a word.
"""

# ruff: noqa: PLR2004 - sixty seconds to a minute need no name

from __future__ import annotations

import datetime as dt
import decimal
import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["auto", "text", "count", "size", "duration", "sql", "verdict"]

# A mid-grey of contrast 4.0 or more on both of JupyterLab's backgrounds (#fff and #111).
GREY = "#808080"
RED, AMBER, GREEN, BLUE = "#d9484a", "#b87d14", "#2f9460", "#3f83d1"

_WORDS = {
    GREEN: "ok pass passed equal yes done fast faster safe ready keep",
    BLUE: "info note planned nothing_to_do same skipped",
    AMBER: "warn warning slow slower archive medium unknown",
    RED: "stop stopped block blocker critical error fail failed differs missing lost high no",
}
_TONE = {word: tone for tone, words in _WORDS.items() for word in words.split()}
_MARK = {GREEN: "✓", BLUE: "·", AMBER: "!", RED: "✗"}

_KIND_BY_NAME: dict[str, Kind] = {
    **dict.fromkeys(("verdict", "severity", "status"), "verdict"),
    **dict.fromkeys(("bytes", "size"), "size"),
    **dict.fromkeys(("seconds", "duration", "took"), "duration"),
    **dict.fromkeys(("sql", "statement", "definition"), "sql"),
}
_NUMERIC: frozenset[Kind] = frozenset({"count", "size", "duration"})
_SQL_INLINE = 60  # characters: longer statements, and those of several lines, get a block of their own
_UNBROKEN = 40  # characters: a name or a date up to this stays in one piece
_PLAIN_WIDTH = 72  # characters of one cell in the plain text form


def size(n: int | float | None) -> str:
    """Bytes as a DBA says them: `size(12_582_912) == "12 MB"`. Powers of 1024, as in pg_size_pretty()."""
    if n is None:
        return "—"
    value, sign = abs(float(n)), "-" if n < 0 else ""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        # 999.5 and not 1024: "1,023 MB" is as hard to compare as it is to read.
        if value < 999.5 or unit == "TB":
            break
        value /= 1024
    digits = 0 if unit == "B" or value >= 9.95 or value == int(value) else 1
    return f"{sign}{value:,.{digits}f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as `0.4 ms`, `420 ms`, `4.2 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`."""
    if seconds is None:
        return "—"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 59.95:
        ms = seconds * 1000
        return f"{seconds:.1f} s" if ms >= 999.5 else f"{ms:.0f} ms" if ms >= 9.95 or ms == 0 else f"{ms:.1f} ms"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24:02d} h"


def count(n: int | float | decimal.Decimal | None) -> str:
    """A whole number with thousands separators; `—` for none."""
    return "—" if n is None else f"{n:,.0f}"


@dataclass(frozen=True)
class Column:
    """One column: its heading and how its values read.

    `auto` takes the value's own type: an int has thousands separators, a float at most four decimals, a
    time stamp is shown in its own zone to the second, a sequence as a list with commas. `text` shows the
    value as Python does: a year stays 2024.
    """

    name: str
    kind: Kind = "auto"

    @classmethod
    def of(cls, column: Column | str) -> Column:
        """A plain heading takes its kind from its last word: verdict, bytes, seconds, sql; else `auto`."""
        if isinstance(column, Column):
            return column
        words = column.lower().split()
        return cls(column, _KIND_BY_NAME.get(words[-1], "auto") if words else "auto")

    def text(self, value: object) -> str:
        """The value as plain text; `—` for None."""
        if value is None:
            return "—"
        if self.kind == "text":
            return str(value)
        number = value if isinstance(value, int | float | decimal.Decimal) else None
        if number is not None and not isinstance(number, bool):
            if self.kind == "size":
                return size(int(number))
            if self.kind == "duration":
                return duration(float(number))
            if self.kind == "count":
                return count(number)
        return _auto(value)

    def is_number(self, value: object) -> bool:
        """Whether the value is to stand at the right edge."""
        if self.kind in _NUMERIC:
            return True
        return self.kind == "auto" and isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


class Table:
    """Rows under headings: HTML in a notebook, aligned text elsewhere, `frame()` to go on with in pandas.

    Shows at most `limit` rows and says how many more there are; `frame()` and `rows` always hold all of them.
    """

    def __init__(
        self,
        columns: Sequence[Column | str],
        rows: Sequence[Sequence[object]],
        caption: str = "",
        limit: int = 60,
    ) -> None:
        """Raise ValueError when a row has not as many values as there are columns."""
        self.columns = tuple(Column.of(column) for column in columns)
        self.rows = tuple(tuple(row) for row in rows)
        self.caption, self.limit = caption, limit
        for position, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {position} has {len(row)} values for {len(self.columns)} columns")

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self) -> pd.DataFrame:
        """All the rows, unformatted, as a DataFrame."""
        import pandas as pd  # noqa: PLC0415 - half a second that only this needs

        return pd.DataFrame(list(self.rows), columns=pd.Index([column.name for column in self.columns]))

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th style="{_cell_style(self._right(i))}border-bottom:1px solid {GREY};font-weight:600">'
            f"{_escape(column.name)}</th>"
            for i, column in enumerate(self.columns)
        )
        body = "".join(f"<tr>{self._html_cells(row)}</tr>" for row in self.rows[: self.limit])
        caption = (
            '<caption style="caption-side:top;text-align:left;padding:2px 0 6px;font-weight:600">'
            f"{_escape(self.caption)}</caption>"
            if self.caption
            else ""
        )
        note = f'<div style="color:{GREY};padding:4px 0">{self._note()}</div>' if self._note() else ""
        return (
            '<div style="overflow-x:auto;max-width:100%">'
            '<table style="border-collapse:collapse;font-size:13px;margin:4px 0;color:inherit">'
            f"{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}</div>"
        )

    def __repr__(self) -> str:
        shown = [
            [_one_line(column.text(v)) for column, v in zip(self.columns, row, strict=True)] for row in self._shown()
        ]
        heads = [_one_line(column.name) for column in self.columns]
        widths = [max(map(len, cells)) for cells in zip(heads, *shown, strict=True)]

        def line(cells: Sequence[str]) -> str:
            return "  ".join(
                cell.rjust(width) if self._right(i) else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()

        parts = [visible(self.caption)] if self.caption else []
        parts += [line(heads), "  ".join("-" * width for width in widths), *map(line, shown)]
        parts += [self._note()] if self._note() else []
        return "\n".join(parts)

    def _shown(self) -> tuple[tuple[object, ...], ...]:
        return self.rows[: self.limit]

    def _note(self) -> str:
        hidden = len(self.rows) - len(self._shown())
        if hidden:
            return f"and {count(hidden)} more"
        return "" if self.rows else "no rows"

    def _right(self, position: int) -> bool:
        """Whether a column stands at the right edge: a numeric kind, or only numbers in what is shown."""
        column = self.columns[position]
        values = [row[position] for row in self._shown() if row[position] is not None]
        return column.kind in _NUMERIC or (bool(values) and all(column.is_number(value) for value in values))

    def _html_cells(self, row: Sequence[object]) -> str:
        return "".join(
            f'<td style="{_cell_style(self._right(i))}">{_html_value(column, value)}</td>'
            for i, (column, value) in enumerate(zip(self.columns, row, strict=True))
        )


def _auto(value: object) -> str:  # noqa: PLR0911 - one line a type
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float() | decimal.Decimal():
            return _decimal(float(value))
        case dt.datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S") + (f" {value.tzname()}" if value.tzinfo else "")
        case dt.timedelta():
            return duration(value.total_seconds())
        case list() | tuple() | set() | frozenset():
            return ", ".join(_auto(item) for item in value) or "—"
        case bytes() | bytearray() | memoryview():
            return f"<{count(len(value))} bytes>"
        case _:
            return str(value)


def _decimal(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 4
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".")


def _cell_style(right: bool) -> str:
    align = "text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap" if right else "text-align:left"
    return f"{align};vertical-align:top;padding:3px 12px 3px 0;background:transparent;"


def _html_value(column: Column, value: object) -> str:
    text = column.text(value)
    if value is None:
        return f'<span style="color:{GREY}">—</span>'
    if column.kind == "sql" or (column.kind == "auto" and isinstance(value, str) and "\n" in value):
        return _html_sql(text)
    tone = _TONE.get(text.strip().lower()) if column.kind == "verdict" else None
    if tone:
        style = f"color:{tone};font-weight:600;white-space:nowrap"
        return f'<span style="{style}">{_MARK[tone]} {_escape(text)}</span>'
    if isinstance(value, str | dt.date) and "-" in text and " " not in text and len(text) <= _UNBROKEN:
        return f'<span style="white-space:nowrap">{_escape(text)}</span>'  # browsers break a date at its hyphens
    return _escape(text)


def _html_sql(text: str) -> str:
    font = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:12px"
    text = textwrap.dedent(text).strip()
    if "\n" not in text and len(text) <= _SQL_INLINE:
        return f'<code style="{font};padding:0;background:transparent;color:inherit">{_escape(text)}</code>'
    return (
        f'<pre style="{font};margin:0;padding:0;white-space:pre-wrap;overflow-wrap:break-word;'
        f'background:transparent;color:inherit;text-align:left;max-width:90ch">{_escape(text)}</pre>'
    )


def visible(text: str, kept: str = "") -> str:
    """Control and bidirectional characters, which make a name read as another, as their number."""
    return "".join(c if c.isprintable() or c in kept else f"\\u{ord(c):04x}" for c in text)


def _escape(text: str) -> str:
    return html.escape(visible(text, kept="\n\t"))


def _one_line(text: str) -> str:
    seen = visible(" ".join(text.split()))
    return seen if len(seen) <= _PLAIN_WIDTH else seen[: _PLAIN_WIDTH - 1] + "…"
