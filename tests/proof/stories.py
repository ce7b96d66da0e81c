"""Races of led clients, in an order that is forced: none hangs on luck. Told of the miniature and of the product alike."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Protocol

import psycopg
from proof import kills
from proof.load import Client, Load
from proof.miniature import Without

JANUARY, FEBRUARY = "2024-01-15 00:00:00+00", "2024-02-15 00:00:00+00"


class Subject(Protocol):
    """What copies and exchanges `public.item`. It calls back at its points: `drain: keys read`, `swap: begins`, `backfill: January`."""

    def copy(self, months: Collection[datetime]) -> None: ...
    def drain(self) -> None: ...
    def drain_beside(self) -> None:
        """One pass, while another connection of the subject is at work; passed over where that one keeps it out."""

    def swap(self, to: str) -> None: ...


class Story:
    """A table that is copied and exchanged by `make`, and clients led by hand; ids of the first ten rows: `ids`."""

    def __init__(self, ground: Any, load: Load, make: Callable[[Callable[[str], None]], Subject]) -> None:
        self.ground, self.load = ground, load
        self.client, self.second, self.snapshot, self.replica = load.clients
        for client in self.load.clients:
            client.fill(10)
            with client.transaction():
                for key in self.ids(client):
                    client.move(key, JANUARY)
        self.hooks: dict[str, Callable[[], Any]] = {}
        self.subject = make(self.at)

    def at(self, point: str) -> None:
        """Each hook once."""
        self.hooks.pop(point, lambda: None)()

    @staticmethod
    def ids(client: Client) -> list[int]:
        return [client.first + number for number in range(10)]

    def copy(self) -> None:
        self.subject.copy(self.ground.place.months)


def purged_by_sequence(story: Story) -> None:
    story.copy()
    story.client.begin()
    story.client.delete(
        [story.client.first]
    )  # its log row has a lower number than the next one, and is committed later
    with story.second.transaction():
        story.second.update_body([story.second.first], "later")
    story.hooks["drain: keys read"] = story.client.commit
    story.subject.drain()
    story.subject.swap("dst")


def written_by_a_replica(story: Story) -> None:
    story.copy()
    with story.replica.transaction():
        story.replica.update_body([story.replica.first], "replicated")
        story.replica.delete([story.replica.first + 1])
    story.subject.swap("dst")


def crashed(story: Story) -> None:
    story.copy()
    with story.client.transaction():
        story.client.update_body([story.client.first], "before the crash")
    with story.ground.place.connect() as conn:
        assert kills.crash_backend(story.load, conn.info.backend_pid)
    story.subject.swap("dst")


def written_with_an_old_snapshot(story: Story) -> None:
    write_with_an_old_snapshot(story, story.snapshot)


def written_by_a_replica_with_an_old_snapshot(story: Story) -> None:
    write_with_an_old_snapshot(story, story.replica)


def write_with_an_old_snapshot(story: Story, client: Client) -> None:
    story.copy()
    key = client.first + 100
    with client.transaction():
        client.insert({key: client.dice.row()})
    client.begin()
    client.look_elsewhere()
    story.subject.swap("dst")
    try:
        client.update(key, client.dice.row())
        client.commit()
    except psycopg.errors.SerializationFailure:
        pass


def deleted_with_an_old_snapshot(story: Story) -> None:
    client = story.snapshot
    client.begin()
    client.look_elsewhere()
    story.copy()
    client.delete([client.first])
    client.commit()
    story.subject.swap("dst")


def moved_and_renamed(story: Story) -> None:
    story.copy()
    with story.client.transaction():
        story.client.move(story.client.first, FEBRUARY)
        story.client.rename(story.client.first + 1, story.client.first + 100)
    story.subject.swap("dst")


def written_just_before_the_cut_over(story: Story) -> None:
    def write() -> None:
        with story.client.transaction():
            story.client.update_body([story.client.first], "just now")

    story.copy()
    story.hooks["swap: begins"] = write
    story.subject.swap("dst")


def written_after_the_cut_over(story: Story) -> None:
    story.copy()
    story.subject.swap("dst")
    with story.client.transaction():
        story.client.update_body([story.client.first], "in the new table")
        story.client.delete([story.client.first + 1])
    story.subject.swap("src")


def drained_while_copied(story: Story) -> None:
    def delete_and_drain() -> None:
        with story.client.transaction():
            story.client.delete([story.client.first])
        story.subject.drain_beside()

    story.hooks["backfill: January"] = delete_and_drain
    story.copy()
    story.subject.swap("dst")


def changed_to_its_twin(story: Story) -> None:
    story.copy()
    with story.client.transaction():
        for key in story.ids(story.client):
            row = story.client.oracle.get(key)
            assert row is not None
            story.client.update(key, story.client.dice.twin(row._replace(amount="1.1", data='{"n": 1.5}', ratio="0")))
    story.subject.drain()
    with story.client.transaction():
        for key in story.ids(story.client):
            row = story.client.oracle.get(key)
            assert row is not None
            story.client.update(key, story.client.dice.twin(row))
    story.subject.swap("dst")


EACH: list[tuple[Callable[[Story], None], Without, set[Without]]] = [
    (purged_by_sequence, Without.PURGE_OF_WHAT_WAS_READ, set()),
    (written_by_a_replica, Without.ALWAYS, set()),
    (crashed, Without.LOGGED, set()),
    (written_with_an_old_snapshot, Without.GUARD, {Without.OLD_READERS}),
    (written_by_a_replica_with_an_old_snapshot, Without.GUARD_ALWAYS, {Without.OLD_READERS}),
    (deleted_with_an_old_snapshot, Without.KEY_LOG, set()),
    (moved_and_renamed, Without.OLD_KEY, set()),
    (written_just_before_the_cut_over, Without.LAST_DRAIN, set()),
    (written_after_the_cut_over, Without.REVERSE_CAPTURE, set()),
    (drained_while_copied, Without.FENCE, set()),
    (changed_to_its_twin, Without.IDENTITY, set()),
]


def by_name(value: Any) -> str | None:
    return value.__name__ if callable(value) else None
