"""The load itself: clean on a table that nobody touches, and blind to nothing that happens to one."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import psycopg
import pytest

from proof import kills
from proof.load import KINDS, RC, RR, Client, Load, apart, try_truncate
from proof.oracle import Row


def test_a_plain_table_under_all_clients_is_clean(ground: Any, options: Any) -> None:
    with Load(ground.place, options.seed) as load:
        load.start()
        time.sleep(options.seconds)
        middle = load.verdict()
        assert middle.clean, middle
        time.sleep(options.seconds)
        verdict = load.stop()
    assert verdict.clean, verdict
    done = set(verdict.tally.statements)
    assert {"INSERT", "UPDATE at", "UPDATE id", "DELETE", "ON CONFLICT", "MERGE", "COPY", "item_put", "rollback to"} <= done
    assert {"EXECUTE item_update", "SELECT all", "DELETE, INSERT"} <= done
