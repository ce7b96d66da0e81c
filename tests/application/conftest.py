"""The Atlas database at each stage of its migration: plain, copied online, cut over, rolled back. Each is made of the one before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from database.conftest import MESSAGES, USAGE_LOGS, Operations
from psycopg.conninfo import conninfo_to_dict

from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

STAGES = ("plain", "copied", "cut over", "rolled back")
AS_OF = date(2026, 11, 23)
# A composite key cannot serve what refers to a row that is set aside.
NOTHING_REFERS_ASIDE = tuple(
    f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM messages WHERE created_at IS NULL)"
    for table, column in (("message_reactions", "message_id"), ("content_reports", "reported_message_id"))
)


@dataclass(frozen=True)
class Stages:
    """What moves a database from one stage to the next, as 02, 06 and 10 do."""

    ops: Operations
    specs: Sequence[TableSpec]

    def to(self, stage: str, db: Any) -> None:
        if stage == "plain" and self.specs[0].incoming_foreign_keys == "composite":
            self.ops.run(db, *NOTHING_REFERS_ASIDE)
        act = {
            "plain": None,
            "copied": self.ops.follow,
            "cut over": self.ops.cut_over,
            "rolled back": self.ops.roll_back,
        }[stage]
        for spec in self.specs if act else ():
            act(db, spec)

    def in_step(self, db: Any) -> None:
        """What follows is drained, and then nothing differs."""
        for spec in self.specs:
            self.ops.drain(db, spec)
            self.ops.in_step(db, spec)


def specifications(**keys: Any) -> tuple[TableSpec, ...]:
    """Those of the demo, copied online; `keys` go into that of messages."""
    online = {"copy": "online", "statement_timeout": "5min"}
    return tables_from([{**MESSAGES, "incoming_foreign_keys": "registry", **online, **keys}, {**USAGE_LOGS, **online}])


@pytest.fixture(scope="session")
def staged(programs: Path) -> Any:
    """Stages by the specification's further keys."""
    return lambda **keys: Stages(Operations(AS_OF, programs), specifications(**keys))


@pytest.fixture
def stages(request: pytest.FixtureRequest, staged: Any) -> Stages:
    """By `incoming_foreign_keys`: registry, as in the demo, unless the test says otherwise."""
    found: Stages = staged(incoming_foreign_keys=getattr(request, "param", "registry"))
    return found


@pytest.fixture
def each_stage(server: Any, template: str, stages: Stages) -> Iterator[Iterator[tuple[str, Any]]]:
    """A database at each stage; none of them has met the application before."""
    made: list[Any] = []

    def clone(of: str) -> Any:
        made.append(server.clone(of))
        return made[-1]

    def one_by_one() -> Iterator[tuple[str, Any]]:
        before = template
        for stage in STAGES:
            db = clone(before)
            stages.to(stage, db)
            before = str(conninfo_to_dict(db.conninfo)["dbname"])
            yield stage, clone(before)

    yield one_by_one()
    for db in made:
        server.drop(db)
