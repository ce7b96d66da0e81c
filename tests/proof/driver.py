"""The process that is killed: calls one function, and ends itself by SIGKILL where it was told to.

    python tests/proof/driver.py '{"call": "proof.miniature:swap", "arguments": {...},
                                   "die": {"at": "statement", "number": 7, "when": "before"}}'

`at`: `statement` (each time that psycopg waits for the server, so BEGIN and COMMIT count as well) or `step` (each attempt at a step of a
plan, by `atlas_ops.execute`). `when`: `before`, `after`, or `during`: the statement is on its way, or the step has begun. What was done
is printed as one line of JSON.
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
from typing import Any

import psycopg

from atlas_ops import execute


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
    wait, attempt = psycopg.Connection.wait, execute._attempt

    def waited(self: Any, *arguments: Any, **options: Any) -> Any:
        return counter.around("statement", lambda: wait(self, *arguments, **options))

    def attempted(connection: Any, step: Any) -> Any:
        counter.steps.append(step.name)
        return counter.around("step", lambda: attempt(connection, step))

    psycopg.Connection.wait = waited  # type: ignore[method-assign]
    execute._attempt = attempted
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


if __name__ == "__main__":
    report = main(json.loads(sys.argv[1]))
    print(json.dumps(report))
    sys.exit(1 if report["error"] else 0)
