"""The audit record: the executed notebook, its page, and the index of them all. Nothing is ever overwritten.

`records/<database>/20261123T060000Z_verify_counts.ipynb` and `.html`. A run writes to `.part.ipynb`, which
is looked through for secrets and renamed when it ends; one that was killed leaves the `.part.ipynb` behind,
to be seen.
"""

from __future__ import annotations

import base64
import configparser
import datetime as dt
import html as entities
import itertools
import json
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from atlas_ops import regression
from atlas_ops.errors import AtlasError
from atlas_ops.report import RESULT_TYPE, Verdict
from atlas_ops.tables import duration

STAMP = "%Y%m%dT%H%M%SZ"
WEBHOOK = "ATLAS_OPS_WEBHOOK"  # its value lets anybody write into a channel
UNFINISHED = "unfinished"  # it runs, or it was killed
PLAN_ASSETS = "assets"  # in the folder of the plans: what draws the plans of all its notebooks
PICTURES = 2  # of each stage, on the index: the picture that says it, and the one after
_PART = ".part.ipynb"
_NAME = re.compile(r"(?P<stamp>\d{8}T\d{6}Z)_(?P<stage>.+?)(?:_\d+)?(?P<part>\.part)?\.ipynb")
_MARKS = {Verdict.OK: "✓", Verdict.PLANNED: "·", Verdict.NOTHING_TO_DO: "·"}
# Shorter ones, and those that are also the name of a role or database, occur in every record by chance.
_SECRET_LENGTH = 6


@dataclass(frozen=True)
class Secret:
    """A password and where it is kept, in words; its value never is printed."""

    where: str
    value: str = field(repr=False)

    def forms(self) -> set[str]:
        """As it could stand in a record: raw, escaped for JSON, HTML or Python, URL-encoded, in base64."""
        texts = {self.value, repr(self.value)[1:-1]}
        quoted = {json.dumps(text, ensure_ascii=ascii)[1:-1] for text in texts for ascii in (True, False)}
        quoted |= texts | {entities.escape(text) for text in texts}
        quoted |= {urllib.parse.quote(self.value, safe=safe) for safe in ("", "/")}
        quoted |= {urllib.parse.quote_plus(self.value), *_base64_forms(self.value.encode())}
        return quoted


@dataclass(frozen=True)
class Draft:
    """A record being written: `part` while it runs, `final` when it is kept."""

    part: Path
    final: Path


@dataclass(frozen=True)
class Picture:
    """A chart of a record: its PNG in base64, its width in CSS pixels, and what it says in words."""

    png: str
    width: int
    words: str


@dataclass(frozen=True)
class Found:
    """A record as its name tells it; `part`: it runs, or it was killed."""

    path: Path
    stage: str
    started: dt.datetime
    part: bool


@dataclass(frozen=True)
class Entry:
    """One record as a line of the index. `verdict` is the report's, or 'unfinished'; `page` and `plans` may be empty."""

    stage: str
    started: dt.datetime
    verdict: str
    seconds: float | None
    headline: str
    notebook: str
    page: str
    pictures: Sequence[Picture] = ()
    plans: str = ""  # the index of its plans


def folder(records: Path, database: str) -> Path:
    """Where the records of a database lie. A name that is no folder's name loses what cannot be in one."""
    return records / (re.sub(r"[^\w.-]+", "_", database).strip(".") or "_")


def draft(records: Path, database: str, stage: str, at: dt.datetime) -> Draft:
    """Take the name for a run that starts at `at`; two runs in one second get two names.

    Raises AtlasError when the folder cannot be written to.
    """
    place = folder(records, database)
    stem = f"{at.astimezone(dt.UTC).strftime(STAMP)}_{stage}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            name = stem if number == 1 else f"{stem}_{number}"
            part, final = place / f"{name}{_PART}", place / f"{name}.ipynb"
            try:
                part.touch(exist_ok=False)
            except FileExistsError:
                continue
            # In this order: whoever holds the part file alone may look at the final name.
            if final.exists():
                part.unlink()
                continue
            return Draft(part, final)
    except OSError as error:
        raise AtlasError(
            what=f"No record can be written to {place}.",
            why=f"{error.strerror}. A stage is not run without its record.",
            next="Give another folder with --records, or cure this one.",
        ) from None
    raise AssertionError("unreachable")


def keep(written: Draft) -> Path:
    """Look the part file through for secrets, then give it its name.

    Raises AtlasError, and removes it, where it holds a password of this machine's libpq files.
    """
    _refuse_secrets(written.part)
    with written.part.open("rb") as file:
        os.fsync(file.fileno())
    written.part.rename(written.final)
    return written.final


