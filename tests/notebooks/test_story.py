"""The whole story in executed notebooks, by the command line on the embedded demo."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from atlas_ops import embedded, record

ROOT = Path(__file__).parents[2]
STORY = [
    "preflight",
    "apply_migration",
    "verify_counts",
    "inspect_partitions",
    "explain_analysis",
    "cut_over",
    "maintain_partitions",
    "plan_archive",
    "monitor_health",
]


def ran(*arguments, env, cwd=ROOT, timeout=300):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def result_of(path):
    return record.result(json.loads(Path(path).read_text()))


@pytest.fixture(scope="module")
def home(clusters):
    """An ATLAS_OPS_HOME of this module: never the demo of whoever runs the tests."""
    folder = clusters / "story"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ATLAS_OPS_HOME", str(folder))
        yield folder
        embedded.stop("demo")


@pytest.fixture(scope="module")
def told(home, tmp_path_factory):
    """`atlas-ops demo` in small: its process, and the folder of its records."""
    records = tmp_path_factory.mktemp("records")
    done = ran(
        "atlas_ops", "demo", "--messages", 4_000, "--usage-logs", 6_000, "--records", records, env=dict(os.environ)
    )
    return done, records / "demo"


@pytest.fixture(scope="module")
def stages(told):
    done, folder = told
    assert done.returncode == 0, done.stdout + done.stderr
    return {result_of(path)["stage"]: path for path in sorted(folder.glob("*.ipynb"))}


def test_the_demo_ends_green_and_tells_where_to_look(told, stages):
    done, folder = told
    assert list(stages) == STORY
    assert f"Open first: {folder / 'index.html'}" in done.stdout
    for stage in STORY:
        assert re.search(rf"{stage} on demo", done.stdout)
    assert len(re.findall(r"\d(\.\d)? m?s, ", done.stdout)) >= len(STORY), "the seconds of each stage"


def test_each_result_has_its_verdict(stages):
    verdicts = {stage: result_of(path)["verdict"] for stage, path in stages.items()}
    assert verdicts == dict.fromkeys(STORY, "ok") | {
        "maintain_partitions": "nothing_to_do",
        "plan_archive": "planned",
    }
    for path in stages.values():
        result = result_of(path)
        assert set(result) >= {"stage", "database", "verdict", "digest", "steps", "checks", "figures"}
    assert len(result_of(stages["apply_migration"])["digest"]) == 8


def test_nothing_was_lost(stages):
    parts = result_of(stages["verify_counts"])["figures"]["parts"]
    assert sum(part["rows"][0] for part in parts if part["table"] == "messages") == 4_000
    assert sum(part["rows"][0] for part in parts if part["table"] == "usage_logs") == 6_000
    for part in parts:
        assert part["rows"][0] == part["rows"][1]
        assert part["keys"][0] == part["keys"][1]
        assert part["content"][0] == part["content"][1]
    assert {"2024-01", "2026-10", "out of range", "no key"} <= {part["part"] for part in parts}


def test_no_record_holds_a_row_of_a_user(stages):
    with psycopg.connect(embedded.conninfo("demo")) as connection:
        content = [text for (text,) in connection.execute("SELECT content FROM messages ORDER BY id LIMIT 400")]
        people = [str(one) for (one,) in connection.execute("SELECT id FROM profiles")]
        rows = [str(one) for (one,) in connection.execute("SELECT id FROM messages")]
    for path in stages.values():
        for written in (path.read_text(), path.with_suffix(".html").read_text()):
            assert not [text for text in content if text[:60] in written]
            assert not [one for one in people + rows if one in written]


def test_every_page_opens_offline(told):
    _, folder = told
    for page in folder.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//", text), page.name


def test_a_second_run_finds_nothing_to_do(stages, tmp_path):
    done = ran(
        "atlas_ops", "run", "02", "-f", "parameters/demo.yml", "--confirm", "demo", "--records", tmp_path,
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "demo").glob("*.ipynb")
    assert result_of(path)["verdict"] == "nothing_to_do"


def test_the_committed_notebooks_run_as_they_are(stages, tmp_path):
    """nbval, with the harmless defaults of every parameters cell."""
    done = ran(
        "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
        ROOT / "notebooks", env=dict(os.environ), cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
