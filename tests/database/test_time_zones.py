"""The whole story in any time zone, of the database, the role, the session, the server or the client: equal bounds, digests and plans."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import cutover, migration
from atlas_ops.embedded import Cluster
from atlas_ops.plan import Plan, Target

ZONES = ("UTC", "Africa/Johannesburg", "America/New_York")
KINDS = ("timestamptz", "timestamp", "date")
# Hours that a change of clocks skips or repeats, and the hours around bounds of months by UTC and by either zone.
MOMENTS = (
    "2024-03-10 06:59:59.999999+00", "2024-03-10 07:00:00+00", "2024-03-10 07:30:00+00", "2023-11-05 05:30:00+00", "2023-11-05 06:30:00+00",
    "2024-01-31 21:59:59.999999+00", "2024-01-31 22:00:00+00", "2024-01-31 23:59:59.999999+00", "2024-02-01 00:00:00+00",
    "2024-02-01 04:59:59.999999+00", "2024-02-01 05:00:00+00", "2024-02-29 22:00:00+00", "2024-02-29 23:59:59.999999+00",
    "2023-12-31 22:00:00+00", "2023-12-31 23:59:59.999999+00", "2024-01-01 00:00:00+00", "2024-03-31 23:59:59+00", "2024-04-01 03:59:59+00",
)  # fmt: skip


@dataclass
class Told:
    """What must not depend on a time zone."""

    plans: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, dict[str, str]] = field(default_factory=dict)
    digests: dict[str, list[tuple[str, Any, Any]]] = field(default_factory=dict)
    places: dict[str, Any] = field(default_factory=dict)
    made: list[Any] = field(default_factory=list)


class Story:
    """One database whose every setting says the zone, and an application that writes in it."""

    def __init__(self, ops: Any, db: Any, zone: str, kind: str) -> None:
        self.ops, self.db, self.zone, self.kind, self.told, self.written = ops, db, zone, kind, Told(), 0
        name = ops.value(db, "SELECT current_database()")
        ops.run(
            db,
            f"ALTER DATABASE {name} SET timezone = '{zone}'",
            f"ALTER ROLE postgres IN DATABASE {name} SET timezone = '{zone}'",
            f"CREATE TABLE note (id int PRIMARY KEY, at {kind} NOT NULL, body text)",
            f"CREATE INDEX ON note (id) WHERE at >= '2024-02-01 00:00:00{'+00' if kind == 'timestamptz' else ''}'",
        )
        # ops.online() is of the 15th of January; April, of which a row lies in the default partition, stays unmade
        self.spec = ops.online(until="2024-04-01")

    def write(self, *verbs: str) -> None:
        """As a client of that zone says the moments: with its own offset, or, where the key has no zone, as the UTC that it keeps."""
        with psycopg.connect(self.db.conninfo, autocommit=True) as conn:
            conn.execute(f"SET TimeZone = '{self.zone}'")  # PGTZ would win over an option
            for moment in MOMENTS:
                self.written += 1
                said = conn.execute("SELECT %s::timestamptz::text", (moment,)).fetchone()
                assert said is not None
                value = (
                    "%s::timestamptz"
                    if self.kind == "timestamptz"
                    else f"(%s::timestamptz AT TIME ZONE 'UTC')::{self.kind}"
                )
                conn.execute(f"INSERT INTO note VALUES (%s, {value}, %s)", (self.written, said[0], moment))
            for verb in verbs:
                conn.execute(verb)

    def plan(self, stage: str, plan: Plan) -> None:
        """Note what it says, whatever the target is called, and carry it out."""
        self.told.plans[stage] = replace(plan, target=Target("a server", "a database")).digest
        self.ops.carry_out(self.db, plan)

    def look(self, stage: str) -> None:
        ops, db = self.ops, self.db
        self.told.bounds[stage] = ops.bounds(db)
        proofs, differences = ops.compared(db, self.spec)
        assert differences == () and all(proof.same for proof in proofs)
        self.told.digests[stage] = [(proof.part, proof.original, proof.partitioned) for proof in proofs]
        table = "note" if stage == "cut over" else "note_partitioned"
        self.told.places[stage] = ops.value(
            db,
            f"SELECT array_agg(format('%s %s %s', id, tableoid::regclass, extract(epoch FROM at)) ORDER BY id) FROM {table}",
        )

    def future(self) -> None:
        """By a scheduler of that zone, in the last hours of a month by UTC and in the first by its own clock."""
        with psycopg.connect(self.db.conninfo, autocommit=True) as conn:
            conn.execute(f"SET TimeZone = '{self.zone}'")
            for moment in ("2024-05-31 23:59:59.999999+00", "2024-07-01 00:00:00+00"):
                said = conn.execute("SELECT %s::timestamptz::text", (moment,)).fetchone()
                made = conn.execute(
                    "SELECT partition_name, extract(epoch FROM lower_bound)::bigint, extract(epoch FROM upper_bound)::bigint "
                    "FROM create_future_partitions(%s::timestamptz)", said,
                ).fetchall()  # fmt: skip
                self.told.made.append(made)

    def whole(self) -> Told:
        """Copy online, verify, cut over, future partitions, roll back, with writes between any two of them."""
        ops, db, spec = self.ops, self.db, self.spec
        self.write()
        self.plan("copy", migration.plan_migration(*ops.placed(db, spec), ops.as_of))
        self.look("copied")
        self.write("UPDATE note SET at = at + interval '1 hour' WHERE id % 3 = 0", "DELETE FROM note WHERE id % 7 = 0")
        self.plan("drain", cutover.plan_drain(*ops.placed(db, spec)))
        self.look("drained")
        self.plan("cut over", ops.cut_over_plan(db, spec))
        self.write("UPDATE note SET at = at - interval '1 hour' WHERE id % 5 = 0")
        self.future()
        ops.drain(db, spec)
        self.look("cut over")
        self.plan("roll back", cutover.plan_roll_back(*ops.placed(db, spec)))
        self.write()
        ops.drain(db, spec)
        self.look("rolled back")
        return self.told


def process_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """What libpq and Python take from the environment."""
    monkeypatch.setenv("PGTZ", zone)
    monkeypatch.setenv("TZ", zone)
    time.tzset()


@pytest.fixture(autouse=True)
def own_zone() -> Iterator[None]:
    """The process's zone comes back after the test; `monkeypatch` has put back the variable by then."""
    yield
    time.tzset()


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_story_is_the_same_in_every_zone(
    server: Any, ops: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Told] = {}
    for zone in ZONES:
        process_zone(monkeypatch, zone)
        db = server.clone("template0")
        try:
            told[zone] = Story(ops, db, zone, kind).whole()
        finally:
            server.drop(db)
    utc = told["UTC"]
    upper = {"timestamptz": "2024-02-01 00:00:00+00", "timestamp": "2024-02-01 00:00:00", "date": "2024-02-01"}[kind]
    assert utc.bounds["copied"]["note_2024_01"].endswith(f"TO ('{upper}')")
    assert [[name for name, _, _ in made] for made in utc.made] == [
        ["note_2024_05", "note_2024_06"],
        ["note_2024_07", "note_2024_08"],
    ]
    for zone in ZONES[1:]:
        assert told[zone] == utc, zone


def test_the_servers_own_zone_has_no_say(
    server: Any, ops: Any, clusters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timezone in postgresql.conf, on a server of the test's own."""
    process_zone(monkeypatch, "America/New_York")
    own = type(server)(
        server.version,
        Cluster(
            clusters / f"zone{server.version}" / "data",
            server.cluster.bin_dir,
            120.0,
            {"timezone": "America/New_York", "fsync": "off"},
        ),
    )
    there, here = own.clone("template0"), server.clone("template0")
    try:
        with psycopg.connect(own.conninfo()) as admin:
            assert admin.execute(
                "SELECT boot_val <> 'America/New_York' AND setting = 'America/New_York' FROM pg_settings WHERE name = 'TimeZone'"
            ).fetchone() == (True,)
        assert (
            Story(ops, there, "America/New_York", "timestamptz").whole()
            == Story(ops, here, "UTC", "timestamptz").whole()
        )
    finally:
        server.drop(here)
        own.drop(there)
        own.cluster.stop()
