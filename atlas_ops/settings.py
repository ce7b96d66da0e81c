"""A parameters file: the database, the tables' specifications, and where they are found.

What is wrong is refused here, before a connection is opened, all at once and with its line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atlas_ops import yamlfile
from atlas_ops.errors import AtlasError
from atlas_ops.spec import TableSpec
from atlas_ops.written import SERVICE, DayText
from atlas_ops.yamlfile import Fault, names_a_secret, shown

FOLDER = Path("parameters")
FOLDER_VARIABLE = "ATLAS_OPS_PARAMETERS"


class Settings(BaseModel):
    """A parameters file. Further keys are a notebook's own parameters: in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    database: Annotated[str, Field(strict=True, pattern=f"^{SERVICE}$")] = Field(
        description="a libpq service name (letters, digits, _ . -): from pg_service.conf, or demo",
        examples=["demo"],
    )
    tables: Annotated[tuple[TableSpec, ...], Field(min_length=1)] = Field(
        description="a list of table specifications",
        examples=[[{"table": "public.messages", "partition_key": "created_at", "from": "2024-01-01"}]],
    )
    confirm: Annotated[str, Field(strict=True)] = Field(
        default="",
        description="text, the digest of the plan you approve (in quotes); empty shows the plan only",
        examples=[""],
    )
    as_of: DayText = Field(
        default="",
        description="the day to plan from, as YYYY-MM-DD; empty: today, UTC",
        examples=["2026-11-23"],
    )


# The doors


def load(path: Path, also: Collection[str] = ()) -> Settings:
    """Read a parameters file. `also` names a notebook's own parameters, which it may hold beside ours.

    Raises AtlasError with the line of every fault.
    """
    read = yamlfile.read(path, _FORM)
    known = [*Settings.model_fields, *also]
    faults = [_FORM.unknown((key,), known) for key in read.data if key not in known]
    try:
        settings = Settings.model_validate({key: read.data[key] for key in known if key in read.data})
    except ValidationError as error:
        yamlfile.stop(str(path), [*faults, *_FORM.faults(error)], read.lines)
    faults += _twice(settings.tables)
    if faults:
        yamlfile.stop(str(path), faults, read.lines)
    tables = tuple(_beside(spec, path.parent) for spec in settings.tables)
    return settings.model_copy(update={"tables": tables})


def tables_from(
    value: object, source: str = "the tables parameter", folder: Path | None = None
) -> tuple[TableSpec, ...]:
    """Table specifications from a list of dicts, as papermill passes them; paths are from `folder`.

    Raises AtlasError with all faults, each with the number of its table.
    """
    try:
        specs = Settings.model_validate({"database": "demo", "tables": value}).tables
    except ValidationError as error:
        yamlfile.stop(source, _FORM.faults(error), {})
    faults = _twice(specs)
    if faults:
        yamlfile.stop(source, faults, {})
    return specs if folder is None else tuple(_beside(spec, folder) for spec in specs)


def find_specs(database: str, tables: object, folder: Path = FOLDER) -> tuple[TableSpec, ...]:
    """The specifications a notebook works on: `tables` if any, else those of the file written for `database`.

    `folder` is $ATLAS_OPS_PARAMETERS if set, else parameters: here, or one up (notebooks run in notebooks/).
    The file is `<database>.yml`, or the one whose `database` says so. Notebooks' own keys are let through.
    Raises AtlasError if there is none, or as `load` and `tables_from` do.
    """
    _check_database(database)
    found = next((place for place in _places(folder) if place.is_dir()), None)
    if tables:
        return tables_from(tables, folder=found)
    path = _file_for(database, found) if found else None
    if path is None:
        raise _no_file(database, found or folder)
    settings = load(path, also=[key for key in yamlfile.read(path, _FORM).data if not names_a_secret(key)])
    if settings.database != database:
        raise AtlasError(
            what=f"{path} is for database {settings.database}, not {database}.",
            why="Its tables may not be those of the database you named.",
            next=f'Write database = "{settings.database}", or pass the file: papermill -f {path}',
        )
    return settings.tables


