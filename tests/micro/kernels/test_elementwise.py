"""add, mul, div, minimum, maximum and activation tables, against the reference operators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import RefusedError, library, record
from micro.kernels.reference import Int8, int8s, ops, scale_pair, scales, seeds, tensor, zero_points

ADD = "3I11i"
MUL = "3I5i"


@st.composite
def operands(draw: st.DrawFn) -> tuple[Int8, Int8]:
    """Two NHWC images; one may be a vector of channels."""
    pixels = draw(st.integers(1, 40))
    channels = draw(st.integers(1, 40))
    seed = draw(seeds)
    whole = int8s(seed, 1, 1, pixels, channels)
    other_rows = draw(st.sampled_from([1, pixels]))
    other = int8s(seed + 1, 1, 1, other_rows, channels)
    return (whole, other) if draw(st.booleans()) else (other, whole)


def nchw(array: Int8) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return array.transpose(0, 3, 1, 2)


def as_images(self: Int8, other: Int8) -> tuple[object, object]:
    return tensor(self).permute(0, 3, 1, 2), tensor(other).permute(0, 3, 1, 2)


@settings(max_examples=400, deadline=None)
@given(
    pair=operands(),
    zeros=st.tuples(zero_points, zero_points, zero_points),
    ratios=st.tuples(scales(1e-3, 1.0), scales(1e-3, 1.0), scales(2e-2, 4.0)),
    coefficient=st.sampled_from([1, -1, 3]),
    bounds=st.sampled_from([(-128, 127), (0, 127), (-20, 10)]),
)
def test_add(
    pair: tuple[Int8, Int8],
    zeros: tuple[int, int, int],
    ratios: tuple[float, float, float],
    coefficient: int,
    bounds: tuple[int, int],
) -> None:
    self, other = pair
    scale_self, scale_other, scale_output = ratios
    scale_other *= abs(coefficient)
    largest = 2 * max(scale_self, scale_other)
    self_multiplier, self_shift = scale_pair(scale_self / largest)
    other_multiplier, other_shift = scale_pair(scale_other / largest)
    if coefficient < 0:
        other_multiplier = -other_multiplier
    output_multiplier, output_shift = scale_pair(largest / (scale_output * (1 << 20)))
    first = (zeros[0], self_multiplier, self_shift)
    second = (zeros[1], other_multiplier, other_shift)
    last = (zeros[2], output_multiplier, output_shift, *bounds)
    output = np.empty(np.broadcast_shapes(self.shape, other.shape), np.int8)

    sizes = (output.size, self.size, other.size)
    params = record(ADD, *sizes, *first, *second, *last)
    result = library().run("add", params, [self, other], output)

    a, b = as_images(self, other)
    expected = ops.quantized_add(a, *first, b, *second, *last)
    np.testing.assert_array_equal(nchw(result.astype(np.int8)), expected.numpy())


def test_add_every_pair_of_values() -> None:
    self, other = (a.astype(np.int8) for a in np.mgrid[-128:128, -128:128])
    for zeros, shifts in (((3, -7, 11), (0, -3, -18)), ((-128, 127, 0), (-1, 0, -20))):
        first = (zeros[0], 2**30, shifts[0])
        second = (zeros[1], 1_518_500_250, shifts[1])
        last = (zeros[2], 2**30, shifts[2], -128, 127)
        params = record(ADD, 65536, 65536, 65536, *first, *second, *last)
        result = library().run("add", params, [self, other], self)
        a, b = tensor(self), tensor(other)
        expected = ops.quantized_add(a, *first, b, *second, *last)
        np.testing.assert_array_equal(result, expected.numpy())


@settings(max_examples=300, deadline=None)
@given(
    pair=operands(),
    zeros=st.tuples(zero_points, zero_points, zero_points),
    scale=st.one_of(scales(1e-5, 1.0), scales(1.0, 100.0)),
)
def test_mul(pair: tuple[Int8, Int8], zeros: tuple[int, int, int], scale: float) -> None:
    self, other = pair
    last = (zeros[2], *scale_pair(scale))
    output = np.empty(np.broadcast_shapes(self.shape, other.shape), np.int8)
    params = record(MUL, output.size, self.size, other.size, zeros[0], zeros[1], *last)
    result = library().run("mul", params, [self, other], output)
    a, b = as_images(self, other)
    expected = ops.quantized_mul(a, zeros[0], b, zeros[1], *last)
    np.testing.assert_array_equal(nchw(result.astype(np.int8)), expected.numpy())


@settings(max_examples=100, deadline=None)
@given(zeros=st.tuples(zero_points, zero_points, zero_points), scale=scales(1e-3, 1e4))
def test_div_every_pair_of_values(zeros: tuple[int, int, int], scale: float) -> None:
    self, other = (a.astype(np.int8) for a in np.mgrid[-128:128, -128:128])
    params = record("I3if", self.size, *zeros, scale)
    result = library().run("div", params, [self, other], self)
    expected = ops.quantized_div(tensor(self), zeros[0], tensor(other), zeros[1], zeros[2], scale)
    np.testing.assert_array_equal(result, expected.numpy())


@pytest.mark.parametrize("name", ["minimum", "maximum"])
@settings(max_examples=100, deadline=None)
@given(pair=operands())
def test_minimum_and_maximum(name: str, pair: tuple[Int8, Int8]) -> None:
    self, other = pair
    output = np.empty(np.broadcast_shapes(self.shape, other.shape), np.int8)
    params = record("3I", output.size, self.size, other.size)
    result = library().run(name, params, [self, other], output)
    expected = getattr(ops, name)(tensor(self), tensor(other))
    np.testing.assert_array_equal(result, np.broadcast_to(expected.numpy(), output.shape))


@settings(max_examples=50, deadline=None)
@given(seed=seeds, elements=st.integers(1, 600))
def test_activation(seed: int, elements: int) -> None:
    table = int8s(seed, 256)
    values = int8s(seed + 1, elements)
    result = library().run("activation", record("I", elements), [values, table], values)
    expected = ops.quantized_activation(tensor(values), tensor(table))
    np.testing.assert_array_equal(result, expected.numpy())


def test_add_refuses_what_32_bits_do_not_hold() -> None:
    good = [4, 4, 4, 0, 2**30, 0, 0, 2**30, 0, 0, 2**30, -19, -128, 127]
    values = np.zeros(4, np.int8)
    library().run("add", record(ADD, *good), [values, values], values)
    bad = {3: 128, 5: 4, 6: -129, 8: -32, 9: 200, 11: 5, 12: 128, 13: -129}
    for field, value in bad.items():
        with pytest.raises(RefusedError):
            fields = [*good[:field], value, *good[field + 1 :]]
            library().run("add", record(ADD, *fields), [values, values], values)
    for sizes in ((5, 4, 4), (4, 3, 4), (4, 2, 2), (0, 0, 0), (4, 0, 4), (8, 4, 8)):
        with pytest.raises(RefusedError):
            library().run("add", record(ADD, *sizes, *good[3:]), [values, values], values)
