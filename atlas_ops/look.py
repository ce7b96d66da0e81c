"""What a question is asked of: one partition set on one look, with what every answer needs of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import cached_property
from typing import NamedTuple

from atlas_ops import bounds, growth, partitions
from atlas_ops.bounds import Bound
from atlas_ops.growth import Month
from atlas_ops.health import State
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.partitions import listed, midnight
from atlas_ops.vitals import Vitals


class Answer(NamedTuple):
    """A figure without its name: its value, in words, and the partitions that it is about."""

    value: float | None
    told: str
    partitions: Sequence[str] = ()


class Look:
    """The questions of a subclass are its methods, named as their figures; it holds no state but what was read."""

    def __init__(self, vitals: Vitals, snapshot: Snapshot, relation: Relation, state: State, as_of: date) -> None:
        self.vitals, self.snapshot, self.relation, self.state, self.as_of = vitals, snapshot, relation, state, as_of
        self.spec, self.now = vitals.spec, snapshot.server.now
        self.attached = partitions.attached(snapshot)
        self.beside = partitions.beside(snapshot)
        self.pulses = {pulse.oid: pulse for pulse in vitals.pulses}
        self.default = next((partition for partition, bound in self.attached if bound.is_default), None)

    @cached_property
    def months(self) -> tuple[Month, ...]:
        """What each period holds."""
        return growth.months(self.spec, self.snapshot, self.as_of)

    @cached_property
    def ended(self) -> list[tuple[Partition, Bound]]:
        """The partitions of periods that ended before the current one, by the calendar and by the server's clock."""
        before = min(bounds.period_of(self.spec.every, self.as_of).lower, self.now)
        return [
            (one, bound) for one, bound in self.attached if bound.readable and bound.upper and bound.upper <= before
        ]

    @cached_property
    def covered_until(self) -> datetime | None:
        """The end of the runway; None where it never ends, or where no partition is a range of time."""
        left = bounds.runway((bound for one, bound in self.attached if not one.detach_pending), midnight(self.as_of))
        return (
            None
            if left is None or not any(b.readable and not b.is_default for _, b in self.attached)
            else midnight(self.as_of) + left
        )

    def pulse(self, partition: Partition, counter: str) -> int:
        """A counter of a partition; 0 where there are no statistics."""
        pulse = self.pulses.get(partition.oid)
        return int(getattr(pulse, counter)) if pulse else 0


def named(names: Sequence[str], what: str) -> str:
    """The partitions that something is true of, in words."""
    return f"{what}: {listed(names)}." if names else "None."


def stretch(lower: datetime | None, upper: datetime | None) -> str:
    """A range of time in words."""
    return f"{_day(lower, 'the beginning')} to {_day(upper, 'the end')}"


def _day(edge: datetime | None, unbounded: str) -> str:
    return partitions.edge_text(edge, "", "") or unbounded
