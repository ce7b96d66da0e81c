"""Every table of `shapes` passes the whole story, or preflight refuses it with a cure and nothing was made. None fails half-way."""

from __future__ import annotations

from typing import Any

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
        story.tell(*shape.chapters, draw=shape.draw)
