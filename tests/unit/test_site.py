"""The site: built from records of any kind, offline, whole at any moment, the same twice."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from unit.test_health_views import health, judged

from atlas_ops import dashboard, record, shelf, site
from atlas_ops.announcement import table as told_table
from atlas_ops.errors import AtlasError
from atlas_ops.report import RESULT_TYPE

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOSTILE = "<script>alert(\"x\")</script> & 'y'"


def write(
    records: Path,
    stage: str,
    at: datetime,
    result: dict[str, Any] | None,
    *,
    database: str = "production",
    part: bool = False,
    stop: list[str] | None = None,
    parameters: dict[str, Any] | None = None,
) -> Path:
    """A record as the runner leaves it, with its page."""
    place = records / database
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{at:%Y%m%dT%H%M%SZ}_{stage}{'.part' if part else ''}.ipynb"
    outputs: list[dict[str, Any]] = []
    if result:
        said = {"stage": stage, "database": database, **result}
        outputs.append({"output_type": "display_data", "data": {RESULT_TYPE: said}, "metadata": {}})
    if stop:
        outputs.append({"output_type": "error", "ename": "AtlasError", "evalue": "x", "traceback": stop})
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": outputs, "source": "run.finish()"}
    told = {"papermill": {"duration": 12.5, "parameters": parameters or {}}}
    path.write_text(json.dumps({"cells": [cell], "metadata": told, "nbformat": 4, "nbformat_minor": 5}))
    if not part:
        path.with_suffix(".html").write_text(f"<title>{stage}</title>")
    return path


def ok(**more: Any) -> dict[str, Any]:
    return {"verdict": "ok", "headline": "Well.", "tables": ["public.event"], "checks": [], "figures": {}, **more}


def looked(days: float, **values: float | None) -> dict[str, Any]:
    found = judged(health(**values))
    level = ["ok", "warning", "critical"][max((int(alert.level) for alert in found[0].alerts), default=0)]
    tables = [json.loads(json.dumps(told_table(one))) for one in found]
    tables[0]["figures"]["runway"]["value"] = days
    verdict = "stopped" if level == "critical" else "ok"
    return ok(verdict=verdict, headline=f"1 table: {level}.", figures={"level": level, "tables": tables})


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Every kind of record, of two databases."""
    folder = tmp_path / "records"
    write(folder, "apply_migration", NOW - timedelta(days=9), ok(headline="1,000 rows copied."))
    differs = {"severity": "stop", "table": "other", "name": "counts", "what": "differs"}
    red = ok(verdict="stopped", checks=[differs], tables=["public.event", "public.other"])
    write(folder, "verify_counts", NOW - timedelta(days=8), red, stop=["STOPPED: It differs."])
    queries = [{"query": "one", "ratio": 0.5, "low": 0.4, "high": 0.6, "verdict": "faster", "same_rows": True}]
    write(folder, "explain_analysis", NOW - timedelta(days=7), ok(figures={"queries": queries}))
    write(folder, "monitor_health", NOW - timedelta(days=3), looked(120))
    write(folder, "monitor_health", NOW - timedelta(hours=3), looked(118, gaps=2.0, row_security=1.0))
    write(folder, "maintain_partitions", NOW - timedelta(hours=2), None, part=True)
    write(folder, "plan_archive", NOW - timedelta(hours=1), ok(verdict="planned"))
    (folder / "production" / "20261123T090000Z_preflight.ipynb").write_text('{"cells": [')
    (folder / "production" / "20261123T080000Z_preflight.ipynb").write_text('{"cells": [7], "metadata": []}')
    (folder / "production" / "20269923T080000Z_preflight.ipynb").write_text("{}")
    (folder / "production" / "notes.ipynb").write_text("{}")
    (folder / "production" / "webhook.json").write_text("{}")
    write(folder, "start_here", NOW, ok(headline=HOSTILE, tables=[HOSTILE]), database="st & <aging>")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    return folder


def built(records: Path, out: Path, **options: Any) -> str:
    return site.build(records, out, now=NOW, **options).read_text(encoding="utf-8")


def test_what_is_wrong_comes_first(records: Path, tmp_path: Path) -> None:
    page = built(records, tmp_path / "site")
    assert "<title>✗ atlas_ops: partitions</title>" in page
    assert page.index('id="production"') < page.index('id="st &amp; &lt;aging&gt;"')
    text = re.sub(r"<[^>]+>", " ", page)
    assert re.search(r"production\s+✗ critical\s+1 table: critical\.", text)
    lines = " ".join(text.split())
    assert lines.index("✗ critical public.event row security") < lines.index("! warning public.event gaps")
    assert (
        lines.index("What is wrong")
        < lines.index("The newest verdict of each stage")
        < lines.index("Trends")
        < lines.index("success criteria")
    )
    assert "118 days" in lines and "2027-03-01" in lines


def test_each_stage_has_its_newest_verdict_for_each_table(records: Path) -> None:
    [one, _] = shelf.shelves(records)
    found = dashboard.dashboard(
        one.database, one.records, one.count, ("apply_migration", "verify_counts", "monitor_health"), NOW
    )
    cells = {table: dict(zip(found.stages, line, strict=True)) for table, line in found.verdicts}
    assert list(cells) == ["public.event", "public.other"]
    assert found.stages[:3] == ("apply_migration", "verify_counts", "monitor_health")
    assert {"explain_analysis", "maintain_partitions", "plan_archive", "preflight"} <= set(found.stages)
    event, other = cells.values()
    assert (event["verify_counts"].verdict, other["verify_counts"].verdict) == ("ok", "stopped")
    assert (event["monitor_health"].verdict, other["monitor_health"].verdict) == ("stopped", "")
    assert event["monitor_health"].started == NOW - timedelta(hours=3)
    assert event["plan_archive"].verdict == "planned" and event["maintain_partitions"].verdict == "unfinished"


