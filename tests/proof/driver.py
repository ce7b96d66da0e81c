"""The process that is killed: calls one function, and ends itself by SIGKILL where it was told to.

`python driver.py MODULE ...` imports the modules, then forks for each order, one line of JSON on its standard input:

    {"call": "proof.miniature:swap", "arguments": {...}, "die": {"at": "statement", "number": 7, "when": "before"}, "report": PATH}

It answers with the pid of the child, and once that has ended with how: the exit status, or the signal as a negative number.
`at`: `statement` (each time that psycopg waits for the server, so BEGIN and COMMIT count as well) or `step` (each attempt at a step of a
plan). `when`: `before`, `after`, or `during`: the statement is on its way, or the step has begun. What was done
is written to `report`, as JSON, by a child that comes to its end.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from atlas_ops import exchange, execute


class Counter:
    """Counts, from any thread, and ends the process at a number."""

    def __init__(self, die: dict[str, Any] | None) -> None:
        self.die, self.mutex = die or {}, threading.Lock()
        self.counts = {"statement": 0, "step": 0}
        self.steps: list[str] = []

    def around(self, at: str, act: Callable[[], Any]) -> Any:
        with self.mutex:
            self.counts[at] += 1
            hit = self.die.get("at") == at and self.die.get("number") == self.counts[at]
        if hit and self.die["when"] == "before":
            end()
        if hit and self.die["when"] == "during":
            threading.Thread(target=end, args=(self.die.get("ms", 1),), daemon=True).start()
        done = act()
        if hit and self.die["when"] == "after":
            end()
        return done


def end(ms: float = 0.0) -> None:
    time.sleep(ms / 1000)
    os.kill(os.getpid(), signal.SIGKILL)


def main(order: dict[str, Any]) -> dict[str, Any]:
    counter = Counter(order.get("die"))
    wait, attempt, attempt_exchange = psycopg.Connection.wait, execute._attempt, exchange.attempt

    def waited(self: Any, *arguments: Any, **options: Any) -> Any:
        return counter.around("statement", lambda: wait(self, *arguments, **options))

    def attempted(connection: Any, step: Any) -> Any:
        counter.steps.append(step.name)
        return counter.around("step", lambda: attempt(connection, step))

    def exchanged(connection: Any, second: Any, step: Any, *more: Any) -> Any:
        counter.steps.append(step.name)
        return counter.around("step", lambda: attempt_exchange(connection, second, step, *more))

    psycopg.Connection.wait = waited  # type: ignore[method-assign]
    execute._attempt, exchange.attempt = attempted, exchanged
    module, _, name = order["call"].partition(":")
    told: dict[str, Any] = {"result": None, "error": ""}
    began = time.perf_counter()
    try:
        told["result"] = getattr(importlib.import_module(module), name)(**order["arguments"])
    except Exception:
        told["error"] = traceback.format_exc()
    return {
        **told,
        "seconds": time.perf_counter() - began,
        "statements": counter.counts["statement"],
        "attempts": counter.counts["step"],
        "steps": counter.steps,
    }


def child(order: dict[str, Any]) -> int:
    os.dup2(2, 1)  # the standard output is for the answers
    report = main(order)
    Path(order["report"]).write_text(json.dumps(report))
    return 1 if report["error"] else 0


def serve() -> None:
    """Nothing of psycopg or of a thread is alive here when it forks."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                code = child(json.loads(line))
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        importlib.import_module(module)
    serve()
