"""Reads the files of an archive as rows for COPY ... FROM STDIN. A file that is not the one of the manifest stops it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from atlas_ops import programs
from atlas_ops.errors import AtlasError
from atlas_ops.execute import Block, Feed
from atlas_ops.manifest import Export, Form, Kept
from atlas_ops.store import BLOCK_BYTES, Store

BATCH_ROWS = 16_384  # at most; and of wide rows so many as BATCH_BYTES hold
BATCH_BYTES = 4 << 20
_HEAD, _START, _END = b"\nCOPY ", b" FROM stdin;\n", b"\\.\n"
_LONGEST_HEAD = 64 << 20  # of what pg_restore writes before the rows
_TAIL = 64 << 10  # what it writes after them is shorter; if it were not, the server ignores what follows \.


def feed(store: Store, export: Export, form: Form, major: int) -> Feed:
    """The rows of one file; `major`: of the server that takes them, whose pg_restore reads a dump."""
    kept = export.files[form]
    return lambda: _parquet(store, kept) if form == "parquet" else _dump(store, kept, major)


def check(store: Store, export: Export) -> None:
    """Raises AtlasError where a file of an export is missing or is not what was written."""
    for kept in export.files.values():
        if store.size(kept.name) is None or store.sha256(kept.name) != kept.sha256:
            raise damaged(store, kept)


def damaged(store: Store, kept: Kept) -> AtlasError:
    """A file that is missing, cut or changed."""
    size = store.size(kept.name)
    told = (
        "is not there"
        if size is None
        else f"has {size:,} bytes, and {kept.bytes:,} were written"
        if size != kept.bytes
        else "has other content"
    )
    return AtlasError(
        what=f"{kept.name} {told}.",
        why=f"Its SHA-256 is not that of the manifest in {store.where}. Nothing is dropped or restored on the word of such a file.",
        next="Bring the file back from a copy of the archive. While the month is still in the database: export it again, "
        'how = "export", with its name in partitions. The other form may still be whole: 11 Restore archive takes either.',
    )


def _parquet(store: Store, kept: Kept) -> Iterator[tuple[Block, int]]:
    """Batches of rows as CSV, in which a text is quoted and NULL is not. Never more than a row group at once."""
    if store.size(kept.name) is None or store.sha256(kept.name) != kept.sha256:
        raise damaged(store, kept)
    options = pa.csv.WriteOptions(include_header=False, batch_size=BATCH_ROWS)
    with store.open(kept.name) as file, pa.parquet.ParquetFile(file) as source:
        for number in range(source.num_row_groups):
            group = source.metadata.row_group(number)
            rows = min(BATCH_ROWS, max(group.num_rows * BATCH_BYTES // max(group.total_byte_size, 1), 1))
            for batch in source.iter_batches(batch_size=rows, row_groups=[number], use_threads=False):
                out = pa.BufferOutputStream()
                pa.csv.write_csv(_in_utc(batch), out, options)
                yield memoryview(out.getvalue()), batch.num_rows


def _in_utc(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Times without their zone, which is UTC as that of the session that takes them: Arrow writes a time with a zone six times as slowly."""
    return pa.RecordBatch.from_arrays(
        [column.view(pa.timestamp("us")) if pa.types.is_timestamp(column.type) else column for column in batch.columns],
        names=batch.schema.names,
    )


