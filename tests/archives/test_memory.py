"""The memory of an export and of its proof: that of one month is that of a month four times as large, of many rows and of wide ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from archives.road import Road

from atlas_ops import catalog, database, division, months
from atlas_ops.archive import STAGE
from atlas_ops.settings import tables_from

MORE_BYTES = 32 << 20
"""What a peak may differ by: allocators keep what they were given. The larger month holds more than that by far."""


def peak(conninfo: str, keys: dict[str, Any], day: str, partition: str) -> int:
    """Export and prove a month; returns the peak of this process, in bytes."""
    [spec] = tables_from([keys])
    where = database.Session("test", conninfo, STAGE)

    def read() -> months.Archive:
        with database.connect(where) as connection:
            names = division.names_needed(spec, date.fromisoformat(day))
            return months.read(where, spec, catalog.snapshot(connection, spec, names))

    exporting = months.exporting([read()], [partition], "archive")
    months.run_export(exporting, exporting.plan.digest)
    proving = months.proving([read()], [partition])
    months.prove(proving, proving.plan.digest)
    assert read().months[partition].proven
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, "Linux tells it"
    return int(found[1]) * 1024


def measured(road: Road, partition: str) -> int:
    """`peak` in a process of its own: one that has just begun holds nothing of other tests."""
    keys = road.ops.keys(**{"keep": 1, "archive_to": str(road.folder), **road.keys})
    given = json.dumps([road.db.conninfo, keys, road.ops.as_of.isoformat(), partition])
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, __file__, given],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(("rows", "repeats"), [(60_000, 10), (1_200, 800)], ids=["many rows", "wide rows"])
def test_a_larger_month_needs_no_more_memory(empty: Any, road: Callable[..., Road], rows: int, repeats: int) -> None:
    found = road(
        empty,
        "CREATE TABLE diary (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text, doc jsonb)",
        *(
            f"INSERT INTO diary SELECT 2 * n + {month % 2}, '2024-{month:02}-01'::timestamptz + n * interval '1 second', "
            f"repeat(md5(n::text), {repeats}), jsonb_build_object('n', n) FROM generate_series(1, {number}) n"
            for month, number in ((1, rows), (2, 4 * rows))
        ),
        table="diary",
        partition_key="at",
    )  # fmt: skip
    found.migrate()
    assert len(found.detach()) == 2
    small, large = (measured(found, f"diary_2024_0{month}") for month in (1, 2))
    bytes_more = 3 * rows * repeats * 32
    assert bytes_more > 1.7 * MORE_BYTES
    assert large - small < MORE_BYTES, (small, large)


if __name__ == "__main__":
    print(peak(*json.loads(sys.argv[1])))
