"""The command line: run stages, drain, switch off, build a demo, write the SQL file, draw plans, open JupyterLab. `python -m atlas_ops --help`."""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from atlas_ops.errors import AtlasError

app = typer.Typer(
    help="Takes the big tables of a live PostgreSQL database to partitions, stage by stage, from notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

STORY = (
    "preflight",
    "apply_migration",
    "verify_counts",
    "inspect_partitions",
    "explain_analysis",
    "cut_over",
    "maintain_partitions",
    "plan_archive",
    "monitor_health",
)

NOTEBOOKS = Path("notebooks")
RECORDS = Path("records")
SITE = Path("site")
DEMO_FILE = Path("parameters/demo.yml")

Records = Annotated[Path, typer.Option(help="folder of the records")]
File = Annotated[Path, typer.Option("-f", "--file", help="parameters file, such as parameters/demo.yml")]


@app.command()
def run(
    stages: Annotated[list[str], typer.Argument(help="01, preflight or 01_preflight; in the order given")],
    file: File,
    confirm: Annotated[str, typer.Option(help="digest of the plan you have read; empty shows the plan only")] = "",
    as_of: Annotated[str, typer.Option(help="the day to plan from, such as 2026-11-23; empty: today, UTC")] = "",
    records: Records = RECORDS,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value of a notebook's own parameter")
    ] = None,
) -> None:
    """Run stages in order, stop at the first red one, keep a record of each."""
    from atlas_ops import record, runner

    from_file = runner.read_parameters(file)
    given = from_file | {key: value for key, value in (("confirm", confirm), ("as_of", as_of)) if value}
    given |= dict(_pair(text) for text in parameter or ())
    origins = dict.fromkeys(from_file, str(file))
    results = runner.run(stages, given, notebooks=NOTEBOOKS, records=records, origins=origins)
    place = record.folder(records, str(given.get("database", "")))
    print(f"All records: {record.index(place, record.entries(place))}")
    raise typer.Exit(runner.exit_code(results))


@app.command()
def demo(
    messages: Annotated[int, typer.Option(help="rows of messages")] = 200_000,
    usage_logs: Annotated[int, typer.Option(help="rows of usage_logs")] = 300_000,
    seed: Annotated[int, typer.Option(help="the same rows for the same seed")] = 1,
    records: Records = RECORDS,
) -> None:
    """The main job on the embedded server: build Atlas, partition, verify, inspect, explain, cut over, maintain, plan its archive, look at it."""
    from atlas_ops import demo as atlas
    from atlas_ops import record, runner

    started = time.perf_counter()
    atlas.ensure(messages=messages, usage_logs=usage_logs, seed=seed, rebuild=True)
    print(
        f"{'demo database':<22} built     {time.perf_counter() - started:6.1f} s  {messages:,} messages, {usage_logs:,} usage logs"
    )
    results = runner.run(
        STORY, {**runner.read_parameters(DEMO_FILE), "confirm": "demo"}, notebooks=NOTEBOOKS, records=records
    )
    made = {result.notebook.name for result in results if result.notebook}
    place = record.folder(records, "demo")
    page = record.index(place, [entry for entry in record.entries(place) if Path(entry.notebook).name in made])
    print(f"\nOpen first: {page}")
    raise typer.Exit(runner.exit_code(results))


@app.command()
def build(
    service: Annotated[str, typer.Argument(help="libpq service whose database is empty")],
    messages: Annotated[int, typer.Option(help="rows of messages")] = 200_000,
    usage_logs: Annotated[int, typer.Option(help="rows of usage_logs")] = 300_000,
    seed: Annotated[int, typer.Option(help="the same rows for the same seed")] = 1,
) -> None:
    """Build the Atlas tables in the empty database of a libpq service, for a rehearsal on another server."""
    from atlas_ops import demo as atlas
    from atlas_ops.database import session

    atlas.build_in(session(service, "build"), messages=messages, usage_logs=usage_logs, seed=seed)
    print(f"Atlas built in service {service}: {messages:,} messages, {usage_logs:,} usage logs.")


