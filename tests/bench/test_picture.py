"""Labels in pictures stand beside their dots and on nothing else."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot

from nestling.bench.picture import Dot, label_dots, picture_style, save_picture


@pytest.mark.parametrize("gap", [0.6, 2.0, 4.0, 60.0])
def test_labels_meet_neither_each_other_nor_a_dot(gap: float, tmp_path: Path) -> None:
    dots = [Dot(f"name {index}", 50 + gap * index, 50 + index % 2, "#000000") for index in range(3)]
    with picture_style():
        figure, axis = pyplot.subplots()
        axis.set_xlim(0, 200)
        axis.set_ylim(0, 100)
        labels = label_dots(axis, dots)
        renderer: Any = figure.canvas.get_renderer()
        boxes = [label.get_window_extent(renderer) for label in labels]
        places = [axis.transData.transform((dot.x, dot.y)) for dot in dots]
        file = tmp_path / "made" / "picture.png"
        save_picture(figure, file)
    assert [label.get_text() for label in labels] == [dot.label for dot in dots]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for box, own in zip(boxes, places, strict=True):
        assert not any(box.contains(*place) for place in places)
        nearest = (min(max(own[0], box.x0), box.x1), min(max(own[1], box.y0), box.y1))
        points = ((nearest[0] - own[0]) ** 2 + (nearest[1] - own[1]) ** 2) ** 0.5 * 72 / figure.dpi
        assert points < 10
    if gap == 60.0:  # nobody is in the way: all above and left
        assert all(
            box.x1 < own[0] and box.y0 > own[1] for box, own in zip(boxes, places, strict=True)
        )
        assert all(one.x0 < other.x0 for one, other in pairwise(boxes))
    assert file.stat().st_size > 1000
