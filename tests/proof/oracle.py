"""What a client knows of its own rows, and how a table is held against it.

Each client writes only keys that it alone owns, so after every COMMIT it knows exactly what must be there: an `Oracle` holds that, and
its open transaction and savepoints. `compare` names what a table lost: a row that is missing, stale (its content is another) or
resurrected (it is there although it was deleted, moved or never committed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

SHOWN = 20  # examples kept of each thing that is counted


class Row(NamedTuple):
    """The content of a row beside its id, each column as PostgreSQL prints it: 1.10 is not 1.1, and -0 is not 0."""

    at: str
    body: str | None
    amount: str | None
    data: str | None
    ratio: str | None


Content = Mapping[int, Row]


class Oracle:
    """What was committed, under what the open transaction has changed, under what was changed since each savepoint."""

    def __init__(self, committed: Content | None = None) -> None:
        self.committed: dict[int, Row] = dict(committed or {})
        self._layers: list[dict[int, Row | None]] = []

    # transactions

    def begin(self) -> None:
        assert not self._layers
        self._layers = [{}]

    def savepoint(self) -> None:
        assert self._layers
        self._layers.append({})

    def rollback_to(self) -> None:
        """The savepoint itself stays, as in PostgreSQL."""
        assert len(self._layers) > 1
        self._layers[-1] = {}

    def release(self) -> None:
        released = self._layers.pop()
        self._layers[-1].update(released)

    def commit(self) -> None:
        for layer in self._layers:
            for key, row in layer.items():
                if row is None:
                    self.committed.pop(key, None)
                else:
                    self.committed[key] = row
        self._layers = []

    def rollback(self) -> None:
        self._layers = []

    # rows

    def put(self, key: int, row: Row) -> None:
        self._layers[-1][key] = row

    def drop(self, key: int) -> None:
        self._layers[-1][key] = None

    def get(self, key: int) -> Row | None:
        """What the open transaction must see."""
        for layer in reversed(self._layers):
            if key in layer:
                return layer[key]
        return self.committed.get(key)

    def rows(self) -> dict[int, Row]:
        """All rows that the open transaction must see."""
        seen: dict[int, Row | None] = dict(self.committed)
        for layer in self._layers:
            seen.update(layer)
        return {key: row for key, row in seen.items() if row is not None}


@dataclass(slots=True)
class Differences:
    """What a table holds beside what it should."""

    missing: int = 0
    stale: int = 0
    resurrected: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.missing + self.stale + self.resurrected

    def note(self, kind: str, key: int, found: object, wanted: object) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < SHOWN:
            self.examples.append(f"{kind}: id {key} is {found}, should be {wanted}")


def compare(found: Iterable[tuple[int, Row]], wanted: Content) -> Differences:
    """The rows of a table against what should be in it; an id that is there twice is a resurrected row."""
    rows: dict[int, list[Row]] = {}
    for key, row in found:
        rows.setdefault(key, []).append(row)
    result = Differences()
    for key, right in wanted.items():
        here = rows.pop(key, [])
        if not here:
            result.note("missing", key, None, right)
            continue
        if right in here:
            here.remove(right)
        else:
            result.note("stale", key, here.pop(), right)
        for other in here:
            result.note("resurrected", key, other, right)
    for key, ghosts in rows.items():
        for ghost in ghosts:
            result.note("resurrected", key, ghost, None)
    return result