@app.command()
def rehearse(
    messages: Annotated[int, typer.Option(help="rows of messages")] = 200_000,
    rate: Annotated[int, typer.Option(min=1, help="statements a second of the synthetic writer")] = 500,
    clients: Annotated[int, typer.Option(min=1, help="connections of the synthetic writer")] = 4,
    seed: Annotated[int, typer.Option(help="the same rows for the same seed")] = 1,
    records: Records = RECORDS,
) -> None:
    """Copy, cut over and roll back messages of a database of its own while a synthetic writer writes; print waits, holds and stalls."""
    from atlas_ops import charts, embedded, record, rehearsal, views
    from atlas_ops import demo as atlas
    from atlas_ops.database import Session
    from atlas_ops.progress import Progress
    from atlas_ops.settings import load

    name, now = "rehearsal", datetime.now(UTC)
    spec = load(DEMO_FILE).tables[0]
    atlas.ensure(name, messages=messages, usage_logs=atlas.SMALLEST, seed=seed, rebuild=True)
    where = Session(name, embedded.conninfo(name, atlas.DBNAME), name)
    with Progress(name, unit="stages") as progress:
        found = rehearsal.rehearse(where, spec, now.date(), rehearsal.Load(rate, clients), progress)
    embedded.stop(name)
    place = record.folder(records, name)
    place.mkdir(parents=True, exist_ok=True)
    stem = place / now.strftime(record.STAMP)
    stem.with_suffix(".json").write_text(json.dumps(found.result(), indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".png").write_bytes(charts.stalls([found.drawn()]).png)
    print(f"{views.rehearsal_table([found])}\n\nKept: {stem}.json and .png")
    raise typer.Exit(0 if found.whole else 1)


@app.command()
def drain(
    file: File,
    every: Annotated[
        float, typer.Option(help="seconds between two drains; 0: drain once and end, for a scheduler", min=0)
    ] = 0,
) -> None:
    """Bring whatever follows in step with the table that the application writes: once, or again and again."""
    from atlas_ops import following, runner
    from atlas_ops.settings import tables_from

    given = runner.read_parameters(file)
    specs = tables_from(given.get("tables", []), str(file))
    for line in following.drained(str(given.get("database", "")), specs, every):
        print(line, flush=True)


@app.command()
def off(file: File) -> None:
    """The kill switch: remove the capture of every table in the file at once. The application is as it was; the copies are stale."""
    from atlas_ops import following, runner
    from atlas_ops.settings import tables_from

    given = runner.read_parameters(file)
    for line in following.switched_off(str(given.get("database", "")), tables_from(given.get("tables", []), str(file))):
        print(line, flush=True)


@app.command()
def health(
    file: File,
    nagios: Annotated[bool, typer.Option("--nagios", help="one line with performance data")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, as one JSON document")] = False,
    textfile: Annotated[
        Path | None,
        typer.Option(
            help="metrics for node_exporter's textfile collector, such as /var/lib/node_exporter/atlas_ops.prom"
        ),
    ] = None,
    per_partition: Annotated[bool, typer.Option(help="metrics of each partition too")] = True,
    webhook: Annotated[
        bool,
        typer.Option("--webhook", help="tell the address in ATLAS_OPS_WEBHOOK when the alerts have changed, and daily"),
    ] = False,
    as_of: Annotated[str, typer.Option(help="the day to look from, such as 2026-11-23; empty: today, UTC")] = "",
    records: Records = RECORDS,
) -> None:
    """Look at the partitions of every table in the file: exit code 0 ok, 1 warning, 2 critical, 3 not known."""
    from atlas_ops import monitor, runner
    from atlas_ops.settings import tables_from
    from atlas_ops.stages.base import day

    given = runner.read_parameters(file)
    specs = tables_from(given.get("tables", []), str(file))
    asked = monitor.Asked(nagios, as_json, textfile, per_partition, webhook, records)
    raise typer.Exit(
        monitor.look(str(given.get("database", "")), specs, day(as_of or str(given.get("as_of", ""))), asked)
    )


@app.command()
def site(
    records: Records = RECORDS,
    out: Annotated[Path, typer.Option(help="folder of the page")] = SITE,
    copy: Annotated[
        bool,
        typer.Option("--copy", help="copy the records that it links to beside it, so that the folder can be moved"),
    ] = False,
) -> None:
    """Build a static, offline page from the records: what is wrong, the verdict of each stage, trends, the guide's success criteria."""
    from atlas_ops.site import build

    print(f"Open: {build(records, out, copy=copy)}")


@app.command()
def sql(
    file: File,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="such as supabase/migrations/<timestamp>_database_partitioning.sql"),
    ],
    as_of: Annotated[str, typer.Option(help="the day to plan from; empty: today, UTC")] = "",
) -> None:
    """Write the whole migration as one SQL file for an untouched database: psql -1 -f. Nothing is executed."""
    from atlas_ops import runner
    from atlas_ops.stages import start

    given = runner.read_parameters(file)
    stage = start("apply_migration", given.get("database", ""), given.get("tables", []), "", as_of)
    print(stage.migration_file(str(output)))


