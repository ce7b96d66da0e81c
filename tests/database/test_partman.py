"""A set that pg_partman itself made and keeps: noticed by the notebook and by the function, left to it, taken over once it has let go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from atlas_ops import adopt, database, maintain
from atlas_ops import care as reads
from atlas_ops.bounds import Every, period_of
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity
from atlas_ops.stages.maintain_partitions import MaintainPartitions

TODAY = datetime.now(UTC).date()
THIS = period_of(Every.month, TODAY)
KEYS = {"table": "message", "partition_key": "at", "from": THIS.lower.date().isoformat(), "until": None, "ahead": 6}
MADE = (
    "CREATE TABLE message (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
    "ALTER TABLE message ENABLE ROW LEVEL SECURITY",
)


@pytest.fixture
def kept(empty: Any, ops: Any) -> Any:
    """`message`, which pg_partman 4 or 5 keeps four months ahead; the extension is a superuser's, who lets `postgres` use it."""
    with psycopg.connect(empty.superuser_conninfo, autocommit=True) as admin:
        found = admin.execute(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'pg_partman'"
        ).fetchone()
        if found is None:
            pytest.skip("no pg_partman on this server (Debian's postgresql-15-partman)")
        ops.run(empty, *MADE)
        admin.execute("SET TimeZone = 'UTC'; CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")
        for kind in ("TABLES", "FUNCTIONS", "PROCEDURES"):
            admin.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA partman TO postgres")
        admin.execute("GRANT ALL ON SCHEMA partman TO postgres")
        how = ("range", "1 month") if found[0] >= "5" else ("native", "monthly")
    with empty.connect(options="-c TimeZone=UTC") as owner:
        owner.execute("SELECT partman.create_parent('public.message', 'at', %s, %s)", how)
    return empty


def read(db: Any, ops: Any) -> Any:
    spec = ops.spec(**KEYS)
    with database.connect(ops.session(db)) as conn:
        snapshot = ops.snapshot(db, spec)
        return spec, snapshot, reads.upkeep(conn, spec, snapshot, TODAY)


def made(db: Any) -> list[str]:
    with psycopg.connect(db.conninfo, autocommit=True) as conn:
        return [name for (name,) in conn.execute("SELECT partition_name FROM create_future_partitions()")]


def test_what_pg_partman_keeps_is_left_to_it_until_it_lets_go(kept: Any, ops: Any, enter: Any) -> None:
    now = replace(ops, as_of=TODAY)
    before = ops.bounds(kept, "public")
    assert len(before) > 5, "months behind and ahead, and a default partition"
    found = read(kept, now)
    told = {check.name: check for check in maintain.checks(*found, TODAY)}
    assert told["care"].severity is Severity.NOTE and "pg_partman has this table" in told["care"].what
    assert maintain.plan_ahead(*found, TODAY).steps == () and adopt.plan_register(*found).steps == ()
    stage = enter(MaintainPartitions, kept, **{**KEYS, "copy": "by_partition"})
    stage.as_of = TODAY
    with pytest.raises(AtlasError, match="pg_partman has it"):
        stage.plan_maintenance("register")

    # once it has let go, its set goes on under the names that it has
    with psycopg.connect(kept.superuser_conninfo, autocommit=True) as admin:
        row = admin.execute("SELECT to_jsonb(c)::text FROM partman.part_config c").fetchone()
        assert row is not None
        admin.execute("DELETE FROM partman.part_config")
        ops.carry_out(kept, adopt.plan_register(*read(kept, now)))
        following = made(kept)
        assert len(following) == 2 and ops.bounds(kept, "public").items() >= before.items()
        shape = {len(name) for name in before if "default" not in name}
        assert {len(name) for name in following} == shape and all(name.startswith("message_p") for name in following)
        # and is left to it again, by the function as by the notebook, should somebody hand it back
        ops.run(kept, f"DROP TABLE {following[-1]}")
        admin.execute(
            "INSERT INTO partman.part_config SELECT * FROM jsonb_populate_record(NULL::partman.part_config, %s)", row
        )
        assert made(kept) == [] and maintain.plan_ahead(*read(kept, now), TODAY).steps == ()


def test_pg_partman_whose_settings_cannot_be_read_is_not_overlooked(kept: Any, ops: Any) -> None:
    """The extension is there, and nobody let this role read what it keeps."""
    with psycopg.connect(kept.superuser_conninfo, autocommit=True) as admin:
        admin.execute("REVOKE ALL ON SCHEMA partman FROM postgres; REVOKE ALL ON partman.part_config FROM postgres")
    now = replace(ops, as_of=TODAY)
    found = read(kept, now)
    [red] = adopt.checks(*found)
    assert (
        "pg_partman may have it: postgres may not read part_config in partman." in red.what
        and "GRANT USAGE" in red.cure
    )
    assert adopt.plan_register(*found).steps == ()
    with psycopg.connect(kept.superuser_conninfo, autocommit=True) as admin:
        admin.execute("DROP EXTENSION pg_partman CASCADE")
    assert adopt.checks(*read(kept, now)) == ()
