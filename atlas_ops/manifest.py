"""The manifest of a table's archive: a chain of lines, one a file, that are never written again. Pure.

`manifest/00000007_exported_messages_2024_01.0a1b2c3d4e5f6789.json` holds one line of canonical JSON with a number, an event, and the SHA-256 of the
line before; the beginning of its own is in its name. A line that is missing, changed or put in breaks the chain. That the newest lines were cut
off, or all of it was forged, only an anchor elsewhere tells: every record of 08 and 11 holds the head, which is the SHA-256 of the last line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from atlas_ops.errors import AtlasError
from atlas_ops.parquet import Field

FORMAT = 1
FOLDER = "manifest"
_LINE = re.compile(r"(\d{8})_(?:exported|proven|dropped|restored)_[^/]*\.([0-9a-f]{16})\.json")
_NAME_BYTES = 150  # of a partition's name in a file's name: 63 bytes may become 189

Event = Literal["exported", "proven", "dropped", "restored"]
Purpose = Literal["archive", "backup"]
Form = Literal["dump", "parquet"]
FORMS: tuple[Form, Form] = ("dump", "parquet")


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the archive, by its name beside the manifest's folder."""

    name: str
    bytes: int
    sha256: str
    made_by: str  # the program and its version


@dataclass(frozen=True, slots=True)
class Named:
    """An index or a statistics object of the partition, so that it can get its name back; `is_` is what it is made of."""

    name: str
    is_: str


@dataclass(frozen=True, slots=True)
class Export:
    """A month as it was exported: what it is, what it held, and in which files that lies."""

    schema: str
    partition: str
    bound: str  # FOR VALUES FROM ... TO ..., in UTC
    key: str
    purpose: Purpose
    fields: tuple[Field, ...]
    rows: int
    content: int
    lowest: str | None
    highest: str | None
    files: Mapping[Form, Kept]
    comment: str | None = None  # the partition's before it was detached
    storage_parameters: tuple[str, ...] = ()
    indexes: tuple[Named, ...] = ()
    statistics: tuple[Named, ...] = ()
    types: tuple[str, ...] = ()  # SQL that tells what types of the database's own the columns have


@dataclass(frozen=True, slots=True)
class Proof:
    """Both forms of an export were restored, and held the same rows."""

    of: int  # the number of the export's line
    where: str  # the database that restored them
    version: str
    sha256: Mapping[Form, str]  # of the files as they were read


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what happened, when, and where in the chain."""

    number: int  # from 1
    previous: str  # SHA-256 of the line before; empty for the first
    event: Event
    at: str  # ISO 8601, UTC
    tool: str
    system_identifier: str
    database: str
    table: str  # as the specification writes it
    partition: str
    body: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> bytes:
        """Canonical JSON, with a line feed."""
        return (
            json.dumps(
                {"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"), ensure_ascii=True
            ).encode()
            + b"\n"
        )

    @property
    def file(self) -> str:
        """Its name beside the table's files."""
        digest = hashlib.sha256(self.text()).hexdigest()[:16]
        return f"{FOLDER}/{self.number:08}_{self.event}_{_short(self.partition)}.{digest}.json"

    @property
    def export(self) -> Export:
        """What was exported, of such a line."""
        files = {form: Kept(**kept) for form, kept in self.body["files"].items()}
        made = {
            **self.body,
            "files": files,
            "fields": tuple(Field(**one) for one in self.body["fields"]),
            "indexes": tuple(Named(**one) for one in self.body["indexes"]),
            "statistics": tuple(Named(**one) for one in self.body["statistics"]),
            "storage_parameters": tuple(self.body["storage_parameters"]),
            "types": tuple(self.body["types"]),
        }
        return Export(**made)

    @property
    def proof(self) -> Proof:
        """What was proven, of such a line."""
        return Proof(**self.body)