def test_what_was_cut_off_or_cannot_be_read_is_shown_as_such(records: Path, tmp_path: Path) -> None:
    [one, _] = shelf.shelves(records)
    loose = {(told.stage, told.verdict, told.headline) for told in one.records if not told.finished}
    assert loose == {
        ("maintain_partitions", "unfinished", "It runs, or it was killed."),
        ("preflight", "broken", "It holds no notebook."),
    }
    lines = " ".join(re.sub(r"<[^>]+>", " ", built(records, tmp_path / "site")).split())
    assert "3 records that were cut off or cannot be read" in lines
    assert lines.count("✗ broken It holds no notebook.") == 2 and "… unfinished It runs, or it was killed." in lines


def test_the_page_asks_for_nothing_and_runs_nothing(records: Path, tmp_path: Path) -> None:
    page = built(records, tmp_path / "site")
    assert "<script" not in page.lower().replace("&lt;script", "")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page) and not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page and "prefers-color-scheme" not in page and "color-scheme: light dark" in page
    assert HOSTILE not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("copy", [False, True])
def test_every_link_leads_to_a_record(records: Path, tmp_path: Path, copy: bool) -> None:
    out = tmp_path / "deep" / "site"
    links = re.findall(r'href="([^"#]+)"', built(records, out, copy=copy))
    assert links
    for link in links:
        assert (out / unquote(link)).is_file(), link
    if copy:
        assert all(link.startswith("records/") for link in links)
        moved = out.rename(tmp_path / "moved")
        assert all((moved / unquote(link)).is_file() for link in links)


def test_a_second_run_leaves_the_same_page_and_nothing_else(records: Path, tmp_path: Path) -> None:
    first = built(records, tmp_path / "site", copy=True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "site" / "records").rglob("*") if path.is_file()}
    assert built(records, tmp_path / "site", copy=True) == first
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "site" / "records").rglob("*") if path.is_file()}
    assert before == after, "what was copied is not copied again"
    assert [path.name for path in (tmp_path / "site").iterdir() if path.is_file()] == ["index.html"]


def test_two_runs_at_once_leave_a_whole_page(records: Path, tmp_path: Path) -> None:
    whole = built(records, tmp_path / "site")
    runs = [threading.Thread(target=built, args=(records, tmp_path / "site")) for _ in range(2)]
    for run in runs:
        run.start()
    while any(run.is_alive() for run in runs):
        assert (tmp_path / "site" / "index.html").read_text(encoding="utf-8") == whole
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]


def test_no_record_is_a_page_too(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        assert "There is none in that folder." in built(folder, tmp_path / "site")


def test_a_folder_that_cannot_be_written_is_told(records: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(AtlasError, match="cannot be written"):
        built(records, tmp_path / "taken")


def test_a_page_with_a_password_is_not_kept(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "aggregated-1234")
    write(records, "preflight", NOW, ok(headline="It said aggregated-1234."))
    with pytest.raises(AtlasError, match="holds a password"):
        built(records, tmp_path / "site")
    assert list((tmp_path / "site").iterdir()) == []


def test_an_old_look_says_nothing_of_now(records: Path, tmp_path: Path) -> None:
    page = site.build(records, tmp_path / "site", now=NOW + timedelta(days=3)).read_text()
    assert "older than two days" in page and "older than two days" not in built(records, tmp_path / "site")


def test_the_trends_are_those_of_the_looks(records: Path) -> None:
    [one, other] = shelf.shelves(records)
    assert [days for _, _, days in dashboard.runways(one.records)] == [120, 118]
    assert len(dashboard.sizes(one.records)) == 2 and dashboard.sizes(other.records) == []
    source, ratios = dashboard.ratios(one.records)
    assert source is not None and ratios == [("one", 0.5, 0.4, 0.6, "faster")]


def test_of_many_records_the_newest_are_read(tmp_path: Path) -> None:
    for number in range(shelf.NEWEST + 30):
        write(tmp_path, "preflight", NOW - timedelta(hours=number), ok())
    [found] = shelf.shelves(tmp_path)
    assert (found.count, len(found.records)) == (shelf.NEWEST + 30, shelf.NEWEST)
    assert found.records[0].started == NOW


def test_an_older_record_tells_its_tables_by_its_parameters_or_its_checks(tmp_path: Path) -> None:
    told = {key: value for key, value in ok().items() if key != "tables"}
    write(tmp_path, "one", NOW, told, parameters={"tables": [{"table": "public.a"}]})
    write(tmp_path, "two", NOW, {**told, "checks": [{"table": "b"}, {"table": "b"}]})
    write(tmp_path, "three", NOW, told)
    [found] = shelf.shelves(tmp_path)
    assert {one.stage: one.tables for one in found.records} == {"one": ("public.a",), "two": ("b",), "three": ()}


def test_names_in_a_folder_are_records_or_nothing(records: Path) -> None:
    names = [found.path.name for found in record.listed(records / "production")]
    assert "notes.ipynb" not in names and "20269923T080000Z_preflight.ipynb" not in names and len(names) == 9