def _dump(store: Store, kept: Kept, major: int) -> Iterator[tuple[bytes, int]]:
    """The rows between pg_restore's COPY and its \\., as text."""
    program, _ = programs.find("pg_restore", major)
    if store.size(kept.name) != kept.bytes:
        raise damaged(store, kept)
    command = [str(program), "--data-only", "--file=-"]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as process:  # noqa: S603
            programs.widen(process.stdin, process.stdout)
            pump = _Pump(store, kept, process)
            pump.start()
            try:
                assert process.stdout is not None
                yield from _rows(process.stdout)
                while process.stdout.read(BLOCK_BYTES):
                    pass  # so that it comes to its end, and the file is read whole
            except BaseException:
                pump.stopped.set()
                process.kill()
                raise
            finally:
                pump.join()
        pump.require_whole()
        if process.returncode:
            said.seek(0)
            raise AtlasError(
                what=f"pg_restore cannot read {kept.name}.",
                why=programs.reason(said.read().decode(errors="replace")),
                next="The file is the one that was written. Look whether this pg_restore is older than the pg_dump that wrote it: "
                + kept.made_by,
            )


class _Blocks(io.RawIOBase):
    """Blocks as a file that is read from its beginning to its end."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self.blocks, self.left = blocks, memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: Any) -> int:
        """Part of a block; 0 at the end."""
        self.left = self.left or memoryview(next(self.blocks, b""))
        size = min(len(into), len(self.left))
        into[:size], self.left = self.left[:size], self.left[size:]
        return size


def _unpacked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """What zstd has packed."""
    with pa.CompressedInputStream(pa.PythonFile(_Blocks(blocks), mode="r"), "zstd") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


class _Pump(threading.Thread):
    """Feeds a file to a program and hashes it on the way."""

    def __init__(self, store: Store, kept: Kept, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name="atlas_ops pump", daemon=True)
        self.store, self.kept, self.process = store, kept, process
        self.error: AtlasError | None = None
        self.stopped = threading.Event()
        self.sha256 = ""

    def run(self) -> None:
        digest = hashlib.sha256()
        read = self._hashed(digest)
        try:
            # what is no zstd is a damaged file, and its hash will tell
            with suppress(OSError, pa.ArrowException):
                self._send(_unpacked(read) if self.kept.name.endswith(".zst") else read)
            for _ in read:
                if self.stopped.is_set():
                    return
            self.sha256 = digest.hexdigest()
        except AtlasError as error:
            self.error = error
        finally:
            self._sent(None)

    def _hashed(self, digest: Any) -> Iterator[bytes]:
        for block in self.store.blocks(self.kept.name):
            digest.update(block)
            yield block

    def _send(self, blocks: Iterator[bytes]) -> None:
        for block in blocks:
            if self.stopped.is_set() or not self._sent(block):
                return

    def _sent(self, block: bytes | None) -> bool:
        """Whether the program still listens: one that has seen enough, or was killed, does not."""
        stdin = self.process.stdin
        assert stdin is not None
        try:
            if block is None:
                stdin.close()
            else:
                stdin.write(block)
        except (BrokenPipeError, ValueError):
            return False
        return True

    def require_whole(self) -> None:
        """Raises AtlasError where what was read is not what was written."""
        if self.error is not None:
            raise self.error
        if self.sha256 != self.kept.sha256:
            raise damaged(self.store, self.kept)


def _rows(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """What stands between COPY and \\. of a script; nothing where there is no COPY. The end is looked for at the end alone."""
    head = b"\n"
    while _START not in head[max(head.find(_HEAD), 0) :] or _HEAD not in head:
        block = stream.read(4096)
        if not block or len(head) > _LONGEST_HEAD:
            return
        head += block
    left = head[head.index(_START, head.index(_HEAD)) + len(_START) :]
    told, sent = 0.0, 0
    while block := stream.read(BLOCK_BYTES):
        left += block
        cut = left.rfind(b"\n", 0, max(len(left) - _TAIL, 0)) + 1
        if cut:
            # rows a byte, for the progress: to count them all takes longer than to send them
            told = told or left.count(b"\n", 0, cut) / cut
            yield left[:cut], int((sent + cut) * told) - int(sent * told)
            left, sent = left[cut:], sent + cut
    ended = (b"\n" + left).find(b"\n" + _END)  # it may be the first line
    rows = left if ended < 0 else left[:ended]
    if rows:
        yield rows, rows.count(b"\n")
