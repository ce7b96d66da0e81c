"""What the tests of 09 share: a table that is in use and well, and looks at it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from database.conftest import Operations
from psycopg.conninfo import conninfo_to_dict

from atlas_ops import alerts, examination, health_catalog
from atlas_ops.alerts import Judgement, Level
from atlas_ops.health import Health
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)
TEMPLATE = "template_watched"
KEYS: dict[str, Any] = {"table": "event", "partition_key": "at", "from": "2024-12-01", "ahead": 3, "workers": 1}
MADE = (
    "CREATE TABLE event (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text)",
    "INSERT INTO event SELECT n, '2024-12-01'::timestamptz + n * interval '43 minutes', 'same' FROM generate_series(0, 24000) n",
    "ALTER TABLE event ENABLE ROW LEVEL SECURITY",
)


def spec(**keys: Any) -> TableSpec:
    [found] = tables_from([{**KEYS, **keys}])
    return found


@pytest.fixture(scope="session")
def now(programs: Path) -> Operations:
    """The core on the day the Atlas database was built for."""
    return Operations(AS_OF, programs)


@pytest.fixture(scope="session")
def watched_template(server: Any, now: Any) -> str:
    """`event`, 24 months of about 1,000 rows, copied online and cut over: in use, and the retired original follows."""
    admin_conninfo = server.conninfo()
    with (server.cluster.data.parent / f"{TEMPLATE}.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with psycopg.connect(admin_conninfo, autocommit=True) as admin:
            if admin.execute("SELECT FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone() is None:
                made = server.clone("template0")
                now.run(made, *MADE)
                now.follow(made, spec())
                now.cut_over(made, spec())
                now.run(made, "VACUUM ANALYZE event")
                name = conninfo_to_dict(made.conninfo)["dbname"]
                admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
                admin.execute(f"ALTER DATABASE {name} RENAME TO {TEMPLATE}")
    return TEMPLATE


@dataclass
class Watched:
    """The database of a test, and looks at it."""

    database: Any
    operations: Any

    def run(self, *statements: str) -> None:
        self.operations.run(self.database, *statements)

    def judged(self, as_of: date = AS_OF, **keys: Any) -> Judgement:
        """What 09 makes of it."""
        [vitals] = health_catalog.vitals(self.operations.session(self.database), [spec(**keys)])
        return alerts.judge(vitals.spec, examination.examine(vitals, as_of), as_of)

    def look(self, as_of: date = AS_OF, **keys: Any) -> tuple[Health, dict[str, Level]]:
        """What 09 sees, and the level of each alert."""
        found = self.judged(as_of, **keys)
        return found.health, {alert.figure: alert.level for alert in found.alerts}

    def levels(self, as_of: date = AS_OF, **keys: Any) -> dict[str, Level]:
        return self.look(as_of, **keys)[1]


@pytest.fixture
def watched(server: Any, watched_template: str, now: Any) -> Iterator[Watched]:
    made = server.clone(watched_template)
    # a clone begins without statistics: what autovacuum and maintenance leave behind on a database that has lived
    now.run(made, "VACUUM ANALYZE event")
    yield Watched(made, now)
    server.drop(made)
