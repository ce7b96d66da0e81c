"""The proof sees what is lost when a step of the protocol is missing: each story once with the step, once without.

The stories are races of led clients, in an order that is forced; none hangs on luck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from proof import kills
from proof.load import RC, RR, Client, Kind, Load, apart, try_truncate
from proof.miniature import Miniature, Without

JANUARY, FEBRUARY = "2024-01-15 00:00:00+00", "2024-02-15 00:00:00+00"


class Story:
    """A table that is copied and exchanged by the miniature, and clients led by hand; ids of the first ten rows: `ids`."""

    def __init__(self, ground: Any, load: Load, without: Collection[Without]) -> None:
        self.ground, self.load = ground, load
        self.client, self.second, self.snapshot, self.replica = load.clients
        for client in self.load.clients:
            client.fill(10)
            with client.transaction():
                for key in self.ids(client):
                    client.move(key, JANUARY)
        self.hooks: dict[str, Callable[[], Any]] = {}
        self.mini = Miniature(ground.owner, without, self.at)

    def at(self, point: str) -> None:
        """Each hook once."""
        self.hooks.pop(point, lambda: None)()

    @staticmethod
    def ids(client: Client) -> list[int]:
        return [client.first + number for number in range(10)]

    def copy(self) -> None:
        self.mini.copy(self.ground.place.months)


def purged_by_sequence(story: Story) -> None:
    story.copy()
    story.client.begin()
    story.client.delete(
        [story.client.first]
    )  # its log row has a lower number than the next one, and is committed later
    with story.second.transaction():
        story.second.update_body([story.second.first], "later")
    story.hooks["drain: keys read"] = story.client.commit
    story.mini.drain()
    story.mini.swap("dst")


def written_by_a_replica(story: Story) -> None:
    story.copy()
    with story.replica.transaction():
        story.replica.update_body([story.replica.first], "replicated")
        story.replica.delete([story.replica.first + 1])
    story.mini.swap("dst")


def crashed(story: Story) -> None:
    story.copy()
    with story.client.transaction():
        story.client.update_body([story.client.first], "before the crash")
    with story.ground.place.connect() as conn:
        assert kills.crash_backend(story.load, conn.info.backend_pid)
    story.mini.swap("dst")


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
    story.mini.swap("dst")
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
    story.mini.swap("dst")


def moved_and_renamed(story: Story) -> None:
    story.copy()
    with story.client.transaction():
        story.client.move(story.client.first, FEBRUARY)
        story.client.rename(story.client.first + 1, story.client.first + 100)
    story.mini.swap("dst")


def written_just_before_the_cut_over(story: Story) -> None:
    def write() -> None:
        with story.client.transaction():
            story.client.update_body([story.client.first], "just now")

    story.copy()
    story.hooks["swap: begins"] = write
    story.mini.swap("dst")


def written_after_the_cut_over(story: Story) -> None:
    story.copy()
    story.mini.swap("dst")
    with story.client.transaction():
        story.client.update_body([story.client.first], "in the new table")
        story.client.delete([story.client.first + 1])
    story.mini.swap("src")


def drained_while_copied(story: Story) -> None:
    def delete_and_drain() -> None:
        with story.client.transaction():
            story.client.delete([story.client.first])
        with story.mini.connect() as other, suppress(psycopg.errors.LockNotAvailable):
            story.mini.drain_once(other)

    # what lies out of all months is the first range, January the second
    story.hooks["backfill: before COMMIT"] = lambda: story.hooks.update({"backfill: before COMMIT": delete_and_drain})
    story.copy()
    story.mini.swap("dst")


def changed_to_its_twin(story: Story) -> None:
    story.copy()
    with story.client.transaction():
        for key in story.ids(story.client):
            row = story.client.oracle.get(key)
            assert row is not None
            story.client.update(key, story.client.dice.twin(row._replace(amount="1.1", data='{"n": 1.5}', ratio="0")))
    story.mini.drain()
    with story.client.transaction():
        for key in story.ids(story.client):
            row = story.client.oracle.get(key)
            assert row is not None
            story.client.update(key, story.client.dice.twin(row))
    story.mini.swap("dst")


def read_with_an_old_snapshot(story: Story) -> None:
    story.copy()
    client, key = story.snapshot, story.snapshot.first + 100
    with client.transaction():
        client.insert({key: client.dice.row()})
    client.begin()
    client.look_elsewhere()
    swap = threading.Thread(target=story.mini.swap, args=("dst",))
    swap.start()
    swap.join(None if Without.OLD_READERS in story.mini.without else 0.3)
    client.read([key])
    client.commit()
    swap.join()


STORIES: list[tuple[Callable[[Story], None], Without, set[Without]]] = [
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


@pytest.fixture
def load(ground: Any, options: Any) -> Iterator[Load]:
    with Load(ground.place, options.seed, [RC, RC, RR, Kind("REPEATABLE READ", replica=True)]) as made:
        yield made


@pytest.mark.parametrize(("story", "without", "always"), STORIES, ids=by_name)
def test_a_step_that_is_missing_loses_rows_and_the_proof_sees_it(
    ground: Any, load: Load, story: Callable[[Story], None], without: Without, always: set[Without]
) -> None:
    story(Story(ground, load, {without, *always}))
    verdict = load.verdict()
    assert verdict.losses > 0, f"the proof does not see that {without}:\n{verdict}"


@pytest.mark.parametrize(("story", "without", "always"), STORIES, ids=by_name)
def test_with_that_step_nothing_is_lost(
    ground: Any, load: Load, story: Callable[[Story], None], without: Without, always: set[Without]
) -> None:
    told = Story(ground, load, always)
    story(told)
    verdict = load.verdict()
    assert verdict.clean, verdict
    told.mini.drain()
    assert apart(ground.place, "public.item", "mini.parked") == []


def test_a_reader_with_an_old_snapshot_is_waited_for(ground: Any, load: Load) -> None:
    read_with_an_old_snapshot(Story(ground, load, ()))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_reader_that_is_not_waited_for_misreads_and_the_proof_sees_it(ground: Any, load: Load) -> None:
    read_with_an_old_snapshot(Story(ground, load, {Without.OLD_READERS}))
    verdict = load.verdict()
    assert verdict.losses == 0 and verdict.tally.misread == {"RR: missing": 1}, verdict


def read_from_the_queue_with_an_old_snapshot(story: Story) -> None:
    """The cut-over waits for a reader; behind it waits another, whose snapshot is from before the last drain."""
    story.copy()
    client, key = story.snapshot, story.snapshot.first + 100

    def write_and_look() -> None:
        with client.transaction():
            client.insert({key: client.dice.row()})
        client.begin()
        client.look_elsewhere()
        story.second.begin()
        story.second.read([story.second.first])

    story.hooks["swap: begins"] = write_and_look
    locked = threading.Event()
    story.hooks["swap: drained"] = locked.set
    swap = threading.Thread(target=story.mini.swap, args=("dst",))
    swap.start()
    locked.wait()
    time.sleep(0.02)
    waits = threading.Thread(target=client.read, args=([key],))
    waits.start()
    time.sleep(0.02)
    story.second.commit()
    waits.join()
    client.commit()
    swap.join()


def test_a_reader_with_an_old_snapshot_is_found_in_the_queue(ground: Any, load: Load) -> None:
    read_from_the_queue_with_an_old_snapshot(Story(ground, load, {Without.NO_QUEUE}))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_reader_that_is_overlooked_in_the_queue_misreads_and_the_proof_sees_it(ground: Any, load: Load) -> None:
    read_from_the_queue_with_an_old_snapshot(Story(ground, load, {Without.NO_QUEUE, Without.WAITING_READERS}))
    verdict = load.verdict()
    assert verdict.losses == 0 and verdict.tally.misread == {"RR: missing": 1}, verdict


def moved_in_the_middle_of_a_drain(story: Story) -> None:
    """To and fro, and once more between the two statements of the drain: from the new table back into the old one."""
    story.copy()
    story.mini.swap("dst")
    client = story.client
    for at in (FEBRUARY, JANUARY):
        with client.transaction():
            client.move(client.first, at)

    def move() -> None:
        with client.transaction():
            client.move(client.first, FEBRUARY)

    story.hooks["drain: rows removed"] = move
    story.mini.drain()
    story.mini.swap("src")


def test_a_drain_in_one_snapshot_is_not_led_astray(ground: Any, load: Load) -> None:
    moved_in_the_middle_of_a_drain(Story(ground, load, ()))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_drain_in_several_snapshots_meets_the_primary_key(ground: Any, load: Load) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        moved_in_the_middle_of_a_drain(Story(ground, load, {Without.SNAPSHOT}))


def read_then_written_while_the_cut_over_has_its_first_lock(story: Story) -> None:
    """The client reads, the cut-over takes its first lock and asks for the second, the client writes."""
    story.copy()
    client = story.client
    client.begin()
    client.read([client.first])
    locked = threading.Event()
    story.hooks["swap: drained"] = locked.set
    swap = threading.Thread(target=story.mini.swap, args=("dst",))
    swap.start()
    locked.wait()
    time.sleep(0.02)
    with suppress(psycopg.errors.DeadlockDetected):
        client.update_body([client.first], "written")
        client.commit()
    swap.join()


def test_a_cut_over_that_stays_out_of_the_queue_harms_nobody(ground: Any, load: Load) -> None:
    read_then_written_while_the_cut_over_has_its_first_lock(Story(ground, load, ()))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_cut_over_that_queues_gives_a_client_a_deadlock_and_the_proof_sees_it(ground: Any, load: Load) -> None:
    read_then_written_while_the_cut_over_has_its_first_lock(Story(ground, load, {Without.NO_QUEUE}))
    verdict = load.verdict()
    assert verdict.losses == 0 and verdict.tally.refused == {"RC: UPDATE many: 40P01": 1}, verdict


@pytest.mark.parametrize(("without", "state"), [((), "55006"), ({Without.TRUNCATE}, "")])
def test_truncate_is_tried(ground: Any, load: Load, without: Collection[Without], state: str) -> None:
    story = Story(ground, load, without)
    story.copy()
    assert try_truncate(ground.place) == state
    story.mini.swap("dst")
    assert try_truncate(ground.place) == state
    assert load.verdict().clean
