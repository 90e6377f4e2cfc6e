"""linear against the reference operator, in every layout; its check against hostile records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.hostile import attack, swap_bounds
from micro.kernels.library import library, record
from micro.kernels.reference import int8s, ops, seeds, tensor, zero_points
from micro.kernels.weights import ISAS, Pair, bounds, draw_bias, draw_scales, shift_ranges

from nestling.errors import NestlingError
from nestling.targets.cortex_m.packing import MOST_ROWS_MVE, Isa, pack_linear


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=80, deadline=None)
@given(
    batches=st.integers(1, 5),
    inputs=st.one_of(st.integers(1, 70), st.sampled_from([128, 160, 640])),
    outputs=st.integers(1, 21),
    seed=seeds,
    zeros=st.tuples(zero_points, zero_points),
    shifts=shift_ranges,
    bias_as=st.sampled_from(["absent", "bias", "kernel_sum"]),
    filter_offset=st.sampled_from([0, 0, 3]),
    bounds=bounds,
)
def test_equals_the_reference(
    isa: Isa,
    batches: int,
    inputs: int,
    outputs: int,
    seed: int,
    zeros: Pair,
    shifts: Pair,
    bias_as: str,
    filter_offset: int,
    bounds: Pair,
) -> None:
    values = int8s(seed, batches, inputs)
    weight = np.minimum(int8s(seed + 1, outputs, inputs), 127 - filter_offset).astype(np.int8)
    numbers = draw_bias(seed, outputs)
    bias = numbers if bias_as == "bias" else None
    kernel_sum = numbers if bias_as == "kernel_sum" else None
    multipliers, shift_values = draw_scales(seed, 1, shifts)
    expected = ops.quantized_linear(
        tensor(values),
        tensor(weight),
        None if bias is None else tensor(bias),
        None if kernel_sum is None else tensor(kernel_sum),
        -zeros[0],
        filter_offset,
        zeros[1],
        [int(multipliers[0])],
        [int(shift_values[0])],
        bounds[1],
        bounds[0],
    ).numpy()
    packed = pack_linear(
        weight,
        bias,
        multipliers,
        shift_values,
        input_offset=-zeros[0],
        filter_offset=filter_offset,
        kernel_sum=kernel_sum,
        isa=isa,
    )
    params = record(
        "3I3i2I", batches, inputs, outputs, zeros[1], *bounds, packed.layout, packed.scaling
    )
    result = library().run("linear", params, [values, packed.weights, packed.channels], expected)
    np.testing.assert_array_equal(result, expected)


def test_weights_with_a_zero_point_that_do_not_fit_are_refused() -> None:
    weight = np.full((2, 3), 127, np.int8)
    with pytest.raises(NestlingError, match="do not fit int8"):
        pack_linear(weight, None, np.full(1, 2**30), np.full(1, -8), input_offset=0,
                    filter_offset=1, isa="mve")  # fmt: skip


def test_more_outputs_than_the_kernels_can_run_are_refused() -> None:
    weight = np.zeros((MOST_ROWS_MVE + 1, 1), np.int8)
    with pytest.raises(NestlingError, match="output channels"):
        pack_linear(weight, None, np.full(1, 2**30), np.full(1, -8), input_offset=0, isa="mve")
    pack_linear(weight, None, np.full(1, 2**30), np.full(1, -8), input_offset=0, isa="dsp")


def good_case(isa: Isa) -> tuple[bytes, list[int]]:
    """A record that is accepted, and the sizes of its tensors."""
    packed = pack_linear(
        int8s(1, 7, 37), None, np.full(1, 2**30), np.full(1, -8), input_offset=0, isa=isa
    )
    params = record("3I3i2I", 3, 37, 7, 0, -128, 127, packed.layout, packed.scaling)
    return params, [3 * 37, packed.weights.nbytes, packed.channels.nbytes, 3 * 7]


@pytest.mark.parametrize("isa", ISAS)
def test_every_tensor_must_be_large_enough(isa: Isa) -> None:
    params, sizes = good_case(isa)
    assert library().check("linear", params, sizes)
    for index in range(4):
        short = list(sizes)
        short[index] -= 1
        assert not library().check("linear", params, short)


@pytest.mark.parametrize("isa", ISAS)
def test_bounds_the_wrong_way_round_are_refused(isa: Isa) -> None:
    params, sizes = good_case(isa)
    assert not library().check("linear", swap_bounds(params), sizes)


def test_hostile_records_are_refused_or_harmless() -> None:
    assert attack("linear", [good_case(isa) for isa in ISAS]) > 0