@dataclass(frozen=True, slots=True)
class Month:
    """What the manifest says of one partition: its newest export, and what came of it."""

    line: Line
    proof: Line | None = None
    dropped: Line | None = None
    restored: Line | None = None

    @property
    def export(self) -> Export:
        """Its newest export."""
        return self.line.export

    @property
    def proven(self) -> bool:
        """Both forms were restored and compared, from the files that the export wrote."""
        if self.proof is None:
            return False
        files = self.export.files
        return self.proof.proof.sha256 == {form: kept.sha256 for form, kept in files.items()}


def stem(partition: str, rows: int, content: int) -> str:
    """The name of a month's files without their ending. It follows from the content, so that a killed export goes on file by file."""
    digest = hashlib.sha256(f"{rows}:{content}".encode()).hexdigest()[:16]
    return f"{_short(partition)}.{digest}"


def place(system_identifier: str, database: str, schema: str, table: str) -> str:
    """The folder of a table in an archive. Two servers never write one manifest; after an upgrade the old one's folder still is read."""
    return f"{system_identifier}/{quote(database, safe='')}/{quote(schema, safe='')}.{quote(table, safe='')}"


def following(lines: Sequence[Line], **fields: Any) -> Line:
    """The next line of a chain."""
    return Line(number=len(lines) + 1, previous=head(lines), **fields)


def head(lines: Sequence[Line]) -> str:
    """The SHA-256 of the last line; empty where there is none."""
    return hashlib.sha256(lines[-1].text()).hexdigest() if lines else ""


def chain(files: Iterable[tuple[str, bytes]], where: str) -> tuple[Line, ...]:
    """The lines in their order, from (name, content) of every file in the manifest's folder; `where` is for the error.

    Raises AtlasError where the chain is broken: a line is missing, was changed, or was put in.
    """
    lines: list[Line] = []
    for name, content in sorted(files):
        found = _LINE.fullmatch(name.rpartition("/")[2])
        if not found:
            continue
        if int(found[1]) != len(lines) + 1:
            missing = len(lines) + 1
            told = "stands twice" if int(found[1]) < missing else "is missing"
            raise _broken(where, f"line {min(missing, int(found[1]))} {told}")
        line = _read(content)
        if (
            line is None
            or (line.number, line.text()) != (int(found[1]), content)
            or found[2] != hashlib.sha256(content).hexdigest()[:16]
        ):
            raise _broken(where, f"line {int(found[1])} was changed")
        if line.previous != head(lines):
            raise _broken(
                where, f"line {line.number} does not follow line {line.number - 1}, which was changed or exchanged"
            )
        lines.append(line)
    return tuple(lines)


def months(lines: Sequence[Line]) -> dict[str, Month]:
    """Partition → what is known of it, in the order of the newest exports."""
    found: dict[str, Month] = {}
    for line in lines:
        known = found.get(line.partition)
        match line.event:
            case "exported":
                found.pop(line.partition, None)
                found[line.partition] = Month(line)
            case "proven" if known and line.proof.of == known.line.number:
                found[line.partition] = Month(known.line, line, known.dropped, known.restored)
            case "dropped" if known:
                found[line.partition] = Month(known.line, known.proof, line, None)
            case "restored" if known:
                found[line.partition] = Month(known.line, known.proof, known.dropped, line)
            case _:
                pass
    return found


def _read(content: bytes) -> Line | None:
    try:
        kept = json.loads(content)
        if kept.pop("format") != FORMAT:
            return None
        return Line(**kept)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _short(partition: str) -> str:
    """A partition's name as a part of a file's name on any system."""
    written = quote(partition, safe="")
    if len(written) <= _NAME_BYTES:
        return written
    return f"{written[: _NAME_BYTES - 9]}_{hashlib.sha256(partition.encode()).hexdigest()[:8]}"


def _broken(where: str, what: str) -> AtlasError:
    return AtlasError(
        what=f"The manifest of {where} is broken: {what}.",
        why="Each line holds the SHA-256 of the one before. With a gap in the chain nothing of this archive can be vouched for, so nothing is "
        "dropped on its word, and nothing is added to it.",
        next="Bring the manifest's folder back from a copy of the archive. If there is none: name a new, empty archive_to and export again what is "
        "still in the database; the files of the old one still can be restored by hand: docs/archive.md.",
    )
