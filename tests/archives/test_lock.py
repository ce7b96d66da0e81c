"""The connection that holds the lock of a run is lost in the middle, and another run begins: the first notices, and puts nothing in its place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from archives.road import LATER, Road

from atlas_ops import execute, export, runlock
from atlas_ops.archive import plan_archive
from atlas_ops.errors import AtlasError

MONTH, OTHER = "diary_2024_01", "diary_2024_02"
LOST = "The lock of this run was lost"


def end_holder(road: Road) -> int:
    """End the session that holds the lock of a run, and wait until the lock is free; how many there were."""
    with psycopg.connect(road.db.superuser_conninfo, autocommit=True) as admin:
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND objsubid = 2 "
            "AND classid = %s AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            runlock.RUN_LOCK[::-1],
        ).fetchall()
    return len(ended)


class Ends:
    """Says nothing, but at a label (how it begins) it ends the session that holds the lock, and does `then`, once."""

    def __init__(self, road: Road, at: str, then: Callable[[], Any] = lambda: None) -> None:
        self.road, self.at, self.then, self.ended = road, at, then, 0

    def __call__(self, done: int, total: int, label: str = "") -> None:
        if label.startswith(self.at) and not self.ended:
            self.ended = end_holder(self.road)
            self.then()


EXPORT = [
    f"read {MONTH}",
    f"dump {MONTH}",
    f"parquet {MONTH}",
    f"written {MONTH}",
    f"write the manifest of {MONTH}",
    "written 00000001_exported",
]


@pytest.mark.parametrize(
    "at", [*EXPORT[:-1], f"parquet {OTHER}"]
)  # at the last one the other would wait for its turn at the manifest
def test_an_export_that_has_lost_its_lock_puts_nothing_in_place_beside_another(diary: Road, at: str) -> None:
    diary.detach()
    seen: list[tuple[str, ...]] = []
    ends = Ends(diary, at, lambda: (diary.export(), seen.append(tuple(diary.files()))))
    with pytest.raises(AtlasError, match=LOST) as stop:
        diary.export(says=ends)
    assert ends.ended == 1
    assert "run again" in stop.value.next
    assert tuple(diary.files()) == seen[0], "what the other run has written is all there is, and no half file"
    assert [line.event for line in diary.lines()] == ["exported", "exported"]
    diary.prove()
    assert len(diary.drop()) == 2


@pytest.mark.parametrize("at", EXPORT)
def test_an_export_that_has_lost_its_lock_leaves_no_half_file_and_the_next_one_goes_on(diary: Road, at: str) -> None:
    diary.detach()
    with pytest.raises(AtlasError, match=LOST):
        diary.export(says=Ends(diary, at))
    assert not [name for name in diary.files() if not name.endswith((".zst", ".parquet"))], diary.files()
    assert diary.lines() == ()
    assert len(diary.export()) == 2
    diary.prove()
    assert all(month.proven for month in diary.archive.months.values())


def test_a_long_export_looks_for_its_lock_on_the_way(diary: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would read for hours for nothing."""
    monkeypatch.setattr(runlock, "GLANCE_S", 0.0)
    monkeypatch.setattr(export, "BLOCK_BYTES", 512, raising=False)
    diary.detach()
    heard: list[str] = []
    ends = Ends(diary, f"dump {MONTH}")

    def says(done: int, total: int, label: str = "") -> None:
        heard.append(label)
        ends(done, total, label)

    with pytest.raises(AtlasError, match=LOST):
        diary.export(says=says)
    assert not [label for label in heard if label.startswith("written")]


def test_a_drop_that_has_lost_its_lock_ends_before_the_next_month(diary: Road) -> None:
    diary.detach()
    diary.export()
    diary.prove()
    with pytest.raises(AtlasError, match=LOST):
        diary.drop(says=Ends(diary, f"drop {MONTH}"))
    assert diary.value("SELECT to_regclass(%s)", f"partitions.{MONTH}") is None
    assert diary.value(f"SELECT count(*) FROM partitions.{OTHER}") == 27
    assert [line.event for line in diary.lines()][-1] == "dropped", "what was done is noted"
    assert len(diary.drop()) == 1


def test_a_detach_that_has_lost_its_lock_ends_before_the_next_month(diary: Road) -> None:
    plan = plan_archive(diary.spec, diary.snapshot(), LATER)
    with pytest.raises(AtlasError, match=LOST):
        execute.execute(diary.where, plan, plan.digest, Ends(diary, f"detach {MONTH}"))
    assert [one.name for one in diary.archive.apart] == [MONTH]
    assert diary.detach() == [OTHER]


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_a_restore_that_has_lost_its_lock_keeps_nothing_of_the_month(diary: Road, form: str) -> None:
    before = diary.digest()
    names = diary.away()
    planned = diary.returning(*names, form=form)
    with pytest.raises(AtlasError, match=LOST):
        diary.come_back(planned, Ends(diary, f"restore {MONTH}"))
    assert diary.value("SELECT to_regclass(%s)", f"partitions.{MONTH}") is None
    diary.restore(*names, form=form)
    assert diary.digest() == before


def test_lines_that_are_written_at_once_make_one_chain(diary: Road) -> None:
    """As a proof on another server and an export on this one do, each under a lock of its own server."""
    diary.detach()
    diary.export()
    found = diary.archive

    def line(number: int) -> None:
        export.append(diary.where, diary.archive.kept, found.server, "dropped", "diary", MONTH, {"of": 1, "by": number})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(line, range(18)))
    lines = diary.lines()
    assert [one.number for one in lines] == list(range(1, 21))
    assert {one.body["by"] for one in lines[2:]} == set(range(18))


def test_who_does_not_get_a_turn_at_the_manifest_is_told(diary: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlock, "TURN", "100ms")
    diary.detach()
    with psycopg.connect(diary.db.conninfo, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", runlock.MANIFEST_LOCK)
        with pytest.raises(AtlasError, match="write its line into the manifest"):
            diary.export(MONTH)
    assert diary.lines() == ()
    assert len(diary.export()) == 2


def test_a_lock_is_asked_for_at_once_or_once_in_a_while(diary: Road) -> None:
    plan = diary.plan_export().plan
    with runlock.alone(diary.where, plan) as held:
        held.require()
        assert end_holder(diary) == 1
        held.glance()  # it was asked a moment ago
        with pytest.raises(AtlasError, match=LOST):
            held.require()
    assert end_holder(diary) == 0
