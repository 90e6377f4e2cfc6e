"""What the tests of convolutions and linear layers share: shapes, scales, layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from micro.kernels.reference import Int8

from nestling.targets.cortex_m.packing import Isa

ISAS: tuple[Isa, ...] = ("portable", "dsp", "mve")

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image; pairs are (height, width)."""

    batches: int
    input: Pair
    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair

    @property
    def output(self) -> Pair:
        """Height and width of the result."""
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.input, self.pad, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        return height, width

    @property
    def taps(self) -> tuple[int, ...]:
        """The fields of a parameter record from kernel_height to dilation_width."""
        return (*self.kernel, *self.stride, *self.pad, *self.dilation)


def pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


windows = st.builds(
    Window,
    batches=st.integers(1, 2),
    input=pairs(1, 9),
    kernel=pairs(1, 4),
    stride=pairs(1, 3),
    pad=pairs(0, 2),
    dilation=pairs(1, 2),
).filter(lambda w: min(w.output) > 0)

bounds = st.tuples(st.integers(-128, 0), st.integers(0, 127))

shift_ranges = st.sampled_from([(-11, -5), (-16, 2), (-9, -9)])
"""Usual ones, any, one for all channels."""


def dilated(weight: Int8, dilation: Pair) -> Int8:
    """[.., height, width, ..] with zeros between its taps: torch has no dilation for integers."""
    outputs, height, width, inputs = weight.shape
    shape = (outputs, (height - 1) * dilation[0] + 1, (width - 1) * dilation[1] + 1, inputs)
    spread = np.zeros(shape, np.int8)
    spread[:, :: dilation[0], :: dilation[1]] = weight
    return spread


def draw_scales(
    seed: int, count: int, shifts: Pair
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Multipliers, powers of two among them, and shifts in a range, ends included."""
    generator = np.random.default_rng(seed + 1)
    multipliers = generator.integers(2**30, 2**31, count)
    multipliers[generator.integers(0, 5, count) == 0] = 2**30
    return multipliers, generator.integers(shifts[0], shifts[1] + 1, count)


def draw_bias(seed: int, count: int) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(-20000, 20000, count).astype(np.int32)
