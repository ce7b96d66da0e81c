"""What a reader sees in a browser without a network: the exported page, the index, the record in JupyterLab.

The browser is driven over its debugging socket, which sees what a script in the page could not: every
request, and a page whose policy forbids scripts.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import websocket
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from atlas_ops import runner

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
requires_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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
# What the reader has before his eyes: pictures that were really decoded, and the styles that survived.
SEEN = """({
  images: [...document.images].filter(i => i.naturalWidth > 100 && i.offsetWidth > 100)
                              .map(i => [i.src.slice(0, 22), i.naturalWidth, i.offsetWidth, i.alt]),
  broken: [...document.images].filter(i => i.complete && !i.naturalWidth).length,
  cells: [...document.querySelectorAll('td')].filter(d => d.innerText == '1,234,567')
                              .map(d => getComputedStyle(d).textAlign),
  differs: [...document.querySelectorAll('td span')].filter(s => s.innerText == '✗ differs')
                              .map(s => getComputedStyle(s).color),
  progress: [...document.querySelectorAll('progress')].map(p => [p.value, p.max]),
  scripts: document.scripts.length,
  vega: [...document.querySelectorAll('.vega-embed canvas, .vega-embed svg.marks')].map(v => v.clientWidth),
  title: document.title,
  text: document.body.innerText,
})"""


class Browser:
    """One tab of a headless chromium in which no name but the loopback resolves."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self.socket, self.requests, self._numbers = socket, list[str](), itertools.count(1)
        for domain in ("Page", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str) -> None:
        self.requests.clear()
        self.send("Page.navigate", url=url)

    def seen(self, until: str, seconds: float = 60) -> dict[str, Any]:
        """What the page shows once the expression `until` is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.value(f"document.readyState == 'complete' && !!({until})"):
                return self.value(SEEN)
            time.sleep(0.2)
        raise TimeoutError(f"{until}: {self.value('document.body.innerText')[:2000]}")

    def value(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("chromium")
    with (profile / "log").open("w") as log, subprocess.Popen(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--remote-debugging-port=0",
            "--window-size=1300,3000", "about:blank",
        ],
        stdout=log, stderr=log,
    ) as process:  # fmt: skip
        try:
            port = _awaited(profile / "DevToolsActivePort").split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                page = next(tab for tab in json.load(answer) if tab["type"] == "page")
            socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60, suppress_origin=True)
            yield Browser(socket)
            socket.close()
        finally:
            process.terminate()


def _awaited(file: Path, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.1)
    raise TimeoutError(file)


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


def test_an_untrusted_record_shows_its_chart_and_table_in_jupyterlab(browser, result, tmp_path):
    places = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    command = runner.lab_command(result.notebook.parent, browser=False)[:-1]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        [*command, "--ServerApp.port_retries=50", "--IdentityProvider.token=t0ken"],
        cwd=tmp_path, env={**os.environ, **places, "HOME": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1"},
        stdout=log, stderr=log,
    ) as lab:  # fmt: skip
        try:
            served = json.loads(_awaited(tmp_path / "RUNTIME" / f"jpserver-{lab.pid}.json"))
            folder = result.notebook.parent.name
            address = f"http://127.0.0.1:{served['port']}/lab/tree/{folder}/{result.notebook.name}?token=t0ken"
            browser.open(address)
            # JupyterLab draws Vega-Lite 5 itself, trusted or not; where it could not, the PNG would be there.
            chart = ".jp-OutputArea img, .vega-embed canvas, .vega-embed svg.marks"
            seen = browser.seen(f"document.querySelector('{chart}') && document.querySelector('progress')")
            trusted = browser.value("document.querySelector('.jp-mod-trusted') !== null")
        finally:
            lab.terminate()
    assert not trusted
    assert [width > 100 for width in seen["vega"]] == [True]
    _assert_table_and_bar(seen)
    assert "notified about official Jupyter news" not in seen["text"]
    own = (f"http://127.0.0.1:{served['port']}/", "data:", "blob:")
    assert [url for url in browser.requests if not url.startswith(own)] == []
