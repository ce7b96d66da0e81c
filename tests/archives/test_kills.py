"""Killed at every named step of every station: nothing is lost, no half file is believed, and the next run goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives.road import Road
from proof.kills import Drivers, Ended, Job

CALL = "archives.driver:station"
MONTH = "diary_2024_01"


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    with Drivers("archives.driver") as found:
        yield found


class Struck:
    """The stations of a road, each in a process of its own."""

    def __init__(self, road: Road, drivers: Drivers) -> None:
        self.road, self.drivers = road, drivers

    def run(self, how: str, **more: Any) -> Ended:
        keys = self.road.ops.keys(**{"keep": 1, "archive_to": str(self.road.folder), **self.road.keys})
        job = Job(how, CALL, {"keys": keys, "day": self.road.ops.as_of.isoformat(), "how": how, **more})
        return self.drivers.run(job, self.road.db.conninfo)

    def steps(self, how: str) -> list[str]:
        """The named steps of a station that is not disturbed, each once. A line of the manifest is named without the digest of its text."""
        ended = self.run(how)
        assert ended.done and not ended.report["result"]["stop"], (ended.report, ended.said)
        heard = [
            re.sub(r"(\d{8}_[^.]+\.)[0-9a-f]{16}\.json$", r"\1", label) for label in ended.report["result"]["heard"]
        ]
        return list(dict.fromkeys(label for label in heard if label))

    def kill(self, how: str, at: str) -> None:
        ended = self.run(how, die_at=at)
        assert ended.code == -9, (at, ended.report, ended.said)


@pytest.fixture
def struck(diary: Road, drivers: Drivers) -> Struck:
    """January has left; February is held."""
    diary.keys["hold"] = ["2024-02"]
    assert diary.detach() == [MONTH]
    return Struck(diary, drivers)


def rows(road: Road) -> int:
    return int(road.value(f"SELECT count(*) FROM partitions.{MONTH}"))


def there(road: Road) -> bool:
    return road.value(f"SELECT to_regclass('partitions.{MONTH}')") is not None


def events(road: Road) -> list[str]:
    return [line.event for line in road.lines()]


def written(road: Road) -> dict[str, int]:
    """When each file of the month was written."""
    store = road.archive.kept
    assert store.local is not None
    return {
        name: (store.local / name).stat().st_mtime_ns for name in store.names() if name.endswith((".zst", ".parquet"))
    }


def forget(road: Road, event: str) -> None:
    """Take the newest lines of the manifest away, as if they had never been written."""
    for line in reversed(road.lines()):
        if line.event != event:
            return
        road.archive.kept.remove(line.file)


def test_an_export_killed_at_every_step_goes_on_with_the_files_that_are_whole(struck: Struck) -> None:
    road = struck.road
    steps = struck.steps("export")
    assert {
        f"read {MONTH}",
        f"dump {MONTH}",
        f"parquet {MONTH}",
        f"write the manifest of {MONTH}",
        f"exported {MONTH}",
    } <= set(steps)
    assert len([step for step in steps if step.startswith("named ")]) == 3, steps
    for step in steps:
        shutil.rmtree(Path(str(road.folder)))
        struck.kill("export", step)
        assert rows(road) == 31, step
        whole = written(road)
        if not road.lines():
            assert [line.rows for line in road.export()] == [31], step
        assert {name: at for name, at in written(road).items() if name in whole} == whole, (
            f"{step}: a whole file was written again"
        )
        assert events(road) == ["exported"], step
        assert sorted(name.rpartition(".")[2] for name in road.files()) == ["json", "parquet", "zst"], step
        road.prove()
        assert road.month(MONTH).proven, step


def test_a_proof_killed_at_every_step_leaves_nothing_and_is_made_again(struck: Struck) -> None:
    road = struck.road
    road.export()
    tables = road.value("SELECT count(*) FROM pg_class")
    steps = struck.steps("prove")
    assert {f"prove {MONTH} by its dump", f"restored {MONTH}", f"proven {MONTH}"} <= set(steps), steps
    for step in steps:
        forget(road, "proven")
        struck.kill("prove", step)
        assert events(road)[:1] == ["exported"], step
        road.prove()
        assert road.month(MONTH).proven and events(road) == ["exported", "proven"], step
        assert road.value("SELECT count(*) FROM pg_class") == tables, step
    assert rows(road) == 31


def test_a_drop_killed_at_every_step_is_noted_by_the_next_run(struck: Struck) -> None:
    road = struck.road
    road.export()
    road.prove()
    road.run(f"CREATE TABLE kept AS TABLE partitions.{MONTH}")
    steps = struck.steps("drop")
    assert {f"read the files of {MONTH}", f"drop {MONTH}"} <= set(steps) and events(road)[-1] == "dropped", steps
    for step in steps:
        bring_back(road)
        struck.kill("drop", step)
        assert there(road) or road.month(MONTH).proven, step
        road.drop()
        assert not there(road) and events(road) == ["exported", "proven", "dropped"], step
        assert road.drop() == ()


def bring_back(road: Road) -> None:
    """As it stood before the drop, without the road's own way back."""
    forget(road, "dropped")
    mark = f'atlas_ops: archived rows of "public"."diary" {road.month(MONTH).export.bound}, detached from x, planned y'
    road.run(
        f"CREATE TABLE partitions.{MONTH} (LIKE kept)",
        f"INSERT INTO partitions.{MONTH} TABLE kept",
        f"COMMENT ON TABLE partitions.{MONTH} IS '{mark.replace(chr(39), chr(39) * 2)}'",
    )


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_a_restore_killed_at_every_step_is_there_whole_or_not_at_all(struck: Struck, form: str) -> None:
    road = struck.road
    road.export()
    road.prove()
    road.drop()
    before = road.digest()[0]
    steps = struck.steps(form)
    assert {f"restore {MONTH} from its {form}", f"attach {MONTH}"} <= set(steps), steps
    assert road.digest()[0] == before + 31
    for step in steps:
        if MONTH in road.attached():
            road.run(f"ALTER TABLE diary_partitioned DETACH PARTITION partitions.{MONTH}")
        road.run(f"DROP TABLE partitions.{MONTH}")
        forget(road, "restored")
        struck.kill(form, step)
        assert not there(road) or rows(road) == 31, step
        if MONTH not in road.attached():
            road.restore(MONTH, form=form)
        assert road.digest()[0] == before + 31, step


def test_a_detach_killed_at_its_step_is_a_detach_or_none(diary: Road, drivers: Drivers) -> None:
    struck = Struck(diary, drivers)
    struck.kill("detach", "detach diary_2024_01")
    assert diary.detach() == ["diary_2024_02"]
    assert [one.name for one in diary.archive.apart] == ["diary_2024_01", "diary_2024_02"]
