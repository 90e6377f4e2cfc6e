"""When weights are laid out for the DSP extension, how large they get, and long rows of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from micro.kernels.library import library, record
from micro.kernels.reference import int8s, ops

from nestling.targets.cortex_m.packing import Layout, Scaling, pack_conv2d, pack_linear

SCALE = np.full(1, 2**30 + 12345)
USUAL = np.full(1, -9)


def test_weights_take_the_bytes_they_had() -> None:
    even = pack_linear(int8s(1, 64, 128), None, SCALE, USUAL, input_offset=3, isa="dsp")
    assert even.weights.nbytes == 64 * 128
    odd = pack_linear(int8s(1, 5, 9), None, SCALE, USUAL, input_offset=3, isa="dsp")
    assert odd.weights.nbytes == 6 * 12


def test_accumulators_that_may_not_be_doubled_keep_the_plain_layout() -> None:
    weight = int8s(1, 4, 3, 3, 16)
    scales = (np.full(4, 2**30), np.full(4, -9))
    small = pack_conv2d(weight, np.full(4, 2**29), *scales, input_offset=0, isa="dsp")
    large = pack_conv2d(weight, np.full(4, 2**30), *scales, input_offset=0, isa="dsp")
    assert small.layout is Layout.DSP
    assert large.layout is Layout.ROWS


@pytest.mark.parametrize(("shift", "scaling"), [(-1, Scaling.SHIFT), (-2, Scaling.TWICE)])
def test_second_multipliers_that_may_not_be_doubled_stay_shifts(
    shift: int, scaling: Scaling
) -> None:
    packed = pack_linear(int8s(1, 4, 16), None, SCALE, np.full(1, shift), input_offset=0, isa="dsp")
    assert packed.layout is Layout.DSP
    assert packed.scaling is scaling


@pytest.mark.parametrize("inputs", [496, 497, 1300])
def test_long_rows_of_extreme_weights_equal_the_reference(inputs: int) -> None:
    values = np.full((4, inputs), -128, np.int8)
    values[1:] = int8s(2, 3, inputs)
    weight = np.full((5, inputs), -128, np.int8)
    weight[3:] = int8s(3, 2, inputs)
    shift = np.full(1, -18)
    packed = pack_linear(weight, None, SCALE, shift, input_offset=0, isa="dsp")
    params = record("3I3i2I", 4, inputs, 5, 7, -128, 127, packed.layout, packed.scaling)
    scale = ([int(SCALE[0])], [int(shift[0])])
    tensors = (torch.from_numpy(values), torch.from_numpy(weight))
    expected = ops.quantized_linear(*tensors, None, None, 0, 0, 7, *scale, 127, -128).numpy()
    result = library().run("linear", params, [values, packed.weights, packed.channels], expected)
    np.testing.assert_array_equal(result, expected)
