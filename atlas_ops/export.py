"""Writes months to an archive: the server's digest first, then pg_dump and Parquet side by side, from one snapshot, in bounded memory.

A killed export leaves whole files and no line in the manifest. The next one names its files by the content it finds, so what is there already and
has that name is read instead of written again.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet
from psycopg import sql

from atlas_ops import __version__, exports, manifest, parquet, programs, runlock
from atlas_ops.contents import Contents
from atlas_ops.database import Session, connect, translate
from atlas_ops.errors import AtlasError
from atlas_ops.execute import dressed
from atlas_ops.exports import Job
from atlas_ops.manifest import Event, Form, Kept, Line
from atlas_ops.model import Server
from atlas_ops.parquet import Field
from atlas_ops.plan import Plan, Throttle, confirmed
from atlas_ops.progress import Says, silent
from atlas_ops.report import Line as Done
from atlas_ops.runlock import Held
from atlas_ops.store import BLOCK_BYTES, Store
from atlas_ops.throttle import LOOK_S, Brake

GROUP_BYTES = 16 << 20  # of CSV that becomes one row group: what bounds the memory, whatever the month holds
CHUNK_BYTES = 1 << 20  # of CSV that Arrow reads at once: what fits into a processor's cache is read three times as fast
ZSTD_LEVEL = 1  # Arrow's own for a stream, which cannot be told another
WIDE_BYTES = 1024  # a value of more on the average is in no dictionary
TOOL = f"atlas_ops {__version__}"
ARROW = {
    "bool": pa.bool_(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "date32[day]": pa.date32(), "timestamp[us]": pa.timestamp("us"), "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    parquet.TEXT: pa.string(),
}  # fmt: skip


def export(
    where: Session, plan: Plan, jobs: Sequence[Job], server: Server, confirm: str, progress: Says = silent
) -> tuple[Done, ...]:
    """Run an export plan if `confirm` arms it: a job a step, in their order; returns a line a step.

    Raises AtlasError: another digest confirmed, a second run at once, the lock of the run lost, or what stopped the first job that failed. What
    was written whole stays.
    """
    if not confirmed(plan, confirm, demo=where.is_demo):
        return ()
    where = dressed(where, plan)
    with runlock.alone(where, plan) as held:
        run = _Run(where, plan, server, progress, held)
        return tuple(run.month(one, step.name) for one, step in zip(jobs, plan.steps, strict=True))


def append(
    where: Session,
    store: Store,
    server: Server,
    event: Event,
    table: str,
    partition: str,
    body: Mapping[str, Any],
    told: Callable[[str], None] = lambda _: None,
    ready: Callable[[], None] = lambda: None,
) -> Line:
    """The next line of a table's manifest, written, one writer at a time.

    `where`: the table's database; `ready` raises where nothing may be written any more.
    """
    # as JSON has it, or the line read again would not be the line that was written
    kept = json.loads(json.dumps(body))
    with runlock.turn(where):
        line = manifest.following(
            store.lines(),
            event=event,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            tool=TOOL,
            system_identifier=server.system_identifier,
            database=server.database,
            table=table,
            partition=partition,
            body=kept,
        )
        store.append(line, told, ready)
    return line


class _Run:
    """One export: its programs, its throttle, and how far it is."""

    def __init__(self, where: Session, plan: Plan, server: Server, progress: Says, held: Held) -> None:
        self.where, self.plan, self.server, self.progress, self.held = where, plan, server, progress, held
        self.program, self.version = programs.find("pg_dump", server.version // 10_000)
        self.packs = _packs(self.program)
        self.endings: Mapping[Form, str] = {"dump": ".dump" if self.packs else ".dump.zst", "parquet": ".parquet"}
        self.total, self.done = sum(max(step.weight, 1) for step in plan.steps), 0
        self.mutex, self.stop = threading.Lock(), threading.Event()
        self.swept: set[str] = set()

    def month(self, job: Job, step: str) -> Done:
        """Both files and the line of the manifest."""
        started = datetime.now(UTC)
        store = Store(job.url, job.place)
        store.lines()  # a chain that is broken is told before anything is read
        if store.where not in self.swept:
            store.sweep()
            self.swept.add(store.where)
        self.say(f"read {job.partition}")
        with self.snapshot(job) as (snapshot, found):
            exports.refuse_others(job, found)
            files = self.files(store, job, found, snapshot)
        made = job.exported(found, files)
        self.say(f"write the manifest of {job.partition}")
        body = exports.as_body(made)
        append(self.where, store, self.server, "exported", job.table, job.partition, body, self.say, self.held.require)
        self.say(f"exported {job.partition}")
        return Done(step, started, datetime.now(UTC), 1, found.rows)

    @contextmanager
    def snapshot(self, job: Job) -> Iterator[tuple[str, Contents]]:
        """A snapshot that others may read in, and what the table holds in it."""
        try:
            with connect(self.where) as keeper, keeper.transaction():
                keeper.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                # it idles in its transaction for as long as the others read: that is what keeps their snapshot
                keeper.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                row = keeper.execute("SELECT pg_export_snapshot()").fetchone()
                figures = keeper.execute(job.figures).fetchone()
                assert row is not None and figures is not None
                rows, content, lowest, highest, beyond, outside = figures
                yield row[0], Contents(rows, int(content), lowest, highest, tuple(beyond), outside)
        except psycopg.Error as error:
            raise translate(error, f"Exporting {job.partition}") from None

    def files(self, store: Store, job: Job, found: Contents, snapshot: str) -> dict[Form, Kept]:
        """The two files, written side by side, or as they are where an earlier run has written them."""
        stem = manifest.stem(job.partition, found.rows, found.content)
        known = {
            kept.name: kept for line in store.lines() if line.event == "exported" for kept in line.export.files.values()
        }
        ways: dict[Form, Callable[[Store, Job, Contents, str, str], Kept]] = {
            "dump": self.dump,
            "parquet": self.parquet,
        }

        def one(form: Form) -> Kept:
            name = stem + self.endings[form]
            if job.fresh or not _whole(store, name, known):
                self.say(f"{form} {job.partition}")
                return ways[form](store, job, found, snapshot, name)
            size = store.size(name)
            assert size is not None
            return Kept(name, size, store.sha256(name), self.maker(form))

        self.stop.clear()
        with ThreadPoolExecutor(min(job.workers, len(ways)), thread_name_prefix="atlas_ops") as pool:
            futures = {form: pool.submit(one, form) for form in ways}
            try:
                wait(futures.values(), return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() and future.exception() is None for future in futures.values()):
                    self.stop.set()
        errors = [error for future in futures.values() if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda one: isinstance(one, _Stopped)):
            raise error
        return {form: future.result() for form, future in futures.items()}

    # -- pg_dump

    def dump(self, store: Store, job: Job, found: Contents, snapshot: str, name: str) -> Kept:
        """pg_dump's own format, through its standard output: as zstd, by itself where it was built with it, else around it."""
        command = [
            str(self.program), *exports.dump_arguments(job.schema, job.partition), f"--snapshot={snapshot}",
            f"--compress=zstd:{ZSTD_LEVEL}" if self.packs else "--compress=0",
            f"--lock-wait-timeout={max(self.plan.lock_timeout_ms, 1)}", f"--dbname={self.where.conninfo}",
        ]  # fmt: skip
        share = found.rows / max(job.bytes, 1)  # rows are not to be counted in a dump: told by its bytes, roughly
        with (
            store.writer(name, self.say, self.held.require) as file,
            self.brake() as brake,
            tempfile.TemporaryFile() as said,
            nullcontext(file) if self.packs else pa.CompressedOutputStream(file, "zstd") as out,
        ):
            environment = programs.environment(self.where)
            with subprocess.Popen(  # noqa: S603
                command, stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL, env=environment
            ) as process:
                assert process.stdout is not None
                programs.widen(process.stdout)
                try:
                    told = 0
                    while block := process.stdout.read(BLOCK_BYTES):
                        self.check()
                        brake()
                        out.write(block)
                        part = min(int(len(block) * share), max(found.rows - told, 0))
                        told += part
                        self.passed(part, f"dump {job.partition}")
                except BaseException:
                    process.kill()
                    raise
            if process.returncode:
                said.seek(0)
                raise AtlasError(
                    what=f"pg_dump of {job.partition} failed.",
                    why=programs.reason(said.read().decode(errors="replace")),
                    next="Cure it, then run again: nothing was changed in the database, and no half file was kept.",
                )
            self.passed(max(found.rows - told, 0), f"dump {job.partition}")
        return Kept(name, file.bytes, file.sha256, self.maker("dump"))

    # -- Parquet

    def parquet(self, store: Store, job: Job, found: Contents, snapshot: str, name: str) -> Kept:
        """COPY as CSV, which Arrow reads in chunks; so many of them become a row group."""
        fields = parquet.fields_of(job.columns, found.beyond)
        schema = arrow_schema(job, fields, found)
        with store.writer(name, self.say, self.held.require) as file, self.brake() as brake:
            try:
                with connect(self.where) as connection, connection.transaction():
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                    # a snapshot's name is the server's own; SET TRANSACTION takes no parameters
                    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
                    groups = _groups(connection, job.copied, fields)
                    first = list(islice(groups, 1))
                    options: dict[str, Any] = {"use_dictionary": _recurring(first), "compression_level": ZSTD_LEVEL}
                    with pa.parquet.ParquetWriter(file, schema, compression="zstd", **options) as writer:
                        for group in chain(first, groups):
                            self.check()
                            brake()
                            writer.write_table(group)
                            self.passed(group.num_rows, f"parquet {job.partition}")
            except psycopg.Error as error:
                raise translate(error, f"Exporting {job.partition} to Parquet") from None
        return Kept(name, file.bytes, file.sha256, self.maker("parquet"))

    def maker(self, form: Form) -> str:
        """What has written a file of that form, for the manifest."""
        if form == "parquet":
            return f"pyarrow {pa.__version__}, zstd {ZSTD_LEVEL}"
        return f"{self.version}, zstd {ZSTD_LEVEL}{'' if self.packs else ' around it'}"

    # -- progress and throttle

    def say(self, label: str) -> None:
        """Tell what is being done."""
        with self.mutex:
            self.progress(self.done, self.total, label)

    def passed(self, rows: int, label: str) -> None:
        """So many rows of one of the two forms are written."""
        with self.mutex:
            self.done = min(self.done + rows, self.total)
            self.progress(self.done, self.total, label)

    def check(self) -> None:
        """Raises where the other form has failed, or the lock of the run is lost."""
        if self.stop.is_set():
            raise _Stopped
        self.held.glance()

    @contextmanager
    def brake(self) -> Iterator[Callable[[], None]]:
        """The throttle of the plan, looked at on a connection of its own."""
        limits: Throttle = replace(self.plan.throttle, database_bytes=0)  # an export writes nothing there
        with connect(self.where) as watcher:
            held = Brake(limits, self.stop.is_set, self.say, LOOK_S)
            yield lambda: held(watcher)


