"""What a key of a specification may hold: names, days, durations, sizes and places as people write them.

Each reader refuses what PostgreSQL, or we, would misread, with the cure; what comes out needs no second look. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.dataclasses import dataclass

from atlas_ops.bounds import MOST_PERIODS, Every
from atlas_ops.yamlfile import refuse, shown

MOST_BYTES_OF_A_NAME = 63
"""NAMEDATALEN - 1. PostgreSQL cuts a longer name short with a mere NOTICE, and two names may become one."""


class Name(str):
    """An identifier as the catalogs hold it, unquoted and folded; `psycopg.sql.Identifier` quotes it."""

    __slots__ = ()


_IDENTIFIER = r'(?:[A-Za-z_\u0080-\U0010ffff][\w$]*|"(?:[^"\0]|"")+")'
_ONE_NAME = re.compile(_IDENTIFIER)
_QUALIFIED = re.compile(rf"(?:({_IDENTIFIER})\.)?({_IDENTIFIER})")
_UPPER_TO_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _name(identifier: str) -> Name:
    """Fold (ASCII letters only, as in UTF8) or unquote as PostgreSQL does; refuse what it would cut short."""
    if identifier.startswith('"'):
        name = identifier[1:-1].replace('""', '"')
    else:
        name = identifier.translate(_UPPER_TO_LOWER)
    return Name(_short_enough(name))


def _short_enough(name: str) -> str:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        refuse("It holds half a character, which no UTF-8 text can.", "Write the name as the catalog has it.")
    if size > MOST_BYTES_OF_A_NAME:
        refuse(
            f"The name {shown(name)} is {size} bytes long; PostgreSQL keeps {MOST_BYTES_OF_A_NAME}.",
            f"Use a name of at most {MOST_BYTES_OF_A_NAME} bytes.",
        )
    return name


def _parse_name(value: object, handler: ValidatorFunctionWrapHandler) -> Name:
    if isinstance(value, Name):  # already parsed: dataclasses.replace validates again
        return value
    written: str = handler(value)
    if not _ONE_NAME.fullmatch(written):
        refuse("It is no SQL identifier.", "Quote a name that is not plain: '\"My Column\"'.")
    return _name(written)


def qualified(written: str) -> tuple[Name, Name]:
    """Schema and name of a table written as in SQL; a bare name lies in public."""
    found = _QUALIFIED.fullmatch(written)
    if not found:
        refuse("It is no table's name.", 'Write table, schema.table or, quoted, \'"My Schema"."My Table"\'.')
    return _name(found[1] or "public"), _name(found[2])


def _parse_table(value: str) -> str:
    qualified(value)
    return value


def _parse_day(value: object) -> object:
    """A date, or its text: YAML and papermill disagree on which one a bare 2024-01-01 is."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            refuse("There is no such day.", None)
    return value


def _parse_as_of(value: str) -> str:
    if value:
        _parse_day(value)
    return value


def _parse_every(value: object) -> object:
    return Every(value) if isinstance(value, str) and value in list(Every) else value


_MILLISECONDS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = r"(\d{1,9}) ?(ms|s|min|h|d)"


def milliseconds(duration: str) -> int:
    """Milliseconds of a duration as PostgreSQL writes it. Raises pydantic's error for what is none."""
    found = re.fullmatch(_DURATION, duration, re.ASCII)
    if not found:
        refuse("A duration is a whole number and a unit of ms, s, min, h or d, as PostgreSQL writes it.", None)
    return int(found[1]) * _MILLISECONDS[found[2]]


def _bounded(least: str, most: str) -> BeforeValidator:
    """A duration between two others."""

    def check(value: object) -> object:
        if isinstance(value, str) and not (milliseconds(least) <= milliseconds(value) <= milliseconds(most)):
            refuse(f"It must lie between {least} and {most}.", None)
        return value

    return BeforeValidator(check)


def _parse_expression(value: str) -> str:
    """Refuse what could end the expression early; its meaning is for the plan's reader."""
    rest = re.sub(r"'[^']*'|\"[^\"]*\"", "", value)
    depth = [rest[: i + 1].count("(") - rest[: i + 1].count(")") for i in range(len(rest))]
    balanced = not depth or (min(depth) >= 0 and depth[-1] == 0)
    if not value.strip() or re.search(r"\\|\0", value) or re.search(r"['\";$]|--|/\*", rest) or not balanced:
        refuse(
            "It must be one whole SQL expression, without ; comments, $ or backslashes.",
            "Write null_keys: {value: \"coalesce(edited_at, '2024-01-01 00:00:00+00')\"}",
        )
    return value


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class KeyFrom:
    """Where a row without a partition key takes one from."""

    value: Annotated[str, Field(strict=True)] = Field(description="an SQL expression over the row's columns")


def _parse_null_keys(value: object) -> object:
    if isinstance(value, Mapping):
        if set(value) != {"value"} or not isinstance(value["value"], str):
            refuse("The map must hold value and nothing else, an SQL expression.", None)
        return KeyFrom(value=_parse_expression(value["value"]))
    return value


