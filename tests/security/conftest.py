"""What the attacks share: the core on the day that the Atlas database was built for."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.database.conftest import Operations


@pytest.fixture(scope="session")
def now(programs: Path) -> Operations:
    """The core on the day the Atlas database was built for."""
    return Operations(date(2026, 11, 23), programs)
