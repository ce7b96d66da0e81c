"""A file that a collector reads whole, and a webhook that fails first: against a real HTTP server, without its address anywhere."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from atlas_ops import delivery, metrics
from atlas_ops.errors import AtlasError
from atlas_ops.metrics import Exposition
from atlas_ops.record import WEBHOOK

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
SECRET = "services/T0000/B0000/SeCrEtWord"


class Receiver:
    """Answers each request with the next of `answers`, then with 200; keeps what it was sent."""

    def __init__(self, *answers: int, headers: dict[str, str] | None = None) -> None:
        self.answers, self.headers = list(answers), headers or {}
        self.bodies: list[Any] = []
        self.asked_at: list[float] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.asked_at.append(time.monotonic())
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append((self.path, self.headers["Content-Type"], json.loads(body)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        return {WEBHOOK: f"http://127.0.0.1:{self.server.server_port}/{SECRET}"}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def receiver(*answers: int, **options: Any) -> Receiver:
        made.append(Receiver(*answers, **options))
        return made[-1]

    yield receiver
    for one in made:
        one.stop()


def test_a_message_is_posted_once_where_it_is_taken(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    delivery.post({"text": "käse"}, receiver.environment)
    assert receiver.bodies == [(f"/{SECRET}", "application/json", {"text": "käse"})]


def test_what_may_pass_is_tried_again_with_longer_pauses(receive: Callable[..., Receiver]) -> None:
    receiver = receive(500, 503, 429)
    delivery.post({"text": "x"}, receiver.environment, first_wait_s=0.1)
    assert len(receiver.bodies) == 4
    pauses = [b - a for a, b in zip(receiver.asked_at, receiver.asked_at[1:], strict=False)]
    assert all(pause >= 0.1 * 2**number for number, pause in enumerate(pauses))


def test_the_receiver_may_ask_for_a_pause(receive: Callable[..., Receiver]) -> None:
    receiver = receive(429, headers={"Retry-After": "1"})
    delivery.post({"text": "x"}, receiver.environment, first_wait_s=0.01)
    assert receiver.asked_at[1] - receiver.asked_at[0] >= 1


@pytest.mark.parametrize(("answers", "asked", "why"), [
    ([500] * 9, delivery.TRIES, "It answered HTTP 500. It was tried 5 times."),
    ([404], 1, "It answered HTTP 404."),
    ([403], 1, "It answered HTTP 403."),
])  # fmt: skip
def test_a_message_that_is_not_taken_is_an_error_without_the_address(
    receive: Callable[..., Receiver], answers: list[int], asked: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(*answers)
    caplog.set_level(0)
    with pytest.raises(AtlasError) as stop:
        delivery.post({"text": "x"}, receiver.environment, first_wait_s=0.01)
    assert stop.value.why == why and len(receiver.bodies) == asked
    for text in (str(stop.value), repr(stop.value), caplog.text):
        assert "SeCrEt" not in text and "127.0.0.1" not in text


@pytest.mark.parametrize("address", [
    "", "file:///etc/hostname", "ftp://h/SeCrEt", "SeCrEt", "http://127.0.0.1:1/SeCrEt", "http://[::1/SeCrEt", "http://127.0.0.1:99999/SeCrEt",
    "http://no such host/SeCrEt", "https://127.0.0.1:1/SeCrEt\nX: y",
])  # fmt: skip
def test_an_address_that_is_none_or_leads_nowhere_is_told_without_it(address: str) -> None:
    with pytest.raises(AtlasError) as stop:
        delivery.post({"text": "x"}, {WEBHOOK: address}, first_wait_s=0.001)
    assert "SeCrEt" not in str(stop.value) and "no such host" not in str(stop.value)
    assert "SeCrEt" not in "".join(traceback.format_exception(stop.value))


# told already?


def test_the_same_alerts_are_told_once_a_day_and_each_change_at_once(tmp_path: Path) -> None:
    memory = tmp_path / "records" / "webhook.json"
    one, other = [["event", "gaps", "WARNING"]], [["event", "gaps", "CRITICAL"]]
    assert not delivery.due(memory, [], NOW), "nothing was told, and nothing is to be told"
    assert delivery.due(memory, one, NOW)
    delivery.remember(memory, one, NOW)
    assert not delivery.due(memory, one, NOW + timedelta(hours=23))
    assert delivery.due(memory, one, NOW + timedelta(hours=24))
    assert delivery.due(memory, other, NOW + timedelta(minutes=1))
    assert delivery.due(memory, [], NOW + timedelta(minutes=1)), "that all is well again is news"
    delivery.remember(memory, [], NOW)
    assert not delivery.due(memory, [], NOW + timedelta(days=9))
    for broken in ("", "{", "[]", '{"at": 3, "alerts": []}', '{"at": "2026-11-23", "alerts": []}'):
        memory.write_text(broken)
        assert delivery.due(memory, one, NOW), broken
    assert [path.name for path in memory.parent.iterdir()] == ["webhook.json"]


def test_a_memory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AtlasError, match="cannot be written"):
        delivery.remember(tmp_path / "file" / "webhook.json", [], NOW)


# the textfile


def families(path: Path) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(path.read_text())}


def test_a_look_that_was_not_possible_is_a_metric_too(tmp_path: Path) -> None:
    path = tmp_path / "atlas_ops.prom"
    delivery.textfile(path, Exposition("db", None, NOW))
    found = families(path)
    assert set(found) == {"atlas_ops_up", "atlas_ops_look_timestamp_seconds"}
    assert found["atlas_ops_up"].samples[0].value == 0
    assert found["atlas_ops_look_timestamp_seconds"].samples[0].value == NOW.timestamp()


def test_a_reader_sees_a_whole_file_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "atlas_ops.prom"
    delivery.textfile(path, Exposition("db", None, NOW))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            delivery.textfile(path, Exposition("db", None, NOW))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(300):
            assert set(families(path)) == {"atlas_ops_up", "atlas_ops_look_timestamp_seconds"}
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert [one.name for one in tmp_path.iterdir()] == ["atlas_ops.prom"]


@pytest.mark.parametrize(("name", "what"), [
    ("metrics.txt", "would not be read"), ("no/folder/x.prom", "cannot be written"), (".prom", "would not be read"),
])  # fmt: skip
def test_a_file_that_nobody_would_read_or_that_cannot_be_written_is_told(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(AtlasError, match=what):
        delivery.textfile(tmp_path / name, Exposition("db", None, NOW))
    assert list(tmp_path.iterdir()) == []


def test_the_names_are_those_of_the_families() -> None:
    assert len(metrics.names()) == len(set(metrics.names()))
    assert metrics.name_of("runway") == "atlas_ops_runway_seconds" and metrics.name_of("gaps") == "atlas_ops_gaps"
    assert "atlas_ops_partition_scans_total" in metrics.names()
