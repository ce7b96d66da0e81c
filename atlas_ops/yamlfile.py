"""Reads a YAML file that a DBA wrote, and tells what is wrong with it: all faults at once, each on its line.

A file is a map with one list of maps in it: a parameters file has tables, a workload has queries. What a key
may hold is told once, as `description` and `examples` of a pydantic field; a `Form` turns what pydantic finds
into those words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError

from atlas_ops.errors import AtlasError

MOST_BYTES = 1_000_000
MOST_NODES = 10_000
_DEEPEST = 20
_MOST_SHOWN = 100

FaultPath = tuple[Any, ...]
"""Where a key stands: ("database",), ("tables", 0, "indexes") or ("tables", 0, "indexes", 1)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a file, and where."""

    path: FaultPath
    what: str
    why: str
    next: str


def refuse(why: str, next: str | None) -> NoReturn:
    """Refuse the value at hand, from inside a pydantic validator; `next` None is the key's own example."""
    raise PydanticCustomError("refused", "{why}", {"why": why, "next": next})


def refuse_together(faults: Sequence[Fault]) -> NoReturn:
    """Refuse an item whose keys disagree, from inside a pydantic validator; paths are from the item."""
    raise PydanticCustomError("between keys", "keys disagree", {"faults": list(faults)})


# What a file may hold


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of file: the keys at its top, and those of an item of its list."""

    kind: str  # "parameters file"
    items: str  # the key of the list: "tables"
    item: str  # one of them: "table"
    item_is: str  # "A table's specification"
    example: str  # the shortest file there is
    items_example: str  # the shortest list, as YAML, beginning with its key
    top_keys: str  # those it cannot do without, in words: "database and tables"
    top: Mapping[str, FieldInfo]
    keys: Mapping[str, FieldInfo]
    other_words: Mapping[str, str] = field(default_factory=dict)  # what others call what we call otherwise

    def faults(self, error: ValidationError) -> list[Fault]:
        """What pydantic found, in our words; a union refuses once a member, and is told once."""
        told: dict[tuple[FaultPath, str], Fault] = {}
        for details in error.errors(include_url=False):
            for fault in self._told(details):
                told.setdefault((fault.path, fault.what), fault)
        return list(told.values())

    def unknown(self, path: FaultPath, known: Sequence[str]) -> Fault:
        """The fault of a key that is none of `known`."""
        key = path[-1]
        what = f"{key if isinstance(key, str) and key.isidentifier() else shown(key)} is not a key known here."
        if names_a_secret(key):
            why = "What stands here ends up in records and repositories: no password, no connection string."
            return Fault(path, what, why, "Remove it; libpq reads the password from the file PGPASSFILE names.")
        other = self.other_words.get(str(key), "")
        meant = [other] if other in known else get_close_matches(str(key), known, n=1)
        if meant:
            next = f"Did you mean {meant[0]}?"
        elif len(path) == 1 and key in _by_written_key(self.keys):
            next = f"Write {key} under its {self.item}, one step further in."
        else:
            next = "Remove it."
        return Fault(path, what, f"The keys here are {', '.join(known)}.", next)

    def bad_value(self, path: FaultPath, value: object, why: str = "", next: str | None = None) -> Fault:
        """The fault of a value that its key does not take."""
        key = _key_of(path)
        field = self._fields(path)[key]
        inside = path[-1] != key
        return Fault(
            path,
            f"{key} {'holds' if inside else 'is'} {shown(value)}.",
            f"{why} {key} takes {field.description}.".strip(),
            next or f"Write {self._nearest(key, field, value)}",
        )

    def _told(self, details: ErrorDetails) -> Iterator[Fault]:
        path, value, context = details["loc"], details["input"], details.get("ctx", {})
        # without the members of a union
        path = (*path[:3], *(part for part in path[3:] if isinstance(part, int)))
        match details["type"]:
            case "between keys":
                yield from (replace(fault, path=(*path, *fault.path)) for fault in context["faults"])
            case "unexpected_keyword_argument" | "extra_forbidden" | "invalid_key":
                yield self.unknown(path, list(self._fields(path)))
            case "missing":
                yield self._missing(path)
            case "dataclass_type" if len(path) == len((self.items, 0)):
                yield Fault(
                    path,
                    f"a {self.item} is {shown(value)}.",
                    f"{self.item_is} is a map of keys.",
                    f"Write {self.items_example}",
                )
            case "refused":
                yield self.bad_value(path, value, context["why"], context["next"])
            case "default_factory_not_called":
                return  # a default that follows from another key, which is told itself
            case "too_short" if value:
                return  # pydantic counts the items that passed; those that did not are told themselves
            case "string_type" if isinstance(value, int | float):
                yield self.bad_value(path, value, next=f"Write the value of {_key_of(path)} in quotes.")
            case "int_type" if isinstance(value, str) and value.isdecimal():
                yield self.bad_value(path, value, next=f"Write the value of {_key_of(path)} without quotes.")
            case _:
                yield self.bad_value(path, value)

    def _missing(self, path: FaultPath) -> Fault:
        key, field = path[-1], self._fields(path)[path[-1]]
        return Fault(
            path,
            f"{key} is missing.",
            f"{key} is {field.description}.",
            f"Write {self._written(key, field)}",
        )

    def _fields(self, path: FaultPath) -> dict[str, FieldInfo]:
        """The fields of the map that `path` lies in, by the key a DBA writes."""
        return _by_written_key(self.top if len(path) == 1 else self.keys)

    def _nearest(self, key: str, field: FieldInfo, value: object) -> str:
        """The choice that looks most like `value`, else the key's example."""
        choices = _choices(field.annotation)
        found = get_close_matches(value.lower(), choices, n=1) if isinstance(value, str) else []
        return f"{key}: {found[0]}" if found else self._written(key, field)

    def _written(self, key: str, field: FieldInfo) -> str:
        """The key with its example, as YAML."""
        if key == self.items:
            return self.items_example
        [example, *_] = field.examples or [""]
        return f"{key}: {example if isinstance(example, str) else json.dumps(example)}"


