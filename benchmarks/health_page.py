"""How long the page of 09 takes: two tables of 60 partitions, then one of 1,000, on the embedded server.

    python benchmarks/health_page.py

The notebook is executed as by `atlas-ops run`, in a kernel of its own, its record kept and made a page of; the imports of this process, which come
once for any number of notebooks, are not in it. The look alone (`atlas-ops health`) is timed beside it. The limits are those that were asked for.
"""

from __future__ import annotations

import os
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import nbconvert  # noqa: F401 - imported before the clock starts, as papermill
import papermill  # noqa: F401
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from atlas_ops import embedded, monitor, runner
from atlas_ops.database import Session
from atlas_ops.settings import tables_from

NAME = "bench"
ROWS = 2_000  # a partition of the small set
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def made(
    connection: psycopg.Connection[Any], table: str, every: str, first: date, partitions: int, rows: int
) -> dict[str, Any]:
    """A partitioned table with three indexes, and its specification."""
    at = sql.Identifier(table)
    for statement in ("CREATE TABLE {} (id bigint, at timestamptz NOT NULL, who int, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
                      "CREATE INDEX ON {} (at)", "CREATE INDEX ON {} (who)", "ALTER TABLE {} ENABLE ROW LEVEL SECURITY"):  # fmt: skip
        connection.execute(sql.SQL(statement).format(at))
    lower = first
    for number in range(partitions):
        upper = (
            lower + timedelta(days=1) if every == "day" else (lower.replace(day=1) + timedelta(days=32)).replace(day=1)
        )
        name = sql.Identifier("partitions", f"{table}_{lower:%Y_%m_%d}")
        bound = sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})")
        connection.execute(bound.format(name, at, sql.Literal(f"{lower} 00:00+00"), sql.Literal(f"{upper} 00:00+00")))
        connection.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
        if rows:
            rows_of = "SELECT {} * 1000000 + n, {}::timestamptz + n * interval '1 minute', n, 'words' FROM generate_series(1, {}) n"
            fill = sql.SQL("INSERT INTO {} " + rows_of)
            begin = sql.Literal(f"{lower} 00:00+00")
            connection.execute(fill.format(name, sql.Literal(number), begin, sql.Literal(rows)))
        lower = upper
    connection.execute(sql.SQL("ANALYZE {}").format(at))
    return {"table": table, "partition_key": "at", "every": every, "from": first.isoformat(), "ahead": 2}


def timed(where: Path, tables: list[dict[str, Any]], as_of: date, limit: float) -> None:
    """The look alone, then the whole page."""
    conninfo = embedded.conninfo(NAME, "health")
    started = time.perf_counter()
    found = monitor.judgements(Session("bench", conninfo, "bench"), tables_from(tables), as_of)
    look = time.perf_counter() - started
    settings = {key: value for key, value in conninfo_to_dict(conninfo).items() if value}
    (where / "pg_service.conf").write_text("[bench]\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
    os.environ["PGSERVICEFILE"] = str(where / "pg_service.conf")
    started = time.perf_counter()
    given = {"database": "bench", "tables": tables, "as_of": as_of.isoformat()}
    [result] = runner.run(
        ["monitor_health"], given, notebooks=NOTEBOOKS, records=where / "records", say=lambda line: None
    )
    page = time.perf_counter() - started
    assert result.figures.get("tables"), result.lines
    partitions = " + ".join(str(len(one.health.months)) for one in found)
    print(f"| {partitions} | {look:.1f} | {page:.1f} | {limit:.0f} |", flush=True)
    assert page < limit, "slower than was asked for"


def main() -> None:
    """Build both sets in a database of their own, time each, print a table."""
    with psycopg.connect(embedded.conninfo(NAME, "postgres", embedded.SUPERUSER), autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS health WITH (FORCE)")
        server.execute("CREATE DATABASE health OWNER postgres")
    with psycopg.connect(embedded.conninfo(NAME, "health"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA partitions")
        small = [made(connection, table, "month", date(2022, 3, 1), 60, ROWS) for table in ("messages", "usage_logs")]
        large = [made(connection, "readings", "day", date(2024, 3, 5), 1_000, 0)]
    print("| partitions | look, s | page, s | limit, s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        timed(Path(folder), small, date(2026, 11, 23), 10)
        timed(Path(folder), large, date(2026, 11, 23), 30)
    embedded.stop(NAME)


if __name__ == "__main__":
    main()
