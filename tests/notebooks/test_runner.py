"""Stages run as notebooks: what is refused before anything runs, what a record holds, when a chain stops."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from atlas_ops import plan_pages, record, runner
from atlas_ops.errors import AtlasError
from atlas_ops.report import RESULT_TYPE, Verdict

PARAMETERS = """\
database = "demo"   # libpq service name
tables = []         # table specifications
confirm = ""        # digest of the plan you approve
as_of = ""          # the day to plan from
"""


def result_cell(**result: object) -> str:
    bundle = {
        RESULT_TYPE: {"stage": "s", "database": "demo", "verdict": "ok", **result},
        "text/plain": "result",
    }
    return f"from IPython.display import display\ndisplay({bundle!r}, raw=True)"


def write(path: Path, *cells: str, parameters: str = PARAMETERS) -> None:
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# A stage"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            *map(new_code_cell, cells),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)


@pytest.fixture(autouse=True)
def _no_secrets_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    for name in ("PGPASSWORD", "DATABASE_URL", "PGSYSCONFDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stages(tmp_path) -> Path:
    """Four stages: three that end well, each in its way, and one that does not."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write(
        folder / "01_preflight.ipynb",
        result_cell(stage="preflight", headline="nothing stands in the way", figures={"tables": 2}, digest="a0cd57f4"),
    )
    write(
        folder / "02_apply_migration.ipynb",
        "seen = (database, confirm, batch_rows, tables)",
        "import os; print(os.getcwd(), seen)",
        result_cell(verdict="planned", headline="6 steps"),
        parameters=PARAMETERS + "batch_rows = 5000   # rows a batch\n",
    )
    write(
        folder / "03_verify_counts.ipynb",
        "from atlas_ops.errors import AtlasError",
        "raise AtlasError(what='2 months differ.', why='A batch was lost.', next='Run 02 again.')",
        "after = 1",
    )
    write(folder / "04_inspect_partitions.ipynb", "1 + 1")
    return folder


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(stages, tmp_path, said):
    def run(*names: str, **parameters: object) -> list[runner.StageResult]:
        return runner.run(names, parameters, notebooks=stages, records=tmp_path / "records", say=said.append)

    return run


@pytest.mark.parametrize("name", ["3", "03", "verify_counts", "03_verify_counts", "03_verify_counts.ipynb"])
def test_a_stage_is_found_by_number_or_name(stages, name):
    assert runner.resolve(name, stages) == stages / "03_verify_counts.ipynb"


@pytest.mark.parametrize("name", ["11", "verify", "", "../01_preflight", "*", "03_preflight"])
def test_an_unknown_stage_lists_the_known_ones(stages, name):
    with pytest.raises(AtlasError, match="01_preflight, 02_apply_migration, 03_verify_counts"):
        runner.resolve(name, stages)


def test_a_chain_runs_in_order_and_stops_at_the_first_red_stage(run, said, tmp_path):
    results = run("01", "2", "verify_counts", "04", batch_rows=7, tables=[{"name": "public.messages"}])
    assert [(r.stage, r.verdict, r.headline) for r in results] == [
        ("preflight", Verdict.OK, "nothing stands in the way"),
        ("apply_migration", Verdict.PLANNED, "6 steps"),
        ("verify_counts", Verdict.STOPPED, "2 months differ."),
    ]
    assert results[0].figures == {"tables": 2}
    assert results[0].digest == "a0cd57f4"
    assert results[2].lines == [
        "STOPPED: 2 months differ.",
        " because: A batch was lost.",
        "    next: Run 02 again.",
    ]
    assert runner.exit_code(results[:2]) == 0
    assert runner.exit_code(results) == 1
    assert "not run: inspect_partitions" in said
    assert "  STOPPED: 2 months differ." in said
    for result in results:
        assert result.seconds > 0
        assert result.notebook.parent == tmp_path / "records" / "demo"
        assert re.fullmatch(r"\d{8}T\d{6}Z_\w+\.ipynb", result.notebook.name)
        assert result.page.exists()
        nbformat.validate(nbformat.read(result.notebook, 4))
    assert not list((tmp_path / "records").rglob("*.part.*"))
    migration = nbformat.read(results[1].notebook, 4)
    printed = migration.cells[-2].outputs[0].text
    assert printed.endswith("('demo', '', 7, [{'name': 'public.messages'}])\n")
    assert printed.startswith(str(tmp_path / "notebooks"))
    index = (tmp_path / "records" / "demo" / "index.html").read_text()
    for words in ("nothing stands in the way", "6 steps", "2 months differ.", "stopped", "planned"):
        assert words in index