def _by_written_key(fields: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in fields.items()}


def _key_of(path: FaultPath) -> str:
    """The key a fault lies under: what follows it in the path are items."""
    return str(path[0] if len(path) == 1 else path[2])


def _choices(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return list(annotation)
    members = get_args(annotation)
    if get_origin(annotation) is Literal:
        return list(members)
    return [choice for member in members for choice in _choices(member)]


def names_a_secret(key: object) -> bool:
    """Whether a key looks as if a password stood under it."""
    return bool(re.search(r"pass|pwd|secret|token|credential|api_?key|dsn|conninfo", str(key), re.IGNORECASE))


def shown(value: object) -> str:
    """A value in an error: short, on one line, printable, and never one that may hold a password."""
    if value is None:
        return "empty (null)"
    if isinstance(value, Mapping | list | tuple):
        return f"{'a' if value else 'an empty'} {'map' if isinstance(value, Mapping) else 'list'}"
    if not isinstance(value, str):
        return json.dumps(value) if isinstance(value, bool) else str(value)[:_MOST_SHOWN]
    if re.search(r"://|\bpass\w*\s*=", value, re.IGNORECASE):
        return "a connection string (not shown)"
    short = value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "…"
    quoted = json.dumps(short, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in quoted)


def stop(source: str, faults: Sequence[Fault], lines: Mapping[FaultPath, int], item: str = "table") -> NoReturn:
    """Raise the faults of `source` as one AtlasError, in the order of their lines."""
    placed = sorted(((_place(fault.path, lines, item), fault) for fault in faults), key=lambda pair: pair[0])
    if len(placed) == 1:
        [((_, place), fault)] = placed
        raise AtlasError(f"{source}{place}: {fault.what}", fault.why, fault.next) from None
    raise AtlasError(
        what=f"{source} has {len(placed)} faults.",
        why="\n".join(f"{place[1:]}: {fault.what} {fault.why}" for (_, place), fault in placed),
        next="\n".join(f"{place[1:]}: {fault.next}" for (_, place), fault in placed),
    ) from None


def _place(path: FaultPath, lines: Mapping[FaultPath, int], item: str) -> tuple[int, str]:
    """Where a fault stands: its line in a file, else the number of its item."""
    if lines:
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 1)
        return line, f" line {line}"
    number = next((part for part in path if isinstance(part, int)), None)
    return (0, "") if number is None else (number, f" {item} {number + 1}")


# The file


@dataclass(frozen=True, slots=True)
class Reading:
    """A file's plain data, and the line of each key and item by its path."""

    data: dict[Any, Any]
    lines: dict[FaultPath, int]


