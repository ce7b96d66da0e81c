"""The ready units in docs/schedules: what their own tools read without a complaint, and that they run what the docs say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from atlas_ops import scheduling
from atlas_ops.cli import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "schedules"
COMMAND = ".venv/bin/atlas-ops run maintain_partitions -f parameters/production.yml --confirm additive"
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def cron_line() -> tuple[list[str], str, str]:
    """The five fields, the user and the command of the crontab's one entry."""
    lines = [
        line for line in (FOLDER / "atlas_ops.crontab").read_text().splitlines() if line and not line.startswith("#")
    ]
    [entry] = [line for line in lines if not re.match(r"[A-Z_]+=", line)]
    *fields, user, command = entry.split(None, 6)
    return fields, user, command


def unit(name: str) -> ConfigParser:
    parsed = ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string((FOLDER / name).read_text())
    return parsed


def workflow() -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load((FOLDER / "github-actions.yml").read_text()))


def test_every_unit_is_told_of_in_the_docs() -> None:
    page = (ROOT / "docs" / "maintenance.md").read_text()
    assert {path.name for path in FOLDER.iterdir()} == set(re.findall(r"\(schedules/([\w.-]+)\)", page))


def test_the_crontab_has_five_fields_in_their_ranges_a_user_and_a_command_that_the_shell_reads() -> None:
    fields, user, command = cron_line()
    for field, (least, most) in zip(fields, RANGES, strict=True):
        body, _, step = field.partition("/")
        assert body == "*" or all(least <= int(number) <= most for number in re.split("[-,]", body)), field
        assert step == "" or 1 <= int(step) <= most
    assert user == "atlas" and COMMAND in command
    assert "%" not in command, "cron makes a line break of it"
    assert (FOLDER / "atlas_ops.crontab").read_text().endswith("\n"), "cron passes over a last line without its end"
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_systemd_reads_its_units(tmp_path: Path) -> None:
    service, timer = unit("atlas-ops-maintain.service"), unit("atlas-ops-maintain.timer")
    assert service["Service"]["ExecStart"] == f"/opt/atlas_ops/{COMMAND}"
    assert service["Service"]["Type"] == "oneshot" and timer["Timer"]["Persistent"] == "yes"
    assert timer["Install"]["WantedBy"] == "timers.target"
    verify = shutil.which("systemd-analyze")
    if verify is None:  # what it would say is more than the lines above, but not less
        return
    for name in ("atlas-ops-maintain.service", "atlas-ops-maintain.timer"):
        # the program must be there for systemd to be content
        text = (FOLDER / name).read_text().replace("/opt/atlas_ops/.venv/bin/atlas-ops", sys.executable)
        (tmp_path / name).write_text(text.replace("/opt/atlas_ops", str(tmp_path)))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(tmp_path / "atlas-ops-maintain.timer")],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "atlas-ops" in line]
    assert ours == [] and done.returncode == 0, done.stderr
    calendar = subprocess.run(
        [verify, "calendar", timer["Timer"]["OnCalendar"]], capture_output=True, text=True, check=False
    )
    assert calendar.returncode == 0, calendar.stderr


def test_the_workflow_is_one_that_github_runs_on_a_schedule() -> None:
    read = workflow()
    triggers = read.get("on", read.get(True))
    [schedule] = triggers["schedule"]
    assert scheduling._CRON.fullmatch(schedule["cron"])
    [job] = read["jobs"].values()
    run = " ".join(step["run"] for step in job["steps"] if "papermill" in step.get("run", ""))
    assert "notebooks/07_maintain_partitions.ipynb" in run and "-r confirm additive" in run
    for step in job["steps"]:
        subprocess.run(["sh", "-n", "-c", step.get("run", ":")], check=True)
    assert (ROOT / ".github" / "workflows" / "ci.yml").exists(), "its steps are those of our own"
    mine = {step["uses"] for step in job["steps"] if "uses" in step}
    theirs = set(re.findall(r"uses: (\S+)", (ROOT / ".github" / "workflows" / "ci.yml").read_text()))
    assert mine <= theirs


def test_no_unit_holds_a_password() -> None:
    for path in FOLDER.iterdir():
        assert not re.search(r"(?i)pg_?password|password\s*=|://", path.read_text()), path.name


@pytest.mark.parametrize("at", ["17 * * * *", "0 3 1 * *", "*/5 0-6 1,15 * 1-5"])
def test_times_that_cron_knows_are_taken(at: str) -> None:
    assert scheduling._CRON.fullmatch(at)


@pytest.mark.parametrize(
    "at", ["", "hourly", "* * * *", "* * * * * *", "17 * * * *\n", "1 2 3 4 x", "'; DROP TABLE x; --", "@reboot"]
)
def test_times_that_it_does_not_know_are_refused(at: str) -> None:
    assert not scheduling._CRON.fullmatch(at)


def test_the_command_is_words_of_the_command_line() -> None:

    _, *words = shlex.split(COMMAND)
    command = get_command(app).commands["run"]  # type: ignore[attr-defined]
    context = command.make_context("run", words[1:])
    assert context.params["stages"] == ["maintain_partitions"] and context.params["confirm"] == "additive"
