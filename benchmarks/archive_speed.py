"""How long the export and the proof of a month take, against `pg_dump -Fc` piped to a file in the same run; and the memory they need.

    make bench-archive                                       # one month of 1,000,000 messages, three rounds in turn
    python benchmarks/archive_speed.py --rows 200000 --rounds 1

Export: the server's digest, pg_dump and Parquet from one snapshot, the manifest. Proof: both files restored into temporary tables and compared.
On the embedded server, durability on. The messages are of 20 to 50 words, drawn as in a language: a few words often, most
of them seldom. Memory is that of a process of its own that does nothing else, as Linux tells it, for a quarter of the rows, for all
and for twice as many: it must not grow with the rows, nor with the time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from atlas_ops import archive, catalog, division, embedded, execute, migration, months, programs
from atlas_ops.database import Session, connect
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

os.environ.setdefault("ATLAS_OPS_IDLE_SECONDS", "3600")  # it is the children that ask it
NAME = "bench_archive"
AS_OF, LATER = date(2024, 3, 20), date(2026, 11, 23)
Timed = dict[str, Any]
TABLE = """
CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), conversation_id uuid, user_id uuid, role text NOT NULL, content text NOT NULL,
    created_at timestamptz NOT NULL, deleted_at timestamptz, attachments jsonb DEFAULT '[]', metadata jsonb, tokens int, cost numeric(10,4)
)
"""
COPIED = "COPY messages (id, conversation_id, user_id, role, content, created_at, metadata, tokens, cost) FROM STDIN"
SKEW = 65_536  # so many steps from the most frequent word to the rarest of 2,000


def messages(first: datetime, days: int, rows: int) -> Iterator[tuple[object, ...]]:
    """A month of messages, the same in each run."""
    chance = random.Random(first.isoformat())
    letters = str.maketrans("0123456789", "etaoinshrd")
    words = [md5(str(n)).translate(letters)[: 2 + n % 8] for n in range(1, 2001)]
    spoken = [words[round(2000 ** (step / SKEW)) - 1] for step in range(SKEW)]
    step = timedelta(days=days) / rows
    people = [str(UUID(md5(str(n)))) for n in range(20_011)]
    for n in range(rows):
        yield (
            str(UUID(int=chance.getrandbits(128), version=4)), people[n % 20_011], people[n % 997], ("user", "assistant")[n % 2],
            " ".join(chance.choices(spoken, k=20 + n % 30)), (first + n * step).isoformat(), f'{{"n": {n}, "model": "m{n % 5}"}}',
            n % 4000, f"{n % 10_000 / 10_000:.4f}",
        )  # fmt: skip


def md5(text: str) -> str:
    """Of a text, in hexadecimal."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


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
        for month, days, share in ((2, 29, 1.0), (1, 31, 0.25), (3, 31, 2.0)):
            with connection.cursor() as cursor, cursor.copy(COPIED) as copy:
                for row in messages(datetime(2024, month, 1, tzinfo=UTC), days, int(rows * share)):
                    copy.write_row(row)
    spec = spec_of(Path("/nonexistent"))
    for plan_of, day in ((migration.plan_migration, AS_OF), (archive.plan_archive, LATER)):
        with connect(where) as connection:
            snapshot = catalog.snapshot(connection, spec, division.names_needed(spec, AS_OF))
        plan = plan_of(spec, snapshot, day)
        execute.execute(where, plan, plan.digest)
    with psycopg.connect(embedded.conninfo(NAME, "archive_speed", embedded.SUPERUSER), autocommit=True) as admin:
        # or autovacuum and the checkpointer would do it while one of the two ways is timed
        admin.execute("VACUUM (ANALYZE)")
        admin.execute("CHECKPOINT")
    return where


