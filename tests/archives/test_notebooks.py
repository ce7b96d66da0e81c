"""08 and 11 as a DBA runs them: each station of the road shown, then confirmed by its digest; and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import papermill
import pytest
from archives.road import Road
from traitlets.config import Config

from atlas_ops import archive_timing, catalog, database, forecast, record
from atlas_ops.errors import AtlasError
from atlas_ops.stages import start
from tests.database.conftest import Subject

ROOT = Path(__file__).parents[2]
QUIET = Config(KernelManager={"transport_encryption": "auto"})
Stage = Callable[..., Any]


@pytest.fixture
def settings(service: str, atlas: Any, tmp_path: Path) -> dict[str, Any]:
    """The parameters of a notebook for the usage logs of a migrated Atlas, of which the two oldest months leave."""
    usage_logs = {
        "table": "public.usage_logs", "partition_key": "timestamp", "from": "2024-01-01", "until": "2027-01-01", "keep": 32,
        "copy": "by_partition", "archive_to": str(tmp_path / "archive"),
    }  # fmt: skip
    subject = Subject(atlas)
    subject.specify(usage_logs)
    subject.migrate()
    return {"database": service, "tables": [usage_logs], "as_of": "2026-11-23"}


@pytest.fixture
def run(settings: dict[str, Any], tmp_path: Path) -> Stage:
    """A notebook run by papermill: the result of its last cell, or the lines it stopped with."""
    number = iter(range(100))

    def executed(stage: str, **given: Any) -> Any:
        (path,) = (ROOT / "notebooks").glob(f"*_{stage}.ipynb")
        out = tmp_path / f"{next(number)}_{stage}.ipynb"
        try:
            papermill.execute_notebook(
                path, out, {**settings, **given}, kernel_name="python3", progress_bar=False, config=QUIET
            )
        except papermill.PapermillExecutionError:
            return record.stop(json.loads(out.read_text()))
        return record.result(json.loads(out.read_text()))

    return executed


def confirmed(run: Stage, stage: str, **given: Any) -> Any:
    """Shown, which does nothing; then with the digest that was shown."""
    shown = run(stage, **given)
    assert shown["verdict"] == "planned" and not shown["steps"], shown
    done = run(stage, **given, confirm=shown["digest"])
    assert done["verdict"] == "ok" and done["digest"] == shown["digest"], done
    return done


def count(atlas: Any, query: str) -> int:
    with atlas.connect() as connection:
        [(found,)] = connection.execute(query).fetchall()
    return int(found)


def test_the_road_of_a_month_in_notebooks(run: Stage, atlas: Any, tmp_path: Path) -> None:
    rows = count(atlas, "SELECT count(*) FROM usage_logs_partitioned")
    assert run("plan_archive", confirm="demo")["verdict"] == "planned", "plan executes nothing, whatever is confirmed"
    assert run("plan_archive", how="export")["verdict"] == "nothing_to_do"
    confirmed(run, "plan_archive", how="detach")
    gone = rows - count(atlas, "SELECT count(*) FROM usage_logs_partitioned")
    assert gone > 0
    exported = confirmed(run, "plan_archive", how="export")
    assert [step["rows"] for step in exported["steps"]] and sum(step["rows"] for step in exported["steps"]) == gone
    assert run("plan_archive", how="drop")["verdict"] == "nothing_to_do", "nothing is proven yet"
    confirmed(run, "plan_archive", how="prove")
    dropped = confirmed(run, "plan_archive", how="drop")
    [head] = dropped["figures"]["manifests"].values()
    assert len(head) == 64
    assert count(atlas, "SELECT count(*) FROM pg_class WHERE relname ~ '^usage_logs_2024_0[12]$'") == 0

    assert run("restore_archive")["verdict"] == "nothing_to_do"
    months = ["usage_logs_2024_01", "usage_logs_2024_02"]
    confirmed(run, "restore_archive", partitions=months[:1], form="parquet")
    confirmed(run, "restore_archive", partitions=months[1:], place="aside", unite="public.usage_logs_all")
    assert count(atlas, "SELECT count(*) FROM usage_logs_all") == rows
    confirmed(run, "restore_archive", partitions=months[1:])
    assert count(atlas, "SELECT count(*) FROM usage_logs_partitioned") == rows

    pictures = json.dumps(json.loads(next(tmp_path.glob("*_plan_archive.ipynb")).read_text()))
    assert "image/png" in pictures


def test_no_notebook_of_the_archive_holds_a_row(run: Stage, atlas: Any, tmp_path: Path) -> None:
    for how in ("detach", "export", "prove"):
        confirmed(run, "plan_archive", how=how)
    with atlas.connect() as connection:
        people = {
            str(one)
            for (one,) in connection.execute("SELECT DISTINCT user_id FROM usage_logs WHERE user_id IS NOT NULL")
        }
    for path in tmp_path.glob("*.ipynb"):
        text = path.read_text()
        assert not [one for one in people if one in text]


def test_stations_and_words_that_are_none(settings: dict[str, Any]) -> None:
    where = (settings["database"], settings["tables"], "", settings["as_of"])
    with pytest.raises(AtlasError, match="how is 'delete'"):
        start("plan_archive", *where).plan_archive("delete")
    for how in ("detach", "export", "prove", "drop", "backup"):
        with pytest.raises(AtlasError) as stop:
            start("plan_archive", *where).plan_archive(how, ["usage_logs_2026_10" if how != "backup" else "nowhere"])
        assert stop.value.next, how
    restore = start("restore_archive", *where)
    for keys in ({"form": "csv"}, {"place": "there"}, {"names": ["nowhere"]}):
        with pytest.raises(AtlasError):
            restore.plan_restore(**{"names": ["x"], **keys})


def test_without_archive_to_it_says_where_to_write_it(settings: dict[str, Any]) -> None:
    tables = [{**settings["tables"][0], "archive_to": None}]
    run = start("plan_archive", settings["database"], tables, "", settings["as_of"])
    plan = run.plan_archive("detach")
    run.confirm = plan.plan.digest
    run.execute(plan)
    with pytest.raises(AtlasError, match="nowhere to export") as stop:
        run.plan_archive("export")
    assert "archive_to" in stop.value.next
    assert "detached" in repr(run.standing())


def test_the_estimate_is_in_proportion_and_leaves_nothing(diary: Road) -> None:
    with database.connect(diary.where) as connection:
        relation = catalog.relation(connection, "partitions", "diary_2024_01")
    sample = archive_timing.timed(diary.where, relation)
    assert sample.rows == 31 and sample.parquet_bytes > 0 and sample.dump_bytes > 0
    one, ten = (forecast.archive_forecast("diary", 1, 31 * n, sample) for n in (1, 10))
    assert ten.dump_bytes == 10 * one.dump_bytes and one.export_seconds < ten.export_seconds
