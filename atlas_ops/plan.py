"""A plan is data: steps of SQL, each with the lock it takes and the reason for it, shown before it runs, named by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from atlas_ops.errors import AtlasError
from atlas_ops.model import Server
from atlas_ops.spec import TableSpec

DIGEST_LENGTH = 8  # hexadecimal digits shown and confirmed


class Effect(StrEnum):
    """What a step does to what is there already."""

    ADDS = "adds"  # only adds: a table, an index, rows of ours, an ANALYZE
    CHANGES = "changes"
    REMOVES = "removes"


@dataclass(frozen=True, slots=True)
class Target:
    """The database a plan was made for: what was approved on one system cannot arm another."""

    system_identifier: str
    database: str


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction (or, with `autocommit`, statements that cannot run in one, such as VACUUM).

    `lane`: steps that stand side by side in a plan and carry different lanes may run at the same time; those of one lane run in
    their order. An empty lane runs alone. `weight` is the rows to come, for the progress shown; it is no part of the digest.

    `again`: the transaction is repeated while its last statement answers true, at most so often. `first` and `meanwhile` make an
    exchange: `first` takes the lock that keeps writers out, then `meanwhile`, the statements of a drain, is repeated on a second
    connection until it has nothing more to do, then `statements` run in the transaction that began with `first`.

    `feed`: where the rows of its COPY ... FROM STDIN come from, by the name under which `execute` is given them. `piecewise`: what is
    executed after each piece of them, in the same transaction, so that no table has to hold them all; the COPY begins anew after it.
    """

    name: str
    statements: tuple[str, ...]
    lock: str  # the strongest lock on something the application uses, as PostgreSQL prints it
    on: str  # what that lock is taken on
    why: str
    effect: Effect = Effect.ADDS
    lane: str = ""
    autocommit: bool = False
    weight: int = 0
    again: int = 0
    first: tuple[str, ...] = ()
    meanwhile: tuple[str, ...] = ()
    feed: str = ""
    piecewise: tuple[str, ...] = ()

    @property
    def exchange(self) -> bool:
        """It holds a lock that the application waits for while another connection works: its holds are measured."""
        return bool(self.first)


@dataclass(frozen=True, slots=True)
class Throttle:
    """When a step that is repeated pauses, and what it waits for between two transactions; 0: never. No part of the digest."""

    pause_ms: int = 0
    replica_lag_ms: int = 0
    wal_bytes_per_s: int = 0
    database_bytes: int = 0
    snapshot_age_ms: int = 0
    patience_ms: int = 600_000  # how long it waits for one of these before it stops and says so

    @property
    def any(self) -> bool:
        """Whether there is a limit, apart from the pause."""
        return bool(self.replica_lag_ms or self.wal_bytes_per_s or self.database_bytes or self.snapshot_age_ms)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stage would do to its target."""

    stage: str
    target: Target
    steps: tuple[Step, ...]
    lock_timeout_ms: int = 100
    statement_timeout_ms: int = 0
    workers: int = 2
    headline: str = ""
    throttle: Throttle = Throttle()
    alone: bool = True  # not while another run changes the database; the kill switch does not wait for one

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over the exact SQL, its order and the target; the first is a letter."""
        content = {
            "stage": self.stage,
            "target": [self.target.system_identifier, self.target.database],
            "steps": [
                [
                    *(
                        step.name,
                        list(step.first),
                        list(step.meanwhile),
                        list(step.statements),
                        step.lane,
                        step.autocommit,
                    ),
                    *([step.feed, *step.piecewise] if step.feed else []),
                ]
                for step in self.steps
            ],
            "lock_timeout_ms": self.lock_timeout_ms,
        }
        whole = hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
        # it starts at the first letter: 12345678 or 1e234567 would be a number in YAML and to papermill -p
        first = next((at for at, digit in enumerate(whole) if digit.isalpha()), 0)
        return whole[first : first + DIGEST_LENGTH]

    @property
    def additive(self) -> bool:
        """Every step only adds."""
        return all(step.effect is Effect.ADDS for step in self.steps)

    def sections(self) -> Iterator[tuple[Step, ...]]:
        """Runs of steps: one step without a lane, or all neighbours that have lanes and may run side by side."""
        for laned, steps in groupby(self.steps, key=lambda step: bool(step.lane)):
            if laned:
                yield tuple(steps)
            else:
                yield from ((step,) for step in steps)

    def script(self) -> str:
        """The plan as a text that psql runs: every statement, each step under a comment that tells its lock and reason."""
        lines: list[str] = []
        for number, step in enumerate(self.steps, 1):
            lines += [
                "",
                f"-- {number}. {_comment(step.name)}",
                f"--    {_comment(step.why)} Lock: {step.lock} on {_comment(step.on)}.",
            ]
            if step.again:
                lines.append("--    Repeated, a transaction each time, while its last statement answers true.")
            if step.feed:
                lines.append(f"--    Rows: {_comment(step.feed)}")
            if step.piecewise:
                lines.append("--    In pieces: the COPY again and again, and after each:")
                lines += [f"--    {line}" for text in _ended(step.piecewise) for line in text.splitlines()]
            if step.exchange:
                lines += ["BEGIN;", *_ended(step.first)]
                lines.append("--    Meanwhile on a second connection, repeated while the last statement answers true:")
                lines += [f"--    {line}" for text in _ended(step.meanwhile) for line in text.splitlines()]
            lines += _ended(step.statements)
            if step.exchange:
                lines.append("COMMIT;")
        return "\n".join(lines).lstrip("\n") + "\n"


