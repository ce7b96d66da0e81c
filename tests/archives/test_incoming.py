"""Months of a table that others refer to, by a registry of its keys or by the composite key, leave and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from archives.road import Road

from atlas_ops import archive
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.spec import TableSpec

MONTH, OTHER = "note_2024_01", "note_2024_02"
MADE = (
    "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text)",
    "INSERT INTO note SELECT n, '2023-12-31'::timestamptz + n * interval '1 day', 'row ' || n FROM generate_series(1, 58) n",
    "CREATE TABLE tag (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note_id bigint NOT NULL REFERENCES note ON DELETE CASCADE, word text)",
    "INSERT INTO tag (note_id, word) SELECT 1 + n % 58, 'w' FROM generate_series(1, 116) n",
    "CREATE INDEX ON tag (note_id)",
)


@dataclass
class Over(Road):
    """The road of a table after its cut-over: its names are exchanged."""

    @property
    def placed(self) -> tuple[TableSpec, Snapshot]:
        return self.ops.placed(self.db, super().spec)

    @property
    def spec(self) -> TableSpec:
        return self.placed[0]

    def snapshot(self) -> Snapshot:
        return self.placed[1]

    def fails(self, state: str, statement: str) -> None:
        with pytest.raises(psycopg.Error) as failed:
            self.run(statement)
        assert failed.value.sqlstate == state, failed.value


@pytest.fixture
def over(empty: Any, road: Callable[..., Road]) -> Callable[[str], Over]:
    """`note` with what refers to it, cut over by one of the ways."""

    def made(way: str) -> Over:
        keys = {"table": "note", "partition_key": "at", "copy": "online", "incoming_foreign_keys": way}
        plain = road(empty, *MADE, **keys)
        specified = plain.spec
        plain.ops.follow(empty, specified)
        plain.ops.cut_over(empty, specified)
        return Over(plain.ops, empty, plain.folder, keys)

    return made


KEYS = "SELECT count(*) FROM partitions.note_keys WHERE at < '2024-02-01'"


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_with_a_registry_the_keys_of_a_month_stay_and_what_refers_to_it_does(
    over: Callable[[str], Over], form: str
) -> None:
    note = over("registry")
    before = note.ledger(), note.digest(), note.value("SELECT count(*) FROM partitions.note_keys")
    names = note.away()
    assert names == [MONTH, OTHER]
    assert note.value("SELECT count(*) FROM partitions.note_keys") == 58
    assert note.value("SELECT count(*) FROM tag") == 116
    note.fails("23505", "INSERT INTO note VALUES (3, '2030-01-01')")
    note.restore(*names, form=form)
    assert (note.ledger(), note.digest(), note.value("SELECT count(*) FROM partitions.note_keys")) == before
    note.run("DELETE FROM note WHERE id = 3")
    assert note.value("SELECT count(*) FROM tag WHERE note_id = 3") == 0
    assert note.value("SELECT count(*) FROM partitions.note_keys WHERE id = 3") == 0


def test_with_a_registry_keys_that_were_deleted_come_back_with_the_month(over: Callable[[str], Over]) -> None:
    note = over("registry")
    before = note.ledger(), note.digest()
    names = note.away()
    [told] = [check for check in archive.checks(note.spec, note.snapshot(), note.ops.as_of) if check.name == "registry"]
    assert "partitions.note_keys" in told.what and "delete its keys" in told.cure
    note.run("DELETE FROM partitions.note_keys WHERE at >= '2024-01-01' AND at < '2024-02-01'")
    assert note.value(KEYS) == 0
    assert note.value("SELECT count(*) FROM tag") == 54, "the foreign keys have acted"
    note.fails("23503", "INSERT INTO tag (note_id) VALUES (3)")
    note.restore(*names)
    assert (note.ledger(), note.digest()) == before
    assert note.value(KEYS) == 31
    note.run("INSERT INTO tag (note_id) VALUES (3)")
    note.fails("23505", "INSERT INTO note VALUES (3, '2030-01-01')")


def test_with_a_registry_a_key_that_is_another_rows_by_now_keeps_the_month_aside(over: Callable[[str], Over]) -> None:
    note = over("registry")
    [name, _] = note.away()
    note.run("DELETE FROM partitions.note_keys WHERE at < '2024-02-01'", "INSERT INTO note VALUES (3, '2030-01-01')")
    with pytest.raises(AtlasError, match="23505") as stop:
        note.restore(name)
    assert "1 primary keys" in stop.value.why and "aside" in stop.value.next
    assert note.value(f"SELECT count(*) FROM partitions.{MONTH}") == 31, "it stands aside, whole"
    assert note.value(KEYS) == 0
    note.run(f"DELETE FROM partitions.{MONTH} WHERE id = 3")
    note.restore(name)
    assert note.value(KEYS) == 30
    assert note.value("SELECT count(*) FROM note") == 31


def test_with_the_composite_key_a_month_leaves_only_if_nothing_refers_to_it(over: Callable[[str], Over]) -> None:
    note = over("composite")
    with pytest.raises(AtlasError, match="23503"):
        note.detach()
    assert MONTH in note.attached()
    note.run("DELETE FROM tag WHERE note_id <= 31")
    note.keys["hold"] = ["2024-02"]
    before = note.ledger(), note.digest()
    names = note.away()
    assert names == [MONTH]
    note.fails("23503", "INSERT INTO tag (note_id) VALUES (3)")
    note.restore(*names)
    assert (note.ledger(), note.digest()) == before
    note.run("INSERT INTO tag (note_id) VALUES (3)", "DELETE FROM note WHERE id = 3")
    assert note.value("SELECT count(*) FROM tag WHERE note_id = 3") == 0
