"""Kills: of the driver, of a backend, of the server, of the reply to a COMMIT; and a campaign of them under load.

    campaign = Campaign(load, cluster, drivers, proxy, random.Random(seed))
    campaign.do(job)                # undisturbed; what it takes is learned
    campaign.strike(job)            # with a fault, then again until it is done

A `Job` is a call that may be repeated until it is done. After each fault the table in use is held against the oracles before the job is
called again: the state before or the state after, never between.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from proof.load import Load, Place
from proof.proxy import Proxy

from atlas_ops.embedded import Cluster

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


class Drivers:
    """Starts drivers, one after the other: a process that has imported what they need, and forks."""

    def __init__(self, *modules: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="proof-")
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._said = (Path(self._folder.name) / "said").open("w+")
        self._heard = b""
        self._process = subprocess.Popen(
            [sys.executable, str(DRIVER), *modules],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Drivers:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()
        self._folder.cleanup()

    def start(self, job: Job, conninfo: str, die: Mapping[str, Any] | None = None) -> Driver:
        report = Path(self._folder.name) / "report"
        report.unlink(missing_ok=True)
        arguments = {"conninfo": conninfo, **job.arguments}
        order = {"call": job.call, "arguments": arguments, "die": die, "report": str(report)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        return Driver(self, int(self.answer(JOB_S)), report)

    def run(self, job: Job, conninfo: str, die: Mapping[str, Any] | None = None) -> Ended:
        """A driver from its start to its end."""
        return self.start(job, conninfo, die).wait()

    def answer(self, seconds: float) -> str:
        """The next line; two may come at once."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._heard:
            if not select.select([pipe], [], [], seconds)[0]:
                raise TimeoutError(f"the driver did not end in {seconds:.0f} s")
            heard = os.read(pipe, 1_000)
            assert heard, f"the drivers' process has ended: {self.said()}"
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def said(self) -> str:
        """What drivers printed, the last lines of it."""
        return Path(self._said.name).read_text()[-2_000:]


class Driver:
    """One driver."""

    def __init__(self, drivers: Drivers, pid: int, report: Path) -> None:
        self._drivers, self.pid, self._report = drivers, pid, report

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = JOB_S) -> Ended:
        try:
            code = int(self._drivers.answer(seconds))
        except TimeoutError:
            self.kill()
            raise
        report = json.loads(self._report.read_text()) if self._report.exists() else {}
        return Ended(code, report, self._drivers.said())


# Faults of the server


def backends(place: Place, like: str = OURS) -> list[int]:
    with place.connect() as conn:
        rows = conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND pid <> pg_backend_pid() ORDER BY 1",
            (like,),
        ).fetchall()
    return [row[0] for row in rows]


def end_backend(place: Place, pid: int) -> None:
    """Politely: the server lives on."""
    with place.connect() as conn:
        conn.execute("SELECT pg_terminate_backend(%s)", (pid,))


def crash_backend(load: Load, pid: int) -> bool:
    """SIGKILL: the postmaster ends all backends, and the server recovers from its log. False: the backend had ended by itself."""
    with load.disturbance():
        began = _started(load.place)
        try:
            if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"postgres: "):
                return False
            os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return False
        _ready(load.place, lambda: _started(load.place) != began)
    return True


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
    """Jobs under load, undisturbed and with faults, and what came of it. The jobs' `conninfo` is the proxy's."""

    load: Load
    cluster: Cluster
    drivers: Drivers
    proxy: Proxy
    rng: random.Random
    learned: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)  # faults that hit
    missed: Counter[str] = field(default_factory=Counter)  # the job was done before
    stalls: dict[str, list[float]] = field(default_factory=dict)
    calls: int = 0

    def do(self, job: Job) -> Mapping[str, Any]:
        """The job undisturbed; its longest stall is kept, and how many statements and steps it takes is learned."""
        commits = self.proxy.commits
        with self.load.window() as window:
            ended = self._call(job)
        self.stalls.setdefault(job.name, []).append(window.longest_ms)
        assert ended.done, f"{job.name}: {ended.report.get('error')} {ended.said}"
        known = {**ended.report, "commits": self.proxy.commits - commits}
        best = self.learned.get(
            job.name, known
        )  # of the run with the fewest attempts, so that a number below is reached again
        self.learned[job.name] = min(known, best, key=lambda report: report["statements"])
        return ended.report

    def strike(self, job: Job, fault: str = "") -> str:
        """The job with a fault, then again until it is done; returns the fault. The job must have been done once before."""
        known = self.learned[job.name]
        fault = fault or self.rng.choice([name for name in FAULTS if known["attempts"] or "a step" not in name])
        hit, ended = self._struck(job, fault, known)
        (self.struck if hit else self.missed)[fault] += 1
        if not hit and ended.done and ended.report["statements"] < known["statements"]:
            self.learned[job.name] = {**known, **ended.report}
        self.whole(f"{fault} in {job.name}")
        for _ in range(CALLS):
            if ended.done:
                break
            ended = self._call(job)
        assert ended.done, f"{job.name} after {fault}: {ended.report.get('error')} {ended.said}"
        return fault

    @property
    def strikes(self) -> int:
        """Faults tried, those that came too late among them."""
        return self.struck.total() + self.missed.total()

    def _call(self, job: Job, die: Mapping[str, Any] | None = None) -> Ended:
        self.calls += 1
        return self.drivers.run(job, self.proxy.conninfo, die)

    def _struck(self, job: Job, fault: str, known: Mapping[str, Any]) -> tuple[bool, Ended]:
        if fault.endswith(("a statement", "a step")):
            when, at = fault.split()[2], fault.rsplit(maxsplit=1)[-1]
            most = known["statements"] if at == "statement" else known["attempts"]
            # a job takes more statements where it has to try again: half of the time one of the first ones is meant
            number = int(max(most, 1) ** self.rng.choice((1.0, self.rng.random())) * self.rng.random()) + 1
            die = {"at": at, "number": min(number, most), "when": when, "ms": self.rng.uniform(0, 3)}
            ended = self._call(job, die)
            return ended.code == -signal.SIGKILL, ended
        if "COMMIT" in fault:
            self.proxy.lose(self.rng.randint(1, max(1, known["commits"])), reaches=fault.startswith("reply"))
            ended = self._call(job)
            self.proxy.disarm()
            return self.proxy.lost.is_set(), ended
        self.calls += 1
        driver = self.drivers.start(job, self.proxy.conninfo)
        hit = self._at_random(driver, fault, known)
        ended = driver.wait()
        return hit and not ended.done, ended

    def _at_random(self, driver: Driver, fault: str, known: Mapping[str, Any]) -> bool:
        """Wait until the driver is connected, then some part of the time it takes; whether there was something to kill."""
        while not (pids := backends(self.load.place)) and driver.alive:
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
            return True
        return crash_backend(self.load, pid)

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