def _parse_indexes(value: object) -> object:
    if isinstance(value, list | tuple) and any(isinstance(index, str) for index in value):
        refuse("Each index is a list of its own, even if of one column.", None)
    return value


SERVICE = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"
_DECEMBER = 12
_DAYS = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)


def stretch(written: str) -> tuple[datetime, datetime]:
    """A year, a month or a day, from its first moment to the first one after it, in UTC. Raises ValueError for what is none."""
    found = _DAYS.fullmatch(written)
    if not found:
        raise ValueError(written)
    year, month, day = int(found[1]), int(found[2] or 1), int(found[3] or 1)
    first = datetime(year, month, day, tzinfo=UTC)
    if found[3]:
        return first, first + timedelta(days=1)
    after = (year + 1, 1) if not found[2] or month == _DECEMBER else (year, month + 1)
    return first, datetime(*after, 1, tzinfo=UTC)


def _parse_hold(value: object) -> object:
    if isinstance(value, list | tuple):
        # YAML makes a number of 2024 and a date of 2024-01-31
        written = [one if isinstance(one, str) else str(one) if isinstance(one, int | date) else one for one in value]
        for one in written:
            try:
                stretch(one)
            except (ValueError, OverflowError, TypeError):
                refuse(
                    f"{shown(one)} is no year, month or day.",
                    "Write hold: all, or a list such as [2024-01, 2024-03-15].",
                )
        return written
    return value


def _parse_archive_to(value: str) -> str:
    """A folder or a bucket; never a key."""
    scheme, separator, rest = value.partition("://")
    if separator and scheme not in ("file", "s3"):
        refuse("An archive lies in a folder or in s3.", "Write a path, file:///path or s3://bucket/prefix.")
    if separator and (re.search(r"[@?#]", rest) or not rest.strip("/")):
        refuse(
            "It holds more than a place, or no place at all.",
            "Write s3://bucket/prefix; keys belong into ~/.aws or the environment, never into this file.",
        )
    if scheme == "file" and separator and not rest.startswith("/"):
        refuse("A file:// address has three slashes.", "Write file:///path, or the path alone.")
    return value


def _parse_service(value: str) -> str:
    if not re.fullmatch(SERVICE, value):
        refuse("It is no libpq service name.", "Write the name of a section of pg_service.conf.")
    return value


_SIZES = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_SIZE = r"([1-9]\d{0,8}) ?(kB|MB|GB|TB)"


def size_bytes(size: str) -> int:
    """Bytes of a size as PostgreSQL writes it. Raises pydantic's error for what is none."""
    found = re.fullmatch(_SIZE, size, re.ASCII)
    if not found:
        refuse("A size is a whole number and a unit of kB, MB, GB or TB, as PostgreSQL writes it.", None)
    return int(found[1]) * _SIZES[found[2]]


def _parse_size(value: object) -> object:
    if isinstance(value, str):
        size_bytes(value)
    return value


# -- what a specification's key is

LOCK = ("1ms", "60s")
STATEMENT = ("1s", "20d")
PAUSE = ("0ms", "60s")
LIMIT = ("1s", "20d")
_Duration = Field(json_schema_extra={"pattern": f"^{_DURATION}$"})

Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_PERIODS)]
Workers = Annotated[int, Field(strict=True, ge=1, le=8)]
BatchRows = Annotated[int, Field(strict=True, ge=1_000, le=100_000_000)]
TableText = Annotated[Text, WrapValidator(lambda value, handler: _parse_table(handler(value)))]
NameText = Annotated[Text, WrapValidator(_parse_name)]
ServiceText = Annotated[Text, AfterValidator(_parse_service)]
PlaceText = Annotated[Text, Field(min_length=1), AfterValidator(_parse_archive_to)]
Day = Annotated[date, Field(strict=True), BeforeValidator(_parse_day)]
DayText = Annotated[Text, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$"), AfterValidator(_parse_as_of)]
EveryText = Annotated[Every, BeforeValidator(_parse_every)]
LockTimeText = Annotated[Text, _bounded(*LOCK), _Duration]
StatementTimeText = Annotated[Text, _bounded(*STATEMENT), _Duration]
PauseText = Annotated[Text, _bounded(*PAUSE), _Duration]
LimitText = Annotated[Text, _bounded(*LIMIT), _Duration]
Size = Annotated[Text, BeforeValidator(_parse_size), Field(json_schema_extra={"pattern": f"^{_SIZE}$"})]
NullKeys = Annotated[Literal["refuse", "set_aside"] | KeyFrom, BeforeValidator(_parse_null_keys)]
Hold = Annotated[Literal["all"] | Annotated[tuple[Text, ...], Field(max_length=1000)], BeforeValidator(_parse_hold)]
Indexes = Annotated[
    tuple[Annotated[tuple[NameText, ...], Field(min_length=1, max_length=32)], ...], BeforeValidator(_parse_indexes)
]
Waivers = Annotated[tuple[Annotated[Text, Field(min_length=1, max_length=300)], ...], Field(max_length=1000)]
