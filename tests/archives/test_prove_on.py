"""Another server proves the files, as the specification names it: one that knows none of the types, and on which nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from archives import everything
from archives.road import Road
from archives.test_faults import MONTH, file, flip
from archives.test_types import unbuilt
from psycopg.conninfo import conninfo_to_dict

from atlas_ops import months, runlock
from atlas_ops.embedded import Cluster
from atlas_ops.errors import AtlasError
from tests.conftest import DEBIAN_15

COUNT = "SELECT count(*) FROM pg_class"


class Services:
    """A file of libpq services."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.conninfo: dict[str, str] = {}

    def add(self, name: str, conninfo: str) -> None:
        self.conninfo[name] = conninfo
        self.file.write_text(
            "".join(
                f"[{each}]\n" + "".join(f"{key}={value}\n" for key, value in conninfo_to_dict(found).items() if value)
                for each, found in self.conninfo.items()
            )
        )

    def value(self, name: str, query: str) -> Any:
        with psycopg.connect(self.conninfo[name]) as conn:
            return conn.execute(query).fetchone()[0]


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    return Services(tmp_path / "pg_service.conf")


@pytest.fixture
def scratch(clusters: Path, programs: Path, services: Services) -> str:
    """A service: a server of 18, of its own, with an empty database and a role that is no superuser."""
    cluster = Cluster(clusters / "scratch" / "data", programs, 120.0, {"fsync": "off", "shared_buffers": "32MB"})
    with psycopg.connect(cluster.conninfo("postgres", "supabase_admin"), autocommit=True) as admin:
        if admin.execute("SELECT FROM pg_database WHERE datname = 'scratch'").fetchone() is None:
            admin.execute("CREATE DATABASE scratch OWNER postgres")
    services.add("atlas_scratch", cluster.conninfo("scratch", "postgres"))
    return "atlas_scratch"


def test_every_type_is_proven_by_a_server_that_has_none_of_them(
    empty: Any, road: Callable[..., Road], scratch: str, services: Services
) -> None:
    found = road(empty, *everything.made(unbuilt(empty)), table="everything", partition_key="at", prove_on=scratch)
    found.migrate()
    before, relations = found.digest(), services.value(scratch, COUNT)
    names = found.detach()
    found.export()
    assert len(found.prove()) == 4
    system = services.value(scratch, "SELECT system_identifier::text FROM pg_control_system()")
    for month in found.archive.months.values():
        assert month.proven and month.proof is not None
        assert month.proof.proof.where == f"scratch on system {system}"
        assert month.proof.system_identifier != system, "the manifest is that of the table's own server"
        assert month.proof.proof.version.startswith("18")
    assert services.value(scratch, COUNT) == relations, "nothing stays there"
    assert len(found.drop()) == 2
    found.restore(*names)
    assert found.digest() == before


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_a_damaged_file_is_not_proven_there_either(diary: Road, scratch: str, services: Services, form: str) -> None:
    diary.keys["prove_on"] = scratch
    relations = services.value(scratch, COUNT)
    diary.detach()
    diary.export()
    flip(file(diary, form))
    with pytest.raises(AtlasError, match=r"diary_2024_01\.[0-9a-f]+\." + form):
        diary.prove()
    assert not diary.month(MONTH).proven and diary.drop() == ()
    assert services.value(scratch, COUNT) == relations


def test_a_run_on_the_tables_own_server_does_not_wait_for_a_proof_elsewhere(diary: Road, scratch: str) -> None:
    diary.keys["prove_on"] = scratch
    diary.detach()
    diary.export()
    with psycopg.connect(diary.db.conninfo, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", runlock.RUN_LOCK)
        assert len(diary.prove()) == 4
    assert all(month.proven for month in diary.archive.months.values())


def test_a_plan_that_was_made_for_one_server_proves_on_no_other(diary: Road, scratch: str) -> None:
    diary.detach()
    diary.export()
    here = months.proving([diary.archive])
    diary.keys["prove_on"] = scratch
    there = months.proving([diary.archive])
    assert here.plan.digest != there.plan.digest
    with pytest.raises(AtlasError, match=r"was confirmed|but"):
        months.prove(there, here.plan.digest)
    assert [line.event for line in diary.lines()] == ["exported", "exported"]


def test_a_service_that_is_not_there_or_two_of_them_are_told(diary: Road, scratch: str, services: Services) -> None:
    diary.detach()
    diary.export()
    diary.keys["prove_on"] = "nowhere"
    with pytest.raises(AtlasError, match="no libpq service named nowhere"):
        diary.prove()
    one = diary.archive
    diary.keys["prove_on"] = scratch
    with pytest.raises(AtlasError, match="different databases in prove_on") as stop:
        months.proving([one, diary.archive])
    assert "one of them at a time" in stop.value.next


@pytest.mark.skipif(not (DEBIAN_15 / "pg_restore").exists(), reason="there is no PostgreSQL 15")
def test_a_server_that_is_older_than_the_dump_says_so(diary: Road, clusters: Path, services: Services) -> None:
    cluster = Cluster(clusters / "scratch15" / "data", DEBIAN_15, 120.0, {"fsync": "off", "shared_buffers": "32MB"})
    services.add("older", cluster.conninfo("postgres", "postgres"))
    diary.keys["prove_on"] = "older"
    diary.detach()
    diary.export()
    if diary.db.version == 15:
        assert len(diary.prove()) == 4
        return
    with pytest.raises(AtlasError, match="pg_restore cannot read diary_2024_01") as stop:
        diary.prove()
    assert "older than the pg_dump" in stop.value.next
    assert not diary.month(MONTH).proven
