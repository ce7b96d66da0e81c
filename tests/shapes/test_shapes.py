"""Every table of `shapes` passes the whole story, or preflight refuses it with a cure and nothing was made. None fails half-way."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
from shapes.shapes import SHAPES, Shape
from shapes.story import Story


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_passes_the_whole_story_or_is_refused_with_the_cure(empty: Any, ops: Any, shape: Shape) -> None:
    if shape.needs and empty.version == 18:
        pytest.skip(f"the embedded server has no {shape.needs}")
    ops.run(empty, *shape.made)
    story = Story(ops, empty, **shape.keys)
    reds = story.refused()
    assert {check.name for check in reds} == ({shape.refused} if shape.refused else set()), reds
    if not reds:
        story.tell(*shape.chapters, draw=shape.draw, large=shape.large)


def test_a_table_in_a_tablespace_passes_the_whole_story(empty: Any, ops: Any) -> None:
    name = f"place_{os.getpid()}_{empty.version}"
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        psycopg.connect(empty.superuser_conninfo, autocommit=True) as admin,
    ):
        data = Path(str(admin.execute("SHOW data_directory").fetchone()[0]))
        shutil.chown(folder, data.owner())  # as root the server runs as another user
        admin.execute(f"CREATE TABLESPACE {name} OWNER postgres LOCATION '{folder}'")
        try:
            [plain] = [shape for shape in SHAPES if shape.name == "ulid"]
            ops.run(
                empty,
                *plain.made,
                f"ALTER TABLE item SET TABLESPACE {name}",
                f"CREATE INDEX ON item (body) TABLESPACE {name}",
            )
            story = Story(ops, empty, **plain.keys)
            assert story.refused() == ()
            story.tell(*plain.chapters)
        finally:
            ops.run(empty, "DROP TABLE item")
            admin.execute(f"DROP TABLESPACE {name}")


def test_what_is_in_the_way_of_a_name_goes_by_the_sql_of_the_cure(empty: Any, ops: Any) -> None:
    for number, shape in enumerate(shape for shape in SHAPES if shape.refused == "name taken"):
        ops.run(empty, *(["DROP TABLE item"] if number else []), *shape.made)
        story = Story(ops, empty, **shape.keys)
        reds = story.refused()
        assert len({red.what for red in reds}) >= 3
        ops.run(empty, *dict.fromkeys(red.sql for red in reds))
        assert story.refused() == ()
        story.tell(*shape.chapters)
