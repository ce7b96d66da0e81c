"""The chain of a manifest: what is added follows, what was changed, exchanged, put in or taken out is found."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops import manifest
from atlas_ops.errors import AtlasError
from atlas_ops.manifest import Export, Kept, Line, Named, Proof
from atlas_ops.parquet import Field

EXPORT = Export(
    schema="partitions", partition="messages_2024_01", bound="FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')", key="at", purpose="archive",
    fields=(Field("id", "bigint", "int8", "b", "int64"), Field("n", "numeric(10,2)", "numeric", "b")), rows=3, content=-7, lowest="2024-01-01",
    highest=None, files={"dump": Kept("a.dump", 10, "d" * 64, "pg_dump"), "parquet": Kept("a.parquet", 20, "e" * 64, "pyarrow")},
    comment="ask Ana", storage_parameters=("fillfactor=80",), indexes=(Named("i", "USING btree (id)"),), statistics=(Named("s", "id, n"),),
    types=("CREATE TYPE mood AS ENUM ('calm')",),
)  # fmt: skip


def chained(*events: tuple[str, str, dict]) -> list[Line]:
    lines: list[Line] = []
    for event, partition, body in events:
        lines.append(
            manifest.following(
                lines, event=event, at="2026-11-23T00:00:00+00:00", tool="t", system_identifier="1", database="d", table="messages",
                partition=partition, body=json.loads(json.dumps(body)),
            )
        )  # fmt: skip
    return lines


def proof(of: int, **sha256: str) -> dict:
    return asdict(Proof(of, "here", "18.4", sha256 or {form: kept.sha256 for form, kept in EXPORT.files.items()}))


def files(lines: list[Line]) -> list[tuple[str, bytes]]:
    return [(line.file, line.text()) for line in lines]


STORY = chained(
    ("exported", "messages_2024_01", asdict(EXPORT)),
    ("exported", "messages_2024_02", asdict(replace(EXPORT, partition="messages_2024_02"))),
    ("proven", "messages_2024_01", proof(1)),
    ("dropped", "messages_2024_01", {"of": 1}),
)


def test_what_was_written_is_what_is_read() -> None:
    for order in permutations(files(STORY)):
        assert manifest.chain(order, "here") == tuple(STORY)
    assert STORY[0].export == EXPORT and STORY[2].proof.of == 1
    assert manifest.head(STORY) == hashlib.sha256(files(STORY)[-1][1]).hexdigest()
    assert STORY[1].previous == hashlib.sha256(files(STORY)[0][1]).hexdigest()
    assert re.fullmatch(r"manifest/00000001_exported_messages_2024_01\.[0-9a-f]{16}\.json", files(STORY)[0][0])


@pytest.mark.parametrize("missing", range(3))
def test_a_missing_line_is_found_and_the_cure_told(missing: int) -> None:
    left = [file for number, file in enumerate(files(STORY)) if number != missing]
    with pytest.raises(AtlasError, match=f"line {missing + 1} is missing") as stop:
        manifest.chain(left, "here")
    assert "archive_to" in stop.value.next


@given(st.integers(0, 3), st.data())
def test_any_flipped_byte_is_found(which: int, data: st.DataObject) -> None:
    told = files(STORY)
    name, text = told[which]
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + bytes([text[at] ^ data.draw(st.integers(1, 255))]) + text[at + 1 :]
    told[which] = (name, changed)
    with pytest.raises(AtlasError, match="broken"):
        manifest.chain(told, "here")


def test_lines_that_were_exchanged_put_in_or_written_twice_are_found() -> None:
    one, two, *rest = files(STORY)
    for wrong in (
        [(one[0], two[1]), (two[0], one[1]), *rest],
        [one, (two[0].replace("02_exported", "01_exported"), two[1]), *rest],
        [one, two, *rest, ("manifest/00000004_dropped_x.0123456789abcdef.json", rest[-1][1])],
        [(one[0], one[1].replace(b'"rows":3', b'"rows": 3')), two, *rest],
        [(one[0], b"{}\n"), two, *rest],
        [(one[0], b"\xff"), two, *rest],
    ):
        with pytest.raises(AtlasError, match="broken"):
            manifest.chain(wrong, "here")
    assert manifest.chain([*files(STORY), ("manifest/README", b"notes")], "here") == tuple(STORY), (
        "what is no line is left alone"
    )


def test_what_is_known_of_each_month() -> None:
    known = manifest.months(STORY)
    assert list(known) == ["messages_2024_01", "messages_2024_02"]
    january, february = known.values()
    assert january.proven and january.dropped is STORY[3] and not february.proven
    again = chained(
        *((line.event, line.partition, line.body) for line in STORY), ("exported", "messages_2024_01", asdict(EXPORT))
    )
    assert not manifest.months(again)["messages_2024_01"].proven, "a new export needs a proof of its own"
    assert manifest.months(again)["messages_2024_01"].dropped is None


@pytest.mark.parametrize("wrong", [proof(2), proof(1, dump="0" * 64, parquet="e" * 64), proof(1, dump="d" * 64)])
def test_a_proof_of_something_else_proves_nothing(wrong: dict) -> None:
    lines = chained(("exported", "m", asdict(EXPORT)), ("proven", "m", wrong))
    assert not manifest.months(lines)["m"].proven


def test_names_of_files_follow_from_names_and_content() -> None:
    assert manifest.stem("m", 1, 2) == manifest.stem("m", 1, 2) != manifest.stem("m", 1, 3) != manifest.stem("m", 12, 3)
    for hostile in ("a/b", "..", "two\nlines", "größe_😀" * 5, "é" * 31, ".", 'it"s'):
        stem = manifest.stem(hostile, 1, 1)
        assert "/" not in stem and "\n" not in stem and len(stem.encode()) < 200
        [line] = chained(("exported", hostile, asdict(EXPORT)))
        assert manifest.chain(files([line]), "here") == (line,)
        assert len(line.file.rpartition("/")[2].encode()) < 255
    assert manifest.stem("é" * 31, 1, 1) != manifest.stem("é" * 30 + "è", 1, 1)
    assert manifest.place("1", "a/b", "pub.lic", "x/../y") == "1/a%2Fb/pub.lic.x%2F..%2Fy"
