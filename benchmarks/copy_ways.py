"""How long each way of copying takes, as a ratio to the fastest copy there can be: one table for the README.

    make bench                                       # 1,000,000 messages, two rounds in turn
    python benchmarks/copy_ways.py --messages 200000 --rounds 1

The limit is one INSERT ... SELECT of the same rows into one table without an index. Every way starts from a fresh clone of the same
database on the embedded server, durability on, and is followed by a comparison of every row, which is not timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import psycopg
from psycopg import sql

from atlas_ops import catalog, compare, demo, division, embedded, execute, migration
from atlas_ops.database import Session, connect
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)
SPEC = {
    "table": "messages",
    "partition_key": "created_at",
    "from": "2024-01-01",
    "until": "2027-01-01",
    "null_keys": "set_aside",
    "indexes": [["role"]],
    "copy": "by_partition",
}
NAME = "bench"


def limit(where: Session, spec: TableSpec) -> float:
    """The rows into one table without an index."""
    with connect(where, write=True) as connection:
        started = time.perf_counter()
        connection.execute("CREATE TABLE public.copy AS TABLE public.messages")
        return time.perf_counter() - started


def migrate(where: Session, spec: TableSpec) -> float:
    """The whole plan, from the empty partitioned table to VACUUM and ANALYZE."""
    with connect(where) as connection:
        snapshot = catalog.snapshot(connection, spec, division.names_needed(spec, AS_OF))
    plan = migration.plan_migration(spec, snapshot, AS_OF)
    started = time.perf_counter()
    execute.execute(where, plan, plan.digest)
    seconds = time.perf_counter() - started
    parts = division.parts(spec, "timestamptz", AS_OF)
    assert snapshot.original is not None
    proofs, _ = compare.prove(where, [(spec, snapshot.original, parts)])
    assert all(proof.same for proof in proofs), "a copy that differs has no time"
    return seconds


def ways(spec: TableSpec) -> dict[str, Callable[[Session], float]]:
    """Each way by its name."""
    return {
        "limit: one table, no index": lambda where: limit(where, spec),
        "online, 2 workers": lambda where: migrate(where, replace(spec, copy="online")),
        "by partition, 2 workers": lambda where: migrate(where, spec),
        "by partition, 1 worker": lambda where: migrate(where, replace(spec, workers=1)),
        "single transaction, as the guide": lambda where: migrate(where, replace(spec, copy="single_transaction")),
    }


def main() -> None:
    """Build once, clone for every run, print seconds and ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--messages", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=2)
    asked = options.parse_args()
    demo.ensure(NAME, messages=asked.messages, usage_logs=1_000, rebuild=True)
    (spec,) = tables_from([SPEC])
    taken: dict[str, list[float]] = {}
    with psycopg.connect(embedded.conninfo(NAME, "postgres", embedded.SUPERUSER), autocommit=True) as server:
        for _ in range(asked.rounds):
            for way, run in ways(spec).items():
                server.execute("DROP DATABASE IF EXISTS clone WITH (FORCE)")
                server.execute(
                    sql.SQL("CREATE DATABASE clone TEMPLATE {} OWNER postgres").format(sql.Identifier(demo.DBNAME))
                )
                server.execute("CHECKPOINT")
                where = Session("bench", embedded.conninfo(NAME, "clone"), "bench")
                taken.setdefault(way, []).append(run(where))
        server.execute("DROP DATABASE IF EXISTS clone WITH (FORCE)")
    base = statistics.median(next(iter(taken.values())))
    print(f"{asked.messages:,} messages, {asked.rounds} rounds in turn, median seconds\n")
    print("| way | s | against the limit |\n|---|---|---|")
    for way, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"| {way} | {middle:.1f} | {middle / base:.1f} |")
    embedded.stop(NAME)


if __name__ == "__main__":
    main()
