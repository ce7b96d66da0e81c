"""What every chart is made of: the two forms it is kept in, its theme, and the words beside it.

A chart is drawn twice: as Vega-Lite 5, which JupyterLab renders, and as a PNG, which everything else does; neither
needs the network. Text is mid-grey on a transparent background, so that light and dark themes both serve.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from atlas_ops.tables import GREY, count

Spec = dict[str, Any]
Row = Mapping[str, Any]

PALE = "#a9b4c0"
WIDTH = 760  # CSS pixels of a plot: the output area of JupyterLab on a 1366-pixel screen
_SCALE = 1.5  # pixels of the PNG to a CSS pixel: sharp on a laptop, a third of the size of 3
_LAB_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # JupyterLab 4 draws 3 to 5, and no other


class Chart:
    """A Vega-Lite specification and one sentence that says the same in words."""

    def __init__(self, spec: Spec, summary: str) -> None:
        self.spec, self.summary = spec, summary

    def __repr__(self) -> str:
        return f"<chart: {self.summary}>"

    @cached_property
    def png(self) -> bytes:
        """The picture at 1.5 pixels to a CSS pixel; drawn once."""
        import vl_convert  # noqa: PLC0415 - 60 MB that only a drawing needs

        return _deflated(vl_convert.vegalite_to_png(json.dumps(self.spec), scale=_SCALE))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[Spec, Spec]:
        """IPython's hook: every form at once, and the PNG's size, or it shows 1.5 times as large."""
        width, height = struct.unpack(">II", self.png[16:24])
        data = {
            "application/vnd.vegalite.v5+json": {**self.spec, "$schema": _LAB_SCHEMA},
            "image/png": base64.b64encode(self.png).decode(),
            "text/plain": repr(self),
        }
        return data, {"image/png": {"width": round(width / _SCALE), "height": round(height / _SCALE)}}


def records(rows: Iterable[Sequence[Any] | Row], fields: Sequence[str]) -> list[tuple[Any, ...]]:
    """Tuples in the order of `fields`, whether the rows came as tuples or as dicts."""
    return [
        tuple(row[name] for name in fields) if isinstance(row, Mapping) else tuple(row[: len(fields)]) for row in rows
    ]


def plural(n: int, word: str) -> str:
    """`1 month`, `12 months`."""
    return f"{count(n)} {word}" if n == 1 else f"{count(n)} {word}s"


def milliseconds(value: float) -> str:
    """Milliseconds with three digits, and all of them from 100 on."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"  # noqa: PLR2004 - three digits either way


def coloured(field: str, colours: Mapping[str, str], legend: bool = True) -> Any:
    """The colour of a field: each of its values has one, in the order of the legend."""
    import altair as alt  # noqa: PLC0415

    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    shown = alt.Legend(title=None, orient="top", symbolType="square") if legend else None
    return alt.Color(f"{field}:N", scale=scale, legend=shown)


def stacked(title: str, panels: Sequence[Any], sentences: Sequence[str]) -> Chart:
    """Panels below each other; where there is none, a picture that says so."""
    import altair as alt  # noqa: PLC0415

    if not panels:
        nothing = alt.Chart(alt.Data(values=[{"text": "nothing to show"}])).mark_text(color=GREY, fontSize=12)
        return finished(
            nothing.encode(text="text:N").properties(width=300, height=40), title, sentences or ["nothing to show"]
        )
    return finished(
        alt.vconcat(*panels, spacing=18).resolve_scale(color="shared", xOffset="independent"),
        title,
        sentences,
    )


def finished(drawing: Any, title: str, sentences: Sequence[str], subtitle: Sequence[str] = ()) -> Chart:
    """Title and theme: transparent, mid-grey, left-aligned, no frame."""
    import altair as alt  # noqa: PLC0415

    lines = {"subtitle": list(subtitle)} if subtitle else {}
    spec: Spec = (
        drawing.properties(title=alt.TitleParams(title, anchor="start", fontSize=14, offset=12, **lines))
        .configure(background="transparent", padding=6)
        .configure_view(stroke=None)
        .configure_title(color=GREY, subtitleColor=GREY)
        .configure_axis(
            labelColor=GREY, titleColor=GREY, titleFontWeight="normal", gridColor=GREY, gridOpacity=0.25,
            domainColor=GREY, tickColor=GREY, labelFontSize=11,
        )
        .configure_axisX(grid=False)
        .configure_legend(labelColor=GREY, labelFontSize=11)
        .to_dict()
    )  # fmt: skip
    return Chart(spec, f"{title}{'' if title.endswith('?') else '.'} {'; '.join(sentences)}".strip())


def _deflated(png: bytes) -> bytes:
    """The same picture, packed tightly: vl-convert deflates for speed, at four times the bytes."""
    kept, pixels, position = [], [], 8
    while position < len(png):
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        whole, position = png[position : position + 12 + length], position + 12 + length
        if kind == b"IDAT":
            pixels.append(whole[8:-4])
        elif kind != b"IEND":
            kept.append(whole)
    packed = zlib.compress(zlib.decompress(b"".join(pixels)), 9)
    return b"".join([png[:8], *kept, _chunk(b"IDAT", packed), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
