"""A server of its own for each version: what is killed here must not be what other tests run on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from proof.kills import Drivers
from proof.load import RC, RR, Kind, Load, Place, prepare
from proof.proxy import Proxy
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from atlas_ops.embedded import SUPERUSER, Cluster

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    swaps: int
    kills: int
    seed: int
    seconds: float
    rate: float


@dataclass(frozen=True)
class Ground:
    """An empty database on a server that may be killed, with the proof's table in it."""

    version: int
    cluster: Cluster
    place: Place
    owner: str  # connects as `postgres`, who owns the table and is no superuser


LONG = 50
"""Kills from which on this is the long form."""

OF_THE_PROOF = {"test_load.py", "test_miniature.py", "test_kills.py"}
"""What the proof says of itself: in the short form on one version, which is enough for its eyesight."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--kills") >= LONG or config.getoption("--pg") != "both":
        return
    again = [item for item in items if item.path.name in OF_THE_PROOF and "[pg15" in item.name]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if item not in again]


@pytest.fixture(scope="session")
def options(pytestconfig: pytest.Config) -> Options:
    return Options(*(pytestconfig.getoption(name) for name in ("--swaps", "--kills", "--seed", "--seconds", "--rate")))


@pytest.fixture(scope="session")
def fragile(server: Any, clusters: Path) -> Iterator[Cluster]:
    """A server that may be killed. Without fsync: the kernel keeps what was written when a process dies."""
    folder = clusters / f"proof-{server.version}-{os.getpid()}"
    cluster = Cluster(folder / "data", server.cluster.bin_dir, 120.0, {"fsync": "off", "shared_buffers": "64MB"})
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def drivers() -> Iterator[Drivers]:
    with Drivers("proof.miniature", "proof.product") as made:
        yield made


@pytest.fixture
def ground(server: Any, fragile: Cluster, options: Options) -> Iterator[Ground]:
    name = f"p_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(fragile.conninfo("postgres", SUPERUSER), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 OWNER postgres")
    place = prepare(fragile.conninfo(name, SUPERUSER), seed=options.seed)
    yield Ground(server.version, fragile, place, make_conninfo(place.superuser, user="postgres"))
    with psycopg.connect(fragile.conninfo("postgres", SUPERUSER), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def load(ground: Ground, options: Options) -> Iterator[Load]:
    """Clients that are led by hand, as the stories call them: two in READ COMMITTED, one with a snapshot, one in replica role."""
    with Load(ground.place, options.seed, [RC, RC, RR, Kind("REPEATABLE READ", replica=True)]) as made:
        yield made


@pytest.fixture
def proxy(ground: Ground, clusters: Path) -> Iterator[Proxy]:
    """Between the product and the server; `proxy.conninfo` connects as `postgres`."""
    folder = clusters / f"x{os.getpid()}-{conninfo_to_dict(ground.owner)['dbname']}"
    folder.mkdir(mode=0o700)
    made = Proxy(folder, ground.owner)
    yield made
    made.close()
