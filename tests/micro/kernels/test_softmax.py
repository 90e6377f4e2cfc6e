"""softmax against the reference operator, tables of exponentials included."""

from __future__ import annotations

import numpy as np
import pytest
from executorch.backends.cortex_m.passes.aten_to_cortex_m_pass import _compute_softmax_params
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import library, record
from micro.kernels.reference import (
    Int8,
    int8s,
    ops,
    require_vectors_of_8,
    scales,
    seeds,
    tensor,
    zero_points,
)

# The sum over a row has the order of torch's vectors of 8 floats; on other processors torch sums in
# another order, and the reference operator is then not the same function.


def both(values: Int8, zero_point: int, scale: float) -> tuple[Int8, Int8]:
    """Our bytes and the reference's."""
    require_vectors_of_8()
    multiplier, shift, diff_min = _compute_softmax_params(scale)
    rows, columns = values.shape
    derived = multiplier * 2.0 ** (shift - 57)
    params = record("IIif", rows, columns, zero_point, derived)
    result = library().run("softmax", params, [values], values)
    expected = ops.softmax(tensor(values), -1, zero_point, -128, multiplier, shift, diff_min)
    return result.astype(np.int8), expected.numpy()


@settings(max_examples=300, deadline=None)
@given(
    seed=seeds,
    rows=st.integers(1, 20),
    columns=st.integers(1, 100),
    zero_point=zero_points,
    scale=scales(1e-5, 4.0),
)
def test_softmax(seed: int, rows: int, columns: int, zero_point: int, scale: float) -> None:
    result, expected = both(int8s(seed, rows, columns), zero_point, scale)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("columns", [2, 10, 16, 17, 197, 512, 1024])
def test_many_rows(columns: int) -> None:
    generator = np.random.default_rng(columns)
    for scale in (0.003, 0.0213, 0.11, 0.5):
        spread = generator.uniform(1, 60, (200_000 // columns, 1))
        values = np.clip(generator.normal(0, spread, (len(spread), columns)), -128, 127)
        result, expected = both(values.astype(np.int8), 3, scale)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("columns", [6, 8, 13, 16, 40, 197])
def test_rows_close_to_a_half(columns: int) -> None:
    """Rows in which the last bits of float32 decide: found among many with float64."""
    generator = np.random.default_rng(columns)
    scale = 0.0371
    close = []
    for _ in range(20):
        spread = generator.uniform(1, 60, (100_000 // columns, 1))
        values = np.clip(generator.normal(0, spread, (len(spread), columns)), -128, 127)
        values = np.trunc(values)
        terms = np.exp((values - values.max(1, keepdims=True)) * scale)
        steps = terms / terms.sum(1, keepdims=True) * 256
        close.append(values[(abs(steps % 1 - 0.5) < 3e-5).any(1)])
    rows = np.concatenate(close).astype(np.int8)
    assert len(rows) > 10
    result, expected = both(rows, 3, scale)
    np.testing.assert_array_equal(result, expected)


def test_ties_go_to_even() -> None:
    """512 equal values have a probability of half a step each."""
    result, expected = both(np.zeros((1, 512), np.int8), 0, 0.1)
    np.testing.assert_array_equal(result, expected)
    assert (result == -128).all()
