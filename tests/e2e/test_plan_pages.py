"""Plans of a real server in a record: their pages draw every node, in a browser without a network."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from e2e.browser import CHROMIUM, Browser, requires_chromium
from nbformat.v4 import new_code_cell, new_notebook

from atlas_ops import record, runner
from atlas_ops.plan_pages import MIME

pytestmark = [requires_chromium]

HOSTILE = "</script><img src=x onerror=document.title=1>"
TABLES = f"""
CREATE TABLE message (id bigint PRIMARY KEY, at date NOT NULL, body text);
CREATE TABLE parted (LIKE message) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2025-02-01') TO ('2025-03-01');
CREATE TABLE "{HOSTILE}" PARTITION OF parted FOR VALUES FROM ('2025-03-01') TO ('2025-04-01');
CREATE INDEX ON parted (at);
INSERT INTO message SELECT g, date '2025-01-01' + g % 90, 'text' FROM generate_series(1, 5000) AS g;
INSERT INTO parted SELECT * FROM message;
ANALYZE message;
ANALYZE parted;
"""
ASKED = "SELECT at, count(*) FROM {table} WHERE at >= {since} GROUP BY at ORDER BY count(*) DESC LIMIT 5"


@pytest.fixture(scope="module")
def shown(server) -> list[dict[str, Any]]:
    """Both sides of a query, run, and the plan that it would have for every value."""
    run, planned = "(ANALYZE, BUFFERS, SETTINGS, FORMAT JSON) ", "(FORMAT JSON) "
    asked = [
        ("original", run, "message", "date '2025-02-01'"),
        ("partitioned", run, "parted", "date '2025-02-01'"),
        ("generic", planned, "parted", "CURRENT_DATE - 1"),
    ]
    made, plans = server.clone("template0"), []
    with made.connect() as connection:
        connection.execute(TABLES)
        for side, options, table, since in asked:
            sql = ASKED.format(table=table, since=since)
            ((document,),) = connection.execute(f"EXPLAIN {options}{sql}").fetchone()
            title = f"as the application asks it {HOSTILE}"
            plans.append({"query": "daily_count", "side": side, "title": title, "sql": sql, "plan": document})
    server.drop(made)
    return plans


@pytest.fixture(scope="module")
def result(shown, tmp_path_factory) -> runner.StageResult:
    """The record of a stage that shows these plans."""
    place = tmp_path_factory.mktemp("run")
    (place / "plans.json").write_text(json.dumps({"plans": shown}))
    cell = (
        "import json, pathlib\nfrom IPython.display import display\n"
        f"shown = json.loads(pathlib.Path({str(place / 'plans.json')!r}).read_text())\n"
        f"display({{{MIME!r}: shown, 'text/plain': 'three plans'}}, raw=True)"
    )
    (place / "notebooks").mkdir()
    parameters = new_code_cell('database = "demo"   # a service', metadata={"tags": ["parameters"]})
    notebook = new_notebook(
        cells=[parameters, new_code_cell(cell)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, place / "notebooks" / "05_explain_analysis.ipynb")
    (result,) = runner.run(["05"], {}, notebooks=place / "notebooks", records=place / "records", say=lambda line: None)
    assert not result.red, result.lines
    return result


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(below for child in plan.get("Plans", ()) for below in nodes(child))]


def picture(browser: Browser, path: Path) -> None:
    path.write_bytes(base64.b64decode(browser.send("Page.captureScreenshot")["data"]))


def test_every_node_of_a_plan_is_drawn_and_nothing_is_asked_for(browser, result, shown, tmp_path):
    place = record.plans_folder(result.notebook)
    for plan in shown:
        browser.open((place / f"daily_count_{plan['side']}.html").as_uri())
        seen = browser.seen("document.querySelectorAll('.plan-node').length", 60)
        found = nodes(plan["plan"]["Plan"])
        drawn = browser.value("document.querySelectorAll('.plan-node').length")
        picture(browser, tmp_path / f"{plan['side']}.png")
        assert drawn == len(found)
        relations = {node["Relation Name"] for node in found if "Relation Name" in node}
        assert [name for name in relations if name not in seen["text"].replace("\u2060", "")] == []
        assert browser.value("[...document.images].map(i => i.src.slice(0, 5))") == ["data:"], (
            "a name is no HTML: pev2's logo"
        )
        assert seen["title"] == f"daily_count, {plan['side']}: plan"
        assert plan["title"] in seen["text"]
        assert {url.rpartition("/")[2] for url in browser.requests if url.startswith("file:")} == {
            f"daily_count_{plan['side']}.html", "bootstrap.min.css", "pev2.css", "vue.runtime.global.prod.js", "pev2.umd.js",
            "plan.js",
        }  # fmt: skip
        assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_the_page_as_chromium_dumps_it_names_the_node_types(result, shown):
    place = record.plans_folder(result.notebook)
    for plan in shown:
        page = (place / f"daily_count_{plan['side']}.html").as_uri()
        dumped = subprocess.run(
            [
                str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND",
                "--window-size=1300,3000", "--virtual-time-budget=20000", "--dump-dom", page,
            ],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        # Without the plan itself, which stands in the page as JSON.
        drawing = dumped.stdout.partition('id="plan"')[0]
        types = {node["Node Type"] for node in nodes(plan["plan"]["Plan"])}
        assert types >= {"Limit", "Sort", "Aggregate"}
        assert [name for name in types if name not in drawing] == []


def test_the_pages_lead_from_the_index_of_the_records_to_a_plan_and_back(browser, result):
    browser.open((result.notebook.parent / "index.html").as_uri())
    browser.seen("[...document.links].some(a => a.innerText == 'plans')")
    browser.value("[...document.links].find(a => a.innerText == 'plans').click()")
    listed = browser.seen("[...document.links].some(a => a.innerText == 'partitioned')")
    assert listed["scripts"] == 0
    assert f"Plans of {result.notebook.name}" in listed["text"]
    browser.value("[...document.links].find(a => a.innerText == 'partitioned').click()")
    browser.seen("document.querySelectorAll('.plan-node').length")
    browser.value("[...document.links].find(a => a.innerText == 'original').click()")
    browser.seen("document.title == 'daily_count, original: plan' && document.querySelectorAll('.plan-node').length")
    browser.value("[...document.links].find(a => a.innerText == 'All plans').click()")
    browser.seen("[...document.links].some(a => a.innerText == 'The record')")
    browser.value("[...document.links].find(a => a.innerText == 'The record').click()")
    assert "three plans" in browser.seen("document.querySelectorAll('.jp-Cell').length")["text"]


def test_a_plan_is_dark_where_the_reader_has_it_dark(browser, result, tmp_path):
    page = record.plans_folder(result.notebook) / "daily_count_partitioned.html"
    shades = {}
    for theme in ("dark", "light"):
        browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        browser.open(page.as_uri())
        browser.seen("document.querySelectorAll('.plan-node').length")
        shades[theme] = browser.value("getComputedStyle(document.body).backgroundColor")
        picture(browser, tmp_path / f"{theme}.png")
    assert shades == {"dark": "rgb(33, 37, 41)", "light": "rgb(255, 255, 255)"}


@pytest.mark.parametrize("tab", ["Grid", "Raw", "Query", "Stats"])
def test_every_tab_of_a_plan_works_without_a_compiler_of_templates(browser, result, shown, tab):
    browser.open((record.plans_folder(result.notebook) / "daily_count_partitioned.html").as_uri())
    browser.seen("document.querySelectorAll('.plan-node').length")
    browser.value(f"[...document.querySelectorAll('.nav-link')].find(a => a.innerText.startsWith('{tab}')).click()")
    words = {
        "Grid": "parted_2",
        "Raw": '"Node Type": "Limit"',
        "Query": "SELECT at, count(*) FROM parted",
        "Stats": "Node Type",
    }
    seen = browser.seen(f"document.querySelector('main').innerText.includes({json.dumps(words[tab])})")
    assert seen["title"] == "daily_count, partitioned: plan"


def test_a_page_without_its_assets_says_what_is_missing_and_where_the_plan_is(browser, result, tmp_path):
    alone = tmp_path / "plans" / "alone"
    shutil.copytree(record.plans_folder(result.notebook), alone)
    browser.open((alone / "daily_count_original.html").as_uri())
    seen = browser.seen("document.querySelector('main p')")
    assert "the folder assets beside this one is missing" in seen["text"]
    assert "daily_count_original.json" in seen["text"]