@app.command()
def plans(
    notebook: Annotated[Path, typer.Argument(help="an executed notebook, by papermill or saved in JupyterLab")],
) -> None:
    """Draw the plans of an executed notebook as pages beside it, which open without Jupyter. `run` does so by itself."""
    from atlas_ops import plan_pages, record

    written = plan_pages.write(notebook)
    if not written:
        print(f"No plans in {notebook}. 05 Explain analysis shows them, once it is executed.")
        return
    if record.is_record(notebook) and (notebook.parent / plan_pages.INDEX).exists():
        record.index(notebook.parent, record.entries(notebook.parent))
    print(f"Open first: {written[0]}")


@app.command()
def workload(
    file: File,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="such as parameters/workloads/mine.yml; left out: print it")
    ] = None,
) -> None:
    """Write the skeleton of a workload file from what pg_stat_statements knows of the tables. Nothing is executed, no value is read."""
    from atlas_ops import runner, tracked
    from atlas_ops.database import session
    from atlas_ops.settings import tables_from

    given = runner.read_parameters(file)
    _refuse_to_overwrite(output)
    specs = tables_from(given.get("tables", []), str(file))
    text = tracked.workload(session(str(given.get("database", "")), "workload"), specs)
    if output is None:
        print(text, end="")
        return
    _write_anew(output, text)
    print(f"Written: {output}. Fill in what its comments ask for, then name it as workload in {file}.")


@app.command()
def gate(
    record: Annotated[Path, typer.Argument(help="executed notebook of 05 Explain analysis, or the JSON of its result")],
    baseline: Annotated[Path | None, typer.Option(help="an earlier one to compare with")] = None,
    junit: Annotated[Path | None, typer.Option(help="write the findings as JUnit XML, over an older file")] = None,
) -> None:
    """Judge a record of 05: what is worse than the workload promises, or than an earlier record. Exit code 1 where something is."""
    from atlas_ops import record as records
    from atlas_ops import regression

    now = records.baseline_from(record)
    judged = regression.cases(now, records.baseline_from(baseline) if baseline else None)
    found = [case.finding for case in judged if case.finding]
    if junit is not None:
        _write(junit, regression.junit(judged))
    for line in regression.told(found, len(now)):
        print(line)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in regression.github(found, str(record)):
            print(line)
    raise typer.Exit(1 if any(finding.failure for finding in found) else 0)


@app.command()
def lab(port: Annotated[int, typer.Option(help="port to listen on, loopback only")] = 8888) -> None:
    """Open JupyterLab on notebooks/00_start_here.ipynb, with the demo database ready."""
    from atlas_ops import demo as atlas
    from atlas_ops import runner

    atlas.ensure()
    command = runner.lab_command(NOTEBOOKS, port=port)
    os.execv(command[0], command)  # noqa: S606  # our own command line, no shell


def _refuse_to_overwrite(path: Path | None) -> None:
    if path is not None and path.exists():
        raise AtlasError(
            what=f"{path} is there already.",
            why="What you have filled in would be lost.",
            next="Give another name with -o, or move the file away.",
        )


def _write_anew(path: Path, text: str) -> None:
    """Write a file that is not there. Raises AtlasError where it is, or cannot be made."""
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        _refuse_to_overwrite(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, over an older one. Raises AtlasError where it cannot be made."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> AtlasError:
    return AtlasError(
        what=f"{path} cannot be written.",
        why=f"{error.strerror}.",
        next="Give a file in a folder that is there and that you may write to.",
    )


def _pair(text: str) -> tuple[str, object]:
    """name=value, the value as Python writes it (3, true words in quotes), or else as text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise AtlasError(
            what=f"-p {text} is no name=value.", why="A parameter needs both.", next="Write -p name=value."
        )
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def main() -> None:
    """The entry point: an AtlasError is three lines on stderr and exit code 1, never a traceback."""
    try:
        app()
    except AtlasError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
