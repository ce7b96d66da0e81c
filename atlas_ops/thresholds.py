"""What 09 watches of a partition set, in which unit, and when it warns: the `alerts` of a specification, and their defaults.

One line of FIGURES serves the specification (its schema and its errors), the judgement, the metrics and the documentation's test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema

from atlas_ops.yamlfile import refuse, shown

NEVER = "never"


@dataclass(frozen=True, slots=True)
class Watch:
    """One figure: its unit, from when on it warns and is critical (None: never), and what it is, in words."""

    unit: str  # of the value, as it is told and as a threshold takes it
    warning: float | None
    critical: float | None
    what: str
    falls: bool = False  # worse the lower it is; then a threshold is the first value that is still good


FIGURES: Mapping[str, Watch] = {
    "missing": Watch("tables", None, 1, "under care, and not there or no partitioned table"),
    "runway": Watch("days", None, None, "until an insert falls into the default partition, or fails where there is none", falls=True),
    "gaps": Watch("stretches", 1, None, "between the first bound and the last that no partition covers"),
    "overlaps": Watch("stretches", 1, None, "that a table which waits to be attached shares with a partition"),
    "misaligned": Watch("partitions", 1, None, "whose bounds are no whole period in UTC, or no range of time"),
    "detach_pending": Watch("partitions", None, 1, "whose detach was interrupted"),
    "not_attached": Watch("tables", 1, None, "that the migration filled and did not attach"),
    "row_security": Watch("partitions", None, 1, "without row security"),
    "grants": Watch("partitions", 1, None, "whose privileges or owner are not those of their siblings"),
    "indexes_missing": Watch("partitions", 1, None, "without an index that the partitioned table or most siblings have"),
    "indexes_invalid": Watch("indexes", 1, None, "on partitions, that are invalid"),
    "default_rows": Watch("rows", 1, None, "in the default partition"),
    "late_rows": Watch("rows", 1_000, None, "inserted into partitions of periods that had ended, since their last VACUUM"),
    "growth": Watch("times", 3, None, "as many rows in the newest period as in the median of those before"),
    "dead_rows": Watch("percent", 30, 60, "of the row versions of the worst partition are dead"),
    "vacuum_age": Watch("days", 30, 90, "since the last VACUUM of a partition that has changed since"),
    "analyze_age": Watch("days", 35, 100, "since the last ANALYZE of the partitioned table, or of a partition that has changed since"),
    "transaction_age": Watch("percent", 25, 50, "of the way to the wraparound of transaction ids or multixacts"),
    "unpruned": Watch("percent", 50, None, "of the scans of the busiest partition, at least, were made on every partition of an ended period"),
    "key_log_rows": Watch("keys", 100_000, 1_000_000, "in the key log, which no drain has taken"),
    "key_log_age": Watch("minutes", 60, 1_440, "since the key log was last seen empty"),
    "capture": Watch("tables", None, 1, "with a copy that follows, and no capture"),
    "archive_lag": Watch("partitions", 2, None, "older than `keep`, and still attached"),
    "unproven_archives": Watch("tables", 1, None, "that were detached to be archived, and have no proof"),
}  # fmt: skip
"""In the order of the page. The defaults of `runway` follow from `ahead` and `every`: `alerts.runway_thresholds`."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a specification says of one figure: a number, `never`, or None, which leaves the default."""

    figure: str
    warning: float | Literal["never"] | None = None
    critical: float | Literal["never"] | None = None


def parse(value: object) -> object:
    """Thresholds out of a map of figures; refuses, in words, what is none. What is parsed already passes."""
    if value is None or (isinstance(value, tuple) and all(isinstance(one, Threshold) for one in value)):
        return value  # dataclasses.replace validates again
    if not isinstance(value, Mapping):
        refuse("It is no map.", None)
    return tuple(_threshold(figure, given) for figure, given in value.items())


def _threshold(figure: object, given: object) -> Threshold:
    if figure not in FIGURES:
        near = get_close_matches(str(figure), FIGURES, n=1)
        refuse(
            f"There is no figure {shown(figure)}. There are {', '.join(FIGURES)}.",
            f"Did you mean {near[0]}?" if near else "Remove it.",
        )
    example = f"Write alerts: {{{figure}: {{warning: 1, critical: {NEVER}}}}}"
    if not isinstance(given, Mapping) or not given or set(given) - {"warning", "critical"}:
        refuse(f"{figure} takes a map of warning, critical or both.", example)
    for bound in given.values():
        number = isinstance(bound, int | float) and not isinstance(bound, bool) and isfinite(bound) and bound >= 0
        if not (number or bound is None or bound == NEVER):
            refuse(
                f"A threshold of {figure} is a number of {FIGURES[str(figure)].unit}, 0 or more, or {NEVER}.", example
            )
    found = Threshold(str(figure), given.get("warning"), given.get("critical"))
    warning, critical = limits(FIGURES[found.figure], found)
    if (
        warning is not None
        and critical is not None
        and (warning < critical if FIGURES[found.figure].falls else warning > critical)
    ):
        refuse(
            f"{figure} would be critical at {critical:g}, before it warns at {warning:g}.",
            f"Write both of {figure}, or {NEVER} for one.",
        )
    return found


def limits(watch: Watch, given: Threshold | None) -> tuple[float | None, float | None]:
    """From where on a figure warns and is critical: as given, else by default; None is never."""
    if given is None:
        return watch.warning, watch.critical
    return _limit(given.warning, watch.warning), _limit(given.critical, watch.critical)


def _limit(given: float | Literal["never"] | None, default: float | None) -> float | None:
    if given is None:
        return default
    return None if isinstance(given, str) else float(given)


def schema() -> dict[str, Any]:
    """The JSON schema of the map, for editors."""
    bound = {"anyOf": [{"type": "number", "minimum": 0}, {"const": NEVER}, {"type": "null"}]}
    return {
        "anyOf": [
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    figure: {
                        "type": "object",
                        "description": f"{watch.unit} {watch.what}",
                        "additionalProperties": False,
                        "minProperties": 1,
                        "properties": {"warning": bound, "critical": bound},
                    }
                    for figure, watch in FIGURES.items()
                },
            },
            {"type": "null"},
        ]
    }


Alerts = Annotated[tuple[Threshold, ...] | None, BeforeValidator(parse), WithJsonSchema(schema())]
