"""A proof takes the rows of a file in pieces: counted and hashed where they are, and gone before the next, so that no month has to be held twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from archives.road import Road
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops import execute, feeds, months
from atlas_ops.errors import AtlasError
from atlas_ops.execute import Block, Feed

MONTH = "diary_2024_01"
FORMS = ("dump", "parquet")


def proof_of(road: Road, form: str) -> Any:
    [step] = [
        step for step in months.proving([road.archive], [MONTH]).plan.steps if step.lane == f"{MONTH} {form}"
    ]  # fmt: skip
    return step


@pytest.fixture
def exported(diary: Road) -> Road:
    """Of rows so wide that a dump of them is read in several blocks."""
    diary.detach()
    diary.run(f"UPDATE partitions.{MONTH} SET body = repeat(md5(id::text), 20)")
    diary.export()
    return diary


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is a piece of its own, of a few rows."""
    monkeypatch.setattr(execute, "PIECE_BYTES", 1)
    monkeypatch.setattr(feeds, "BATCH_ROWS", 4)
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 256)
    monkeypatch.setattr(feeds, "_TAIL", 512)


@pytest.mark.parametrize(("form", "options"), [("dump", ""), ("parquet", " (FORMAT csv)")])
def test_the_whole_plan_of_a_proof(exported: Road, form: str, options: str) -> None:
    step, export = proof_of(exported, form), exported.month(MONTH).export
    assert list(step.statements[:4]) == [
        "SET LOCAL temp_buffers = '32MB'",
        'CREATE TEMPORARY TABLE "atlas_ops_restored" ("id" bigint, "at" timestamp with time zone, "person" integer, "body" text, '
        '"mood" public.mood, "cost" numeric, "tags" text[], "doc" jsonb) ON COMMIT DROP',
        'CREATE TEMPORARY TABLE "atlas_ops_counted" (rows bigint, content numeric) ON COMMIT DROP',
        f'COPY "pg_temp"."atlas_ops_restored" ("id", "at", "person", "body", "mood", "cost", "tags", "doc") FROM STDIN{options}',
    ]
    counted, emptied = step.piecewise
    assert counted.startswith('INSERT INTO "pg_temp"."atlas_ops_counted" (rows, content) ')
    assert 'FROM "pg_temp"."atlas_ops_restored" AS r' in counted
    assert emptied == 'TRUNCATE "pg_temp"."atlas_ops_restored"'
    [same] = step.statements[4:]
    assert 'SELECT sum(rows) AS rows, sum(content) AS content FROM "pg_temp"."atlas_ops_counted"' in same
    assert f"had.rows <> {export.rows} OR had.content <> {export.content} " in same
    script = months.proving([exported.archive], [MONTH]).plan.script()
    assert script.count("--    In pieces: the COPY again and again, and after each:") == 2


@pytest.mark.usefixtures("small")
def test_a_month_in_many_pieces_is_proven(exported: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    pieces = execute._pieces

    def counted(blocks: Iterator[Block], most: int) -> Iterator[Iterator[Block]]:
        for number, piece in enumerate(pieces(blocks, most), 1):
            yield piece
            sizes.append(number)

    monkeypatch.setattr(execute, "_pieces", counted)
    lines = exported.prove()
    assert [line.rows for line in lines] == [31, 31, 27, 27]
    assert max(sizes) >= 7, "four rows a piece"
    assert all(month.proven for month in exported.archive.months.values())
    assert len(exported.drop()) == 2


def left_out(blocks: list[tuple[Block, int]]) -> list[tuple[Block, int]]:
    return [*blocks[:2], *blocks[3:]]


def twice(blocks: list[tuple[Block, int]]) -> list[tuple[Block, int]]:
    return [*blocks[:2], blocks[1], *blocks[2:]]


def instead(blocks: list[tuple[Block, int]]) -> list[tuple[Block, int]]:
    """As many rows, of which some are there twice and others not at all."""
    return [*blocks[:2], blocks[1], *blocks[3:]]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrong", [left_out, twice, instead])
def test_what_is_wrong_in_one_piece_is_seen_in_the_whole(
    exported: Road, monkeypatch: pytest.MonkeyPatch, form: str, wrong: Callable[[Any], Any]
) -> None:
    step, feed = proof_of(exported, form), feeds.feed

    def wronged(store: Any, export: Any, which: Any, major: int) -> Feed:
        found = feed(store, export, which, major)

        def blocks() -> Iterable[tuple[Block, int]]:
            read = [(bytes(block), rows) for block, rows in found()]
            assert len(read) > 4
            return wrong(read)

        return blocks if which == form and export.partition == MONTH else found

    monkeypatch.setattr(feeds, "feed", wronged)
    with pytest.raises(AtlasError, match="differs from the archive") as stop:
        exported.prove(MONTH)
    assert f'"{step.name}"' in stop.value.what
    assert 'how = "export"' in stop.value.next
    assert not exported.month(MONTH).proven
    monkeypatch.setattr(feeds, "feed", feed)
    exported.prove(MONTH)
    assert exported.month(MONTH).proven, "nothing is left of the attempt"


def test_a_month_without_rows_is_proven(diary: Road) -> None:
    diary.detach()
    diary.run(f"DELETE FROM partitions.{MONTH}")
    diary.export()
    assert [line.rows for line in diary.prove(MONTH)] == [0, 0]
    assert diary.month(MONTH).proven


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 60))
def test_pieces_are_the_blocks_in_their_order_each_filled_and_one_there_is(blocks: list[bytes], most: int) -> None:
    pieces = [list(piece) for piece in execute._pieces(iter(blocks), most)]
    assert [block for piece in pieces for block in piece] == blocks
    assert len(pieces) >= 1
    if most:
        assert all(sum(map(len, piece)) >= most > sum(map(len, piece[:-1])) for piece in pieces[:-1])
    else:
        assert len(pieces) == 1
