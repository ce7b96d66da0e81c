"""Run stages as notebooks, in order, in one process; each leaves its record. The runner decides nothing.

A stage is red when its notebook raised, or says so itself in the result of its last cell: then nothing
after it runs.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from atlas_ops import plan_pages, record
from atlas_ops.errors import AtlasError
from atlas_ops.progress import PROGRESS_TYPE
from atlas_ops.report import Verdict
from atlas_ops.tables import duration

KERNEL = "python3"
PROGRESS_INTERVAL_S = 2.0  # between two lines of a long step on the terminal
_ENGINE = "atlas_ops"
_NOTEBOOK = re.compile(r"(?P<number>\d\d)_(?P<name>\w+)\.ipynb")
_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    dt.date: "a date",
    type(None): "empty",
}
# Of the kernel's process, not ours: warnings that are about Jupyter and not about the database.
_QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "JUPYTER_PLATFORM_DIRS": "1"}


@dataclass(frozen=True)
class StageResult:
    """How one stage ended: what its notebook's last cell said, the seconds, and where its record lies."""

    stage: str
    database: str
    verdict: Verdict
    headline: str
    seconds: float
    notebook: Path | None
    page: Path | None
    digest: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    checks: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()  # what a stage that raised has to say: STOPPED, because, next

    @property
    def red(self) -> bool:
        """Whether nothing may run after it."""
        return self.verdict is Verdict.STOPPED


def run(
    stages: Sequence[str],
    parameters: Mapping[str, Any],
    *,
    notebooks: Path,
    records: Path,
    kernel: str = KERNEL,
    origins: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> list[StageResult]:
    """Run the stages one after another up to the first red one; returns a result for each that ran.

    A parameter goes to the notebooks that declare it. `origins` says where a parameter was read (a file's
    name), for the error about it. Nothing runs at all unless every name and type fits: AtlasError
    otherwise, and for a stage that there is not.
    """
    paths = [resolve(stage, notebooks) for stage in stages]
    passed = _checked(parameters, paths, origins or {})
    _require_kernel(kernel)
    results: list[StageResult] = []
    for path, own in zip(paths, passed, strict=True):
        results.append(_run_one(path, own, records.resolve(), kernel, say))
        if results[-1].red:
            left = [stage_name(later) for later in paths[len(results) :]]
            if left:
                say(f"not run: {', '.join(left)}")
            break
    return results


def exit_code(results: Sequence[StageResult]) -> int:
    """0 where every stage is ok, planned or had nothing to do; 1 where one stopped."""
    return 1 if any(result.red for result in results) else 0


def resolve(stage: str, notebooks: Path) -> Path:
    """The notebook of a stage by its number, its name or both: '1', '01', 'preflight', '01_preflight'.

    Raises AtlasError with the stages there are.
    """
    known = {path: match for path in sorted(notebooks.glob("*.ipynb")) if (match := _NOTEBOOK.fullmatch(path.name))}
    asked = stage.removesuffix(".ipynb")
    for path, match in known.items():
        if asked in (path.stem, match["name"], match["number"], match["number"].lstrip("0") or "0"):
            return path.resolve()
    raise AtlasError(
        what=f"There is no stage {stage!r}.",
        why=f"The folder {notebooks} has: {', '.join(path.stem for path in known) or 'no notebook at all'}.",
        next="Give one of these, by its number, its name or both.",
    )


def stage_name(notebook: Path) -> str:
    """'verify_counts' for 03_verify_counts.ipynb."""
    match = _NOTEBOOK.fullmatch(notebook.name)
    return match["name"] if match else notebook.stem


def read_parameters(path: Path) -> dict[str, Any]:
    """The parameters of a YAML file, one mapping. Raises AtlasError where it cannot be read as one."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - only a run with -f needs it
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        loaded = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AtlasError(
            what=f"The parameter file {path} cannot be read.",
            why=f"{error.strerror}.",
            next="Give the path of a YAML file, such as parameters/demo.yml.",
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise AtlasError(
            what=f"{path} is no YAML" + (f", from line {mark.line + 1} on." if mark else "."),
            why=f"{getattr(error, 'problem', None) or 'It is not UTF-8 text'}.",
            next="Compare it with parameters/demo.yml.",
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise AtlasError(
            what=f"{path} holds no parameters.",
            why="It has to be a mapping of names to values.",
            next="Compare it with parameters/demo.yml.",
        )
    return {name: _without_dates(value) for name, value in loaded.items()}


def _without_dates(value: Any) -> Any:
    """Unquoted days as text, as papermill itself reads them: a notebook is JSON, which has no dates."""
    if isinstance(value, dict):
        return {key: _without_dates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_dates(inner) for inner in value]
    return value.isoformat() if isinstance(value, dt.date) else value


def declared(notebook: Path) -> dict[str, Any]:
    """Names and defaults of the notebook's parameters cell. Raises AtlasError where they cannot be read."""
    import papermill  # noqa: PLC0415 - a second that only a run needs

    try:
        found = papermill.inspect_notebook(notebook)
        return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}
    except (ValueError, SyntaxError, KeyError, AttributeError) as error:
        raise AtlasError(
            what=f"The parameters of {notebook.name} cannot be read.",
            why=f"{type(error).__name__}: {error}",
            next="Restore the notebook: git checkout -- notebooks",
        ) from None


