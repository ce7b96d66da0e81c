"""Reads the files of an archive as rows for COPY ... FROM STDIN. A file that is not the one of the manifest stops it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from atlas_ops import programs
from atlas_ops.errors import AtlasError
from atlas_ops.execute import Feed
from atlas_ops.manifest import Export, Form, Kept
from atlas_ops.store import BLOCK_BYTES, Store

BATCH_ROWS = 16_384
_HEAD, _START, _END = b"\nCOPY ", b" FROM stdin;\n", b"\\.\n"
_LONGEST_HEAD = 64 << 20  # of what pg_restore writes before the rows


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


def _parquet(store: Store, kept: Kept) -> Iterator[tuple[bytes, int]]:
    """Batches of rows as CSV, in which a text is quoted and NULL is not."""
    if store.size(kept.name) is None or store.sha256(kept.name) != kept.sha256:
        raise damaged(store, kept)
    with store.open(kept.name) as file, pa.parquet.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=BATCH_ROWS):
            out = io.BytesIO()
            pa.csv.write_csv(batch, out, pa.csv.WriteOptions(include_header=False))
            yield out.getvalue(), batch.num_rows


def _dump(store: Store, kept: Kept, major: int) -> Iterator[tuple[bytes, int]]:
    """The rows between pg_restore's COPY and its \\., as text."""
    program, _ = programs.find("pg_restore", major)
    if store.size(kept.name) != kept.bytes:
        raise damaged(store, kept)
    command = [str(program), "--data-only", "--file=-"]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as process:  # noqa: S603
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


class _Pump(threading.Thread):
    """Feeds a file to a program and hashes it on the way."""

    def __init__(self, store: Store, kept: Kept, process: subprocess.Popen[bytes]) -> None:
        super().__init__(name="atlas_ops pump", daemon=True)
        self.store, self.kept, self.process = store, kept, process
        self.error: AtlasError | None = None
        self.stopped = threading.Event()
        self.sha256 = ""

    def run(self) -> None:
        digest, listening = hashlib.sha256(), True
        assert self.process.stdin is not None
        try:
            for block in self.store.blocks(self.kept.name):
                digest.update(block)
                if self.stopped.is_set():
                    return
                listening = listening and self._sent(block)
            self.sha256 = digest.hexdigest()
        except AtlasError as error:
            self.error = error
        finally:
            self._sent(None)

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
    """What stands between COPY and \\. of a script; nothing where there is no COPY."""
    head = b"\n"
    while _START not in head[max(head.find(_HEAD), 0) :] or _HEAD not in head:
        block = stream.read(4096)
        if not block or len(head) > _LONGEST_HEAD:
            return
        head += block
    begun = head.index(_START, head.index(_HEAD)) + len(_START)
    left = head[begun:]
    while True:
        if left.startswith(_END):
            return
        ended = left.find(b"\n" + _END)
        if ended >= 0:
            rows = left[: ended + 1]
            yield rows, rows.count(b"\n")
            return
        # the last line may be the beginning of the end
        cut = left.rfind(b"\n", 0, max(len(left) - len(_END), 0)) + 1
        if cut:
            yield left[:cut], left.count(b"\n", 0, cut)
            left = left[cut:]
        block = stream.read(BLOCK_BYTES)
        if not block:
            if left:
                yield left, left.count(b"\n")
            return
        left += block
