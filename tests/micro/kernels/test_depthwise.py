"""depthwise against the reference operator, in every layout; its check against hostile records."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.hostile import attack, swap_bounds
from micro.kernels.library import Array, library, record
from micro.kernels.reference import image, int8s, nhwc, ops, seeds, zero_points
from micro.kernels.weights import (
    ISAS,
    Pair,
    Window,
    bounds,
    dilated,
    draw_bias,
    draw_scales,
    shift_ranges,
    windows,
)

from nestling.targets.cortex_m.packing import Isa, Layout, PackedWeights, pack_depthwise


def params_of(
    window: Window,
    channels: int,
    multiplier: int,
    packed: PackedWeights,
    zero_points: Pair = (0, 0),
    bounds: Pair = (-128, 127),
) -> bytes:
    """The parameter record."""
    return record(
        "15I4i2I",
        window.batches,
        *window.input,
        channels,
        *window.output,
        multiplier,
        *window.taps,
        *zero_points,
        *bounds,
        packed.layout,
        packed.scaling,
    )


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None)
@given(
    window=windows,
    channels=st.one_of(st.integers(1, 7), st.sampled_from([16, 19, 32, 33])),
    multiplier=st.sampled_from([1, 1, 2, 3]),
    seed=seeds,
    zeros=st.tuples(zero_points, zero_points),
    shifts=shift_ranges,
    with_bias=st.booleans(),
    bounds=bounds,
)
def test_equals_the_reference(
    isa: Isa,
    window: Window,
    channels: int,
    multiplier: int,
    seed: int,
    zeros: Pair,
    shifts: Pair,
    with_bias: bool,
    bounds: Pair,
) -> None:
    outputs = channels * multiplier
    values = int8s(seed, window.batches, *window.input, channels)
    weight = int8s(seed + 1, 1, *window.kernel, outputs)
    bias = draw_bias(seed, outputs) if with_bias else None
    multipliers, shift_values = draw_scales(seed, outputs, shifts)
    expected = nhwc(
        ops.quantized_depthwise_conv2d(
            image(values),
            torch.from_numpy(dilated(weight, window.dilation)),
            None if bias is None else torch.from_numpy(bias),
            list(window.stride),
            list(window.pad),
            [1, 1],
            multiplier,
            -zeros[0],
            zeros[1],
            torch.from_numpy(multipliers),
            torch.from_numpy(shift_values),
            *bounds,
            torch.empty(0, dtype=torch.int8),
        )
    )
    packed = pack_depthwise(
        weight, bias, multipliers, shift_values, input_offset=-zeros[0], isa=isa
    )
    params = params_of(window, channels, multiplier, packed, zeros, bounds)
    tensors: list[Array] = [values, packed.weights, packed.channels]
    np.testing.assert_array_equal(library().run("depthwise", params, tensors, expected), expected)


def test_two_weights_of_minus_128_side_by_side_get_a_layout_that_bears_them() -> None:
    weight = np.full((1, 3, 3, 16), -127, np.int8)
    arguments = (None, np.full(16, 2**30), np.full(16, -8))
    weight[0, 1, 1, 5] = weight[0, 1, 0, 5] = -128  # taps 4 and 3
    assert pack_depthwise(weight, *arguments, input_offset=0, isa="mve").layout is Layout.MVE
    weight[0, 1, 2, 5] = -128  # tap 5
    assert pack_depthwise(weight, *arguments, input_offset=0, isa="mve").layout is Layout.ROWS


def good_case(isa: Isa, multiplier: int) -> tuple[bytes, list[int]]:
    """A record that is accepted, and the sizes of its tensors."""
    window = Window(2, (6, 5), (3, 3), (1, 1), (1, 1), (1, 1))
    outputs = 20 * multiplier
    weight = np.maximum(int8s(1, 1, 3, 3, outputs), -127)
    packed = pack_depthwise(
        weight, None, np.full(outputs, 2**30), np.full(outputs, -8), input_offset=0, isa=isa
    )
    sizes = [2 * 6 * 5 * 20, packed.weights.nbytes, packed.channels.nbytes, 2 * 6 * 5 * outputs]
    return params_of(window, 20, multiplier, packed), sizes


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_every_tensor_must_be_large_enough(isa: Isa, multiplier: int) -> None:
    params, sizes = good_case(isa, multiplier)
    assert library().check("depthwise", params, sizes)
    for index in range(4):
        short = list(sizes)
        short[index] -= 1
        assert not library().check("depthwise", params, short)


@pytest.mark.parametrize("isa", ISAS)
def test_bounds_the_wrong_way_round_are_refused(isa: Isa) -> None:
    params, sizes = good_case(isa, 1)
    assert not library().check("depthwise", swap_bounds(params), sizes)


def test_hostile_records_are_refused_or_harmless() -> None:
    assert attack("depthwise", [good_case(isa, m) for isa in ISAS for m in (1, 2)]) > 0
