"""The product's own plans with a step of the protocol left out or done wrong: what the proof must see.

Each edit is made on the SQL of the plan, and must find what it is to change: a plan that has changed its words fails here, not silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any

import psycopg
import pytest
from proof import product
from proof.miniature import DUAL_WRITE, Without

from atlas_ops import exchange, execute, migration, online
from atlas_ops.database import Session
from atlas_ops.errors import AtlasError
from atlas_ops.plan import Plan, Step, plan_for

READ_THEN_PURGED = (
    'INSERT INTO "pg_temp"."item_batch" ("id", "at") SELECT DISTINCT "id", "at" FROM {log}',
    "DELETE FROM {log}",
)


class Belt(StrEnum):
    """What holds where another step fails: taken away as well, to see that it is the proof that sees."""

    LOG_IS_EMPTY = "the exchange does not look whether the log is empty"
    CHECKS = "the stage runs although a check is red"


def edited(plan: Plan, without: frozenset[Without | Belt]) -> Plan:
    """The plan without the steps named."""
    steps = plan.steps
    for one in without & EDITS.keys():
        steps = tuple(EDITS[one](step) for step in steps)
    return replace(plan, steps=steps)


def _changed(step: Step, change: Callable[[str], list[str]]) -> Step:
    def through(statements: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new for old in statements for new in change(old))

    return replace(
        step, first=through(step.first), meanwhile=through(step.meanwhile), statements=through(step.statements)
    )


def _dropped(*words: str) -> Callable[[Step], Step]:
    """Statements that hold all of these words."""
    return lambda step: _changed(step, lambda old: [] if all(word in old for word in words) else [old])


def _swapped(words: str, others: str) -> Callable[[Step], Step]:
    return lambda step: _changed(step, lambda old: [old.replace(words, others)])


def _purged(step: Step) -> Step:
    log = '"partitions"."item_key_log"'
    return _changed(
        step,
        lambda old: [text.format(log=log) for text in READ_THEN_PURGED] if "WITH taken AS" in old else [old],
    )


def _dual_write(step: Step) -> Step:
    return _changed(
        step,
        lambda old: (
            [DUAL_WRITE.format(function='"partitions"."item_capture"', copy="public.item_partitioned")]
            if "$capture$" in old
            else [old]
        ),
    )


def _undrained(step: Step) -> Step:
    return replace(step, meanwhile=()) if step.exchange else step


def _reverse(step: Step) -> Step:
    return (
        _dropped("CREATE TRIGGER", online.CAPTURE)(_dropped("ENABLE ALWAYS", online.CAPTURE)(step))
        if step.exchange
        else step
    )


def _unfenced(step: Step) -> Step:
    return step if step.exchange else _dropped("$fence$")(step)


EDITS: dict[Without | Belt, Callable[[Step], Step]] = {
    Without.PURGE_OF_WHAT_WAS_READ: _purged,
    Without.ALWAYS: _dropped("ENABLE ALWAYS", online.CAPTURE),
    Without.LOGGED: _swapped('CREATE TABLE "partitions"."item_key_log"', 'CREATE UNLOGGED TABLE "partitions"."item_key_log"'),
    Without.GUARD: lambda step: _dropped(online.GUARD, "CREATE TRIGGER")(_dropped("ENABLE ALWAYS", online.GUARD)(step)),
    Without.GUARD_ALWAYS: _dropped("ENABLE ALWAYS", online.GUARD),
    Without.KEY_LOG: _dual_write,
    Without.OLD_KEY: _swapped('VALUES ("old"."id", "old"."at"), ("new"."id", "new"."at")', 'VALUES ("new"."id", "new"."at")'),
    Without.LAST_DRAIN: _undrained,
    Without.REVERSE_CAPTURE: _reverse,
    Without.FENCE: _unfenced,
    Without.IDENTITY: _swapped(" *= ", " IS NOT DISTINCT FROM "),
    Without.TRUNCATE: lambda step: _dropped("CREATE TRIGGER", online.NO_TRUNCATE)(
        _dropped("ENABLE ALWAYS", online.NO_TRUNCATE)(step)
    ),
    Without.OLD_READERS: _dropped("pg_stat_activity"),
    Belt.LOG_IS_EMPTY: _dropped("IF EXISTS", "item_key_log", "RAISE"),
}  # fmt: skip


BEFORE = {
    "drain: keys read": re.compile(r'DELETE FROM "partitions"\."item_key_log"$'),
    "swap: begins": re.compile("LOCK TABLE .* SHARE ROW EXCLUSIVE MODE$"),
}
AFTER = {
    "drain: keys read": re.compile("-- .*\nWITH taken AS"),
    "backfill: January": re.compile('INSERT INTO "partitions"."item_2024_01"'),
}


class Mutant:
    """The product as a story's subject, its plans edited. It calls back at its points."""

    def __init__(
        self, conninfo: str, without: frozenset[Without | Belt], at: Callable[[str], None], patch: pytest.MonkeyPatch
    ) -> None:
        self.conninfo, self.without, self.at = conninfo, without, at
        self.seen: set[Without | Belt] = set()  # edits that found something to change
        plain = psycopg.Connection.execute

        def reached(points: dict[str, re.Pattern[str]], query: Any) -> None:
            for point, words in points.items():
                if isinstance(query, str) and words.match(query):
                    self.at(point)

        def execute(connection: Any, query: Any, *more: Any, **options: Any) -> Any:
            reached(BEFORE, query)
            done = plain(connection, query, *more, **options)
            reached(AFTER, query)
            return done

        patch.setattr(psycopg.Connection, "execute", execute)
        if Without.OLD_READERS in without:
            patch.setattr(exchange, "_older_snapshots_end", lambda *arguments: None)

    def copy(self, months: Any) -> None:
        self._run("apply_migration")

    def drain(self) -> None:
        self._run("drain")

    def swap(self, to: str) -> None:
        self._run("cut_over" if to == "dst" else "roll_back")

    def drain_beside(self) -> None:
        """As a drain would be that knows nothing of copies: the product's stage plans none while a copy runs."""
        spec, snapshot = product.look(self._where("drain"), product.specification())
        assert snapshot.original is not None
        plan = plan_for(
            "drain", spec, snapshot.server, [migration.drain_step(spec, snapshot.original, online.ORIGINAL, 10)]
        )
        with suppress(AtlasError):
            self._execute(replace(plan, alone=False))

    def _where(self, stage: str) -> Session:
        return Session("proof", self.conninfo, stage)

    def _run(self, stage: str) -> None:
        spec, snapshot = product.look(self._where(stage), product.specification())
        if Belt.CHECKS not in self.without:
            red = product.red(stage, spec, snapshot)
            assert not red, red
        self._execute(product.STAGES[stage](spec, snapshot))

    def _execute(self, plan: Plan) -> None:
        for one in self.without & EDITS.keys():
            if edited(plan, frozenset({one})).steps != plan.steps:
                self.seen.add(one)
        plan = edited(plan, self.without)
        execute.execute(self._where(plan.stage), plan, plan.digest)
