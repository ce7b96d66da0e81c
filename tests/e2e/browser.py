"""A headless chromium, driven over its debugging socket.

That sees what a script in the page could not: every request, and a page whose policy forbids scripts.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
requires_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
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


def awaited(file: Path, seconds: float = 60) -> str:
    """The content of a file that another process is about to write."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.1)
    raise TimeoutError(file)
