"""Average and max pools, against the reference operators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import RefusedError, library, record
from micro.kernels.reference import image, int8s, nhwc, ops, scale_pair, scales, seeds, zero_points

WINDOW = "12I"


@dataclass(frozen=True)
class Axis:
    """One axis of a pool."""

    size: int
    kernel: int
    stride: int
    pad: int

    def windows(self, ceil_mode: bool) -> int:
        """How many windows there are, as torch counts."""
        room = self.size + 2 * self.pad - self.kernel
        count = -(-room // self.stride) + 1 if ceil_mode else room // self.stride + 1
        if ceil_mode and (count - 1) * self.stride >= self.size + self.pad:
            count -= 1
        return count


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    kernel = draw(st.integers(1, 6))
    pad = draw(st.integers(0, kernel // 2))
    size = draw(st.integers(max(1, kernel - 2 * pad), 16))
    return Axis(size, kernel, draw(st.integers(1, 4)), pad)


def window_record(y: Axis, x: Axis, shape: tuple[int, ...], windows: tuple[int, int]) -> bytes:
    sizes = (shape[0], shape[3], y.size, x.size, *windows)
    return record(WINDOW, *sizes, y.kernel, x.kernel, y.stride, x.stride, y.pad, x.pad)


@settings(max_examples=300, deadline=None)
@given(
    seed=seeds,
    batches=st.integers(1, 2),
    channels=st.integers(1, 40),
    y=axes(),
    x=axes(),
    ceil_mode=st.booleans(),
    zero_point=zero_points,
    scale=scales(1e-4, 2.0),
)
def test_average(
    seed: int,
    batches: int,
    channels: int,
    y: Axis,
    x: Axis,
    ceil_mode: bool,
    zero_point: int,
    scale: float,
) -> None:
    values = int8s(seed, batches, y.size, x.size, channels)
    windows = (y.windows(ceil_mode), x.windows(ceil_mode))
    check_average(values, y, x, ceil_mode, windows, zero_point, scale)


def check_average(
    values: np.ndarray[tuple[int, ...], np.dtype[np.int8]],
    y: Axis,
    x: Axis,
    ceil_mode: bool,
    windows: tuple[int, int],
    zero_point: int,
    scale: float,
) -> None:
    multiplier, shift = scale_pair(scale)
    real = multiplier * 2.0**shift / 2**31
    params = window_record(y, x, values.shape, windows) + record("if", zero_point, real)
    output = np.empty((values.shape[0], *windows, values.shape[3]), np.int8)
    result = library().run("avg_pool", params, [values], output)
    expected = ops.quantized_avg_pool2d(
        image(values),
        [y.kernel, x.kernel],
        [y.stride, x.stride],
        [y.pad, x.pad],
        ceil_mode,
        zero_point,
        multiplier,
        shift,
        image(values),
    )
    np.testing.assert_array_equal(result, nhwc(expected))


@pytest.mark.parametrize("size", [8, 16, 40, 64, 200])
def test_average_of_large_windows(size: int) -> None:
    """Ties and near-ties of sums so long that float32 strays: the same bytes all the same."""
    generator = np.random.default_rng(size)
    axis = Axis(size, size, 1, 0)
    for scale in (0.0321, 0.25, 1.7):
        channels = max(16, 4096 // size)
        values = generator.integers(-128, 128, (1, size, size, channels)).astype(np.int8)
        # Sums around a tie: move the last row so that the mean is near k + 1/2.
        total = values.astype(np.int64).sum((1, 2), keepdims=True)
        nudge = np.clip((size * size // 2 - total) // size, -128, 127)
        values[:, -1:] = np.clip(values[:, -1:] + nudge, -128, 127).astype(np.int8)
        check_average(values, axis, axis, False, (1, 1), -7, scale)


@settings(max_examples=200, deadline=None)
@given(
    seed=seeds,
    batches=st.integers(1, 2),
    channels=st.integers(1, 40),
    y=axes(),
    x=axes(),
    bounds=st.sampled_from([(-128, 127), (0, 127), (-30, 20)]),
)
def test_max(
    seed: int, batches: int, channels: int, y: Axis, x: Axis, bounds: tuple[int, int]
) -> None:
    values = int8s(seed, batches, y.size, x.size, channels)
    windows = (y.windows(False), x.windows(False))
    params = window_record(y, x, values.shape, windows) + record("2i", *bounds)
    output = np.empty((batches, *windows, channels), np.int8)
    result = library().run("max_pool", params, [values], output)
    expected = ops.quantized_max_pool2d(
        image(values),
        [y.kernel, x.kernel],
        [y.stride, x.stride],
        [y.pad, x.pad],
        [1, 1],
        False,
        0,
        0,
        *bounds,
    )
    np.testing.assert_array_equal(result, nhwc(expected))


def test_windows_without_elements_are_refused() -> None:
    values = np.zeros((1, 4, 4, 1), np.int8)
    tail = record("2i", -128, 127)
    good = [1, 1, 4, 4, 2, 2, 2, 2, 2, 2, 0, 0]
    library().run("max_pool", record(WINDOW, *good) + tail, [values], np.empty(4, np.int8))
    bad = {0: 0, 1: 2, 4: 3, 6: 0, 8: 0, 9: 2**31, 10: 2, 11: 7}
    for field, value in bad.items():
        with pytest.raises(RefusedError):
            fields = [*good[:field], value, *good[field + 1 :]]
            output = np.empty(64, np.int8)
            library().run("max_pool", record(WINDOW, *fields) + tail, [values], output)
