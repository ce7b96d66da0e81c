"""Kills: of the driver, of a backend, of the server, of the reply to a COMMIT; and a campaign of them under load.

    campaign = Campaign(load, cluster, proxy, random.Random(seed))
    for job in jobs:
        campaign.learn(job) or campaign.strike(job)

A `Job` is a call that may be repeated until it is done. After each fault the table in use is held against the oracles before the job is
called again: the state before or the state after, never between.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from atlas_ops.embedded import Cluster
from proof.load import Load, Place
from proof.proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
OURS = "atlas_ops%"  # application_name of the connections that may be killed
READY_S = 120.0
JOB_S = 240.0
CALLS = 5  # of a job after a fault, until it has to be done


@dataclass(frozen=True)
class Job:
    """A call of `module:function` with JSON arguments; `conninfo` is added to them."""

    name: str
    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a driver ended. `report` is what it printed; a killed one prints nothing."""

    code: int
    report: Mapping[str, Any]
    said: str

    @property
    def done(self) -> bool:
        return self.code == 0


class Driver:
    """The driver as a process."""

    def __init__(self, job: Job, conninfo: str, die: Mapping[str, Any] | None = None) -> None:
        order = {"call": job.call, "arguments": {"conninfo": conninfo, **job.arguments}, "die": die}
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(order)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        self.process.kill()

    def wait(self, seconds: float = JOB_S) -> Ended:
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise TimeoutError(f"the driver did not end in {seconds} s: {out} {err}") from None
        lines = out.strip().splitlines()
        return Ended(self.process.returncode, json.loads(lines[-1]) if lines else {}, err)


def run(job: Job, conninfo: str, die: Mapping[str, Any] | None = None) -> Ended:
    return Driver(job, conninfo, die).wait()


# Faults of the server


def backends(place: Place, like: str = OURS) -> list[int]:
    with place.connect() as conn:
        rows = conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND pid <> pg_backend_pid() ORDER BY 1", (like,)
        ).fetchall()
    return [row[0] for row in rows]


def end_backend(place: Place, pid: int) -> None:
    """Politely: the server lives on."""
    with place.connect() as conn:
        conn.execute("SELECT pg_terminate_backend(%s)", (pid,))


def crash_backend(load: Load, pid: int) -> None:
    """SIGKILL: the postmaster ends all backends, and the server recovers from its log."""
    with load.disturbance():
        began = _started(load.place)
        os.kill(pid, signal.SIGKILL)
        _ready(load.place, lambda: _started(load.place) != began)


def kill_server(load: Load, cluster: Cluster) -> None:
    """SIGKILL of the postmaster, and a new start."""
    with load.disturbance():
        pid = cluster.postmaster()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + READY_S
        while cluster.postmaster() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        cluster.start()
        _ready(load.place, lambda: True)


def _started(place: Place) -> Any:
    """When the shared memory of the server was made: it is anew after each crash."""
    with place.connect() as conn:
        return conn.execute("SELECT stats_reset, backend_start FROM pg_stat_wal, pg_stat_activity "
                            "WHERE backend_type = 'checkpointer'").fetchone()  # fmt: skip


def _ready(place: Place, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if reached():
                return
        except psycopg.OperationalError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"the server did not come back in {READY_S} s")


# A campaign

FAULTS = (
    "driver killed before a statement",
    "driver killed during a statement",
    "driver killed after a statement",
    "driver killed before a step",
    "driver killed after a step",
    "driver killed at a random time",
    "backend terminated",
    "backend killed",
    "server killed",
    "reply to COMMIT lost",
    "COMMIT lost",
)


@dataclass
class Campaign:
    """Jobs under load, undisturbed and with faults, and what came of it."""

    load: Load
    cluster: Cluster
    proxy: Proxy
    rng: random.Random
    learned: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)  # faults that hit
    missed: Counter[str] = field(default_factory=Counter)  # the job was done before
    stalls: dict[str, list[float]] = field(default_factory=dict)
    calls: int = 0

    def do(self, job: Job) -> Mapping[str, Any]:
        """The job undisturbed; its longest stall is kept, and how many statements and steps it takes is learned."""
        with self.load.window() as window:
            ended = self._call(job)
        self.stalls.setdefault(job.name, []).append(window.longest_ms)
        assert ended.done, f"{job.name}: {ended.report.get('error')} {ended.said}"
        self.learned[job.name] = ended.report
        return ended.report

    def strike(self, job: Job, fault: str = "") -> str:
        """The job with a fault, then again until it is done; returns the fault. The job must have been done once before."""
        known = self.learned[job.name]
        fault = fault or self.rng.choice([name for name in FAULTS if known["attempts"] or "a step" not in name])
        hit, ended = self._struck(job, fault, known)
        (self.struck if hit else self.missed)[fault] += 1
        self.whole(f"{fault} in {job.name}")
        for _ in range(CALLS):
            if ended.done:
                break
            ended = self._call(job)
        assert ended.done, f"{job.name} after {fault}: {ended.report.get('error')} {ended.said}"
        return fault

    def _call(self, job: Job, die: Mapping[str, Any] | None = None) -> Ended:
        self.calls += 1
        return run(job, self.proxy.conninfo, die)

    def _struck(self, job: Job, fault: str, known: Mapping[str, Any]) -> tuple[bool, Ended]:
        if fault.endswith(("a statement", "a step")):
            when, at = fault.split()[2], fault.split()[-1]
            most = known["statements"] if at == "statement" else known["attempts"]
            die = {"at": at, "number": self.rng.randint(1, max(most, 1)), "when": when, "ms": self.rng.uniform(0, 3)}
            ended = self._call(job, die)
            return ended.code == -signal.SIGKILL, ended
        if "COMMIT" in fault:
            self.proxy.lose(self.rng.randint(1, max(1, known["statements"] // 8)), reaches=fault.startswith("reply"))
            ended = self._call(job)
            self.proxy.disarm()
            return self.proxy.lost.is_set(), ended
        self.calls += 1
        driver = Driver(job, self.proxy.conninfo)
        hit = self._at_random(driver, fault, known)
        ended = driver.wait()
        return hit and not ended.done, ended

    def _at_random(self, driver: Driver, fault: str, known: Mapping[str, Any]) -> bool:
        """Wait until the driver is connected, then some part of the time it takes; whether there was something to kill."""
        while not (pids := backends(self.load.place)) and driver.process.poll() is None:
            time.sleep(0.01)
        time.sleep(self.rng.uniform(0, 1) * known["seconds"])
        if fault.startswith("driver"):
            driver.kill()
            return True
        if fault.startswith("server"):
            kill_server(self.load, self.cluster)
            return True
        if not (pids := backends(self.load.place)):
            return False
        pid = self.rng.choice(pids)
        if fault == "backend terminated":
            end_backend(self.load.place, pid)
        else:
            crash_backend(self.load, pid)
        return True

    def whole(self, when: str) -> None:
        """The table in use holds every row that was committed, and no client was harmed."""
        verdict = self.load.verdict()
        assert verdict.clean, f"after {when}:\n{verdict}"

    def figures(self) -> dict[str, str]:
        """For a table: what, how many."""
        stalls = {
            f"longest stall, {name}": f"{max(each):.0f} ms (median {sorted(each)[len(each) // 2]:.0f} ms, {len(each)} times)"
            for name, each in self.stalls.items()
        }
        return {
            **{fault: f"{self.struck[fault]} (too late {self.missed[fault]})" for fault in FAULTS},
            "kills": str(self.struck.total()),
            "calls of the driver": str(self.calls),
            **stalls,
        }