def test_a_stage_without_a_result_that_ends_is_ok(run):
    (result,) = run("04")
    assert (result.verdict, result.headline, result.database) == (Verdict.OK, "", "demo")


@pytest.mark.parametrize(
    ("parameters", "what", "why"),
    [
        ({"batch_row": 5}, "no parameter 'batch_row'", "know: database, tables, confirm, as_of, batch_rows"),
        ({"confirm": 12345678}, "'confirm' has to be text", "a whole number"),
        ({"batch_rows": "5000"}, "'batch_rows' has to be a whole number", "text"),
        ({"batch_rows": True}, "'batch_rows' has to be a whole number", "true or false"),
        ({"batch_rows": None}, "'batch_rows' has to be a whole number", "empty"),
        ({"tables": "messages"}, "'tables' has to be a list", "text"),
    ],
)
def test_a_wrong_parameter_stops_before_anything_runs(run, tmp_path, parameters, what, why):
    with pytest.raises(AtlasError) as raised:
        run("01", "02", **parameters)
    assert what in raised.value.what
    assert why in raised.value.why
    assert not (tmp_path / "records").exists()


def test_a_parameter_that_no_stage_of_this_run_declares_is_refused(run):
    with pytest.raises(AtlasError, match="no parameter 'batch_rows'"):
        run("01", batch_rows=5)


def test_parameters_come_from_yaml_and_the_error_names_the_file(stages, tmp_path):
    file = tmp_path / "p.yml"
    file.write_text("database: demo\nas_of: 2026-11-23\ntables:\n  - name: public.messages\nconfirm: 12345678\n")
    parameters = runner.read_parameters(file)
    origins = dict.fromkeys(parameters, str(file))
    with pytest.raises(AtlasError, match=r"'confirm' in .*p\.yml has to be text") as raised:
        runner.run(["01"], parameters, notebooks=stages, records=tmp_path / "r", origins=origins)
    assert 'confirm: "..."' in raised.value.next
    assert runner._checked({"as_of": parameters["as_of"]}, [stages / "01_preflight.ipynb"], {}) == [
        {"as_of": "2026-11-23"}
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is no YAML"),
        (b"a: 1\na: 2\n", "is no YAML"),
        (b"!!python/object/apply:os.system ['true']", "is no YAML"),
        (b"- 1\n- 2\n", "holds no parameters"),
        (b"", "holds no parameters"),
        (b"1: 2\n", "holds no parameters"),
        (b"\xff\xfe", "is no YAML"),
    ],
)
def test_a_file_that_holds_no_parameters_is_refused(tmp_path, content, message):
    file = tmp_path / "p.yml"
    file.write_bytes(content)
    with pytest.raises(AtlasError, match=message):
        runner.read_parameters(file)


def test_a_missing_parameter_file_is_refused(tmp_path):
    with pytest.raises(AtlasError, match="cannot be read"):
        runner.read_parameters(tmp_path / "absent.yml")


