"""What every database test shares: servers of both versions, a template database, a clone of it per test.

Servers run in one temporary folder per test session (shared by the workers of pytest-xdist), so the demo of
whoever runs the tests is never touched. If the session is killed, their watchers stop them.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from atlas_ops import demo, embedded
from atlas_ops.embedded import Cluster

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
PG_CRON = Path("/usr/share/postgresql/15/extension/pg_cron.control")
PG_PARTMAN = PG_CRON.with_name("pg_partman.control")
TEMPLATE = "template_atlas"
EMPTY = "template0"
_FOLDER = pytest.StashKey[Path]()
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A running server of the session: its major version and how to reach it."""

    version: int
    cluster: Cluster

    def conninfo(self, dbname: str = "postgres", user: str = embedded.SUPERUSER) -> str:
        return self.cluster.conninfo(dbname, user)

    def clone(self, template: str) -> Database:
        """A new database, copied from `template` and owned by `postgres`."""
        name = f"t_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.conninfo(), autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER postgres").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return Database(self.version, self.conninfo(name, "postgres"), self.conninfo(name))

    def drop(self, database: Database) -> None:
        name = str(conninfo_to_dict(database.conninfo)["dbname"])
        with psycopg.connect(self.conninfo(), autocommit=True) as admin:
            # Slots and prepared transactions outlive a test's connections, and would keep the database.
            admin.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s",
                (name,),
            )
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Database:
    """One test's own database. `conninfo` connects as `postgres`, who is no superuser."""

    version: int
    conninfo: str
    superuser_conninfo: str

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection as `postgres`; `options` are those of psycopg.connect (autocommit, user and so on)."""
        return psycopg.connect(self.conninfo, **options)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pg", choices=["15", "18", "both"], default="both", help="PostgreSQL versions to test on")
    # tests/proof: short as a part of the suite, long by `make prove`
    parser.addoption("--swaps", type=int, default=4, help="cut-overs and roll-backs of the proof, undisturbed")
    parser.addoption("--kills", type=int, default=6, help="cut-overs and roll-backs of the proof, each with a kill")
    parser.addoption(
        "--seed", type=int, default=random.randrange(1_000_000), help="of the proof's load; random by default"
    )
    parser.addoption("--seconds", type=float, default=1.0, help="how long each load of the proof runs at least")
    parser.addoption("--rate", type=float, default=0, help="transactions a second of the proof's load; 0: all it can")


def pytest_report_header(config: pytest.Config) -> list[str]:
    missing = [
        *([] if (DEBIAN_15 / "postgres").exists() else ["PostgreSQL 15 (postgresql-15)"]),
        *([] if PG_CRON.exists() else ["pg_cron (postgresql-15-cron)"]),
        *([] if PG_PARTMAN.exists() else ["pg_partman (postgresql-15-partman)"]),
    ]
    return [
        f"proof: --seed {config.getoption('--seed')}",
        *(f"not installed, so not tested on: {name}" for name in missing),
    ]


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts what stands before an & with SIGINT ignored, and children inherit that: the tests
    # that press Ctrl-C in a child would press in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    inherited = getattr(config, "workerinput", {}).get("clusters")
    # /var/tmp and not pytest's own folder: as root the servers run as another OS user, who must get there.
    folder = Path(inherited) if inherited else Path(tempfile.mkdtemp(prefix="atlas_ops-tests-", dir="/var/tmp"))
    if not inherited:
        folder.chmod(0o711)
    config.stash[_FOLDER] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the folder of the session to a worker of pytest-xdist."""
    node.workerinput["clusters"] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        folder = config.stash[_FOLDER]
        for data in (*folder.glob("*/data"), *folder.glob("home/*/data")):
            Cluster(data, data).stop()
        _remove(folder)


def _remove(folder: Path) -> None:
    """A server's last process may still write while its folder is being emptied: once more, for some seconds."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(folder)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--pg")
        here = ["18", *(["15"] if (DEBIAN_15 / "postgres").exists() else [])]
        versions = [version for version in here if asked in (version, "both")]
        metafunc.parametrize("server", versions, ids=[f"pg{v}" for v in versions], indirect=True, scope="session")


@pytest.fixture(scope="session")
def clusters(pytestconfig: pytest.Config) -> Path:
    """The folder of this session's servers; the place for any other cluster or home a test makes."""
    return pytestconfig.stash[_FOLDER]


@pytest.fixture(scope="session")
def programs(clusters: Path) -> Path:
    """The embedded server's programs, copied once a session."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ATLAS_OPS_HOME", str(clusters / "home"))
        return embedded.bin_dir()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, clusters: Path, programs: Path) -> Server:
    """One server per version, whose settings trade safety for speed."""
    bin_dir = {"18": programs, "15": DEBIAN_15}[request.param]
    settings = {"fsync": "off", "shared_buffers": "128MB", "max_connections": "200"}
    return Server(int(request.param), Cluster(clusters / request.param / "data", bin_dir, 120.0, settings))


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of the database that every `atlas` is a copy of; built by the worker that comes first."""
    admin_conninfo = server.conninfo()
    with (server.cluster.data.parent / "template.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with psycopg.connect(admin_conninfo, autocommit=True) as admin:
            if admin.execute("SELECT FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone() is None:
                admin.execute(f"CREATE DATABASE {TEMPLATE} OWNER postgres")
                with psycopg.connect(server.conninfo(TEMPLATE, "postgres")) as conn:
                    demo.build(conn, messages=4_000, usage_logs=5_000)
                # An autovacuum worker in the template would stop the next CREATE DATABASE.
                admin.execute(f"ALTER DATABASE {TEMPLATE} WITH ALLOW_CONNECTIONS false")
    return TEMPLATE


@pytest.fixture
def atlas(server: Server, template: str) -> Iterator[Database]:
    """The Atlas database with 4,000 messages and 5,000 usage logs, for this test alone."""
    database = server.clone(template)
    yield database
    server.drop(database)


@pytest.fixture
def empty(server: Server) -> Iterator[Database]:
    """An empty database, for this test alone; Supabase's roles exist."""
    database = server.clone(EMPTY)
    yield database
    server.drop(database)


@pytest.fixture
def service(atlas: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a libpq service that connects to `atlas`, as a DBA would write it into pg_service.conf."""
    settings = {key: value for key, value in conninfo_to_dict(make_conninfo(atlas.conninfo)).items() if value}
    file = tmp_path / "pg_service.conf"
    file.write_text("[atlas_test]\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    return "atlas_test"
