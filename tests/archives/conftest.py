"""The road of an archive on any database of the tests, on a day when every month of it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from archives.road import Road

from tests.database.conftest import Operations


@pytest.fixture(scope="session")
def ops(programs: Path) -> Operations:
    """The core on the 15th of January 2024: with `ahead: 1` a table from 2024-01-01 on has two months."""
    return Operations(date(2024, 1, 15), programs)


@pytest.fixture(autouse=True)
def own_programs(clusters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server's programs are the copy of this test session."""
    monkeypatch.setenv("ATLAS_OPS_HOME", str(clusters / "home"))


@pytest.fixture
def road(ops: Operations, tmp_path: Path) -> Callable[..., Road]:
    """A table with its road: `road(db, made, **keys)`."""

    def made(db: Any, *statements: str, **keys: Any) -> Road:
        ops.run(db, *statements)
        return Road(ops, db, tmp_path / "archive", keys)

    return made


@pytest.fixture
def diary(empty: Any, road: Callable[..., Road]) -> Iterator[Road]:
    """Sixty days of a small table with two months, January and February 2024, and a default partition; migrated."""
    found = road(
        empty,
        "CREATE TYPE mood AS ENUM ('calm', 'wild')",
        "CREATE TABLE person (id int PRIMARY KEY)",
        "INSERT INTO person SELECT generate_series(1, 9)",
        "CREATE TABLE diary (id bigint PRIMARY KEY, at timestamptz NOT NULL, person int REFERENCES person ON DELETE CASCADE, body text, mood mood, "
        "cost numeric, tags text[], doc jsonb)",
        "INSERT INTO diary SELECT n, '2023-12-31'::timestamptz + n * interval '1 day', 1 + n % 9, CASE WHEN n % 7 > 0 THEN 'day ' || n END, 'calm', "
        "n / 8.0, ARRAY['a', NULL], jsonb_build_object('n', n) FROM generate_series(1, 58) n",
        "CREATE INDEX ON diary (at)",
        "CREATE INDEX ON diary (person, at DESC)",
        "CREATE INDEX ON diary (person, at DESC) WHERE body IS NULL",
        table="diary",
        partition_key="at",
    )
    found.migrate()
    yield found
