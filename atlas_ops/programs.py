"""PostgreSQL's own programs of the server's major version: pg_dump and pg_restore."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from atlas_ops import embedded
from atlas_ops.database import Session
from atlas_ops.errors import AtlasError

PACKAGED = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")
"""Where Debian, Red Hat and Homebrew keep the programs of a version, whatever the PATH says."""

SETTINGS = ("TimeZone=UTC", "lc_monetary=C")
"""What pg_dump leaves as the database has it: money is written with the separators of lc_monetary, and read back by another's."""


def find(program: str, major: int) -> tuple[Path, str]:
    """The program and what it says of its version. Raises AtlasError where there is none of that major version."""
    seen = []
    for path in _places(program, major):
        told = _version(path)
        if told and _major(told) == major:
            return path, told
        seen += [told] if told else []
    raise AtlasError(
        what=f"There is no {program} of version {major}.",
        why=f"The server is a PostgreSQL {major}, and its dump must be made by the same version. Found: {', '.join(dict.fromkeys(seen)) or 'none'}.",
        next=f"Install the client programs of PostgreSQL {major} (Debian: postgresql-client-{major}), or put their folder first in PATH.",
    )


def environment(where: Session) -> dict[str, str]:
    """The environment of a program that connects: libpq's own, under our name and with pinned settings."""
    options = " ".join(["-c " + setting for setting in SETTINGS])
    given = os.environ.get("PGOPTIONS", "")
    return {**os.environ, "PGAPPNAME": where.application_name, "PGOPTIONS": f"{given} {options}".strip(), "LC_ALL": "C"}


def reason(said: str) -> str:
    """The line in which a program says why it gave up. Never DETAIL or CONTEXT, which quote rows."""
    errors = [line.strip() for line in said.splitlines() if re.search(r"(error|fatal|ERROR|FATAL|PANIC): ", line)]
    found = errors[0] if errors else "It gave no reason."
    return re.sub(r"(invalid input syntax[^:]*|out of range for type [^:]*): .*", r"\1", found)


def _places(program: str, major: int) -> Iterator[Path]:
    in_path = shutil.which(program)
    if in_path:
        yield Path(in_path)
    for folder in PACKAGED:
        path = Path(folder.format(major=major)) / program
        if path.exists():
            yield path
    if major == int(embedded.MAJOR):
        try:
            yield embedded.bin_dir() / program
        except AtlasError:  # the embedded server is an extra
            return


def _version(path: Path) -> str:
    try:
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _major(told: str) -> int:
    found = re.search(r"\(PostgreSQL\) (\d+)", told)
    return int(found[1]) if found else 0