def json_schema() -> dict[str, Any]:
    """The JSON schema of a parameters file, for editors; shipped as atlas_ops/spec.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
        "title": "atlas_ops parameters",
    }


# Files and folders


_ONE_TABLE = "\n  - table: public.messages\n    partition_key: created_at\n    from: 2024-01-01"


def _example(database: str = "demo") -> str:
    """The shortest file there is."""
    return f"database: {database}\ntables:{_ONE_TABLE}"


def _places(folder: Path) -> Iterator[Path]:
    if folder == FOLDER and os.environ.get(FOLDER_VARIABLE):
        yield Path(os.environ[FOLDER_VARIABLE])
        return
    yield folder
    if not folder.is_absolute():
        yield ".." / folder


def _file_for(database: str, folder: Path) -> Path | None:
    named = folder / f"{database}.yml"
    if named.is_file():
        return named
    return next((path for path, name in _databases(folder) if name == database), None)


def _databases(folder: Path) -> Iterator[tuple[Path, object]]:
    """Which file of the folder is for which database; a file that cannot be read is for none."""
    for path in sorted(folder.glob("*.yml")):
        try:
            yield path, yamlfile.read(path, _FORM).data.get("database")
        except AtlasError:
            continue


def _no_file(database: str, folder: Path) -> AtlasError:
    there = ", ".join(f"{path.name} ({shown(name)})" for path, name in _databases(folder)) or "none"
    return AtlasError(
        what=f"There is no {folder / database}.yml.",
        why=f"tables is empty, so they are read from the file for database {database}. Files there: {there}.",
        next=f"Write {folder / database}.yml:\n{_example(database)}",
    )


def _check_database(database: object) -> None:
    if not isinstance(database, str) or not re.fullmatch(SERVICE, database):
        yamlfile.stop("the parameters cell", [_FORM.bad_value(("database",), database)], {})


def _beside(spec: TableSpec, folder: Path) -> TableSpec:
    """Paths start at the folder of the parameters file."""
    if spec.workload:
        spec = replace(spec, workload=str(folder / spec.workload))
    if spec.archive_to and "://" not in spec.archive_to:
        spec = replace(spec, archive_to=str((folder / spec.archive_to).resolve()))
    return spec


# Faults, in our words


_OTHER_WORDS = {
    "start": "from",
    "end": "until",
    "to": "until",
    "interval": "every",
    "period": "every",
    "premake": "ahead",
    "retention": "keep",
    "legal_hold": "hold",
    "archive": "archive_to",
    "export_to": "archive_to",
    "scratch": "prove_on",
    "column": "partition_key",
    "control": "partition_key",
    "key": "partition_key",
    "name": "table",
    "parent_table": "table",
    "service": "database",
    "dbname": "database",
}
"""What others (pg_partman among them) call what we call otherwise."""

_FORM = yamlfile.Form(
    kind="parameters file",
    items="tables",
    item="table",
    item_is="A table's specification",
    example=_example(),
    items_example=f"tables:{_ONE_TABLE}",
    top_keys="database and tables",
    top=Settings.model_fields,
    keys=cast(Any, TableSpec).__pydantic_fields__,
    other_words=_OTHER_WORDS,
)


def _twice(specs: Sequence[TableSpec]) -> list[Fault]:
    """Tables that would be in each other's way: the same one, or partitions of the same name."""
    faults: list[Fault] = []
    tables: set[tuple[str, str]] = set()
    partitions: set[tuple[str, str]] = set()
    for i, spec in enumerate(specs):
        what = f"table is {shown(spec.table)}, and so it is further up."
        if (spec.schema, spec.name) in tables:
            why, next = "A table has one specification.", "Remove one of the two."
            faults.append(Fault(("tables", i, "table"), what, why, next))
        elif (spec.partition_schema, spec.name) in partitions:
            what = f"table is {shown(spec.table)}, and one of the same name stands further up."
            why = f"The partitions of both would have the same names in schema {shown(spec.partition_schema)}."
            faults.append(Fault(("tables", i, "table"), what, why, "Give one of them its own partition_schema."))
        tables.add((spec.schema, spec.name))
        partitions.add((spec.partition_schema, spec.name))
    return faults
