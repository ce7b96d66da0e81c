"""The time that an id carries, as SQL: nothing in it depends on a setting, so that the planner knows it for a constant or a parameter. Pure."""

from __future__ import annotations

from typing import Literal

Carries = Literal["uuid7", "ulid"]
"""How: 48 bits of milliseconds ahead in a uuid (v7, or a ULID kept as uuid); the first ten letters of a ULID kept as text."""

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def instant(value: str, kind: Carries, shift_s: int, key_type: str) -> str:
    """The time in the id `value`, so many seconds later, as a value of `key_type` (timestamptz, timestamp or date; without a zone it is UTC)."""
    shift = f"{'-' if shift_s < 0 else '+'} {abs(shift_s)}"
    if kind == "uuid7":
        bits = f"('x' || lpad(left(replace(({value})::uuid::text, '-', ''), 12), 16, '0'))::bit(64)::bigint"
        found = f"to_timestamp({bits} / 1000.0 {shift})"
    else:
        letter = f"strpos('{_LETTERS}', upper(substr(({value})::text, place, 1))) - 1"
        milliseconds = f"sum(({letter}) * power(32, 10 - place))"
        found = f"(SELECT to_timestamp({milliseconds} / 1000 {shift}) FROM generate_series(1, 10) AS place)"  # noqa: S608
    if key_type == "timestamptz":
        return found
    by_clock = f"({found} AT TIME ZONE 'UTC')"
    return by_clock if key_type == "timestamp" else f"{by_clock}::date"
