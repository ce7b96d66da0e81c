"""What a reader sees in a browser without a network: the exported page, the index, the record in JupyterLab."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import nbformat
import pytest
from e2e.browser import awaited, requires_chromium
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from atlas_ops import runner, site

pytestmark = [requires_chromium]

CELLS = [
    """from atlas_ops import charts
from atlas_ops.tables import Table
charts.both_sides([('public.messages', '2024-01', 5, 5), ('public.messages', '2024-02', 7, 6)])""",
    """hostile = '<img src=x onerror="document.title=1">'
Table(['table', 'rows', 'verdict'], [[hostile, 1234567, 'differs']])""",
    """from atlas_ops.progress import Progress
with Progress('messages') as progress:
    progress(40, 100)""",
]


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> runner.StageResult:
    """A record with one of everything that is shown."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "notebooks").mkdir()
    parameters = new_code_cell('database = "demo"   # a service', metadata={"tags": ["parameters"]})
    notebook = new_notebook(
        cells=[new_markdown_cell("# Shown\n$x^2$"), parameters, *map(new_code_cell, CELLS)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, folder / "notebooks" / "01_shown.ipynb")
    (result,) = runner.run(
        ["01"],
        {"database": "shown"},
        notebooks=folder / "notebooks",
        records=folder / "records",
        say=lambda line: None,
    )
    assert not result.red, result.lines
    return result


def _assert_table_and_bar(seen: dict[str, Any]) -> None:
    assert seen["broken"] == 0
    assert seen["cells"] == ["right"]
    assert seen["differs"] == ["rgb(217, 72, 74)"]
    assert seen["progress"] == [[40, 100]]
    assert '<img src=x onerror="document.title=1">' in seen["text"]
    assert seen["title"] != "1"


def test_the_page_shows_everything_and_asks_for_nothing(browser, result):
    browser.open(result.page.as_uri())
    seen = browser.seen("document.images.length && document.querySelectorAll('td').length")
    _assert_table_and_bar(seen)
    ((source, natural, width, words),) = seen["images"]
    assert source == "data:image/png;base64,"
    assert natural == pytest.approx(1.5 * width, rel=0.02)
    assert words.startswith("<chart: 1 month differs")
    assert 'database = "demo"' in seen["text"]
    assert 'database = "shown"' in seen["text"]
    assert seen["scripts"] == 0
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_the_page_names_no_other_place(result):
    source = result.page.read_text()
    assert not re.search(r"""<(script|link|iframe|object|embed)\b""", source)
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", source)
    assert not re.search(r"""@import|url\(\s*["']?(https?:)?//""", source)


def test_the_index_leads_to_the_page(browser, result):
    browser.open((result.page.parent / "index.html").as_uri())
    seen = browser.seen("document.images.length")
    assert len(seen["images"]) == 1
    assert seen["scripts"] == 0
    browser.value("document.querySelector('tbody a').click()")
    assert "Shown" in browser.seen("document.querySelectorAll('progress').length")["text"]
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_the_site_leads_to_the_record_and_asks_for_nothing(browser, result, tmp_path):
    browser.open(site.build(result.page.parents[1], tmp_path / "site").as_uri())
    seen = browser.seen("document.querySelectorAll('section td').length")
    assert seen["scripts"] == 0 and seen["broken"] == 0
    assert "shown" in seen["text"] and "Data migrated correctly (counts match)" in seen["text"]
    browser.value("document.querySelector('section td a').click()")
    assert "Shown" in browser.seen("document.querySelectorAll('progress').length")["text"]
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_an_untrusted_record_shows_its_chart_and_table_in_jupyterlab(browser, result, tmp_path):
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    command = runner.lab_command(result.notebook.parent, browser=False)[:-1]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        [*command, "--ServerApp.port_retries=50", "--IdentityProvider.token=t0ken"],
        cwd=tmp_path, env={**os.environ, **places, "HOME": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"},
        stdout=log, stderr=log,
    ) as lab:  # fmt: skip
        try:
            served = json.loads(awaited(tmp_path / "RUNTIME" / f"jpserver-{lab.pid}.json"))
            folder = result.notebook.parent.name
            address = f"http://127.0.0.1:{served['port']}/lab/tree/{folder}/{result.notebook.name}?token=t0ken"
            browser.open(address)
            # JupyterLab draws Vega-Lite 5 itself, trusted or not; where it could not, the PNG would be there.
            chart = ".jp-OutputArea img, .vega-embed canvas, .vega-embed svg.marks"
            seen = browser.seen(f"document.querySelector('{chart}') && document.querySelector('progress')")
            trusted = browser.value("document.querySelector('.jp-mod-trusted') !== null")
        finally:
            lab.terminate()
            try:
                lab.wait(60)
            except subprocess.TimeoutExpired:
                lab.kill()  # a kernel that is told to end while it still imports keeps the server waiting for ever
    assert not trusted
    assert [width > 100 for width in seen["vega"]] == [True]
    _assert_table_and_bar(seen)
    assert "notified about official Jupyter news" not in seen["text"]
    own = (f"http://127.0.0.1:{served['port']}/", "data:", "blob:")
    assert [url for url in browser.requests if not url.startswith(own)] == []
