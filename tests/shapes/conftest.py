"""The core for tables of every shape, on the day that the database tests use."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.database.conftest import Operations, enter

__all__ = ["enter"]  # the fixture that enters a stage as its notebook does


@pytest.fixture(scope="session")
def ops(programs: Path) -> Operations:
    """The core on the 15th of January 2024: with `ahead: 1` a table from 2024-01-01 on has two months."""
    return Operations(date(2024, 1, 15), programs)
