"""07 as a scheduler runs it: cron's own line, on a service; what it makes, what it says, and that it is red when it should be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from atlas_ops import record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(service, tmp_path, monkeypatch):
    """A folder as /opt/atlas_ops: the notebooks, the programs, a parameters file for the service of this test; messages migrated."""
    folder = tmp_path / "opt"
    (folder / "parameters").mkdir(parents=True)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    (folder / ".venv" / "bin").mkdir(parents=True)
    program = folder / ".venv" / "bin" / "atlas-ops"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m atlas_ops "$@"\n')
    program.chmod(0o755)
    table = {
        "table": "public.messages",
        "partition_key": "created_at",
        "from": "2024-01-01",
        "ahead": 1,
        "null_keys": "set_aside",
        "copy": "by_partition",
    }
    with (folder / "parameters" / "production.yml").open("w") as out:
        YAML().dump({"database": service, "tables": [table], "as_of": "2026-11-23"}, out)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def run(home, line):
    """The line as /bin/sh runs it from there."""
    return subprocess.run(
        ["sh", "-c", line], cwd=home, env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False
    )


def results(home, stage="maintain_partitions"):
    return [record.result(json.loads(path.read_text())) for path in sorted(home.glob(f"records/*/*_{stage}.ipynb"))]


def on(home, day, **more):
    path = home / "parameters" / "production.yml"
    settings = YAML(typ="safe", pure=True).load(path.read_text()) | {"as_of": day}
    with path.open("w") as out:
        YAML().dump(settings, out)


def test_crons_own_line_keeps_a_table_ahead_and_says_when_it_cannot(home, atlas):
    [entry] = [
        line for line in (ROOT / "docs/schedules/atlas_ops.crontab").read_text().splitlines() if line.startswith("17 ")
    ]
    line = entry.split(None, 6)[6].replace("/opt/atlas_ops", str(home))
    migrate = ".venv/bin/atlas-ops run apply_migration -f parameters/production.yml --confirm "
    assert run(home, migrate + "''").returncode == 0
    digest = results(home, "apply_migration")[0]["digest"]
    done = run(home, migrate + digest)
    assert done.returncode == 0, done.stdout + done.stderr

    with atlas.connect() as connection:  # of the months that this test is about: a client's clock was ahead
        connection.execute(
            "DELETE FROM partitions.messages_default WHERE created_at >= '2027-01-01' AND created_at < '2027-06-01'"
        )
    on(home, "2026-12-05")
    done = run(home, line)
    assert (done.returncode, done.stdout) == (0, ""), "cron sends no mail for a run that is well"
    [first] = results(home)
    assert first["verdict"] == "ok" and first["figures"]["missing"] == 0
    assert "make partitions.messages_2027_01" in [step["step"] for step in first["steps"]]
    with atlas.connect() as connection:
        assert connection.execute("SELECT to_regclass('partitions.messages_2027_01') IS NOT NULL").fetchone() == (True,)
        connection.execute(
            "INSERT INTO messages_partitioned (role, content, created_at) VALUES ('user', 'x', '2027-02-03')"
        )

    on(home, "2027-01-05")
    done = run(home, line)
    assert "STOPPED" in done.stdout or "stopped" in done.stdout, "and one for a run that is red"
    assert "2027-02" in done.stdout and "default partition" in done.stdout
    assert [
        record.stop(json.loads(path.read_text())) != []
        for path in sorted(home.glob("records/*/*_maintain_partitions.ipynb"))
    ] == [False, True]

    shown = run(home, ".venv/bin/atlas-ops run maintain_partitions -f parameters/production.yml -p what=move")
    assert shown.returncode == 0, shown.stdout
    moving = results(home)[-1]
    assert moving["verdict"] == "planned"
    moved = run(
        home,
        f".venv/bin/atlas-ops run maintain_partitions -f parameters/production.yml -p what=move --confirm {moving['digest']}",
    )
    assert moved.returncode == 0, moved.stdout
    assert run(home, line).stdout == ""
    with atlas.connect() as connection:
        assert connection.execute("SELECT count(*) FROM partitions.messages_2027_02").fetchone() == (1,)
