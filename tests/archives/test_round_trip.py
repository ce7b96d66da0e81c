"""Every table of the shapes leaves for a file and comes back from either form as it was: the server itself compares, and so does the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shapes.shapes import SHAPES, Shape

from atlas_ops.definition import name, text

ABLE = [shape for shape in SHAPES if not shape.refused]


@pytest.mark.parametrize("shape", ABLE, ids=lambda shape: shape.name)
def test_a_shape_leaves_and_both_forms_hold_its_rows(empty: Any, road: Callable[..., Any], shape: Shape) -> None:
    if shape.needs and empty.version == 18:
        pytest.skip(f"the embedded server has no {shape.needs}")
    found = road(empty, *shape.made, **{**shape.keys, "default_partition": True})
    found.migrate()
    names = found.detach()
    assert len(names) == 2
    held = {one: found.value(f"SELECT count(*) FROM {text(name('partitions', one))}") for one in names}
    lines = found.export()
    assert [line.rows for line in lines] == [held[one] for one in names] and sum(held.values()) > 0
    proven = found.prove()
    assert [line.rows for line in proven] == [held[one] for one in names for _ in range(2)]
    assert all(month.proven for month in found.archive.months.values())
    dropped = found.drop()
    assert len(dropped) == 2
    assert [line.event for line in found.lines()] == ["exported"] * 2 + ["proven"] * 2 + ["dropped"] * 2
