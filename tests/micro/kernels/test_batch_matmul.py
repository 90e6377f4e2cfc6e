"""batch_matmul against the reference operator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import RefusedError, library, record
from micro.kernels.reference import Int8, int8s, ops, scale_pair, scales, seeds, tensor, zero_points

PARAMS = "4I5i"


def check(lhs: Int8, rhs: Int8, zeros: tuple[int, int, int], scale: float) -> None:
    batches, rows, inner = lhs.shape
    last = (zeros[2], *scale_pair(scale))
    params = record(PARAMS, batches, rows, rhs.shape[1], inner, zeros[0], zeros[1], *last)
    output = np.empty((batches, rows, rhs.shape[1]), np.int8)
    result = library().run("batch_matmul", params, [lhs, rhs], output)
    a, b = tensor(lhs), tensor(rhs)
    expected = ops.quantized_batch_matmul(a, -zeros[0], b, -zeros[1], *last, a)
    np.testing.assert_array_equal(result, expected.numpy())


@settings(max_examples=300, deadline=None)
@given(
    seed=seeds,
    batches=st.integers(1, 4),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    inner=st.integers(1, 80),
    zeros=st.tuples(zero_points, zero_points, zero_points),
    scale=scales(1e-6, 0.5),
)
def test_batch_matmul(
    seed: int,
    batches: int,
    rows: int,
    columns: int,
    inner: int,
    zeros: tuple[int, int, int],
    scale: float,
) -> None:
    lhs = int8s(seed, batches, rows, inner)
    rhs = int8s(seed + 1, batches, columns, inner)
    check(lhs, rhs, zeros, scale)


def test_sums_that_would_overflow_are_refused() -> None:
    values = np.zeros(40_000, np.int8)
    good = [1, 1, 1, 1000, 0, 0, 0, 2**30, 4]
    library().run("batch_matmul", record(PARAMS, *good), [values, values], values)
    for field, value in {3: 33_025, 8: 6, 4: 300, 5: -129, 6: 128, 0: 0, 1: 41}.items():
        with pytest.raises(RefusedError):
            fields = [*good[:field], value, *good[field + 1 :]]
            library().run("batch_matmul", record(PARAMS, *fields), [values, values], values)
