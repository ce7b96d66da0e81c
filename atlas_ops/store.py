"""The folder of an archive, on a file system or in object storage. A file is there whole, or is not there.

On a file system: a temporary name, fsync, rename, fsync of the folder. In object storage an object appears when its upload is complete, and
not before. Either way it is read again, and must have the SHA-256 of what was written. No password passes through here: object storage finds
its credentials and its endpoint where the AWS tools find them (AWS_PROFILE, AWS_ENDPOINT_URL, ~/.aws).
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from atlas_ops import manifest
from atlas_ops.errors import AtlasError
from atlas_ops.manifest import Line

BLOCK_BYTES = 1 << 20
PART_BYTES = 16 << 20  # of an upload: S3 takes 10,000 parts, so that a file may have 160 GB
PART = ".part"  # the ending of a file that is being written
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Told = Callable[[str], None]


Ready = Callable[[], None]


def _silent(_: str) -> None:
    """Nobody listens."""


def _always() -> None:
    """Nothing stands in the way."""


class Writer:
    """A file being written: counts and hashes what passes. Enough of a file for pyarrow."""

    def __init__(self, raw: Any) -> None:
        self._raw, self._hash, self.bytes, self.closed = raw, hashlib.sha256(), 0, False

    def write(self, block: Any) -> int:
        """Append a block."""
        view = memoryview(block).cast("B")
        self._raw.write(view)
        self._hash.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.bytes

    def close(self) -> None:
        """Nothing more comes: the store closes what it has opened."""
        self.closed = True

    def flush(self) -> None:
        """The file is flushed when it is complete."""

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()


class Store:
    """One table's folder; names in it use /. Raises AtlasError where it cannot be read or written."""

    def __init__(self, url: str, place: str = "") -> None:
        self.where = f"{url.rstrip('/')}/{place}".rstrip("/")
        self._read: dict[str, bytes] = {}  # the manifest's lines by name: they are written once
        if url.startswith("s3://"):
            self.local, self._fs = None, _object_storage()
            self._root = self.where.removeprefix("s3://")
        else:
            self.local, self._fs = Path(url.removeprefix("file://")) / place, None

    def folders(self) -> list[str]:
        """The folders right in it; none where it is not there."""
        with self._told("read"):
            if self.local is not None:
                return (
                    sorted(path.name for path in self.local.iterdir() if path.is_dir()) if self.local.is_dir() else []
                )
            self._fs.invalidate_cache()
            if not self._fs.exists(self._root):
                return []
            found = self._fs.ls(self._root, detail=True)
            return sorted(one["name"].rpartition("/")[2] for one in found if one["type"] == "directory")

    def names(self, folder: str = "") -> list[str]:
        """The files in a folder and below it, sorted; none where there is no such folder."""
        with self._told("read"):
            if self.local is not None:
                top = self.local / folder
                found = [path.relative_to(self.local).as_posix() for path in top.rglob("*") if path.is_file()]
            else:
                self._fs.invalidate_cache()
                at = f"{self._root}/{folder}".rstrip("/")
                found = [path.removeprefix(f"{self._root}/") for path in self._fs.find(at)]
        return sorted(found)

    def size(self, name: str) -> int | None:
        """The bytes of a file; None: there is none of that name."""
        with self._told("read"):
            if self.local is not None:
                path = self.local / name
                return path.stat().st_size if path.is_file() else None
            self._fs.invalidate_cache()
            try:
                return int(self._fs.info(f"{self._root}/{name}")["size"])
            except FileNotFoundError:
                return None

    def open(self, name: str) -> BinaryIO:
        """A file to read from, at any place."""
        with self._told("read"):
            if self.local is not None:
                return (self.local / name).open("rb")
            return cast(BinaryIO, self._fs.open(f"{self._root}/{name}", "rb", block_size=BLOCK_BYTES * 4))

    def readable(self, connection: Any, name: str) -> str:
        """How DuckDB calls a file. Of object storage by this client: DuckDB's own would have to be downloaded."""
        if self.local is not None:
            return str(self.local / name)
        if not connection.filesystem_is_registered("s3"):
            connection.register_filesystem(self._fs)
        return f"s3://{self._root}/{name}"

    def blocks(self, name: str) -> Iterator[bytes]:
        """The content of a file."""
        with self._told("read"), self.open(name) as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def sha256(self, name: str) -> str:
        """Of the content as it is now; read whole."""
        digest = hashlib.sha256()
        for block in self.blocks(name):
            digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def writer(
        self, name: str, told: Told = _silent, ready: Ready = _always, *, once: bool = False
    ) -> Iterator[Writer]:
        """A new file, there under its name once the block ends. `told` hears of each step; `once`: never in the place of another.
        `ready` is called last before it gets its name: what it raises keeps it from that.

        Raises AtlasError where it cannot be written, reads otherwise than it was written, or, with `once`, is there.
        """
        with self._told("written"):
            if self.local is not None:
                with self._file(self.local / name, told, ready, once) as writer:
                    yield writer
            else:
                with self._object(f"{self._root}/{name}", ready) as writer:
                    yield writer
                told(f"named {name}")
            if self.sha256(name) != writer.sha256:
                raise AtlasError(
                    what=f"{name} reads otherwise than it was written.",
                    why=f"Its SHA-256 in {self.where} is not that of what was sent: the disk or the network is faulty.",
                    next="Look at the machine, then run again: the file is written anew.",
                )
        told(f"read again {name}")

    @contextmanager
    def _file(self, final: Path, told: Told, ready: Ready, once: bool) -> Iterator[Writer]:
        final.parent.mkdir(parents=True, exist_ok=True)
        # a name of its own: a run that does not know yet that it has lost its lock writes into no file of another
        part = final.with_name(f"{final.name}.{secrets.token_hex(4)}{PART}")
        try:
            with part.open("wb") as raw:
                writer = Writer(raw)
                yield writer
                raw.flush()
                os.fsync(raw.fileno())
                if hasattr(os, "posix_fadvise"):  # so that it is read again from the disk
                    os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            told(f"written {final.name}")
            ready()
            _rename(part, final, once)
            told(f"named {final.name}")
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _fsync_folder(final.parent)

    @contextmanager
    def _object(self, path: str, ready: Ready) -> Iterator[Writer]:
        raw = self._fs.open(path, "wb", block_size=PART_BYTES)
        try:
            writer = Writer(raw)
            yield writer
            ready()
        except BaseException:
            with suppress(Exception):  # what matters is the error that came first
                raw.discard()
            raw.closed = True
            raise
        raw.close()

    def remove(self, name: str) -> None:
        """A file of ours that is no longer needed."""
        with self._told("written"):
            if self.local is not None:
                (self.local / name).unlink(missing_ok=True)
            else:
                self._fs.rm_file(f"{self._root}/{name}")

    def sweep(self) -> None:
        """What a killed run left half written goes. Only under the lock of a run: nobody else writes here then."""
        for name in self.names():
            if name.endswith(PART):
                self.remove(name)

    # -- the manifest

    def lines(self) -> tuple[Line, ...]:
        """The manifest, its chain checked; a line that this object has read is not read again. Raises AtlasError where it is broken."""
        names = [name for name in self.names(manifest.FOLDER) if not name.endswith(PART)]
        self._read = {name: self._read.get(name) or b"".join(self.blocks(name)) for name in names}
        return manifest.chain(self._read.items(), self.where)

    def append(self, line: Line, told: Told = _silent, ready: Ready = _always) -> None:
        """Add a line; `ready` as for `writer`. Raises AtlasError where somebody else has added one of that number meanwhile."""
        number = f"{manifest.FOLDER}/{line.number:08}_"
        if any(name.startswith(number) for name in self.names(manifest.FOLDER) if not name.endswith(PART)):
            raise self._twice(line)
        if self.local is not None:
            with self.writer(line.file, told, ready, once=True) as file:
                file.write(line.text())
            return
        ready()
        with self._told("written"):
            try:
                self._fs.pipe_file(f"{self._root}/{line.file}", line.text(), mode="create")
            except FileExistsError:
                raise self._twice(line) from None
        told(f"named {line.file.rpartition('/')[2]}")
        self.lines()

    def _twice(self, line: Line) -> AtlasError:
        return AtlasError(
            what=f"Line {line.number} of the manifest in {self.where} is there already.",
            why="Another run has added it since this one read the manifest.",
            next="Run again: the manifest is read anew, and files that are complete stay.",
        )

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        """One translator of what a file system or object storage says. Never the text of a request, which could hold a signature."""
        try:
            yield
        except OSError as error:
            raise self._error(error, verb) from None
        except AtlasError:
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec"):
                raise
            raise AtlasError(
                what=f"{self.where} cannot be {verb}.",
                why=f"{type(error).__name__}: object storage refused it, or no credentials were found.",
                next="Try the same with the AWS tools and this user's environment (AWS_PROFILE, AWS_ENDPOINT_URL): aws s3 ls",
            ) from None

    def _error(self, error: OSError, verb: str) -> AtlasError:
        if error.errno in FULL:
            return AtlasError(
                what=f"There is no room in {self.where}.",
                why=f"{error.strerror}. Nothing was lost: a file that is not whole was removed, those that are stay.",
                next="Free space, or name another archive_to, then run again: it goes on with the file that is missing.",
            )
        if isinstance(error, FileExistsError):
            return AtlasError(
                what=f"A file of that name is in {self.where} already.",
                why="Another run has written it meanwhile.",
                next="Run again: the folder is read anew.",
            )
        missing = isinstance(error, FileNotFoundError)
        return AtlasError(
            what=f"{self.where} cannot be {verb}.",
            why="A file or the bucket is not there." if missing else f"{error.strerror or type(error).__name__}.",
            next="Bring the archive's files back from their copy, or correct archive_to."
            if missing
            else "Let this user read and write there, or correct archive_to; then run again.",
        )


def _rename(part: Path, final: Path, once: bool) -> None:
    """`once`: raises FileExistsError where there is one, in one step: a link is refused, a rename would replace."""
    if not once:
        part.rename(final)
        return
    try:
        os.link(part, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without links; whoever writes here holds the lock of a run
        if final.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        part.rename(final)
        return
    part.unlink()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _object_storage() -> Any:
    try:
        import s3fs  # noqa: PLC0415 - an extra, and seconds to import
    except ImportError:
        raise AtlasError(
            what="archive_to is in object storage, and s3fs is not installed.",
            why="It is an extra of this package.",
            next='pip install "atlas_ops[s3]", or name a folder.',
        ) from None
    return s3fs.S3FileSystem(default_block_size=PART_BYTES, default_cache_type="readahead", max_concurrency=2)
