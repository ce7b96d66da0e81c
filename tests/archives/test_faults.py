"""What goes wrong between a month and its archive: each is found, nothing is lost, and the cure works."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from archives.road import Road
from archives.test_kills import MONTH, Struck, drivers

from atlas_ops import months, programs, runlock
from atlas_ops.errors import AtlasError
from atlas_ops.store import Store

__all__ = ["drivers"]  # the fixture
OTHER = "diary_2024_02"
FORMS = ("dump", "parquet")


def file(road: Road, form: str, month: str = MONTH) -> Path:
    store = road.archive.kept
    assert store.local is not None
    return store.local / road.month(month).export.files[form].name


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path: Path) -> None:
    path.unlink()


def held(road: Road, month: str = MONTH) -> int:
    return int(road.value(f"SELECT count(*) FROM partitions.{month}"))


# files


@pytest.mark.parametrize("damage", [flip, cut, remove])
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_not_proven_not_believed_and_exported_again(
    diary: Road, form: str, damage: Callable[[Path], None]
) -> None:
    diary.detach()
    diary.export()
    damage(file(diary, form))
    with pytest.raises(AtlasError, match=r"diary_2024_01\.[0-9a-f]+\." + form) as stop:
        diary.prove()
    assert 'how = "export"' in stop.value.next
    assert not diary.month(MONTH).proven and held(diary) == 31
    assert diary.drop() == ()
    diary.export(MONTH)
    diary.prove()
    assert len(diary.drop()) == 2


@pytest.mark.parametrize("damage", [flip, cut, remove])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_damaged_after_its_proof_keeps_the_month(
    diary: Road, form: str, damage: Callable[[Path], None]
) -> None:
    diary.detach()
    diary.export()
    diary.prove()
    damage(file(diary, form, OTHER))
    with pytest.raises(AtlasError, match="diary_2024_02"):
        diary.drop()
    assert (held(diary), held(diary, OTHER)) == (31, 27), "nothing was dropped, the whole month included"
    assert len(diary.drop(MONTH)) == 1


@pytest.mark.parametrize(("form", "whole"), [FORMS, FORMS[::-1]])
@pytest.mark.parametrize("damage", [flip, cut, remove])
def test_a_damaged_file_restores_nothing_and_the_other_one_does(
    diary: Road, form: str, whole: str, damage: Callable[[Path], None]
) -> None:
    before = diary.digest()
    names = diary.away()
    damage(file(diary, form))
    with pytest.raises(AtlasError, match="diary_2024_01"):
        diary.restore(*names, form=form)
    assert diary.value("SELECT to_regclass('partitions.diary_2024_01')") is None
    diary.restore(*names, form=whole)
    assert diary.digest() == before


def test_a_missing_line_of_the_manifest_stops_everything_until_it_is_back(diary: Road) -> None:
    diary.detach()
    diary.export()
    diary.prove()
    store = diary.archive.kept
    assert store.local is not None
    line = store.local / diary.lines()[1].file
    content = line.read_bytes()
    line.unlink()
    for station in (diary.export, diary.prove, diary.drop, lambda: diary.restore(MONTH)):
        with pytest.raises(AtlasError, match="line 2 is missing") as stop:
            station()
        assert "copy of the archive" in stop.value.next
    assert held(diary) == 31
    line.write_bytes(content)
    assert len(diary.drop()) == 2


# room


def test_a_full_disk_leaves_no_half_file_and_the_next_run_goes_on(diary: Road, drivers: Any) -> None:
    """RLIMIT_FSIZE: the kernel refuses to let the file grow, as a quota does."""
    fill(diary)
    diary.detach()
    ended = Struck(diary, drivers).run("export", file_bytes=200_000)
    assert "There is no room" in ended.report["result"]["stop"], ended.report
    assert diary.files() == [] and diary.lines() == () and held(diary) == 31
    diary.export()
    diary.prove()
    assert len(diary.drop()) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("nobody but root may mount; RLIMIT_FSIZE is tested anywhere")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_small_disk_that_is_made_larger(diary: Road, small_disk: Path) -> None:
    fill(diary)
    diary.detach()
    diary.folder = small_disk / "archive"
    with pytest.raises(AtlasError, match="There is no room") as stop:
        diary.export()
    assert "Free space" in stop.value.next
    assert not [name for name in diary.files() if not name.endswith((".zst", ".parquet"))]
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    diary.export()
    diary.prove()
    assert len(diary.drop()) == 2


def fill(road: Road) -> None:
    """Rows that cannot be compressed well: half a megabyte a month and more."""
    road.run(
        "UPDATE diary_partitioned SET body = (SELECT string_agg(md5((n * 1000 + id)::text), '') FROM generate_series(1, 1500) AS n)"
    )


# rows


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO partitions.diary_2024_01 (id, at) VALUES (1000, '2024-01-05')",
        "UPDATE partitions.diary_2024_01 SET body = '' WHERE body IS NULL AND id = 7",
        "UPDATE partitions.diary_2024_01 SET cost = trim_scale(cost) WHERE id = 8",
        "UPDATE partitions.diary_2024_01 SET mood = 'wild' WHERE id = 9",
        "DELETE FROM partitions.diary_2024_01 WHERE id = 10",
    ],
)
def test_a_row_written_between_export_and_drop_keeps_the_month(diary: Road, write: str) -> None:
    diary.detach()
    diary.export()
    diary.prove()
    diary.run(write)
    rows = held(diary)
    with pytest.raises(AtlasError, match="XX001") as stop:
        diary.drop()
    assert f'partitions = ["{MONTH}"]' in stop.value.next
    assert held(diary) == rows
    diary.export(MONTH)
    assert not diary.month(MONTH).proven
    diary.prove()
    assert len(diary.drop()) == 2
    diary.restore(MONTH)
    assert diary.digest()[0] == rows


def test_a_row_of_another_month_is_not_exported(diary: Road) -> None:
    diary.detach()
    diary.run("INSERT INTO partitions.diary_2024_01 (id, at) VALUES (1000, '2025-01-05')")
    with pytest.raises(AtlasError, match=r"1 rows of partitions[.]diary_2024_01 are not of its month") as stop:
        diary.export()
    assert "SELECT count(*)" in stop.value.next
    assert diary.lines() == ()


def test_what_was_planned_is_not_what_is_there_any_more(diary: Road) -> None:
    """Between the plan and its run somebody attaches the month, takes its mark, or puts another table in its place."""
    diary.detach()
    diary.export()
    diary.prove()
    bound = diary.month(MONTH).export.bound
    for change, back in (
        ("COMMENT ON TABLE partitions.diary_2024_01 IS 'mine'", None),
        (
            f"ALTER TABLE diary_partitioned ATTACH PARTITION partitions.diary_2024_01 {bound}",
            "ALTER TABLE diary_partitioned DETACH PARTITION partitions.diary_2024_01",
        ),
    ):  # fmt: skip
        comment = diary.value("SELECT obj_description('partitions.diary_2024_01'::regclass, 'pg_class')")
        planned = months.dropping([diary.archive], [MONTH])
        diary.run(change)
        with pytest.raises(AtlasError, match="no partition that was detached and marked here"):
            months.drop(planned, planned.plan.digest)
        assert held(diary) == 31
        diary.run(
            *([back] if back else []),
            f"COMMENT ON TABLE partitions.diary_2024_01 IS '{comment.replace(chr(39), chr(39) * 2)}'",
        )
    assert len(diary.drop(MONTH)) == 1


# others


@pytest.mark.parametrize("station", ["export", "prove", "drop", "restore"])
def test_two_runs_at_once_the_second_is_told_who_holds_the_lock(diary: Road, station: str) -> None:
    diary.detach()
    for before in ("export", "prove", "drop"):
        if before == station:
            break
        getattr(diary, before)()
    act = {"restore": lambda: diary.restore(MONTH)}.get(station) or getattr(diary, station)
    with psycopg.connect(diary.db.conninfo, autocommit=True, application_name="the other one") as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", runlock.RUN_LOCK)
        with pytest.raises(AtlasError, match="Another run is changing this database") as stop:
            act()
        assert "the other one" in stop.value.why
    act()


def test_two_exports_really_at_once(diary: Road) -> None:
    diary.detach()
    planned = diary.plan_export()
    stops: list[str] = []
    reached, go_on = threading.Event(), threading.Event()

    def waits(done: int, total: int, label: str = "") -> None:
        reached.set()
        assert go_on.wait(60)

    first = threading.Thread(target=lambda: months.run_export(planned, planned.plan.digest, waits))
    first.start()
    assert reached.wait(60)
    with pytest.raises(AtlasError, match="Another run"):
        diary.export()
    go_on.set()
    first.join()
    assert stops == [] and [line.event for line in diary.lines()] == ["exported", "exported"]


@pytest.mark.parametrize("at", ["dump diary_2024_01", "parquet diary_2024_01", "parquet diary_2024_02"])
def test_the_server_ends_our_connections_and_the_next_run_goes_on(diary: Road, at: str) -> None:
    diary.detach()

    def ends(done: int, total: int, label: str = "") -> None:
        if label == at:
            with psycopg.connect(diary.db.superuser_conninfo, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'atlas_ops%' AND pid <> pg_backend_pid() "
                    "AND datname = current_database()"
                )

    with pytest.raises(AtlasError):
        diary.export(says=ends)
    diary.export()
    diary.prove()
    assert all(month.proven for month in diary.archive.months.values())


def test_another_digest_exports_proves_and_drops_nothing(diary: Road) -> None:
    diary.detach()
    planned = diary.plan_export()
    for confirm in ("deadbeef", "demo"):
        with pytest.raises(AtlasError):
            months.run_export(planned, confirm)
    assert months.run_export(planned, "") == () and diary.files() == []
    assert len(months.run_export(planned, "additive")) == 2, "an export only adds"
    proving = months.proving([diary.archive])
    assert months.prove(proving, "") == ()
    assert len(months.prove(proving, "additive")) == 4
    dropping = months.dropping([diary.archive])
    with pytest.raises(AtlasError, match="does more than add"):
        months.drop(dropping, "additive")
    assert held(diary) == 31


def test_a_legal_hold_keeps_a_month_attached_and_one_that_left_from_being_dropped(diary: Road) -> None:
    diary.keys["hold"] = ["2024-01-31"]
    assert diary.detach() == [OTHER]
    diary.keys["hold"] = []
    assert diary.detach() == [MONTH]
    diary.export()
    diary.prove()
    for hold in ("all", ["2024"], ["2023", "2024-01"]):
        diary.keys["hold"] = hold
        assert MONTH not in [
            line.step.rpartition(" ")[2] for line in (diary.drop() if hold == ["2023", "2024-01"] else ())
        ]
        with pytest.raises(AtlasError, match="diary_2024_01 is not dropped") as stop:
            diary.drop(MONTH)
        assert "legal hold" in stop.value.why
    diary.keys["hold"] = []
    assert len(diary.drop()) == 1


@pytest.mark.parametrize(
    ("missing", "why"), [("detach", "not detached"), ("export", "not exported"), ("prove", "Nothing proves")]
)
def test_a_month_that_cannot_be_dropped_says_what_is_missing(diary: Road, missing: str, why: str) -> None:
    for station in ("detach", "export", "prove"):
        if station == missing:
            break
        getattr(diary, station)()
    with pytest.raises(AtlasError, match="diary_2024_01 is not dropped") as stop:
        diary.drop(MONTH)
    assert why in stop.value.why and f'how = "{missing}"' in stop.value.next


def test_without_the_program_of_the_servers_version_it_says_which_to_install(
    diary: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AtlasError, match="There is no pg_dump of version 12") as stop:
        programs.find("pg_dump", 12)
    assert "postgresql-client-12" in stop.value.next
    program, version = programs.find("pg_dump", diary.db.version)
    assert os.access(program, os.X_OK) and f"(PostgreSQL) {diary.db.version}" in version


def test_a_place_that_cannot_be_written_is_told(diary: Road, tmp_path: Path) -> None:
    diary.detach()
    (tmp_path / "taken").write_text("a file")
    diary.folder = tmp_path / "taken" / "archive"
    with pytest.raises(AtlasError, match=r"cannot be (read|written)") as stop:
        diary.export()
    assert "archive_to" in stop.value.next


def test_a_reader_of_the_detached_month_delays_the_drop_and_does_not_lose_it(diary: Road) -> None:
    diary.detach()
    diary.export()
    diary.prove()
    with psycopg.connect(diary.db.conninfo) as reader:
        reader.execute("SELECT count(*) FROM partitions.diary_2024_01")
        timer = threading.Timer(0.7, reader.rollback)
        timer.start()
        lines = diary.drop()
        timer.join()
    assert lines[0].attempts > 1 and set(lines[0].sqlstates) == {"55P03"}


def test_what_an_earlier_server_left_is_read_and_never_written(diary: Road) -> None:
    """After an upgrade the system identifier is another one: its folder is a source, this server begins its own."""
    before = diary.digest()
    names = diary.away()
    root = Path(str(diary.folder))
    [system] = Store(str(root)).folders()
    (root / system).rename(root / "1234567")
    assert diary.lines() == () and diary.archive.months == {}
    diary.restore(*names, form="parquet")
    assert diary.digest() == before
    assert [line.event for line in diary.lines()] == ["restored", "restored"]
    assert sorted(Store(str(root)).folders()) == sorted(["1234567", system])


def test_no_temporary_table_without_the_right_is_told(diary: Road) -> None:
    diary.detach()
    diary.export()
    with psycopg.connect(diary.db.superuser_conninfo, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        admin.execute(f"ALTER DATABASE {name} OWNER TO supabase_admin")
    with pytest.raises(AtlasError, match="42501"):
        diary.prove()
    assert held(diary) == 31