def piped(where: Session, partition: str, folder: Path) -> Timed:
    """`pg_dump -Fc` as everybody writes it: seconds, of a processor too, and bytes."""
    program, _ = programs.find("pg_dump", embedded.MAJOR)
    target = folder / "piped.dump"
    started, spent = time.perf_counter(), processor(where)
    with target.open("wb") as out:
        subprocess.run([program, "-Fc", "-t", f"partitions.{partition}", "-d", where.conninfo], stdout=out, check=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu": processor(where) - spent, "bytes": target.stat().st_size}


def processor(where: Session) -> float:
    """Seconds of a processor that the server's sessions and our programs have used, of those that have ended."""
    time.sleep(0.3)  # a session ends a moment after its client
    with psycopg.connect(where.conninfo) as connection:
        parent = _stat(connection.info.backend_pid)[1]
    server = sum(int(each) for each in _stat(int(parent))[13:15]) / os.sysconf("SC_CLK_TCK")
    programs_used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return server + programs_used.ru_utime + programs_used.ru_stime


def _stat(process: int) -> list[str]:
    """What Linux tells of a process, from its state on (proc(5), stat, field 3)."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def road(where: Session, partition: str, folder: Path) -> Timed:
    """Export and proof of one month in a process of its own: seconds, bytes, and its memory."""
    spent = processor(where)
    done = subprocess.run(
        [sys.executable, __file__, "--child", where.conninfo, partition, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Timed = json.loads(done.stdout)
    return {**found, "cpu": processor(where) - spent}


class Marks:
    """When each label of the progress was heard first, and what memory the process held meanwhile."""

    def __init__(self) -> None:
        self.begun, self.first, self.memory = time.perf_counter(), dict[str, float](), list[int]()
        self.beside, self.ended = 0, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, done: int, total: int, label: str = "") -> None:
        self.first.setdefault(label, self.seconds)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.begun

    def at(self, start: str, ending: str = "") -> float:
        """When a label with that start and ending was heard last of all such."""
        return max(when for label, when in self.first.items() if label.startswith(start) and label.endswith(ending))

    def quarters(self) -> list[int]:
        """The most it held in each quarter of the time, in bytes."""
        quarter = len(self.memory) // 4
        return [max(self.memory[number * quarter : (number + 1) * quarter]) for number in range(4)]

    def _watch(self) -> None:
        while not self.ended.wait(0.05):
            self.memory.append(status("self", "VmRSS"))
            threads = Path("/proc/self/task").glob("*/children")
            children = [each for thread in threads for each in thread.read_text().split()]
            self.beside = max([self.beside, *(status(each, "VmHWM") for each in children if another(each))])


def another(process: str) -> bool:
    """Whether a child runs a program by now; before that it shares this one's memory."""
    with suppress(OSError):
        return Path(f"/proc/{process}/exe").readlink() != Path("/proc/self/exe").readlink()
    return False


def status(process: str, field: str) -> int:
    """Bytes that Linux tells of a process; 0 where it has ended."""
    try:
        told = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", told, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def child(conninfo: str, partition: str, folder: str) -> None:
    """What `road` runs."""
    where, spec, marks = Session(NAME, conninfo, archive.STAGE), spec_of(Path(folder)), Marks()

    def read() -> months.Archive:
        with connect(where) as connection:
            return months.read(where, spec, catalog.snapshot(connection, spec, division.names_needed(spec, AS_OF)))

    exporting = months.exporting([read()], [partition], "archive")
    [line] = months.run_export(exporting, exporting.plan.digest, marks)
    exported = marks.seconds
    peak_export = status("self", "VmHWM")
    proving = months.proving([read()], [partition])
    by_dump, by_parquet = (each.seconds for each in months.prove(proving, proving.plan.digest, marks))
    proven = marks.seconds
    marks.ended.set()
    found = read()
    assert found.months[partition].proven, "an export that is not proven has no time"
    files = found.months[partition].export.files
    digest = marks.at("dump ") - marks.at("read messages")
    told = {
        "rows": line.rows, "export": exported, "prove": proven - exported, "digest": digest,
        "files": marks.at("written messages") - marks.at("dump "), "again": marks.at("write the manifest") - marks.at("written messages"),
        "by_dump": by_dump, "by_parquet": by_parquet, "dump": files["dump"].bytes, "parquet": files["parquet"].bytes,
        "peak_export": peak_export, "peak": status("self", "VmHWM"), "quarters": marks.quarters(), "beside": marks.beside,
    }  # fmt: skip
    print(json.dumps(told))


def main() -> None:
    """Build, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return
    where = built(given.rows)
    month, timed, peers = "messages_2024_02", [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(given.rounds):
            peers.append(piped(where, month, folder))
            timed.append(road(where, month, folder / f"archive{number}"))
            print(f"round {number + 1}: {told_of(peers[-1], timed[-1])}", file=sys.stderr, flush=True)
            shutil.rmtree(folder / f"archive{number}")
        sizes = [road(where, each, folder / "archive") for each in ("messages_2024_01", month, "messages_2024_03")]
    embedded.stop(NAME)
    print(f"{timed[0]['rows']:,.0f} rows, {given.rounds} rounds in turn\n")
    print("\n".join([*speed(peers, timed), "", *memory(sizes)]))


def told_of(peer: Timed, one: Timed) -> str:
    """One round in a line."""
    whole = one["export"] + one["prove"]
    times = f"pg_dump {peer['seconds']:.1f} s, export {one['export']:.1f} s, proof {one['prove']:.1f} s"
    return (
        f"{times}: {whole / peer['seconds']:.2f} times as long; of a processor {peer['cpu']:.1f} and {one['cpu']:.1f} s"
    )


def speed(peers: list[Timed], timed: list[Timed]) -> list[str]:
    """The table of the times: medians, and each against pg_dump in the same round."""
    rows, first = timed[0]["rows"], timed[0]
    median = {key: statistics.median(each[key] for each in timed) for key in first if key != "quarters"}
    peer = {key: statistics.median(each[key] for each in peers) for key in ("seconds", "cpu", "bytes")}
    whole = statistics.median(each["export"] + each["prove"] for each in timed)
    ratio = statistics.median(
        (each["export"] + each["prove"]) / of["seconds"] for each, of in zip(timed, peers, strict=True)
    )
    lines = [
        (
            "`pg_dump -Fc` piped to a file",
            peer["seconds"],
            f"{peer['bytes'] / 1e6:,.0f} MB; {peer['cpu']:.1f} s of a processor",
        ),
        ("export and proof", whole, f"{ratio:.2f} times as long; {median['cpu']:.1f} s of a processor"),
        ("export", median["export"], f"{first['dump'] / 1e6:,.0f} + {first['parquet'] / 1e6:,.0f} MB"),
        ("- digest by the server", median["digest"], ""),
        ("- dump and Parquet side by side", median["files"], ""),
        ("- both read again", median["again"], ""),
        ("proof", median["prove"], ""),
        ("- dump restored and compared", median["by_dump"], "side by side"),
        ("- Parquet restored and compared", median["by_parquet"], "with it"),
    ]
    table = [f"| {what} | {seconds:.1f} | {rows / seconds:,.0f} | {note} |" for what, seconds, note in lines]
    return ["| way | s | rows a second | |", "|---|---|---|---|", *table]


def memory(sizes: list[Timed]) -> list[str]:
    """The table of the memory: it must be the same in each row, and in each quarter of a run."""
    lines = [
        "| rows | peak of the export | peak with the proof | by quarters of the time | largest program beside it |",
        "|---|---|---|---|---|",
    ]
    for one in sizes:
        quarters = ", ".join(f"{each / 1e6:,.0f}" for each in one["quarters"])
        figures = [f"{one[key] / 1e6:,.0f} MB" for key in ("peak_export", "peak", "beside")]
        lines.append(f"| {one['rows']:,.0f} | {figures[0]} | {figures[1]} | {quarters} MB | {figures[2]} |")
    return lines


if __name__ == "__main__":
    main()
