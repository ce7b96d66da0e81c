"""Does 05 Explain analysis say of each query what pgbench finds? Both measure the same statements with the same values.

    make bench-explain                                     # 5,000,000 messages
    python benchmarks/explain_pgbench.py --messages 200000

pgbench is a client of its own: it sends each statement as the application would (extended protocol, planned anew every time), waits for
all the rows, and reports the mean latency of that one statement. Both tables run in turn, for a second each, several rounds; the median
round counts. Where single rounds of pgbench come to different verdicts, 05's among them, the query is too close to call and said to be "close".
The same rule makes a verdict of either ratio: faster or slower where it is more than 10 % and 0.07 ms away from the same.
Statements that write run between BEGIN and ROLLBACK, which are not counted.

Besides the application's queries a report is asked (reports.yml) whose text no partition bound can match. Below stand the rewrites that 05
found by itself; where the application would send nothing more, pgbench asks them too, of both tables: the last column tells what the text
alone gains.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import psycopg

from atlas_ops import catalog, comparison, demo, division, embedded, execute, measure, migration, timing, workload
from atlas_ops.database import Session, connect, identifier
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.workload import Query

AS_OF = date(2026, 11, 27)
WORKLOAD = Path(__file__).parents[1] / "parameters" / "workloads" / "atlas.yml"
REPORTS = Path(__file__).with_name("reports.yml")
NAME = "bench_explain"
PERIOD = {"from": "2024-01-01", "until": "2027-01-01", "copy": "by_partition"}
SPECS = [
    {"table": "messages", "partition_key": "created_at", "null_keys": "set_aside", **PERIOD},
    {"table": "usage_logs", "partition_key": "timestamp", **PERIOD},
]


def migrated(where: Session, specs: tuple[TableSpec, ...]) -> None:
    """Both tables copied, nobody writing."""
    for number, spec in enumerate(specs):
        with connect(where) as connection:
            snapshot = catalog.snapshot(connection, spec, division.names_needed(spec, AS_OF))
        plan = migration.plan_migration(spec, snapshot, AS_OF, install=number == 0)
        if plan.steps:
            execute.execute(where, plan, plan.digest)


def swept(where: Session, specs: tuple[TableSpec, ...]) -> None:
    """Both tables vacuumed: what an earlier run of this one wrote and rolled back would slow one of them down."""
    with psycopg.connect(where.conninfo, autocommit=True) as connection:
        for spec in specs:
            for at in (spec.original_at, spec.partitioned_at):
                connection.execute(f"VACUUM (ANALYZE) {identifier(*at)}".encode())


def scripts(connection: psycopg.Connection, query: Query, original: str, table: str, text: str) -> Iterator[str]:
    """The query as a pgbench script, one for each row of its bindings."""
    values: list[dict[str, object]] = [{}]
    types: dict[str, str] = {}
    if query.bindings:
        cursor = connection.execute(workload.statement(query.bindings, original, {}).encode())
        names = [column.name for column in cursor.description or ()]
        kinds = [column.type_code for column in cursor.description or ()]
        values = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for name, kind in zip(names, kinds, strict=True):
            types[name] = connection.execute("SELECT format_type(%s::oid, NULL)", (kind,)).fetchone()[0]  # type: ignore[index]
    writer = psycopg.ClientCursor(connection)
    for row in values:
        lines = ["BEGIN;"]
        if query.claims:
            claims = writer.mogrify(workload.statement(query.claims, table, types), row)
            lines.append(f"SELECT set_config('request.jwt.claims', ({claims})::text, true);")
        if query.role:
            lines.append(f"SET LOCAL ROLE {identifier(query.role)};")
        asked = writer.mogrify(workload.statement(text, table, types), row)
        # a colon before a letter is a variable to pgbench, within quotes too
        asked = re.sub(r"--[^\n]*", "", asked).replace("\n", " ")
        yield "\n".join([*lines, f"/* asked */ {asked};", "ROLLBACK;"])


def latency(texts: list[str], asked: argparse.Namespace) -> float:
    """The mean latency of the statement in ms, each of the scripts as often."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, text in enumerate(texts):
            path = Path(folder) / f"{number}.sql"
            path.write_text(text)
            files += ["-f", str(path)]
        command = [str(embedded.bin_dir() / "pgbench"), "-n", "-r", "-M", "extended", "-T", str(asked.seconds), *files]
        told = subprocess.run(
            [*command, embedded.conninfo(asked.name, demo.DBNAME)], capture_output=True, text=True, check=True
        )
    found = [float(ms) for ms in re.findall(r"^\s+([\d.]+)\s+\d+\s+/\* asked", told.stdout, re.MULTILINE)]
    assert len(found) == len(texts), told.stdout + told.stderr
    return statistics.mean(found)


