"""Swaps and kills under load, on the miniature: nothing is lost, and the miniature is killed wherever a run can be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from proof.kills import FAULTS, Campaign, Drivers, Job
from proof.load import Load, apart, table
from proof.proxy import Proxy

TRIES = 8  # of a fault: one may come too late
DRAIN = Job("drain", "proof.miniature:drain")
SWAPS = {to: Job(f"swap to {to}", "proof.miniature:swap", {"to": to}) for to in ("dst", "src")}


@pytest.fixture
def campaign(ground: Any, options: Any, drivers: Drivers, proxy: Proxy) -> Iterator[Campaign]:
    with Load(ground.place, options.seed, tolerated=("40P01",) if ground.version < 17 else ()) as load:
        load.start()
        yield Campaign(load, ground.cluster, drivers, proxy, random.Random(options.seed))


def test_swaps_and_kills_under_load_lose_nothing(ground: Any, campaign: Campaign, options: Any) -> None:
    copy = Job("copy", "proof.miniature:copy", {"months": [month.isoformat() for month in ground.place.months]})
    campaign.do(copy)
    swaps = itertools.cycle((SWAPS["dst"], SWAPS["src"]))
    for _ in range(2):
        campaign.do(next(swaps))
    for fault in FAULTS:
        if fault.endswith("a step"):  # the miniature has none
            continue
        for _ in range(TRIES):
            campaign.strike(next(swaps), fault)
            if campaign.struck[fault]:
                break
        assert campaign.struck[fault], table(campaign.figures())
    campaign.do(DRAIN)
    campaign.load.pause()
    campaign.do(DRAIN)
    assert apart(ground.place, "public.item", "mini.parked") == []
    verdict = campaign.load.stop()
    assert verdict.clean, verdict
