"""pad and transpose, which only move bytes, against the reference operators."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from micro.kernels.library import RefusedError, library, record
from micro.kernels.reference import image, int8s, nhwc, ops, seeds, tensor

small = st.integers(0, 3)
four = st.tuples(small, small, small, small)


@settings(max_examples=100, deadline=None)
@given(
    seed=seeds,
    shape=st.tuples(*[st.integers(1, 6)] * 4),
    before=four,
    after=four,
    value=st.integers(-128, 127),
)
def test_pad_image(
    seed: int,
    shape: tuple[int, ...],
    before: tuple[int, ...],
    after: tuple[int, ...],
    value: int,
) -> None:
    values = int8s(seed, *shape)
    output = np.empty([a + b + c for a, b, c in zip(before, shape, after, strict=True)], np.int8)
    params = record("12Ii", *shape, *before, *after, value)
    result = library().run("pad", params, [values], output)
    expected = ops.pad(image(values), list(before), list(after), value)
    np.testing.assert_array_equal(result, nhwc(expected))


@settings(max_examples=50, deadline=None)
@given(seed=seeds, shape=st.lists(st.integers(1, 6), min_size=1, max_size=3), pads=st.data())
def test_pad_of_lower_rank(seed: int, shape: list[int], pads: st.DataObject) -> None:
    values = int8s(seed, *shape)
    missing = 4 - len(shape)
    before, after = (
        [0] * missing + pads.draw(st.lists(small, min_size=len(shape), max_size=len(shape)))
        for _ in range(2)
    )
    full = [1] * missing + shape
    output = np.empty([a + b + c for a, b, c in zip(before, full, after, strict=True)], np.int8)
    params = record("12Ii", *full, *before, *after, 9)
    result = library().run("pad", params, [values], output)
    expected = ops.pad(tensor(values), before, after, 9).numpy()
    np.testing.assert_array_equal(result.reshape(expected.shape), expected)


@settings(max_examples=300, deadline=None)
@given(
    seed=seeds,
    dtype=st.sampled_from(["int8", "int16", "float32"]),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_transpose(seed: int, dtype: str, shape: list[int], order: object) -> None:
    values = np.random.default_rng(seed).integers(-100, 100, shape).astype(dtype)
    permutation = list(range(len(shape)))
    order.shuffle(permutation)  # type: ignore[attr-defined]
    spare = [0] * (6 - len(shape))
    params = record("14I", len(shape), values.itemsize, *shape, *spare, *permutation, *spare)
    output = np.empty([shape[i] for i in permutation], dtype)
    result = library().run("transpose", params, [values], output)
    expected = ops.transpose(tensor(values), permutation)
    np.testing.assert_array_equal(result, expected.numpy())


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3))))
def test_transpose_of_heads(permutation: tuple[int, ...]) -> None:
    """The shapes of attention: long rows, more than one step of every fast path."""
    values = int8s(1, 37, 4, 33)
    params = record("14I", 3, 1, *values.shape, 0, 0, 0, *permutation, 0, 0, 0)
    output = np.empty([values.shape[i] for i in permutation], np.int8)
    result = library().run("transpose", params, [values], output)
    np.testing.assert_array_equal(result, values.transpose(permutation))


def test_what_is_no_permutation_is_refused() -> None:
    values = np.zeros((2, 3), np.int8)
    good = [2, 1, 2, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    library().run("transpose", record("14I", *good), [values], values)
    for field, value in {0: 7, 1: 3, 2: 0, 3: 2**31, 8: 0, 9: 6}.items():
        with pytest.raises(RefusedError):
            fields = [*good[:field], value, *good[field + 1 :]]
            library().run("transpose", record("14I", *fields), [values], values)