def _ended(statements: Iterable[str]) -> list[str]:
    return [f"{statement.rstrip().rstrip(';')};" for statement in statements]


def plan_for(
    stage: str, spec: TableSpec, server: Server, steps: Iterable[Step], headline: str = "", *, workers: int = 1
) -> Plan:
    """A plan for one table of one server, with the timeouts of its specification."""
    return Plan(
        stage=stage,
        target=Target(server.system_identifier, server.database),
        steps=tuple(steps),
        lock_timeout_ms=spec.lock_timeout_ms,
        statement_timeout_ms=spec.statement_timeout_ms,
        workers=workers,
        headline=headline,
        throttle=Throttle(
            pause_ms=spec.pause_ms,
            replica_lag_ms=spec.max_replica_lag_ms,
            wal_bytes_per_s=spec.max_wal_rate_bytes,
            database_bytes=spec.max_database_size_bytes,
            snapshot_age_ms=spec.max_snapshot_age_ms,
        ),
    )


def confirmed(plan: Plan, confirm: str, *, demo: bool) -> bool:
    """Whether `confirm` arms this plan: its digest, `additive` for a plan that only adds, or `demo` on the embedded demo.

    An empty `confirm` shows the plan only. Raises AtlasError for anything else, a plan without steps excepted.
    """
    if not plan.steps or not confirm:
        return False
    if confirm == plan.digest:
        return True
    if confirm == "demo":
        if demo:
            return True
        raise AtlasError(
            what='confirm is "demo", but this is not the embedded demo database.',
            why="Only the embedded demo may be changed without reading the plan.",
            next=f'Read the plan above and confirm its digest: confirm = "{plan.digest}"',
        )
    if confirm == "additive":
        if plan.additive:
            return True
        other = next(step for step in plan.steps if step.effect is not Effect.ADDS)
        raise AtlasError(
            what='confirm is "additive", but this plan does more than add.',
            why=f'Step "{other.name}" {other.effect}.',
            next=f'Read the plan above and confirm its digest: confirm = "{plan.digest}"',
        )
    raise AtlasError(
        what=f"This plan is {plan.digest}, but {confirm} was confirmed.",
        why="The plan that was read was another one: the table, its specification or the database has changed since.",
        next="Read the plan above and confirm its own digest.",
    )


def joined(plans: Iterable[Plan]) -> Plan:
    """One plan out of several of the same stage and target, with the shortest lock_timeout among them."""
    parts = list(plans)
    first = parts[0]
    return Plan(
        stage=first.stage,
        target=first.target,
        steps=tuple(step for part in parts for step in part.steps),
        lock_timeout_ms=min(part.lock_timeout_ms for part in parts),
        statement_timeout_ms=max(part.statement_timeout_ms for part in parts),
        workers=max(part.workers for part in parts),
        headline=" ".join(part.headline for part in parts if part.headline),
        throttle=_strictest([part.throttle for part in parts]),
        alone=any(part.alone for part in parts),
    )


def _strictest(throttles: Sequence[Throttle]) -> Throttle:
    """The longest pause and the lowest of each limit that is set."""

    def lowest(limits: Iterable[int]) -> int:
        return min(filter(None, limits), default=0)

    return Throttle(
        pause_ms=max(one.pause_ms for one in throttles),
        replica_lag_ms=lowest(one.replica_lag_ms for one in throttles),
        wal_bytes_per_s=lowest(one.wal_bytes_per_s for one in throttles),
        database_bytes=lowest(one.database_bytes for one in throttles),
        snapshot_age_ms=lowest(one.snapshot_age_ms for one in throttles),
        patience_ms=min(one.patience_ms for one in throttles),
    )


def _comment(text: str) -> str:
    """A text that cannot leave the comment it stands in."""
    return " ".join(text.split())