def in_turn(
    where: Session,
    spec: TableSpec,
    query: Query,
    ways: Sequence[tuple[tuple[str, str], str]],
    asked: argparse.Namespace,
) -> list[list[float]]:
    """The latencies in ms of each way (a table, and the text that is asked of it), in rounds."""
    with psycopg.connect(where.conninfo, autocommit=True) as connection:
        connection.execute("SET search_path = public; SET TimeZone = 'UTC'")
        original = identifier(*spec.original_at)
        texts = [list(scripts(connection, query, original, identifier(*table), text)) for table, text in ways]
    return [[latency(way, asked) for way in texts] for _ in range(asked.rounds)]


def judged(before_ms: float, after_ms: float) -> comparison.Verdict:
    """What 05 would say of these two figures."""
    ratio = after_ms / before_ms
    return comparison.judged(timing.Timing(before_ms, after_ms, ratio, ratio, 1))


def main() -> None:
    """Build, migrate, measure both ways, print a line a query."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=5_000_000)
    options.add_argument("--usage-logs", type=int, default=300_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=1)
    options.add_argument(
        "--name", default=NAME, help="of the embedded server; another one leaves an earlier run's alone"
    )
    options.add_argument("--keep", action="store_true", help="use what an earlier run built")
    asked = options.parse_args()
    demo.ensure(asked.name, messages=asked.messages, usage_logs=asked.usage_logs, rebuild=not asked.keep)
    where = Session(asked.name, embedded.conninfo(asked.name, demo.DBNAME), asked.name)
    specs = tables_from(SPECS)
    migrated(where, specs)
    swept(where, specs)
    queries = [query for path in (WORKLOAD, REPORTS) for query in workload.load(path).queries]
    begun = time.perf_counter()
    results = [(spec, result) for spec in specs for result in measure.workload(where, spec, queries)]
    print(f"05 measured {len(results)} queries in {time.perf_counter() - begun:.0f} s")
    print(f"{'query':<22}{'05':>8} {'interval':>16} {'':<8}{'pgbench':>8} {'':<8} agree")
    agreed = 0
    for spec, result in results:
        query, (original, partitioned) = result.query, (spec.original_at, spec.partitioned_at)
        ways = ((original, query.sql), (partitioned, query.sql_partitioned or query.sql))
        runs = in_turn(where, spec, query, ways, asked)
        first, second = (statistics.median(each) for each in zip(*runs, strict=True))
        verdicts = {judged(*each) for each in runs}
        verdict = judged(first, second)
        agrees = verdict == result.verdict or (result.verdict in verdicts and "close")
        agreed += bool(agrees)
        told = result.timing
        assert told is not None, result
        interval = f"{told.low:.2f} to {told.high:.2f}"
        print(
            f"{result.name:<22}{told.ratio:>8.2f} {interval:>16} {result.verdict:<8}{second / first:>8.2f}"
            f" {verdict:<8} {agrees if agrees == 'close' else 'yes' if agrees else 'NO':<5} ({first:.3f} and {second:.3f} ms)",
            flush=True,
        )
    print(f"{agreed} of {len(results)} verdicts agree, as far as pgbench can tell.\n\nRewritten, by 05:")
    print(
        f"{'query':<22}{'as it is':>8} {'':<8} {'rewrite':<18}{'05':>8} {'':<8}{'pgbench':>8} {'':<8} the original, asked the same"
    )
    for spec, result in results:
        rewrite = result.rewrite
        if rewrite and rewrite.timing and result.timing:
            print(
                f"{result.name:<22}{result.timing.ratio:>8.2f} {result.verdict:<8} {rewrite.name:<18}{rewrite.timing.ratio:>8.2f} "
                f"{comparison.judged(rewrite.timing):<8}{asked_by_pgbench(where, spec, result.query, rewrite.sql, asked)}",
                flush=True,
            )
    embedded.stop(asked.name)


def asked_by_pgbench(where: Session, spec: TableSpec, query: Query, rewritten: str, asked: argparse.Namespace) -> str:
    """The rewrite on the partitioned table and on the original, against the query on the original; nothing where values are sent along."""
    if set(workload.parameters(rewritten)) - set(workload.parameters(query.sql)):
        return ""
    ways = ((spec.original_at, query.sql), (spec.partitioned_at, rewritten), (spec.original_at, rewritten))
    runs = in_turn(where, spec, query, ways, asked)
    before, after, same = (statistics.median(each) for each in zip(*runs, strict=True))
    return f"{after / before:>8.2f} {judged(before, after):<8} {same / before:.2f} ({before:.3f}, {after:.3f} and {same:.3f} ms)"


if __name__ == "__main__":
    main()
