"""How long the export and the proof of a month take, against `pg_dump -Fc` piped to a file in the same run; and the memory they need.

    make bench-archive                                       # one month of 1,000,000 messages, two rounds in turn
    python benchmarks/archive_speed.py --rows 200000 --rounds 1

Export: the server's digest, pg_dump and Parquet from one snapshot, the manifest. Proof: both files restored into temporary tables and compared.
On the embedded server, durability on. The messages are of 20 to 50 words, drawn as in a language: a few words often, most
of them seldom. Memory is the peak of a process of its own that does nothing else, for a quarter of the rows, for all and for
twice as many: it must not grow with the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import psycopg

from atlas_ops import archive, catalog, embedded, execute, migration, months, programs
from atlas_ops.database import Session, connect
from atlas_ops.spec import TableSpec, tables_from

os.environ.setdefault("ATLAS_OPS_IDLE_SECONDS", "3600")  # it is the children that ask it
NAME = "bench_archive"
AS_OF, LATER = date(2024, 3, 20), date(2026, 11, 23)
TABLE = """
CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), conversation_id uuid, user_id uuid, role text NOT NULL, content text NOT NULL,
    created_at timestamptz NOT NULL, deleted_at timestamptz, attachments jsonb DEFAULT '[]', metadata jsonb, tokens int, cost numeric(10,4)
)
"""
WORDS = """
CREATE TABLE word AS SELECT n, translate(substr(md5(n::text), 1, 2 + n % 8), '0123456789', 'etaoinshrd') AS w FROM generate_series(1, 2000) AS n
"""
ROWS = """
INSERT INTO messages (conversation_id, user_id, role, content, created_at, metadata, tokens, cost)
SELECT md5((n %% 20011)::text)::uuid, md5((n %% 997)::text)::uuid, CASE WHEN n %% 2 = 0 THEN 'user' ELSE 'assistant' END,
       (SELECT string_agg(words.w[(2000 ^ ((hashint8extended(n, k) & 65535) / 65536.0))::int], ' ') FROM generate_series(1, 20 + n %% 30) AS k),
       %(first)s::timestamptz + (n * %(days)s * interval '1 day' / %(rows)s),
       jsonb_build_object('model', 'm' || n %% 5, 'n', n), n %% 4000, (n %% 10000) / 10000.0
FROM generate_series(0, %(rows)s - 1) AS n, (SELECT array_agg(w ORDER BY n) AS w FROM word) AS words
"""


def spec_of(folder: Path) -> TableSpec:
    """Three months; all of them leave."""
    keys = {
        "table": "messages",
        "partition_key": "created_at",
        "from": "2024-01-01",
        "until": "2024-04-01",
        "keep": 1,
        "copy": "by_partition",
    }
    [spec] = tables_from([{**keys, "archive_to": str(folder), "pause": "0ms"}])
    return spec


def built(rows: int) -> Session:
    """A server of its own with three months of a quarter of the rows, of all and of twice as many, detached."""
    conninfo = embedded.conninfo(NAME, "postgres", embedded.SUPERUSER)
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS archive_speed WITH (FORCE)")
        admin.execute("CREATE DATABASE archive_speed OWNER postgres")
    where = Session(NAME, embedded.conninfo(NAME, "archive_speed"), archive.STAGE)
    with psycopg.connect(where.conninfo, autocommit=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(TABLE)
        connection.execute(WORDS)
        for first, days, share in (("2024-02-01", 29, 1.0), ("2024-01-01", 31, 0.25), ("2024-03-01", 31, 2.0)):
            connection.execute(ROWS, {"first": first, "days": days, "rows": int(rows * share)})
    spec = spec_of(Path("/nonexistent"))
    for plan_of, day in ((migration.plan_migration, AS_OF), (archive.plan_archive, LATER)):
        with connect(where) as connection:
            snapshot = catalog.snapshot(connection, spec, migration.names_needed(spec, AS_OF))
        plan = plan_of(spec, snapshot, day)
        execute.execute(where, plan, plan.digest)
    return where


def piped(where: Session, partition: str, folder: Path) -> tuple[float, int]:
    """`pg_dump -Fc` as everybody writes it; seconds and bytes."""
    program, _ = programs.find("pg_dump", embedded.MAJOR)
    target = folder / "piped.dump"
    started = time.perf_counter()
    with target.open("wb") as out:
        subprocess.run([program, "-Fc", "-t", f"partitions.{partition}", "-d", where.conninfo], stdout=out, check=True)
    return time.perf_counter() - started, target.stat().st_size


def road(where: Session, partition: str, folder: Path) -> dict[str, float]:
    """Export and proof of one month in a process of its own: seconds, bytes, and its peak of memory."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", where.conninfo, partition, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(conninfo: str, partition: str, folder: str) -> None:
    """What `road` runs."""
    where, spec = Session(NAME, conninfo, archive.STAGE), spec_of(Path(folder))

    def read() -> months.Archive:
        with connect(where) as connection:
            return months.read(where, spec, catalog.snapshot(connection, spec, migration.names_needed(spec, AS_OF)))

    started = time.perf_counter()
    exporting = months.exporting([read()], [partition], "archive")
    [line] = months.run_export(exporting, exporting.plan.digest)
    exported = time.perf_counter()
    peak_export = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    proving = months.proving([read()], [partition])
    assert len(months.prove(proving, proving.plan.digest)) == 2
    proven = time.perf_counter()
    found = read()
    assert found.months[partition].proven, "an export that is not proven has no time"
    files = found.months[partition].export.files
    told = {
        "rows": line.rows, "export": exported - started, "prove": proven - exported, "dump": files["dump"].bytes, "parquet": files["parquet"].bytes,
        "peak_export": peak_export * 1024, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }  # fmt: skip
    print(json.dumps(told))


def main() -> None:
    """Build, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return
    where = built(given.rows)
    month, timed, peers = "messages_2024_02", [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(given.rounds):
            peers.append(piped(where, month, folder))
            timed.append(road(where, month, folder / "archive"))
            shutil.rmtree(folder / "archive")
        sizes = [road(where, each, folder / "archive") for each in ("messages_2024_01", month, "messages_2024_03")]
    embedded.stop(NAME)
    rows = timed[0]["rows"]
    peer = statistics.median(seconds for seconds, _ in peers)
    export, prove = (statistics.median(each[key] for each in timed) for key in ("export", "prove"))
    print(f"{rows:,.0f} rows, {given.rounds} rounds in turn\n")
    print("| way | s | rows a second | bytes |\n|---|---|---|---|")
    print(f"| `pg_dump -Fc` piped to a file | {peer:.1f} | {rows / peer:,.0f} | {peers[0][1] / 1e6:,.0f} MB |")
    sizes_told = f"{timed[0]['dump'] / 1e6:,.0f} + {timed[0]['parquet'] / 1e6:,.0f} MB"
    print(f"| export: digest, dump and Parquet | {export:.1f} | {rows / export:,.0f} | {sizes_told} |")
    print(f"| proof: both restored and compared | {prove:.1f} | {rows / prove:,.0f} | |")
    print(f"| export and proof | {export + prove:.1f} | {rows / (export + prove):,.0f} | |")
    print("\n| rows | peak of the export | peak with the proof | largest program beside it |\n|---|---|---|---|")
    for each in sizes:
        print(
            "| "
            + " | ".join(
                [
                    f"{each['rows']:,.0f}",
                    *(f"{each[key] / 1e6:,.0f} MB" for key in ("peak_export", "peak", "peak_children")),
                ]
            )
            + " |"
        )


if __name__ == "__main__":
    main()
