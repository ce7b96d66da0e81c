"""`atlas-ops health`: one look at every table of a parameters file, told in the form that was asked for.

The exit code is the level in the manner of Nagios: 0 ok, 1 warning, 2 critical, 3 not known. A look that was not possible is told in the same form.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from atlas_ops import alerts, announcement, delivery, examination, health_catalog, record
from atlas_ops.alerts import Judgement, Level
from atlas_ops.database import Session, session
from atlas_ops.errors import AtlasError
from atlas_ops.metrics import Exposition
from atlas_ops.spec import TableSpec

STAGE = "monitor_health"
MEMORY = "webhook.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """How the look is to be told; `nagios` and `as_json` exclude one another."""

    nagios: bool = False
    as_json: bool = False
    textfile: Path | None = None
    per_partition: bool = True
    webhook: bool = False
    records: Path = Path("records")


def judgements(where: Session, specs: Sequence[TableSpec], as_of: date) -> tuple[Judgement, ...]:
    """One look at each table, judged. Raises AtlasError where the server cannot be reached."""
    found = health_catalog.vitals(where, specs)
    return tuple(alerts.judge(vitals.spec, examination.examine(vitals, as_of), as_of) for vitals in found)


def look(database: str, specs: Sequence[TableSpec], as_of: date, asked: Asked) -> int:
    """Look, tell, and return the exit code. What could not be delivered is said on stderr, and is at least `not known`."""
    now = datetime.now(UTC)
    found: tuple[Judgement, ...] | None = None
    stop: AtlasError | None = None
    try:
        found = judgements(session(database, STAGE), specs, as_of)
    except AtlasError as error:
        stop = error
    print(_told(database, found, stop, now, asked))
    level = Level.UNKNOWN if found is None else announcement.level(found)
    for undelivered in _delivered(database, found, stop, now, asked):
        print(undelivered, file=sys.stderr)
        level = level or Level.UNKNOWN
    return int(level)


def _told(
    database: str, found: Sequence[Judgement] | None, stop: AtlasError | None, now: datetime, asked: Asked
) -> str:
    if found is None:
        assert stop is not None
        if asked.as_json:
            lines = {"what": stop.what, "why": stop.why, "next": stop.next}
            return json.dumps(
                {"database": database, "looked_at": now.isoformat(), "level": "unknown", "stopped": lines}, indent=1
            )
        return announcement.nagios_stop(stop) if asked.nagios else str(stop)
    if asked.as_json:
        return json.dumps(announcement.document(database, found, now), indent=1, allow_nan=False)
    return announcement.nagios(found) if asked.nagios else announcement.text(found)


def _delivered(
    database: str, found: Sequence[Judgement] | None, stop: AtlasError | None, now: datetime, asked: Asked
) -> list[AtlasError]:
    """Hand it on; returns what went wrong with that: one receiver that fails must not keep it from another."""
    wrong = []
    if asked.textfile:
        try:
            delivery.textfile(asked.textfile, Exposition(database, found, now, per_partition=asked.per_partition))
        except AtlasError as error:
            wrong.append(error)
    if asked.webhook:
        try:
            _tell(database, found, stop, now, record.folder(asked.records, database) / MEMORY)
        except AtlasError as error:
            wrong.append(error)
    return wrong


def _tell(
    database: str, found: Sequence[Judgement] | None, stop: AtlasError | None, now: datetime, memory: Path
) -> None:
    """Post what has changed since the last time, or is still so a day later."""
    body: dict[str, Any]
    if found is None:
        assert stop is not None
        signature, body = [["", "up", Level.UNKNOWN.name]], announcement.message_stop(database, stop)
    else:
        signature, body = announcement.signature(found), announcement.message(database, found)
    if delivery.due(memory, signature, now):
        delivery.post(body)
        delivery.remember(memory, signature, now)