def test_a_kernel_that_dies_leaves_a_red_result_and_its_record(stages, run, said):
    write(stages / "05_dies.ipynb", "print('before')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    (result,) = run("05")
    assert result.verdict is Verdict.STOPPED
    assert "kernel of this notebook ended" in result.headline
    assert "before" in result.notebook.read_text()
    (entry,) = record.entries(result.notebook.parent)
    assert (entry.verdict, entry.headline) == ("stopped", result.headline)
    nbformat.validate(nbformat.read(result.notebook, 4))


def test_an_interrupted_run_keeps_what_was_done(stages, tmp_path):
    write(
        stages / "05_waits.ipynb",
        "print('be' + 'fore')",
        "import time\nopen('waiting', 'w').close()\ntime.sleep(60)",
    )
    program = (
        "from pathlib import Path; from atlas_ops import runner; "
        f"runner.run(['05'], {{}}, notebooks=Path({str(stages)!r}), records=Path('records'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 60
        while not (stages / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0
    (entry,) = record.entries(tmp_path / "records" / "demo")
    assert (entry.verdict, entry.headline) == ("stopped", "Interrupted.")
    assert "before" in (tmp_path / "records" / "demo" / entry.notebook).read_text()


def test_a_cell_that_is_interrupted_clears_up_before_its_kernel_goes(stages, tmp_path):
    write(
        stages / "05_waits.ipynb",
        "import time\ntry:\n    open('waiting', 'w').close()\n    time.sleep(60)\n"
        "finally:\n    time.sleep(0.5)\n    open('cleared', 'w').close()",
    )
    program = (
        "from pathlib import Path; from atlas_ops import runner; "
        f"runner.run(['05'], {{}}, notebooks=Path({str(stages)!r}), records=Path('records'))"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=tmp_path, env=_environment(), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (stages / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert (stages / "cleared").exists()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parents[1])}


def test_a_kernel_that_is_not_there_stops_without_a_record(stages, tmp_path):
    with pytest.raises(AtlasError, match="no Jupyter kernel 'absent'"):
        runner.run(["04"], {}, notebooks=stages, records=tmp_path / "records", kernel="absent", say=lambda line: None)
    assert not list((tmp_path / "records").rglob("*.ipynb"))


def test_progress_of_a_long_step_is_said_and_its_last_state_kept(stages, run, said):
    write(
        stages / "05_long.ipynb",
        "import time\nfrom atlas_ops.progress import Progress\n"
        "with Progress('messages') as progress:\n"
        "    for done in range(0, 101, 10):\n        progress(done, 100, 'x')\n        time.sleep(0.06)\n",
    )
    (result,) = run("05")
    assert any(re.match(r"  messages: \d+ %, ", line) for line in said)
    outputs = nbformat.read(result.notebook, 4).cells[-1].outputs
    assert len(outputs) == 1
    assert 'value="100" max="100"' in outputs[0].data["text/html"]
    assert outputs[0].data["text/plain"].startswith("messages: 100 %, 100 of 100 rows")


def test_nothing_of_jupyter_reaches_the_terminal(stages, tmp_path):
    program = (
        "from pathlib import Path; from atlas_ops import runner; "
        f"runner.run(['01', '04'], {{}}, notebooks=Path({str(stages)!r}), records=Path('records'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 4
    assert re.search(r"^  ok, [\d.]+ m?s, records/demo/\w+_preflight\.html$", done.stdout, re.MULTILINE)


def test_a_kernel_that_is_done_goes_without_a_word(stages, tmp_path):
    """One that is asked to go tears itself down, and now and then stumbles over itself; what it prints then would be on the terminal."""
    write(stages / "05_says.ipynb", "import atexit, os\natexit.register(os.write, 2, b'good-bye')", result_cell())
    write(stages / "06_stops.ipynb", "import atexit, os\natexit.register(os.write, 2, b'good-bye')", "1 / 0")
    program = (
        "from pathlib import Path; from atlas_ops import runner; "
        f"runner.run(['05', '06'], {{}}, notebooks=Path({str(stages)!r}), records=Path('records'))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "ZeroDivisionError" in done.stdout


SECRET = "p@ss: wörd/\"1'<&+"


@pytest.mark.parametrize(
    "shown",
    [
        "print({secret!r})",
        "print(repr({secret!r}))",
        "print('https://u:' + __import__('urllib.parse').parse.quote({secret!r}, safe='') + '@h')",
        "print(__import__('base64').b64encode(('user:' + {secret!r}).encode()).decode())",
        "raise ValueError({secret!r})",
    ],
)
@pytest.mark.parametrize("place", ["PGPASSWORD", "pgpass", "service"])
def test_a_record_that_holds_a_password_is_refused(stages, run, monkeypatch, shown, place):
    tmp_path = stages.parent
    if place == "PGPASSWORD":
        monkeypatch.setenv("PGPASSWORD", SECRET)
    elif place == "pgpass":
        escaped = SECRET.replace("\\", "\\\\").replace(":", "\\:")
        (tmp_path / "pgpass").write_text(f"# db\nhost:5432:*:me:{escaped}\n")
    else:
        (tmp_path / "pg_service.conf").write_text(f"[x]\nhost=h\nuser=me\npassword={SECRET}\n")
    source = shown.replace(
        "{secret!r}",
        f"__import__('base64').b64decode({base64.b64encode(SECRET.encode()[::-1])!r})[::-1].decode()",
    )
    write(stages / "05_leaks.ipynb", source)
    (result,) = run("05")
    assert result.verdict is Verdict.STOPPED
    assert "holds a password" in result.headline
    assert result.notebook is None
    assert not list((tmp_path / "records").rglob("*leaks*"))
    assert SECRET not in str(result)


def plans_cell(*plans: object) -> str:
    bundle = {plan_pages.MIME: {"plans": list(plans)}, "text/plain": "plans"}
    return f"from IPython.display import display\ndisplay({bundle!r}, raw=True)"


PLAN = {"query": "count", "side": "original", "title": "", "sql": "SELECT 1", "plan": {"Plan": {"Node Type": "Result"}}}


def test_the_plans_of_a_record_lie_beside_it_and_the_index_leads_to_them(stages, run):
    write(stages / "05_explains.ipynb", plans_cell(PLAN))
    plain, shown = run("04", "05")
    place = record.plans_folder(shown.notebook)
    assert {path.name for path in place.iterdir()} == {"index.html", "count_original.html", "count_original.json"}
    assert not record.plans_folder(plain.notebook).exists()
    entries = {entry.stage: entry.plans for entry in record.entries(shown.notebook.parent)}
    assert entries == {"inspect_partitions": "", "explains": f"plans/{shown.notebook.stem}/index.html"}
    assert (shown.notebook.parent / "index.html").read_text().count(f'href="{entries["explains"]}"') == 1
    assert "plans" in shown.page.read_text()


def test_plans_that_cannot_be_read_make_the_stage_red_and_the_record_stays(stages, run, tmp_path):
    write(stages / "05_explains.ipynb", plans_cell({**PLAN, "plan": []}))
    (result,) = run("05")
    assert result.verdict is Verdict.STOPPED
    assert "cannot be read" in result.headline
    assert [entry.stage for entry in record.entries(tmp_path / "records" / "demo")] == ["explains"]
    assert not list((tmp_path / "records").rglob("plans"))


def test_words_that_are_no_secret_are_not_looked_for(tmp_path):
    (tmp_path / "pgpass").write_text(
        "h:5432:atlas_prod:postgres:postgres\nh:5432:d:u:short\nh:1:d:u:long enough\nbroken\n"
    )
    assert [secret.value for secret in record.secrets()] == ["long enough"]
    assert "long enough" not in repr(record.secrets())


def test_two_runs_of_one_second_get_two_names(tmp_path):
    at = dt.datetime(2026, 11, 23, 6, tzinfo=dt.UTC)
    first, second = (record.draft(tmp_path, "demo", "health", at) for _ in range(2))
    for written in (first, second):
        written.part.write_text("{}")
        record.keep(written)
    third = record.draft(tmp_path, "demo", "health", at)
    assert [d.final.name for d in (first, second, third)] == [
        "20261123T060000Z_health.ipynb", "20261123T060000Z_health_2.ipynb", "20261123T060000Z_health_3.ipynb",
    ]  # fmt: skip
    assert [(e.stage, e.verdict) for e in record.entries(tmp_path / "demo")] == [
        ("health", "ok"), ("health", "ok"), ("health", "unfinished"),
    ]  # fmt: skip


@pytest.mark.parametrize("database", ["../../etc", "a/b", "..", "", "x\x00y", "<script>"])
def test_a_record_stays_in_its_folder(tmp_path, database):
    written = record.draft(tmp_path / "records", database, "s", dt.datetime.now(dt.UTC))
    assert written.part.parent.parent == tmp_path / "records"


def test_a_folder_that_cannot_be_written_stops_before_the_run(stages, tmp_path):
    (tmp_path / "records").write_text("a file")
    with pytest.raises(AtlasError, match="No record can be written"):
        runner.run(["04"], {}, notebooks=stages, records=tmp_path / "records", say=lambda line: None)


def test_the_lab_opens_without_the_question_about_news(stages, tmp_path):
    command = runner.lab_command(stages, port=0, browser=False)
    assert command[-1] == str(stages / "00_start_here.ipynb")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "c"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "r"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    log = tmp_path / "log"
    with log.open("w") as sink, subprocess.Popen(
        [*command[:-1], "--IdentityProvider.token=t"],
        cwd=tmp_path, env=environment, stdout=sink, stderr=sink,
    ) as lab:  # fmt: skip
        try:
            url = _served(tmp_path / "r")
            request = urllib.request.Request(
                f"{url}lab/api/settings/@jupyterlab/apputils-extension:notification",
                headers={"Authorization": "token t"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                settings = json.load(answer)
        finally:
            lab.terminate()
    defaults = settings["schema"]["properties"]
    assert defaults["fetchNews"]["default"] == "false", log.read_text()
    assert defaults["checkForUpdates"]["default"] is False


def _served(folder: Path) -> str:
    """The address of the server that has written its file there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in folder.glob("jpserver-*.json"):
            return SimpleNamespace(**json.loads(file.read_text())).url
        time.sleep(0.2)
    raise TimeoutError(folder)