def note_stop(part: Path, error: AtlasError) -> None:
    """Write below the last cell what ended the run where no cell could: the kernel died, or Ctrl-C."""
    notebook = json.loads(part.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    reached = [cell for cell in code if cell.get("execution_count")] or code
    output = {"output_type": "error", "ename": "AtlasError", "evalue": error.what, "traceback": error.lines()}
    for cell in reached[-1:]:
        cell["outputs"].append(output)
    part.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


def html(notebook: Path) -> Path:
    """The record as a page beside it: one file, light or dark as the reader has it, no script, no request."""
    from nbconvert import HTMLExporter  # noqa: PLC0415 - a second that only a page needs

    exporter = HTMLExporter(
        template_name="atlas", extra_template_basedirs=[str(files("atlas_ops") / "assets" / "nbconvert")]
    )
    page, _ = exporter.from_filename(str(notebook))
    part, final = notebook.with_suffix(".part.html"), notebook.with_suffix(".html")
    part.write_text(page, encoding="utf-8")
    _refuse_secrets(part)
    part.rename(final)
    return final


def plans_folder(notebook: Path) -> Path:
    """Where the pages of its plans lie: a folder of its own in `plans/`, beside it."""
    stem = notebook.stem
    return notebook.parent / "plans" / (f"{stem}_" if stem.casefold() == PLAN_ASSETS else stem)


def is_record(path: Path) -> bool:
    """Whether a path has the name of a record that was kept."""
    name = _NAME.fullmatch(path.name)
    return name is not None and not name["part"]


def outputs(notebook: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every output of every cell, in order."""
    for cell in notebook.get("cells", []):
        yield from cell.get("outputs", [])


def result(notebook: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the notebook's last result cell says of itself, or None where it came to no result."""
    for output in reversed(list(outputs(notebook))):
        found = output.get("data", {}).get(RESULT_TYPE)
        if isinstance(found, dict):
            return found
    return None


def stop(notebook: Mapping[str, Any]) -> list[str]:
    """The lines of the error that ended the notebook, without colours; empty where it came to its end."""
    for output in reversed(list(outputs(notebook))):
        if output.get("output_type") == "error":
            text = "\n".join(output.get("traceback", []))
            lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
            # An AtlasError renders itself in three lines; of a whole traceback the last says what it was.
            return lines if output.get("ename") == "AtlasError" else [f"{output.get('ename')}: {output.get('evalue')}"]
    return []


def result_of(path: Path, stage: str) -> dict[str, Any]:
    """The result in a file: an executed notebook, or the bare JSON of its last cell. Raises AtlasError where it holds none of that stage."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AtlasError(
            what=f"The record {path} cannot be read.",
            why=f"{error.strerror}.",
            next="Give the executed notebook that a run left, such as records/<database>/<time>_explain_analysis.ipynb.",
        ) from None
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise AtlasError(
            what=f"{path} is no record.",
            why="A record is a notebook, or the JSON of its result; this is no JSON.",
            next="Give the executed notebook itself, not its page.",
        ) from None
    found = content if isinstance(content, dict) else {}
    if "cells" in found:
        if path.name.endswith(_PART) or (told := result(found)) is None:
            lines = stop(found)
            raise AtlasError(
                what=f"The run that wrote {path} came to no result.",
                why=lines[0] if lines else "It is going on, was killed, or was never executed.",
                next="Run 05 Explain analysis to its end, then give its record.",
            )
        found = told
    if found.get("stage") != stage or not isinstance(found.get("figures"), dict):
        of = found.get("stage")
        raise AtlasError(
            what=f"{path} is no record of {stage}.",
            why=f"It is one of {of}."
            if isinstance(of, str) and of.isidentifier() and of != stage
            else "It holds no result of a stage.",
            next=f"Give a record whose name ends in _{stage}.ipynb.",
        )
    return found


def baseline_from(path: Path) -> tuple[regression.Measured, ...]:
    """The queries of an earlier record of 05, to compare with. Raises AtlasError where it cannot be judged."""
    return regression.measured(result_of(path, regression.STAGE)["figures"], str(path))


def listed(place: Path) -> list[Found]:
    """Every record in the folder of a database by its name, oldest first; interrupted runs too. None is read."""
    found = []
    for path in sorted(place.glob("*.ipynb")):
        name = _NAME.fullmatch(path.name)
        started = _started(name["stamp"]) if name else None
        if name and started:
            found.append(Found(path, name["stage"], started, part=bool(name["part"])))
    return found


def _started(stamp: str) -> dt.datetime | None:
    """None where the digits of a name are no moment: then it is the name of something else."""
    try:
        return dt.datetime.strptime(stamp, STAMP).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def entries(place: Path) -> list[Entry]:
    """Every record in the folder of a database, oldest first; interrupted runs too."""
    return [_entry(found) for found in listed(place)]


def index(place: Path, shown: Sequence[Entry]) -> Path:
    """Write `index.html`, the page to open first: the stages with their verdicts, and their pictures."""
    import jinja2  # noqa: PLC0415 - comes with nbconvert

    source = (files("atlas_ops") / "assets" / "index.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    latest = {entry.stage: entry for entry in shown if entry.pictures}
    page = environment.from_string(source).render(
        title=f"atlas_ops: what was done to {place.name}",
        entries=shown,
        pictured=list(latest.values()),
        marks=_MARKS,
        duration=duration,
    )
    part = place / "index.part.html"
    part.write_text(page, encoding="utf-8")
    return part.replace(place / "index.html")


def secrets(environment: Mapping[str, str] = os.environ) -> list[Secret]:
    """Every password that libpq could find here (PGPASSWORD, DATABASE_URL, password and service files), and the address of the webhook."""
    found = [Secret("PGPASSWORD", environment.get("PGPASSWORD", ""))]
    url = urllib.parse.urlsplit(environment.get("DATABASE_URL", ""))
    found.append(Secret("DATABASE_URL", urllib.parse.unquote(url.password or "")))
    found.append(Secret(WEBHOOK, environment.get(WEBHOOK, "")))
    home = Path(environment.get("HOME", "~")).expanduser()
    password_files = [Path(environment.get("PGPASSFILE") or home / ".pgpass")]
    service_files = [Path(environment.get("PGSERVICEFILE") or home / ".pg_service.conf")]
    if environment.get("PGSYSCONFDIR"):
        service_files.append(Path(environment["PGSYSCONFDIR"]) / "pg_service.conf")
    for path in service_files:
        for section, settings in _services(path).items():
            found.append(Secret(f"{path} [{section}]", settings.get("password", "")))
            if settings.get("passfile"):
                password_files.append(Path(settings["passfile"]))
    for path in password_files:
        found += _password_file(path)
    return [secret for secret in found if len(secret.value) >= _SECRET_LENGTH]


def require_no_password(text: str, what: str = "The record holds a password and was not kept.") -> None:
    """Raises AtlasError, which says `what`, where a text that is to be kept holds a password that libpq could find here."""
    for secret in secrets():
        if any(form in text for form in secret.forms()):
            raise AtlasError(
                what=what,
                why=f"The password of {secret.where} was found in it; whoever reads records would have it.",
                next="Find the cell or parameter that shows it, take it out, change the password, run again.",
            )


def _refuse_secrets(path: Path) -> None:
    try:
        require_no_password(path.read_text(encoding="utf-8"))
    except AtlasError:
        path.unlink()
        raise


def _base64_forms(secret: bytes) -> Iterator[str]:
    """The characters that encode the secret alone, at each of its three offsets in a longer text."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret).decode().rstrip("=")
        # A character at either edge shares its bits with what stands before or follows.
        whole = encoded[(0, 2, 3)[offset] : (offset + len(secret)) * 8 // 6]
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))


def _password_file(path: Path) -> list[Secret]:
    """The passwords of a file of host:port:database:user:password; a backslash escapes (manual, 34.16)."""
    found = []
    for number, line in enumerate(_lines(path), start=1):
        fields = re.findall(r"(?:^|:)((?:[^:\\]|\\.)*)", line) if not line.startswith("#") else []
        plain = [re.sub(r"\\(.)", r"\1", text) for text in fields]
        if len(plain) == 5 and plain[4] not in plain[:4]:  # noqa: PLR2004 - the five fields of the format
            found.append(Secret(f"{path}, line {number}", plain[4]))
    return found


def _services(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    try:
        parser.read_string("\n".join(_lines(path)))
    except configparser.Error:
        return {}  # libpq could not have read it either
    return {section: dict(parser[section]) for section in parser.sections()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []  # what we cannot read, libpq of the same user has not read


def _entry(found: Found) -> Entry:
    """One line of the index, read from the record itself."""
    path = found.path
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        notebook = {}  # a run that was killed before its first cell
    said, stopped = result(notebook) or {}, stop(notebook)
    verdict = said.get("verdict", Verdict.OK)
    if stopped:
        verdict = Verdict.STOPPED
    elif found.part:
        verdict = UNFINISHED
    headline = stopped[0].removeprefix("STOPPED: ") if stopped else said.get("headline", "")
    page = path.with_suffix(".html")
    plans = plans_folder(path) / "index.html"
    return Entry(
        stage=found.stage,
        started=found.started,
        verdict=str(verdict),
        seconds=notebook.get("metadata", {}).get("papermill", {}).get("duration"),
        headline=headline,
        notebook=path.name,
        page=page.name if page.exists() else "",
        pictures=_pictures(notebook),
        plans=plans.relative_to(path.parent).as_posix() if plans.exists() else "",
    )


def _pictures(notebook: Mapping[str, Any]) -> tuple[Picture, ...]:
    found = [
        Picture(
            png="".join(output["data"]["image/png"]).strip(),
            width=output.get("metadata", {}).get("image/png", {}).get("width", 760),
            words="".join(output["data"].get("text/plain", "")),
        )
        for output in outputs(notebook)
        if "image/png" in output.get("data", {})
    ]
    return tuple(found[:PICTURES])
