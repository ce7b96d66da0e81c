"""The notebooks on any server, by plain papermill: a service, a specification, a digest to confirm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import papermill
import psycopg
import pytest
from ruamel.yaml import YAML
from traitlets.config import Config

from atlas_ops import record

ROOT = Path(__file__).parents[2]
QUIET = Config(KernelManager={"transport_encryption": "auto"})


def notebook(stage):
    (path,) = (ROOT / "notebooks").glob(f"*_{stage}.ipynb")
    return path


@pytest.fixture
def parameters(service, tmp_path):
    """The file of the demo, for the service of this test."""
    settings = YAML(typ="safe", pure=True).load((ROOT / "parameters" / "demo.yml").read_text())
    for table in settings["tables"]:
        table["from"], table["until"] = str(table["from"]), str(table["until"])
        table["workload"] = str(ROOT / "parameters" / table["workload"])
    file = tmp_path / "parameters.yml"
    with file.open("w") as out:
        YAML().dump({**settings, "database": service, "as_of": "2026-11-23"}, out)
    return file


def executed(stage, parameters, out, **more):
    """The notebook run by papermill in this process: the result of its last cell, or the lines it stopped with."""
    given = YAML(typ="safe", pure=True).load(parameters.read_text()) | more
    try:
        papermill.execute_notebook(notebook(stage), out, given, kernel_name="python3", progress_bar=False, config=QUIET)
    except papermill.PapermillExecutionError:
        return record.stop(json.loads(out.read_text()))
    return record.result(json.loads(out.read_text()))


def command(out, parameters, *more):
    """papermill's own command on 00_start_here."""
    words = [sys.executable, "-m", "papermill", notebook("start_here"), out, "-k", "python3", "-f", parameters]
    return subprocess.run(
        [*map(str, words), "--no-progress-bar", *more],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_papermill_on_a_service_shows_then_does_then_proves(parameters, tmp_path, atlas):
    shown = executed("apply_migration", parameters, tmp_path / "shown.ipynb")
    assert shown["verdict"] == "planned"
    assert not shown["steps"]

    wrong = executed("apply_migration", parameters, tmp_path / "wrong.ipynb", confirm="deadbeef")
    assert [line.split(":")[0].strip() for line in wrong] == ["STOPPED", "because", "next"]
    assert f"This plan is {shown['digest']}, but deadbeef was confirmed." in wrong[0]
    with atlas.connect() as connection:
        assert connection.execute("SELECT to_regclass('public.messages_partitioned')").fetchone() == (None,)

    early = executed("verify_counts", parameters, tmp_path / "early.ipynb")
    assert "01 Preflight and 02 Apply migration" in early[-1], "a stage before its time stops with the way"

    done = executed("apply_migration", parameters, tmp_path / "done.ipynb", confirm=shown["digest"])
    assert done["verdict"] == "ok"

    for stage in ("verify_counts", "inspect_partitions", "explain_analysis", "monitor_health"):
        assert executed(stage, parameters, tmp_path / f"{stage}.ipynb")["verdict"] == "ok"
    proven = record.result(json.loads((tmp_path / "verify_counts.ipynb").read_text()))
    assert sum(part["rows"][1] for part in proven["figures"]["parts"]) == 4_000 + 5_000
    assert executed("plan_archive", parameters, tmp_path / "plan_archive.ipynb")["verdict"] == "planned"


def test_a_copy_that_follows_nothing_is_opened_by_06_and_closed_by_10(parameters, tmp_path, atlas):
    def by(stage, **more):
        return executed(stage, parameters, tmp_path / "out.ipynb", tables=tables, **more)

    def may_write():
        with atlas.connect(user="authenticator") as connection:
            try:
                connection.execute("SET LOCAL ROLE authenticated")
                connection.execute("UPDATE messages_partitioned SET content = 'x' WHERE false")
            except psycopg.Error as error:
                return error.sqlstate
        return True

    read = YAML(typ="safe", pure=True).load(parameters.read_text())["tables"]
    other = {"copy": "by_partition", "cut_over": "side_by_side", "incoming_foreign_keys": "refuse"}
    tables = [{**table, **other} for table in read]
    for stage, may in (("apply_migration", "55000"), ("cut_over", True), ("roll_back", "55000")):
        shown = by(stage)
        assert (shown["verdict"], shown["steps"]) == ("planned", []), stage
        assert by(stage, confirm=shown["digest"])["verdict"] == "ok", stage
        assert may_write() == may, stage
        if stage == "apply_migration":
            assert [by(after)["verdict"] for after in ("verify_counts", "explain_analysis")] == ["ok", "ok"]
    assert by("roll_back")["verdict"] == "nothing_to_do"


def test_papermills_own_command_refuses_an_unknown_parameter(parameters, tmp_path):
    done = command(tmp_path / "out.ipynb", parameters, "-r", "conferm", "x")
    assert done.returncode != 0
    assert "Unknown parameter: conferm." in record.stop(json.loads((tmp_path / "out.ipynb").read_text()))[0]


def test_papermills_own_command_runs_a_notebook_as_it_stands(parameters, tmp_path):
    done = command(tmp_path / "out.ipynb", parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    assert record.result(json.loads((tmp_path / "out.ipynb").read_text()))["verdict"] == "ok"
