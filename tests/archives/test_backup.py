"""Partitions are backed up as they stand, and restored as docs/backup.md tells: nothing in the database changes by a backup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from archives.road import Road

from atlas_ops.errors import AtlasError
from tests.conftest import EMPTY

MONTH, OTHER, DEFAULT = "diary_2024_01", "diary_2024_02", "diary_default"


@pytest.fixture
def kept(diary: Road) -> Road:
    """The diary with a row in its default partition, every partition of it backed up and proven."""
    diary.run("INSERT INTO diary_partitioned (id, at, body) VALUES (1000, '2030-01-01', '')")
    diary.export(purpose="backup")
    diary.prove()
    return diary


def test_a_backup_changes_nothing_and_holds_every_partition(diary: Road) -> None:
    before = diary.ledger(), diary.digest(), diary.bounds()
    lines = diary.export(purpose="backup")
    assert [(line.step, line.rows) for line in lines] == [
        (f"export {MONTH}", 31),
        (f"export {OTHER}", 27),
        (f"export {DEFAULT}", 0),
    ]
    assert [line.rows for line in diary.prove()] == [31, 31, 27, 27, 0, 0]
    assert (diary.ledger(), diary.digest(), diary.bounds()) == before
    assert all(month.proven and month.export.purpose == "backup" for month in diary.archive.months.values())
    assert diary.drop() == (), "what is attached is not dropped"
    assert diary.prove() == ()


def test_a_backup_of_some_partitions_is_one_of_these(diary: Road) -> None:
    assert len(diary.export(OTHER, purpose="backup")) == 1
    assert list(diary.archive.months) == [OTHER]
    with pytest.raises(AtlasError, match="no partition diary_2019_01 to export") as stop:
        diary.export("diary_2019_01", purpose="backup")
    assert "diary_2024_01, diary_2024_02" in stop.value.next


def test_a_dump_is_restored_by_hand(diary: Road, empty: Any, server: Any, tmp_path: Path) -> None:
    """As docs/archive.md writes it: what zstd unpacks goes to pg_restore."""
    diary.detach()
    diary.export()
    told = f"SELECT count(*) || ' ' || sum(hashtextextended(t::text, 0)) FROM partitions.{MONTH} AS t"
    [packed] = [name for name in diary.files() if name.startswith(MONTH) and name.endswith(".dump.zst")]
    with diary.archive.kept.open(packed) as file, pa.input_stream(file, compression="zstd") as unpacked:
        (tmp_path / "month.dump").write_bytes(unpacked.read())
    other = server.clone(EMPTY)
    try:
        diary.ops.run(
            other,
            "CREATE SCHEMA partitions",
            *diary.month(MONTH).export.types,
            "CREATE TABLE person (id int PRIMARY KEY)",
            "INSERT INTO person SELECT generate_series(1, 9)",
        )
        diary.ops.pg_restore(other, tmp_path / "month.dump")
        assert diary.ops.value(other, told) == diary.value(told)
    finally:
        server.drop(other)


def test_rows_that_are_written_meanwhile_are_not_in_it(diary: Road) -> None:
    """One snapshot for the count, the dump and the Parquet file."""
    written: list[str] = []

    def writes(done: int, total: int, label: str = "") -> None:
        if label.startswith(("dump", "parquet")) and label not in written:
            written.append(label)
            diary.run(f"INSERT INTO diary_partitioned (id, at) VALUES ({2000 + len(written)}, '2024-01-05')")

    diary.export(MONTH, purpose="backup", says=writes)
    assert len(written) == 2
    assert diary.month(MONTH).export.rows == 31
    assert [line.rows for line in diary.prove()] == [31, 31]
    diary.restore(MONTH, place="aside")
    assert diary.value(f"SELECT count(*) FROM partitions.{MONTH}_restored") == 31
    assert diary.value(f"SELECT count(*) FROM partitions.{MONTH}") == 33


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_a_month_as_it_was_beside_the_month_as_it_is(kept: Road, form: str) -> None:
    as_it_was = kept.rows(f"partitions.{MONTH}")
    kept.run(
        "UPDATE diary_partitioned SET body = 'wrong' WHERE id IN (3, 4)", "DELETE FROM diary_partitioned WHERE id = 5"
    )
    kept.restore(MONTH, place="aside", form=form)
    assert kept.rows(f"partitions.{MONTH}_restored") == as_it_was
    changed = kept.value(
        f"SELECT array_agg(o.id ORDER BY o.id) FROM partitions.{MONTH}_restored o LEFT JOIN partitions.{MONTH} n USING (id) "
        "WHERE n IS NULL OR o.body IS DISTINCT FROM n.body"
    )
    assert changed == [3, 4, 5]
    with psycopg.connect(kept.db.conninfo) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SET ROLE authenticated")
        conn.execute(f"SELECT FROM partitions.{MONTH}_restored")
    assert kept.attached() == [MONTH, OTHER, DEFAULT]


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_a_partition_that_was_dropped_comes_back(kept: Road, form: str) -> None:
    before = kept.ledger(), kept.digest(), kept.bounds()
    kept.run(f"DROP TABLE partitions.{MONTH}")
    kept.restore(MONTH, form=form)
    assert (kept.ledger(), kept.digest(), kept.bounds()) == before


def test_a_partition_that_is_damaged_is_put_aside_and_replaced(kept: Road) -> None:
    before = kept.digest(), kept.bounds()
    kept.run(
        f"ALTER TABLE diary_partitioned DETACH PARTITION partitions.{MONTH}",
        f"ALTER TABLE partitions.{MONTH} RENAME TO damaged",
        "DELETE FROM partitions.damaged WHERE id < 20",
    )
    kept.restore(MONTH)
    assert (kept.digest(), kept.bounds()) == before
    assert kept.value("SELECT count(*) FROM partitions.damaged") == 12


def test_the_default_partition_stands_aside(kept: Road) -> None:
    kept.run("DELETE FROM diary_partitioned WHERE id = 1000")
    kept.restore(DEFAULT, place="aside")
    assert kept.value(f"SELECT body = '' FROM partitions.{DEFAULT}_restored WHERE id = 1000") is True
    with pytest.raises(AtlasError, match="There is a relation"):
        kept.returning(DEFAULT)


def test_rows_without_a_key_are_backed_up_by_the_name_of_their_table(empty: Any, road: Callable[..., Road]) -> None:
    aside = road(
        empty, "CREATE TABLE item (id int PRIMARY KEY, at timestamptz, body text)",
        "INSERT INTO item SELECT n, CASE WHEN n % 5 > 0 THEN '2024-01-03'::timestamptz END, 'row ' || n FROM generate_series(1, 20) n",
        table="item", partition_key="at", null_keys="set_aside",
    )  # fmt: skip
    aside.migrate()
    name = aside.spec.null_keys_name
    aside.export(name, purpose="backup")
    assert [line.rows for line in aside.prove()] == [4, 4]
    before = aside.rows(f"partitions.{name}")
    aside.run(f"DELETE FROM partitions.{name} WHERE id < 11")
    aside.restore(name, place="aside")
    assert aside.rows(f"partitions.{name}_restored") == before


def test_a_month_that_was_backed_up_and_left_since_is_exported_before_it_is_dropped(kept: Road) -> None:
    """Its backup may be older than its last rows, and a drop is noted of an archive only."""
    before = kept.files()
    kept.detach()
    assert kept.drop() == ()
    with pytest.raises(AtlasError, match="diary_2024_01 is not dropped") as stop:
        kept.drop(MONTH)
    assert "backed up" in stop.value.why and 'how = "export"' in stop.value.next
    assert len(kept.export()) == 2
    assert {name for name in kept.files() if name.endswith((".zst", ".parquet"))} <= set(before), (
        "the same rows, the same files"
    )
    kept.prove()
    assert len(kept.drop()) == 2
    assert [line.event for line in kept.lines()][-2:] == ["dropped", "dropped"]
    kept.restore(MONTH, OTHER)
    assert kept.digest()[0] == 59
