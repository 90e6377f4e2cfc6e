from __future__ import annotations

from collections.abc import Sequence

import pytest

from nestling.elastic.widths import resolve_widths
from nestling.errors import ModelError


@pytest.mark.parametrize(
    ("widths", "units", "expected"),
    [
        ((0.25, 0.5, 0.75, 1.0), 384, (96, 192, 288, 384)),
        ((96, 384), 384, (96, 384)),
        ((64, 0.5, 1.0), 384, (64, 192, 384)),
        ((1.0,), 7, (7,)),
        ((1 / 3, 2 / 3, 1.0), 9, (3, 6, 9)),
    ],
)
def test_widths(widths: Sequence[float], units: int, expected: tuple[int, ...]) -> None:
    assert resolve_widths(widths, units, "ffn") == expected


def test_heads_round_up_and_merge() -> None:
    quarters = (0.25, 0.5, 0.75, 1.0)
    assert resolve_widths(quarters, 6, "a", round_up=True) == (2, 3, 5, 6)
    assert resolve_widths(quarters, 3, "a", round_up=True) == (1, 2, 3)
    assert resolve_widths(quarters, 1, "a", round_up=True) == (1,)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (960, (240, 480, 720, 960)),
        (144, (32, 80, 112, 144)),
        (96, (32, 48, 80, 96)),
        (40, (8, 24, 32, 40)),
        (10, (2, 6, 8, 10)),
    ],
)
def test_aligned_widths(units: int, expected: tuple[int, ...]) -> None:
    quarters = (0.25, 0.5, 0.75, 1.0)
    assert resolve_widths(quarters, units, "layer0", align=16) == expected
    assert resolve_widths((1, 2, units), units, "layer0", align=16) == (1, 2, units)


def test_a_width_that_does_not_divide_names_module_units_and_widths() -> None:
    with pytest.raises(ModelError, match=r"layer3\.ffn.*0\.3") as caught:
        resolve_widths((0.3, 1.0), 64, "layer3.ffn")
    assert "64 units" in str(caught.value)
    assert caught.value.module == "layer3.ffn"


@pytest.mark.parametrize("widths", [(), (0,), (0.5,), (2, 1, 4), (1, 1, 4), (5,), (-1, 4)])
def test_widths_that_do_not_end_with_all_units(widths: Sequence[float]) -> None:
    with pytest.raises(ModelError, match="increase"):
        resolve_widths(widths, 4, "ffn")