class _Constructor(RoundTripConstructor):
    """Leaves dates as text: 2024-02-30 is then refused in our words, and with its line."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", RoundTripConstructor.construct_yaml_str)


def read(path: Path, form: Form) -> Reading:
    """Read a YAML file whose top is a map.

    Raises AtlasError where it is not there, not UTF-8, not YAML, or too large.
    """
    text = _text(path, form)
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Constructor
    try:
        tree = yaml.load(text)
    except MarkedYAMLError as error:
        raise _bad_yaml(path, error) from None
    except Exception as error:  # a tag that does not fit its value: ruamel raises whatever its conversion did
        deep = isinstance(error, RecursionError)
        raise AtlasError(
            what=f"{path} cannot be read as YAML.",
            why="It is nested too deep." if deep else "It holds a character or a value that YAML does not allow.",
            next=f"Write it as\n{form.example}",
        ) from None
    lines: dict[FaultPath, int] = {}
    data = _plain(tree, (), lines, path, form)
    if not isinstance(data, dict):
        raise AtlasError(
            what=f"{path} is {'empty' if data is None else 'not a map of keys'}.",
            why=f"A {form.kind} is a map whose keys are {form.top_keys}.",
            next=f"Write it as\n{form.example}",
        )
    return Reading(data, lines)


def _text(path: Path, form: Form) -> str:
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise AtlasError(
            what=f"{path} cannot be read.",
            why=(error.strerror if isinstance(error, OSError) else None) or "The path is no path.",
            next="Name a file that is there and that you may read.",
        ) from None
    if len(raw) > MOST_BYTES:
        raise _too_large(path, form)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise AtlasError(
            what=f"{path} line {line}: this is not UTF-8.",
            why="YAML is read as UTF-8; another encoding would change names without a word.",
            next="Save the file as UTF-8.",
        ) from None


def _too_large(path: Path, form: Form) -> AtlasError:
    return AtlasError(
        what=f"{path} is too large for a {form.kind}.",
        why=f"It holds over {MOST_BYTES:,} bytes or {MOST_NODES:,} values, or itself.",
        next=f"Name the {form.kind}, or write several smaller ones.",
    )


def _plain(node: object, path: FaultPath, lines: dict[FaultPath, int], file: Path, form: Form) -> Any:
    """Plain Python data out of ruamel's; notes the line of each key and item."""
    if len(lines) > MOST_NODES or len(path) > _DEEPEST:  # aliases of aliases, or of itself
        raise _too_large(file, form)
    if isinstance(node, CommentedMap):
        for key in node:
            lines[*path, key] = _line(node, key, node.lc.key)
        return {key: _plain(value, (*path, key), lines, file, form) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        for i in range(len(node)):
            lines[*path, i] = _line(node, i, node.lc.item)
        return [_plain(value, (*path, i), lines, file, form) for i, value in enumerate(node)]
    for kind in (str, bool, int, float):
        if isinstance(node, kind):
            return kind(node)
    return node


def _line(node: Any, key: object, position: Any) -> int:
    try:
        return int(position(key)[0]) + 1
    except (KeyError, TypeError):  # a key merged in by << stands elsewhere; a tag may lose the place
        return int(node.lc.line) + 1


def _bad_yaml(path: Path, error: MarkedYAMLError) -> AtlasError:
    """YAML's own words, except that its quotations of the file (which may hold anything) are left out."""
    mark = error.problem_mark or error.context_mark
    place = f"{path} line {mark.line + 1}" if mark else str(path)
    problem = str(error.problem or error.context or "it cannot be read")
    if isinstance(error, DuplicateKeyError):
        key = problem.partition('"')[2].partition('"')[0]
        return AtlasError(
            what=f"{place}: the key {shown(key)} stands there twice.",
            why="Only one of the two could count, and readers of YAML differ on which.",
            next="Remove one of them.",
        )
    if r"'\t'" in problem:
        return AtlasError(
            what=f"{place}: a tab.",
            why="YAML allows no tab where a line is indented or a value begins.",
            next="Indent with spaces.",
        )
    return AtlasError(
        what=f"{place}: this is not YAML.",
        why=problem[:1].upper() + problem[1:] + ".",
        next="Check the indentation, the colons and the quotes of this line and the one before.",
    )
