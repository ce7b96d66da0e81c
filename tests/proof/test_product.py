"""The product under load: copied, cut over, rolled back and killed, again and again; not a row is lost and no client is harmed."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from proof import product
from proof.kills import Campaign, Drivers, Job
from proof.load import RC, RR, Client, Kind, Load, apart, table, try_truncate
from proof.proxy import Proxy

from atlas_ops import exchange

APPLY, DRAIN, CUT_OVER, ROLL_BACK, ABANDON = (
    Job(stage, "proof.product:run", {"stage": stage})
    for stage in ("apply_migration", "drain", "cut_over", "roll_back", "abandon")
)
PROVE = Job("prove", "proof.product:prove")


class Race:
    """The exchange of the product, with something done just before one of its statements."""

    def __init__(self, ground: Any, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ground = ground
        self.client, self.second, self.replica, self.plain = load.clients
        for client in load.clients:
            client.fill(10)
        self.key = self.client.first + 100
        self.before: dict[str, Callable[[], Any]] = {}
        self.aside_threads: list[threading.Thread] = []
        timed = exchange._timed

        def hooked(connection: Any, statement: str, **more: Any) -> float:
            for words in [words for words in self.before if words in statement]:
                self.before.pop(words)()
            return timed(connection, statement, **more)

        monkeypatch.setattr(exchange, "_timed", hooked)

    def run(self, stage: str) -> None:
        product.run(self.ground.owner, stage)
        for thread in self.aside_threads:
            thread.join()

    def aside(self, act: Callable[[], Any], after: float = 0.0) -> None:
        """In a thread: at once, and the exchange goes on when it waits for a lock; or after some seconds, when the exchange waits itself."""

        def quietly() -> None:
            time.sleep(after)
            with suppress(psycopg.Error):
                act()

        self.aside_threads.append(threading.Thread(target=quietly))
        self.aside_threads[-1].start()
        if not after:
            self.aside_threads[-1].join(0.02)


@pytest.fixture
def load(ground: Any, options: Any) -> Iterator[Load]:
    with Load(ground.place, options.seed, [RR, RC, Kind("REPEATABLE READ", replica=True), RC]) as made:
        yield made


@pytest.fixture
def race(ground: Any, load: Load, monkeypatch: pytest.MonkeyPatch) -> Race:
    made = Race(ground, load, monkeypatch)
    made.run("apply_migration")
    return made


def looks_before_the_drain(client: Client, key: int) -> None:
    """A row that no drain has copied yet, and a snapshot that sees it in the original only."""
    with client.transaction():
        client.insert({key: client.dice.row()})
    client.begin()
    client.look_elsewhere()


@pytest.mark.parametrize("who", ["client", "replica"])
def test_a_writer_that_waits_with_an_old_snapshot_is_refused(race: Race, load: Load, who: str) -> None:
    client = getattr(race, who)
    key = client.first + 100

    def write() -> None:
        client.update(key, client.dice.row())
        client.commit()

    race.before["SHARE ROW EXCLUSIVE"] = lambda: looks_before_the_drain(client, key)
    race.before["set_config"] = lambda: race.aside(write)
    race.run("cut_over")
    verdict = load.verdict()
    assert verdict.clean, verdict
    assert verdict.tally.allowed.total() == 1, verdict


def test_a_reader_that_waits_with_an_old_snapshot_misses_nothing(race: Race, load: Load) -> None:
    client, key = race.client, race.key

    def look() -> None:
        looks_before_the_drain(client, key)
        race.second.begin()
        race.second.read([race.second.first])

    def read() -> None:
        client.read([key])
        client.commit()

    def queue() -> None:
        """The cut-over waits for the second client; behind it the first one reads."""
        race.aside(read, 0.01)
        race.aside(race.second.commit, 0.02)

    race.before["SHARE ROW EXCLUSIVE"] = look
    race.before["ACCESS EXCLUSIVE"] = queue
    race.run("cut_over")
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_who_has_read_and_writes_during_the_cut_over_gets_no_deadlock(race: Race, load: Load) -> None:
    client = race.plain

    def look() -> None:
        client.begin()
        client.read([client.first])

    def write() -> None:
        client.update_body([client.first], "written")
        client.commit()

    race.before["SHARE ROW EXCLUSIVE"] = look
    race.before["ACCESS EXCLUSIVE"] = lambda: race.aside(write, 0.01)
    race.run("cut_over")
    verdict = load.verdict()
    assert verdict.clean, verdict


@pytest.fixture
def campaign(ground: Any, options: Any, drivers: Drivers, proxy: Proxy) -> Iterator[Campaign]:
    with Load(ground.place, options.seed, rate=options.rate) as load:
        load.start()
        yield Campaign(load, ground.cluster, drivers, proxy, random.Random(options.seed))


def is_in_step(ground: Any, campaign: Campaign) -> None:
    """With all clients at rest the two tables hold the same rows, once the log is drained."""
    campaign.load.pause()
    campaign.do(DRAIN)
    with ground.place.connect() as conn:
        [turned] = conn.execute("SELECT to_regclass('partitions.item_retired') IS NOT NULL").fetchone()
    assert apart(ground.place, "public.item", "partitions.item_retired" if turned else "public.item_partitioned") == []
    campaign.load.resume()


def test_the_product_loses_nothing(ground: Any, campaign: Campaign, options: Any) -> None:
    began = time.perf_counter()
    campaign.do(APPLY)
    campaign.do(PROVE)
    assert try_truncate(ground.place) == "55006"
    swaps = itertools.cycle((CUT_OVER, ROLL_BACK))
    for number in range(2 * max(1, options.swaps // 2)):
        campaign.do(next(swaps))
        if number % 20 == 1:
            campaign.whole(f"{number + 1} swaps")
            campaign.do(PROVE)
            is_in_step(ground, campaign)
    campaign.do(ABANDON)
    jobs = itertools.cycle((APPLY, CUT_OVER, ROLL_BACK, CUT_OVER, ROLL_BACK, ABANDON))
    while campaign.struck.total() < options.kills and campaign.strikes < 3 * options.kills:
        job = next(jobs)
        campaign.strike(job)
        if job is CUT_OVER and campaign.strikes % 4 == 0:
            is_in_step(ground, campaign)
    verdict = campaign.load.stop()
    print(f"\nPostgreSQL {ground.version}", table(campaign.figures()), verdict, sep="\n")
    print(f"{time.perf_counter() - began:.0f} s")
    assert verdict.clean, verdict
