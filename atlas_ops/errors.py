"""The errors a DBA reads: what happened, why, and what to do next. Three lines, not forty.

Nothing here imports anything of the package: every room may raise an `AtlasError`.
"""

from __future__ import annotations

from collections.abc import Sequence


class AtlasError(Exception):
    """A stop that was foreseen: what, why, next.

    `what` is one sentence on what was refused or failed, `why` the reason, `next` the command, SQL or notebook
    that cures it. Neither may hold a row's values or a password: they go into the record.
    """

    def __init__(self, what: str, why: str, next: str) -> None:
        super().__init__(what)
        self.what, self.why, self.next = what, why, next

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The three lines, aligned on their colons."""
        rows = (("STOPPED", self.what), (" because", self.why), ("    next", self.next))
        return [f"{label}: {_indent(text)}" for label, text in rows]

    def _render_traceback_(self) -> Sequence[str]:
        """IPython's hook (ipykernel and papermill honour it): the record shows three lines instead of a traceback."""
        return self.lines()


def _indent(text: str) -> str:
    """Keep a text of several lines (SQL, a list) under its label."""
    return text.strip().replace("\n", "\n" + " " * 10)
