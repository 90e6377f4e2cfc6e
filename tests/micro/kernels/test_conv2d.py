"""conv2d against the reference operator, in every layout; its check against hostile parameters."""

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

from nestling.targets.cortex_m.packing import Isa, PackedWeights, Scaling, pack_conv2d


def params_of(
    window: Window,
    channels: tuple[int, int, int],
    packed: PackedWeights,
    zero_points: Pair = (0, 0),
    bounds: Pair = (-128, 127),
) -> bytes:
    """The parameter record; `channels`: of the input, of the output, groups."""
    inputs, outputs, groups = channels
    return record(
        "16I4i3I",
        window.batches,
        *window.input,
        inputs,
        *window.output,
        outputs,
        *window.taps,
        groups,
        *zero_points,
        *bounds,
        packed.layout,
        packed.runs,
        packed.scaling,
    )


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=60, deadline=None)
@given(
    window=windows,
    group_inputs=st.one_of(st.integers(1, 5), st.sampled_from([8, 16, 17, 32])),
    group_outputs=st.integers(1, 9),
    groups=st.sampled_from([1, 1, 1, 2, 3]),
    seed=seeds,
    zeros=st.tuples(zero_points, zero_points),
    shifts=shift_ranges,
    with_bias=st.booleans(),
    bounds=bounds,
)
def test_equals_the_reference(
    isa: Isa,
    window: Window,
    group_inputs: int,
    group_outputs: int,
    groups: int,
    seed: int,
    zeros: Pair,
    shifts: Pair,
    with_bias: bool,
    bounds: Pair,
) -> None:
    inputs, outputs = groups * group_inputs, groups * group_outputs
    values = int8s(seed, window.batches, *window.input, inputs)
    weight = int8s(seed + 1, outputs, *window.kernel, group_inputs)
    bias = draw_bias(seed, outputs) if with_bias else None
    multipliers, shift_values = draw_scales(seed, outputs, shifts)
    expected = nhwc(
        ops.quantized_conv2d(
            image(values),
            torch.from_numpy(dilated(weight, window.dilation)),
            None if bias is None else torch.from_numpy(bias),
            list(window.stride),
            list(window.pad),
            [1, 1],
            -zeros[0],
            zeros[1],
            torch.from_numpy(multipliers),
            torch.from_numpy(shift_values),
            *bounds,
            torch.empty(0, dtype=torch.int8),
        )
    )
    packed = pack_conv2d(
        weight, bias, multipliers, shift_values, input_offset=-zeros[0], groups=groups, isa=isa
    )
    params = params_of(window, (inputs, outputs, groups), packed, zeros, bounds)
    result = library().run("conv2d", params, [values, packed.weights, packed.channels], expected)
    np.testing.assert_array_equal(result, expected)


def test_scales_are_respelled_only_where_that_is_exact() -> None:
    weight = np.full((4, 1, 1, 16), 127, np.int8)
    multipliers = np.full(4, 2**30 + 12345)
    usual = pack_conv2d(weight, None, multipliers, np.full(4, -8), input_offset=3, isa="mve")
    assert usual.scaling is Scaling.TWICE
    for shift in (0, 3):
        shifts = np.array([-8, -8, shift, -8])
        mixed = pack_conv2d(weight, None, multipliers, shifts, input_offset=3, isa="mve")
        assert mixed.scaling is Scaling.SHIFT
    # 260096 * multiplier / 2^31 stays below 2^(31 - 13); with more inputs it does not.
    small = pack_conv2d(weight, None, multipliers, np.full(4, -13), input_offset=0, isa="mve")
    assert small.scaling is Scaling.TWICE
    wide = np.full((4, 1, 1, 640), 127, np.int8)
    large = pack_conv2d(wide, None, multipliers, np.full(4, -13), input_offset=0, isa="mve")
    assert large.scaling is Scaling.SHIFT


@pytest.mark.parametrize("shift", [-1, -2, -8, -11, -12, -13])
def test_both_spellings_agree_on_every_tie(shift: int) -> None:
    """One tap with weight 1 or -1 and a bias sweeps the accumulator over ties of both signs."""
    rows = 4096
    step = 1 << max(-shift - 2, 0)
    bias = (np.arange(rows) - rows // 2) * step
    weight = np.where(np.arange(rows) % 2 == 0, 1, -1).astype(np.int8).reshape(rows, 1, 1, 1)
    values = np.array([[[[0]], [[1]], [[-1]]]], np.int8)
    window = Window(1, (3, 1), (1, 1), (1, 1), (0, 0), (1, 1))
    results = {}
    for isa in ISAS:
        packed = pack_conv2d(
            weight, bias, np.full(rows, 2**30), np.full(rows, shift), input_offset=0, isa=isa
        )
        if isa == "portable":
            assert packed.scaling is Scaling.SHIFT
        elif -11 <= shift <= -2:
            assert packed.scaling is Scaling.TWICE
        params = params_of(window, (1, rows, 1), packed)
        output = np.empty((1, 3, 1, rows), np.int8)
        tensors: list[Array] = [values, packed.weights, packed.channels]
        results[isa] = library().run("conv2d", params, tensors, output)
    np.testing.assert_array_equal(results["mve"], results["portable"])
    np.testing.assert_array_equal(results["dsp"], results["portable"])


def good_case(isa: Isa) -> tuple[bytes, list[int]]:
    """A record that is accepted, and the sizes of its tensors."""
    window = Window(2, (6, 5), (3, 3), (1, 1), (1, 1), (1, 1))
    weight = int8s(1, 12, 3, 3, 4)
    packed = pack_conv2d(
        weight, None, np.full(12, 2**30), np.full(12, -8), input_offset=0, groups=2, isa=isa
    )
    sizes = [2 * 6 * 5 * 8, packed.weights.nbytes, packed.channels.nbytes, 2 * 6 * 5 * 12]
    return params_of(window, (8, 12, 2), packed), sizes


@pytest.mark.parametrize("isa", ISAS)
def test_every_tensor_must_be_large_enough(isa: Isa) -> None:
    params, sizes = good_case(isa)
    assert library().check("conv2d", params, sizes)
    for index in range(4):
        short = list(sizes)
        short[index] -= 1
        assert not library().check("conv2d", params, short)


@pytest.mark.parametrize("isa", ISAS)
def test_bounds_the_wrong_way_round_are_refused(isa: Isa) -> None:
    params, sizes = good_case(isa)
    assert not library().check("conv2d", swap_bounds(params), sizes)


def test_hostile_records_are_refused_or_harmless() -> None:
    assert attack("conv2d", [good_case(isa) for isa in ISAS]) > 0
