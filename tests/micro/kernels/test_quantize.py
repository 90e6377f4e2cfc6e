"""quantize and dequantize, against the reference operators."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import library, record
from micro.kernels.reference import int8s, ops, scales, seeds, tensor, zero_points

ranges = st.sampled_from([(-128, 127), (-127, 127), (0, 127), (-8, 7)])


@settings(max_examples=200, deadline=None)
@given(
    seed=seeds,
    elements=st.integers(1, 500),
    scale=scales(1e-6, 100.0),
    zero_point=zero_points,
    bounds=ranges,
)
def test_quantize(
    seed: int, elements: int, scale: float, zero_point: int, bounds: tuple[int, int]
) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.normal(0, 100, elements)
    halves = np.round(steps) + 0.5  # ties, as far as the scale leaves them
    values = (np.where(generator.random(elements) < 0.5, steps, halves) * scale).astype(np.float32)
    values[0] = generator.choice([np.inf, -np.inf, 3e38, -3e38, 0.0])
    params = record("If3i", elements, 1.0 / scale, zero_point, *bounds)
    result = library().run("quantize", params, [values], np.empty(elements, np.int8))
    expected = ops.quantize_per_tensor(tensor(values), scale, zero_point, *bounds, torch.int8)
    np.testing.assert_array_equal(result, expected.numpy())


def test_quantize_takes_nan_for_zero() -> None:
    values = np.array([np.nan, -np.nan, 1.0], np.float32)
    params = record("If3i", 3, 1.0, 5, -128, 127)
    result = library().run("quantize", params, [values], np.empty(3, np.int8))
    np.testing.assert_array_equal(result, [5, 5, 6])


@settings(max_examples=100, deadline=None)
@given(seed=seeds, elements=st.integers(1, 300), scale=scales(1e-6, 1e3), zero_point=zero_points)
def test_dequantize(seed: int, elements: int, scale: float, zero_point: int) -> None:
    values = int8s(seed, elements)
    params = record("Iif", elements, zero_point, scale)
    result = library().run("dequantize", params, [values], np.empty(elements, np.float32))
    expected = ops.dequantize_per_tensor(tensor(values), scale, zero_point, -128, 127, torch.int8)
    np.testing.assert_array_equal(result, expected.numpy())
