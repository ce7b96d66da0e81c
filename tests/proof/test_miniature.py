"""The proof sees what is lost when a step of the protocol is missing: each story once with the step, once without.

The stories that tell of the product as well are in `stories`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from proof import stories
from proof.load import Load, apart, try_truncate
from proof.miniature import Miniature, Without
from proof.stories import FEBRUARY, JANUARY, Story


def told_of(ground: Any, load: Load, without: Collection[Without]) -> Story:
    return Story(ground, load, lambda at: Miniature(ground.owner, without, at))


def read_with_an_old_snapshot(story: Story) -> None:
    story.copy()
    client, key = story.snapshot, story.snapshot.first + 100
    with client.transaction():
        client.insert({key: client.dice.row()})
    client.begin()
    client.look_elsewhere()
    swap = threading.Thread(target=story.subject.swap, args=("dst",))
    swap.start()
    swap.join(None if Without.OLD_READERS in story.subject.without else 0.3)
    client.read([key])
    client.commit()
    swap.join()


@pytest.mark.parametrize(("story", "without", "always"), stories.EACH, ids=stories.by_name)
def test_a_step_that_is_missing_loses_rows_and_the_proof_sees_it(
    ground: Any, load: Load, story: Callable[[Story], None], without: Without, always: set[Without]
) -> None:
    story(told_of(ground, load, {without, *always}))
    verdict = load.verdict()
    assert verdict.losses > 0, f"the proof does not see that {without}:\n{verdict}"


@pytest.mark.parametrize(("story", "without", "always"), stories.EACH, ids=stories.by_name)
def test_with_that_step_nothing_is_lost(
    ground: Any, load: Load, story: Callable[[Story], None], without: Without, always: set[Without]
) -> None:
    told = told_of(ground, load, always)
    story(told)
    verdict = load.verdict()
    assert verdict.clean, verdict
    told.subject.drain()
    assert apart(ground.place, "public.item", "mini.parked") == []


def test_a_reader_with_an_old_snapshot_is_waited_for(ground: Any, load: Load) -> None:
    read_with_an_old_snapshot(told_of(ground, load, ()))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_reader_that_is_not_waited_for_misreads_and_the_proof_sees_it(ground: Any, load: Load) -> None:
    read_with_an_old_snapshot(told_of(ground, load, {Without.OLD_READERS}))
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
    swap = threading.Thread(target=story.subject.swap, args=("dst",))
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
    read_from_the_queue_with_an_old_snapshot(told_of(ground, load, {Without.NO_QUEUE}))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_reader_that_is_overlooked_in_the_queue_misreads_and_the_proof_sees_it(ground: Any, load: Load) -> None:
    read_from_the_queue_with_an_old_snapshot(told_of(ground, load, {Without.NO_QUEUE, Without.WAITING_READERS}))
    verdict = load.verdict()
    assert verdict.losses == 0 and verdict.tally.misread == {"RR: missing": 1}, verdict


def moved_in_the_middle_of_a_drain(story: Story) -> None:
    """To and fro, and once more between the two statements of the drain: from the new table back into the old one."""
    story.copy()
    story.subject.swap("dst")
    client = story.client
    for at in (FEBRUARY, JANUARY):
        with client.transaction():
            client.move(client.first, at)

    def move() -> None:
        with client.transaction():
            client.move(client.first, FEBRUARY)

    story.hooks["drain: rows removed"] = move
    story.subject.drain()
    story.subject.swap("src")


def test_a_drain_in_one_snapshot_is_not_led_astray(ground: Any, load: Load) -> None:
    moved_in_the_middle_of_a_drain(told_of(ground, load, ()))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_drain_in_several_snapshots_meets_the_primary_key(ground: Any, load: Load) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        moved_in_the_middle_of_a_drain(told_of(ground, load, {Without.SNAPSHOT}))


def read_then_written_while_the_cut_over_has_its_first_lock(story: Story) -> None:
    """The client reads, the cut-over takes its first lock and asks for the second, the client writes."""
    story.copy()
    client = story.client
    client.begin()
    client.read([client.first])
    locked = threading.Event()
    story.hooks["swap: drained"] = locked.set
    swap = threading.Thread(target=story.subject.swap, args=("dst",))
    swap.start()
    locked.wait()
    time.sleep(0.02)
    with suppress(psycopg.errors.DeadlockDetected):
        client.update_body([client.first], "written")
        client.commit()
    swap.join()


def test_a_cut_over_that_stays_out_of_the_queue_harms_nobody(ground: Any, load: Load) -> None:
    read_then_written_while_the_cut_over_has_its_first_lock(told_of(ground, load, ()))
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_a_cut_over_that_queues_gives_a_client_a_deadlock_and_the_proof_sees_it(ground: Any, load: Load) -> None:
    read_then_written_while_the_cut_over_has_its_first_lock(told_of(ground, load, {Without.NO_QUEUE}))
    verdict = load.verdict()
    assert verdict.losses == 0 and verdict.tally.refused == {"RC: UPDATE many: 40P01": 1}, verdict


@pytest.mark.parametrize(("without", "state"), [((), "55006"), ({Without.TRUNCATE}, "")])
def test_truncate_is_tried(ground: Any, load: Load, without: Collection[Without], state: str) -> None:
    story = told_of(ground, load, without)
    story.copy()
    assert try_truncate(ground.place) == state
    story.subject.swap("dst")
    assert try_truncate(ground.place) == state
    assert load.verdict().clean
