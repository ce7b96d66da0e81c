"""How far a long step is: one bar in a notebook, one line a batch elsewhere.

The bar is plain HTML that is updated in place. Its last state is saved with the notebook, which a widget's
is not.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from atlas_ops.tables import GREY, RED, count, duration

INTERVAL_S = 0.5  # between two updates: a thousand small batches must not become a thousand messages
PROGRESS_TYPE = "application/vnd.atlas.progress+json"  # beside the bar, for a runner that prints lines


class Says(Protocol):
    """What a long step needs of its audience: to be told what is done, the total (0: unknown) and a label."""

    def __call__(self, done: int, total: int, label: str = "") -> None:
        """Tell how far the step is."""
        ...


def silent(done: int, total: int, label: str = "") -> None:
    """The audience that does not care."""


class Progress:
    """A bar (in IPython) or lines (on stderr elsewhere) with the rate and the time left.

    ```python
    with Progress("messages") as progress:
        progress(20_000, 200_000, "2024-03")   # the state, as a step reports it
        progress.advance(5_000, "2024-04")     # or what was added
    ```

    Shows nothing until the first call, at most two updates a second, and always the last state: complete,
    or where it stopped if the block raised.
    """

    def __init__(
        self,
        title: str,
        total: int = 0,
        unit: str = "rows",
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to `stream`, if given, instead of a bar or stderr; `clock` tells seconds."""
        self.title, self.total, self.unit = title, total, unit
        self.done, self.label = 0, ""
        self._clock, self._stream = clock, stream
        self._started = clock()
        self._since: tuple[float, int] | None = None
        self._shown_at: float | None = None
        self._shown_line = ""
        self._bar: Any = None

    def __call__(self, done: int, total: int, label: str = "") -> None:
        """Set the state: `done` of `total` (0: unknown), and what is being worked on."""
        if self._since is None:
            # The speed counts from here: a resumed step begins with what an earlier run has done.
            self._since = self._clock(), done
        if total or not self.total:  # a step that has no total tells its label only
            self.done, self.total = done, total
        self.label = label
        if self._due():
            self._show()

    def advance(self, n: int, label: str = "") -> None:
        """Add n to what is done."""
        if self._since is None:
            self._since = self._started, 0
        self(self.done + n, self.total, label)

    def __enter__(self) -> Self:
        self._started = self._clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown_at is not None:
            self._show(ended="stopped" if kind else "done")

    def _words(self, ended: str) -> str:
        """One line: `messages: 40 %, 80,000 of 200,000 rows, 12,000 rows/s, 10.0 s left (2024-03)`."""
        now = self._clock()
        at, first = self._since or (self._started, 0)
        rate = (self.done - first) / (now - at) if now > at else 0.0
        parts = [f"{count(self.done)} {self.unit}"]
        if self.total:
            percent = min(100, 100 * self.done // self.total)
            parts = [f"{percent} %", f"{count(self.done)} of {count(self.total)} {self.unit}"]
        if rate >= 1:
            parts.append(f"{count(rate)} {self.unit}/s")
        if ended:
            parts.append(f"{ended} after {duration(now - self._started)}")
        elif rate > 0 and self.total > self.done:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return f"{self.title}: {', '.join(parts)}" + (f" ({self.label})" if self.label and not ended else "")

    def _due(self) -> bool:
        if self._shown_at is None or (self.total and self.done >= self.total):
            return True
        return self._clock() - self._shown_at >= INTERVAL_S

    def _show(self, ended: str = "") -> None:
        line = self._words(ended)
        if line == self._shown_line:
            return
        self._shown_at, self._shown_line = self._clock(), line
        if self._stream is None and _in_ipython():
            self._draw(line, ended)
        else:
            print(line, file=self._stream or sys.stderr, flush=True)

    def _draw(self, line: str, ended: str) -> None:
        from IPython.display import display  # noqa: PLC0415 - the package works without IPython

        bundle = {
            "text/html": self._html(line, ended),
            "text/plain": line,
            PROGRESS_TYPE: {"title": self.title, "done": self.done, "total": self.total, "line": line},
        }
        if self._bar is None:
            self._bar = display(bundle, raw=True, display_id=True)
        else:
            self._bar.update(bundle, raw=True)

    def _html(self, line: str, ended: str) -> str:
        # Without a total the bar has no value, which browsers show as under way: at the end it must be full.
        known = self.total or (self.done if ended == "done" else 0)
        value = f' value="{min(self.done, known)}" max="{max(known, 1)}"' if known or ended else ""
        colour = RED if ended == "stopped" else GREY
        bar = f'<progress{value} style="width:240px;vertical-align:middle"></progress>'
        return f'<div style="font-size:13px;color:{colour}">{bar} {html.escape(line)}</div>'


def _in_ipython() -> bool:
    """Whether a kernel shows displays; importing IPython to find out would be slower than most steps."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return shell is not None and getattr(shell, "kernel", None) is not None