def lab_command(notebooks: Path, port: int | None = None, browser: bool = True) -> list[str]:
    """The command that opens the first notebook in JupyterLab: no question about news, and no request to
    the network.

    Run it in the folder above `notebooks`: that is what JupyterLab shows.
    """
    settings = files("atlas_ops") / "assets" / "lab"
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.app_settings_dir={settings}"]
    command += [f"--ServerApp.root_dir={notebooks.resolve().parent}"]
    command += [f"--ServerApp.port={port}"] if port else []
    command += [] if browser else ["--no-browser"]
    # In a container there often is no other user; the server listens on the loopback and asks for a token.
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [*command, str(notebooks.resolve() / "00_start_here.ipynb")]


def _checked(parameters: Mapping[str, Any], paths: Sequence[Path], origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """The parameters of each notebook, in the types it declares. Raises AtlasError for the first misfit."""
    specs = [declared(path) for path in paths]
    known = dict.fromkeys(name for spec in specs for name in spec)
    for name in parameters:
        if name not in known:
            where = f" in {origins[name]}" if name in origins else ""
            names = ", ".join(path.stem for path in paths)
            raise AtlasError(
                what=f"There is no parameter {name!r}{where}.",
                why=f"{names} {'knows' if len(paths) == 1 else 'know'}: {', '.join(known)}.",
                next="Correct the name, or leave it out.",
            )
    return [
        {
            name: _fitted(name, parameters[name], default, origins)
            for name, default in spec.items()
            if name in parameters
        }
        for spec in specs
    ]


def _fitted(name: str, value: Any, default: Any, origins: Mapping[str, str]) -> Any:
    """The value in the type of the default. Raises AtlasError where it has another."""
    wanted = type(default)
    if wanted is str and type(value) is dt.date:
        return value.isoformat()  # YAML makes a date of an unquoted 2026-11-23
    if default is None or type(value) is wanted or (wanted is float and type(value) is int):
        return value
    where = f" in {origins[name]}" if name in origins else ""
    quotes = f'Write it in quotes: {name}: "..."' if wanted is str else "Correct the value."
    raise AtlasError(
        what=f"Parameter {name!r}{where} has to be {_WORDS.get(wanted, wanted.__name__)}.",
        why=f"It is {_WORDS.get(type(value), type(value).__name__)}.",
        next=quotes,
    )


def _require_kernel(name: str) -> None:
    from jupyter_client.kernelspec import KernelSpecManager  # noqa: PLC0415 - only a run needs a kernel

    if name not in KernelSpecManager().find_kernel_specs():
        raise AtlasError(
            what=f"There is no Jupyter kernel {name!r}.",
            why="Notebooks run in a kernel, and none of that name is installed beside this program.",
            next='Install the extra: pip install "atlas_ops[notebooks]"; or name another with --kernel.',
        )


def _run_one(
    path: Path, parameters: Mapping[str, Any], records: Path, kernel: str, say: Callable[[str], None]
) -> StageResult:
    """Run a notebook, keep its record whatever happens, and say how it ended."""
    database = str(parameters.get("database", declared(path).get("database", "")))
    stage = stage_name(path)
    written = record.draft(records, database, stage, dt.datetime.now(dt.UTC))
    say(f"{path.stem} on {database} ...")
    started = time.monotonic()
    try:
        _execute(path, written.part, parameters, kernel, say)
    except BaseException as error:
        # Ctrl-C, or a fault of ours: what was done so far is the record.
        _keep_broken(written, error)
        raise
    seconds = time.monotonic() - started
    outcome = _outcome(written, stage, database, seconds)
    for line in outcome.lines:
        say(f"  {line}")
    words = f"  {outcome.verdict.replace('_', ' ')}, {duration(seconds)}"
    say(words + (f", {_shortest(outcome.page or outcome.notebook)}" if outcome.notebook else ""))
    return outcome


def _execute(path: Path, part: Path, parameters: Mapping[str, Any], kernel: str, say: Callable[[str], None]) -> None:
    """Execute into `part`, which is written after every cell; whatever ends it stands in its last cell."""
    import papermill  # noqa: PLC0415
    from nbclient.exceptions import DeadKernelError  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    _register_engine()
    try:
        with _quiet():
            papermill.execute_notebook(
                path,
                part,
                parameters=dict(parameters),
                engine_name=_ENGINE,
                kernel_name=kernel,
                progress_bar=False,
                cwd=path.parent,  # as in JupyterLab, so that a relative path means the same in both
                say=say,
                config=Config(
                    # Encrypted where the platform can; without it the kernel warns at every start.
                    KernelManager={"transport_encryption": "auto"},
                    # A kernel that is slow to end is interrupted, and would say so on our terminal.
                    NotebookClient={"extra_arguments": ["--IPKernelApp.log_level=50"]},
                ),
            )
    except papermill.PapermillExecutionError:
        pass  # the cell's own output says it
    except DeadKernelError:
        why = "It was killed (out of memory?) or it crashed."
        cure = "Run the stage again: what is done stays done, the state is read anew from the catalogs."
        record.note_stop(part, AtlasError("The kernel of this notebook ended before its last cell.", why, cure))


def _outcome(written: record.Draft, stage: str, database: str, seconds: float) -> StageResult:
    """Keep the record, make its page, those of its plans and the index, and read what the notebook came to."""
    try:
        notebook = record.keep(written)
        page = record.html(notebook)
        plan_pages.write(notebook)
    except AtlasError as refused:
        return StageResult(stage, database, Verdict.STOPPED, refused.what, seconds, None, None, lines=refused.lines())
    record.index(notebook.parent, record.entries(notebook.parent))
    content = json.loads(notebook.read_text(encoding="utf-8"))
    said = record.result(content) or {}
    lines = record.stop(content)
    return StageResult(
        stage=stage,
        database=said.get("database", database),
        verdict=Verdict.STOPPED if lines else Verdict(said.get("verdict", Verdict.OK)),
        headline=lines[0].removeprefix("STOPPED: ") if lines else said.get("headline", ""),
        seconds=seconds,
        notebook=notebook,
        page=page,
        digest=said.get("digest", ""),
        steps=said.get("steps", ()),
        checks=said.get("checks", ()),
        figures=said.get("figures", {}),
        lines=lines,
    )


def _keep_broken(written: record.Draft, error: BaseException) -> None:
    """The record of a run that ends with an error of its own, which a refused record must not hide."""
    if written.part.stat().st_size == 0:
        written.part.unlink()
        return
    what = "Interrupted." if isinstance(error, KeyboardInterrupt) else f"The runner failed: {type(error).__name__}."
    record.note_stop(written.part, AtlasError(what, "The run ended here.", "Run the stage again."))
    with suppress(AtlasError):
        record.keep(written)


def _shortest(path: Path | None) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path and path.is_relative_to(here) else path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Jupyter's own warnings, in this process and the kernel's, kept off the DBA's screen."""
    added = [name for name in _QUIET if name not in os.environ]
    os.environ.update({name: _QUIET[name] for name in added})
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


def _register_engine() -> None:
    """papermill's own engine, with a client that also says how far a long step is."""
    from papermill.clientwrap import PapermillNotebookClient  # noqa: PLC0415
    from papermill.engines import Engine, papermill_engines  # noqa: PLC0415
    from papermill.log import logger  # noqa: PLC0415

    class Client(PapermillNotebookClient):  # type: ignore[misc]
        def __init__(self, *args: Any, say: Callable[[str], None], **options: Any) -> None:
            super().__init__(*args, **options)
            self._say, self._said_at = say, 0.0

        def papermill_execute_cells(self) -> None:
            super().papermill_execute_cells()
            # Every cell has ended, and a kernel that is asked to go may abort: its control thread still publishes a status while its main
            # thread closes the pipe for it (ipykernel 7: "Assertion failed: pfd.revents & POLLIN"). One that is interrupted is asked.
            self.shutdown_kernel = "immediate"

        def process_message(self, message: Mapping[str, Any], *where: Any) -> Any:
            progress = message["content"].get("data", {}).get(PROGRESS_TYPE)
            if progress and time.monotonic() - self._said_at >= PROGRESS_INTERVAL_S:
                self._said_at = time.monotonic()
                self._say(f"  {progress['line']}")
            return super().process_message(message, *where)

    class ProgressEngine(Engine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(
            cls,
            nb_man: Any,
            kernel_name: str,
            say: Callable[[str], None],
            start_timeout: int = 60,
            **options: Any,
        ) -> None:
            known = {name: options[name] for name in ("config", "log_output") if name in options}
            Client(
                nb_man,
                say=say,
                kernel_name=kernel_name,
                startup_timeout=start_timeout,
                timeout=None,
                log=logger,
                **known,
            ).execute()

    papermill_engines.register(_ENGINE, ProgressEngine)
