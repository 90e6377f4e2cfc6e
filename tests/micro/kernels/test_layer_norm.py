"""layer_norm against dequantize, torch's layer_norm in float32, quantize."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import library, record
from micro.kernels.reference import (
    Float,
    Int8,
    ops,
    require_vectors_of_8,
    scales,
    seeds,
    tensor,
    zero_points,
)

# Like softmax, torch's moments depend on the width of the processor's vectors: 8 floats here.


def both(
    values: Int8,
    grids: tuple[float, int, float, int],
    gamma: Float | None,
    beta: Float | None,
    epsilon: float = 1e-6,
) -> tuple[Int8, Int8]:
    """Our bytes, and those of the three operators."""
    require_vectors_of_8()
    input_scale, input_zero, output_scale, output_zero = grids
    rows, columns = values.shape
    head = (rows, columns, input_zero, input_scale, epsilon, 1.0 / output_scale)
    params = record("IIifff3i", *head, output_zero, -128, 127)
    result = library().run("layer_norm", params, [values, gamma, beta], values)

    real = ops.dequantize_per_tensor(tensor(values), input_scale, input_zero, -128, 127, torch.int8)
    weight = None if gamma is None else tensor(gamma)
    bias = None if beta is None else tensor(beta)
    normal = torch.nn.functional.layer_norm(real, [columns], weight, bias, epsilon)
    expected = ops.quantize_per_tensor(normal, output_scale, output_zero, -128, 127, torch.int8)
    return result.astype(np.int8), expected.numpy()


def rows_of(generator: np.random.Generator, rows: int, columns: int) -> Int8:
    centre = generator.uniform(-60, 60, (rows, 1))
    spread = generator.uniform(0, 60, (rows, 1))
    real = generator.normal(centre, spread, (rows, columns))
    return np.clip(np.round(real), -128, 127).astype(np.int8)


@settings(max_examples=300, deadline=None)
@given(
    seed=seeds,
    rows=st.integers(1, 20),
    columns=st.integers(1, 400),
    scales=st.tuples(scales(1e-3, 1.0), scales(5e-3, 0.1)),
    zeros=st.tuples(zero_points, zero_points),
    affine=st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
)
def test_layer_norm(
    seed: int,
    rows: int,
    columns: int,
    scales: tuple[float, float],
    zeros: tuple[int, int],
    affine: tuple[bool, bool],
) -> None:
    generator = np.random.default_rng(seed)
    gamma = generator.normal(1, 0.4, columns).astype(np.float32) if affine[0] else None
    beta = generator.normal(0, 0.5, columns).astype(np.float32) if affine[1] else None
    values = rows_of(generator, rows, columns)
    result, expected = both(values, (scales[0], zeros[0], scales[1], zeros[1]), gamma, beta)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("columns", [16, 48, 64, 96, 128, 192, 384, 768, 3072])
def test_many_rows(columns: int) -> None:
    generator = np.random.default_rng(columns)
    for grids in ((0.031, 4, 0.0277, -9), (0.5, 0, 0.02, 0), (0.0073, -128, 0.041, 127)):
        values = rows_of(generator, 200_000 // columns, columns)
        gamma = generator.normal(1, 0.4, columns).astype(np.float32)
        beta = generator.normal(0, 0.5, columns).astype(np.float32)
        result, expected = both(values, grids, gamma, beta)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("columns", [7, 16, 44, 64, 100, 300])
def test_rows_close_to_a_half(columns: int) -> None:
    """Rows in which the last bits of float32 decide: found among many with float64."""
    generator = np.random.default_rng(columns)
    gamma = generator.normal(1, 0.4, columns).astype(np.float32)
    beta = generator.normal(0, 0.5, columns).astype(np.float32)
    grids = (0.031, 4, 0.0277, -9)
    close = []
    for _ in range(20):
        values = rows_of(generator, 100_000 // columns, columns)
        real = (values.astype(np.float64) - grids[1]) * np.float32(grids[0])
        centred = real - real.mean(1, keepdims=True)
        normal = centred / np.sqrt(real.var(1, keepdims=True) + 1e-6)
        steps = (normal * gamma + beta) * np.float32(1 / grids[2])
        close.append(values[(abs(steps % 1 - 0.5) < 1e-5).any(1)])
    rows = np.concatenate(close)
    assert len(rows) > 20
    result, expected = both(rows, grids, gamma, beta)
    np.testing.assert_array_equal(result, expected)