class _Stopped(Exception):
    """The other form has failed."""


def arrow_schema(job: Job, fields: Sequence[Field], found: Contents) -> pa.Schema:
    """The columns in Arrow's types; PostgreSQL's are in the metadata of the file and of each column."""
    about = {
        "table": job.table, "partition": job.partition, "bound": job.bound, "key": job.key, "rows": found.rows,
        "content": str(found.content), "columns": parquet.as_json(fields), "types": list(job.types), "tool": TOOL,
    }  # fmt: skip
    return pa.schema(
        [pa.field(field.name, ARROW[field.stored], metadata={"postgresql_type": field.type}) for field in fields],
        metadata={"atlas_ops": json.dumps(about, sort_keys=True)},
    )


def read_csv(chunk: bytes | bytearray, fields: Sequence[Field]) -> pa.Table:
    """Whole rows of CSV as PostgreSQL writes it: an unquoted nothing is NULL, a quoted one is an empty text."""
    return pa.csv.read_csv(
        pa.BufferReader(chunk),
        read_options=pa.csv.ReadOptions(
            column_names=[field.name for field in fields], block_size=len(chunk) + 1, use_threads=False
        ),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa.csv.ConvertOptions(
            column_types={field.name: ARROW[field.stored] for field in fields},
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _groups(connection: psycopg.Connection, copied: str, fields: Sequence[Field]) -> Iterator[pa.Table]:
    """Row groups: of so many chunks as GROUP_BYTES hold."""
    read, size = [], 0
    for chunk in _chunks(connection, copied):
        read.append(read_csv(chunk, fields))
        size += len(chunk)
        if size >= GROUP_BYTES:
            yield pa.concat_tables(read)
            read, size = [], 0
    if read:
        yield pa.concat_tables(read)


def _recurring(groups: Sequence[pa.Table]) -> list[str]:
    """The columns whose values come again in a group: of those a dictionary saves bytes, of others it costs half of the time to write them."""
    return [
        name
        for group in groups
        for name, column in zip(group.column_names, group.columns, strict=True)
        if column.nbytes <= group.num_rows * WIDE_BYTES
        and pa.compute.count_distinct(column, mode="all").as_py() * 3 <= group.num_rows * 2
    ]


def _chunks(connection: psycopg.Connection, copied: str) -> Iterator[bytearray]:
    """Whole rows, CHUNK_BYTES of them and what the last one has more: the server sends a row a message."""
    chunk = bytearray()
    with connection.cursor() as cursor, cursor.copy(copied) as copy:
        for row in copy:
            chunk += row
            if len(chunk) >= CHUNK_BYTES:
                yield chunk
                chunk = bytearray()
    if chunk:
        yield chunk


def _whole(store: Store, name: str, known: Mapping[str, Kept]) -> bool:
    """Whether a file is there that an earlier run has written whole: one without a line had only that to come; one with a line is as that says."""
    return store.size(name) is not None and (name not in known or store.sha256(name) == known[name].sha256)


def _packs(program: Path) -> bool:
    """Whether this pg_dump was built with zstd, which it may have been since 16. Its gzip takes longer than all else that an export does."""
    # it looks at its arguments before it connects: a host that cannot be is refused at once
    tried = subprocess.run(  # noqa: S603
        [str(program), "--compress=zstd:1", "--dbname=host=/nonexistent"],
        capture_output=True, text=True, check=False, timeout=60, env={"PATH": os.defpath, "LC_ALL": "C"},
    )  # fmt: skip
    return "compress" not in tried.stderr
