"""A tab of a browser, for the tests of a module."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
import websocket
from e2e.browser import CHROMIUM, Browser, awaited


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
            port = awaited(profile / "DevToolsActivePort").split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                page = next(tab for tab in json.load(answer) if tab["type"] == "page")
            socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=60, suppress_origin=True)
            yield Browser(socket)
            socket.close()
        finally:
            process.terminate()
