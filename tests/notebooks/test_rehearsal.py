"""The rehearsal from the notebook and from the command line: armed by its digest, figures and a picture in the record, nothing exchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from traitlets.config import Config

from atlas_ops import embedded, record
from atlas_ops.errors import AtlasError
from atlas_ops.stages import start

ROOT = Path(__file__).parents[2]
QUIET = Config(KernelManager={"transport_encryption": "auto"})
MESSAGES = {
    "table": "public.messages", "partition_key": "created_at", "from": "2024-01-01", "until": "2027-01-01", "null_keys": "set_aside",
    "incoming_foreign_keys": "registry",
}  # fmt: skip


def executed(stage, service, out, **more):
    """The notebook run by papermill: the result of its last cell, or the lines it stopped with."""
    (path,) = (ROOT / "notebooks").glob(f"*_{stage}.ipynb")
    given = {"database": service, "tables": [MESSAGES], "as_of": "2026-11-23", **more}
    try:
        papermill.execute_notebook(path, out, given, kernel_name="python3", progress_bar=False, config=QUIET)
    except papermill.PapermillExecutionError:
        return record.stop(json.loads(out.read_text()))
    return record.result(json.loads(out.read_text()))


@pytest.fixture
def copied(service, tmp_path):
    """The service, its messages copied and kept in step."""
    shown = executed("apply_migration", service, tmp_path / "shown.ipynb")
    done = executed("apply_migration", service, tmp_path / "done.ipynb", confirm=shown["digest"])
    assert done["verdict"] == "ok"
    return service


def test_the_notebook_rehearses_when_its_digest_is_confirmed_and_exchanges_nothing(copied, tmp_path, atlas):
    refused = [{**MESSAGES, "incoming_foreign_keys": "refuse"}]
    shown = executed("cut_over", copied, tmp_path / "shown.ipynb", tables=refused, rehearse=50)
    assert shown["verdict"] == "planned" and not shown["steps"]
    assert "Left out, because they would reach" in (tmp_path / "shown.ipynb").read_text()

    plain = executed("cut_over", copied, tmp_path / "plain.ipynb")
    assert plain["verdict"] == "planned" and plain["digest"] != shown["digest"]
    wrong = executed("cut_over", copied, tmp_path / "wrong.ipynb", confirm=plain["digest"], rehearse=50)
    assert "was confirmed" in wrong[0], "the digest of the cut-over arms no rehearsal"

    done = executed("cut_over", copied, tmp_path / "done.ipynb", confirm=shown["digest"], rehearse=50)
    assert done["verdict"] == "ok", done
    assert done["digest"] == shown["digest"], "a rehearsal is the same plan tomorrow"
    (figures,) = done["figures"]["rehearsals"]
    assert figures["table"] == "public.messages" and figures["errors"] == {} and figures["missed"] == 0
    assert {"cut over", "roll back"} <= {stage["stage"] for stage in figures["stages"]}
    notebook = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    pictures = [one for cell in notebook.cells for one in cell.get("outputs", []) if "image/png" in one.get("data", {})]
    assert len(pictures) == 1 and "How long did a client wait?" in pictures[0].data["text/plain"]
    with atlas.connect() as connection:
        kinds = connection.execute("SELECT relkind FROM pg_class WHERE oid = 'public.messages'::regclass").fetchall()
        left = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'atlas_ops_rehearsal%'"
        ).fetchall()
    assert kinds == [("r",)] and left == [(0,)]


@pytest.mark.parametrize("rehearse", ["100", -1, True, 10**6])
def test_a_rate_that_is_none_stops(service, tmp_path, rehearse):
    run = start("cut_over", service, [MESSAGES], "", "2026-11-23")
    with pytest.raises(AtlasError, match="rehearse is"):
        run.rehearse(rehearse)


def test_make_rehearse_prints_the_figures_and_keeps_them(clusters, tmp_path):
    home = clusters / "rehearse"
    home.mkdir(exist_ok=True)
    home.chmod(0o711)
    command = [sys.executable, "-m", "atlas_ops", "rehearse", "--messages", "2000", "--rate", "50", "--clients", "2"]
    done = subprocess.run(
        [*command, "--records", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "ATLAS_OPS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held ms" in done.stdout and "longest stall ms" in done.stdout and "none failed" in done.stdout
    (kept,) = (tmp_path / "rehearsal").glob("*.json")
    figures = json.loads(kept.read_text())
    assert figures["clients"] == 2 and figures["errors"] == {} and figures["held_ms"] > 0
    assert kept.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ATLAS_OPS_HOME", str(home))
        assert embedded.cluster("rehearsal").postmaster() is None, "its server is stopped"
