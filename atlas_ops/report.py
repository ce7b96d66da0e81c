"""What was found and what was done: checks, the lines of an execution, and the verdict of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from atlas_ops.errors import AtlasError

RESULT_TYPE = "application/vnd.atlas.result+json"


class Severity(StrEnum):
    """How much a finding matters; only STOP is red."""

    STOP = "stop"
    WARN = "warn"
    NOTE = "note"
    OK = "ok"


class Verdict(StrEnum):
    """How a stage ended."""

    OK = "ok"
    NOTHING_TO_DO = "nothing_to_do"
    PLANNED = "planned"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what it is, why it matters, how to cure it, with the SQL. None of them holds a row's values."""

    severity: Severity
    table: str
    name: str
    what: str
    why: str = ""
    cure: str = ""
    sql: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One step as it ran; `sqlstates` are those of the attempts that failed and were tried again.

    Of an exchange: `waits`, each lock as it was asked for with the milliseconds it was waited for in the attempt that succeeded,
    and `held_ms`, from the first of them to the commit.
    """

    step: str
    started: datetime
    ended: datetime
    attempts: int
    rows: int
    sqlstates: tuple[str, ...] = ()
    waits: tuple[tuple[str, float], ...] = ()
    held_ms: float | None = None

    @property
    def seconds(self) -> float:
        """How long the step took, its failed attempts included."""
        return (self.ended - self.started).total_seconds()


@dataclass(frozen=True, slots=True)
class Report:
    """What a stage came to."""

    stage: str
    database: str
    verdict: Verdict
    headline: str
    digest: str = ""
    lines: tuple[Line, ...] = ()
    checks: tuple[Check, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    next: str = ""
    tables: tuple[str, ...] = ()  # that the stage was asked about, as the specification writes them

    def require_ok(self) -> None:
        """Raises AtlasError where the verdict is `stopped`, so that the notebook's last cell is red."""
        if self.verdict is Verdict.STOPPED:
            reds = [check for check in self.checks if check.severity is Severity.STOP]
            because = "\n".join(f"{check.table}: {check.what}" for check in reds) or self.headline
            cures = "\n".join(dict.fromkeys(check.cure for check in reds if check.cure))
            raise AtlasError(
                what=self.headline, why=because, next=cures or self.next or "Read the table of checks above."
            )

    def result(self) -> dict[str, Any]:
        """The `application/vnd.atlas.result+json` of the last cell: JSON types only."""
        return {
            "stage": self.stage,
            "database": self.database,
            "verdict": str(self.verdict),
            "digest": self.digest,
            "headline": self.headline,
            "tables": list(self.tables),
            "steps": [
                {
                    "step": line.step,
                    "started": line.started.isoformat(),
                    "ended": line.ended.isoformat(),
                    "attempts": line.attempts,
                    "rows": line.rows,
                    "sqlstates": list(line.sqlstates),
                    **(
                        {"held_ms": line.held_ms, "waits": [list(wait) for wait in line.waits]}
                        if line.held_ms is not None
                        else {}
                    ),
                }
                for line in self.lines
            ],
            "checks": [{**asdict(check), "severity": str(check.severity)} for check in self.checks],
            "figures": dict(self.figures),
        }


def worst(checks: Iterable[Check]) -> Severity:
    """The most severe among checks; OK where there are none."""
    order = list(Severity)
    return min((check.severity for check in checks), key=order.index, default=Severity.OK)


def stopped(checks: Sequence[Check]) -> bool:
    """Whether any check is red."""
    return worst(checks) is Severity.STOP
