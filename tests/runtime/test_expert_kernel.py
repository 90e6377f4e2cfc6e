"""The arithmetic of experts in C against numpy: every format, activation and flag."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_float, c_uint32, c_uint64, c_void_p
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.expert_samples import ACTIVATIONS, ExpertLayer, activate, quantise_rows, sections

from nestling_runtime import abi, native

Array = npt.NDArray[Any]


class Index(Structure):
    """`nst_expert_index`."""

    _fields_ = [("data", c_void_p), ("numbers", c_uint32 * 8)]


class Layer(Structure):
    """`nst_expert_layer`."""

    _fields_ = [("numbers", c_uint32 * 10), ("predictor", c_void_p)]


class Input(Structure):
    """`nst_expert_input`."""

    _fields_ = [("x", c_void_p), ("q", c_void_p), ("scales", c_void_p)]


def hold(data: bytes | int) -> Array:
    """Bytes that lie at a multiple of 64, and nothing readable is promised behind them."""
    count = data if isinstance(data, int) else len(data)
    room = np.zeros(count + 64, np.uint8)
    start = -room.ctypes.data % 64
    held = room[start : start + count]
    if isinstance(data, bytes):
        held[:] = np.frombuffer(data, np.uint8)
    return held


def at(array: Array | None) -> c_void_p:
    return c_void_p(None if array is None else array.ctypes.data)


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    loaded = native.library()
    for name, struct in (("index", Index), ("layer", Layer), ("input", Input)):
        assert loaded.nst_struct_bytes(f"nst_expert_{name}".encode()) == ctypes.sizeof(struct)
    loaded.nst_expert_scratch_bytes.restype = c_uint64
    return loaded


class Opened:
    """A layer as the C reader sees it."""

    def __init__(self, library: ctypes.CDLL, layer: ExpertLayer) -> None:
        self.library, self.layer = library, layer
        parts = sections([layer])
        self.data, self.raw, index = hold(parts["experts"]), Layer(), Index()
        sizes = (c_uint64 * 2)(len(parts["experts.0"]), len(parts.get("experts.1", b"")))
        error = abi.Error()
        code = library.nst_expert_index_open(
            byref(index), at(self.data), ctypes.c_size_t(len(self.data)), sizes, byref(error)
        )
        assert code == abi.OK, error.message
        assert library.nst_expert_index_layer(byref(index), 0, byref(self.raw))

    def run(self, expert: int, x: Array, tokens: Array, bits: int = 8) -> Array:
        """What the kernel makes of some rows."""
        layer, rows = self.layer, len(x)
        q = np.zeros(x.shape, np.int16)
        scales = np.zeros((rows, layer.dim // (layer.group or layer.dim)), np.float32)
        if layer.group:
            self.library.nst_expert_quantise(at(x), rows, layer.dim, layer.group, at(q), at(scales))
        high, low = (hold(part) for part in layer.slices(expert))
        scratch = hold(self.library.nst_expert_scratch_bytes(byref(self.raw), len(tokens)))
        out = np.full((len(tokens), layer.dim), np.nan, np.float32)
        self.library.nst_expert_run(
            byref(self.raw),
            at(high),
            at(low if layer.group and bits == 8 else None),
            byref(Input(at(x), at(q), at(scales))),
            at(tokens),
            len(tokens),
            at(scratch),
            at(out),
        )
        return out


@pytest.mark.parametrize(
    ("group", "activation", "gated", "biases"),
    product((0, 8, 32), ACTIVATIONS, (True, False), (True, False)),
)
def test_experts_compute_what_numpy_does(
    library: ctypes.CDLL, group: int, activation: str, gated: bool, biases: bool
) -> None:
    layer = ExpertLayer(
        dim=64,
        hidden=96,
        experts=1,
        top_k=1,
        group=group,
        activation=activation,
        gated=gated,
        biases=biases,
        seed=3,
    )
    opened = Opened(library, layer)
    x = np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32)
    for count, bits in product((1, 40), (8, 4) if group else (8,)):
        # Each row once, in another order than they lie in.
        tokens = np.random.default_rng(2).permutation(40)[:count].astype(np.uint32)
        expected = layer.expert(0, x[tokens], bits)
        # Where a hidden value lies between two steps of its grid, the last bit of a float decides:
        # that is one step of 1/127 in one of 96 values.
        off = np.abs(opened.run(0, x, tokens, bits) - expected) / np.abs(expected).max()
        assert np.median(off) < 1e-6
        assert off.max() < (2e-3 if group else 1e-6)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from((0, 2, 6, 16, 32, 48))),
    rows=st.integers(1, 70),
    gated=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_row_does_not_depend_on_the_others(
    shape: tuple[int, int, int], rows: int, gated: bool, seed: int
) -> None:
    dims, hiddens, group = shape
    unit = group or 7
    layer = ExpertLayer(
        dim=dims * unit, hidden=hiddens * unit, experts=1, top_k=1, group=group, gated=gated
    )
    library = native.library()
    library.nst_expert_scratch_bytes.restype = c_uint64
    opened = Opened(library, layer)
    x = np.random.default_rng(seed).standard_normal((rows, layer.dim)).astype(np.float32)
    together = opened.run(0, x, np.arange(rows, dtype=np.uint32))
    one = seed % rows
    np.testing.assert_array_equal(opened.run(0, x, np.array([one], np.uint32))[0], together[one])


def test_what_is_not_a_number_does_no_harm(library: ctypes.CDLL) -> None:
    layer = ExpertLayer(dim=64, hidden=64, experts=1, top_k=1, group=32)
    opened = Opened(library, layer)
    x = np.zeros((3, 64), np.float32)
    x[0, 0], x[1, 0], x[2, 0] = np.nan, np.inf, 3e38
    opened.run(0, x, np.arange(3, dtype=np.uint32))
    # Neither do bytes that no writer has made.
    layer.slices = lambda expert: (b"\xff" * 5376 * 3, b"\x00" * 2048 * 3)  # type: ignore[method-assign]
    opened.run(0, np.ones((1, 64), np.float32), np.zeros(1, np.uint32))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_right_to_a_millionth(library: ctypes.CDLL, name: str) -> None:
    x = np.concatenate([np.linspace(-5, 5, 20001), np.linspace(-40, 40, 801)]).astype(np.float32)
    got = x.copy()
    library.nst_expert_activate(ACTIVATIONS.index(name), at(got), len(got))
    expected = activate(name, x.astype(np.float64))
    assert np.abs(got - expected).max() < 4e-6
    near = np.abs(x) <= 5 if name == "gelu" else np.abs(x) <= 3
    relative = np.abs(got - expected)[near] / np.maximum(np.abs(expected[near]), 1e-9)
    assert relative.max() < 3e-6


@given(st.integers(1, 40), st.sampled_from((2, 4, 32)), st.integers(0, 99))
def test_rows_are_quantised_as_numpy_does(rows: int, group: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = (
        random.standard_normal((rows, 4 * group)) * random.choice([0, 1e-3, 50], (rows, 1))
    ).astype(np.float32)
    q, scales = np.zeros(x.shape, np.int16), np.zeros((rows, 4), np.float32)
    native.library().nst_expert_quantise(at(x), rows, 4 * group, group, at(q), at(scales))
    again = (q.reshape(rows, 4, group) * scales[..., None].astype(np.float64)).reshape(x.shape)
    np.testing.assert_array_equal(again, quantise_rows(x, group))
    assert np.abs(q).max() <= 127


@given(
    st.lists(st.floats(width=32, allow_infinity=True, allow_nan=True), min_size=1, max_size=40),
    st.data(),
)
def test_the_largest_are_chosen_and_the_lower_of_equals(
    numbers: list[float], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(numbers)))
    chosen = (c_uint32 * count)()
    scores = np.array(numbers, np.float32)
    native.library().nst_expert_top(
        scores.ctypes.data_as(POINTER(c_float)), len(numbers), count, chosen
    )
    last = np.where(np.isnan(scores), -np.inf, scores)
    order = sorted(range(len(numbers)), key=lambda i: (np.isnan(scores[i]), -last[i], i))
    assert list(chosen) == order[:count]


def test_half_precision_scales_are_read_exactly(library: ctypes.CDLL) -> None:
    """Subnormal scales too, seen through weights of one."""
    layer = ExpertLayer(
        dim=2, hidden=2, experts=1, top_k=1, group=2, activation="relu", gated=False
    )
    for scale in (np.float16(6e-8), np.float16(2e-5), np.float16(0.1), np.float16(60000)):
        opened = Opened(library, layer)
        one = np.array([0x99], np.uint8).tobytes()  # both halves 1: the weight is 17 scales

        def made(expert: int, scale: np.float16 = scale, one: bytes = one) -> tuple[bytes, bytes]:
            up = np.array([scale, scale]).tobytes()
            down = np.ones(2, np.float16).tobytes()
            pad = bytes(12)
            packed = one * 2 + bytes(14)
            return up + pad + packed + down + pad + packed[:2], packed + packed[:2]

        layer.slices = made  # type: ignore[method-assign]
        got = opened.run(0, np.full((1, 2), 127, np.float32), np.zeros(1, np.uint32))
        expected = 17 * float(scale) * 127 * 2 * 17 * 2
        np.testing.assert_allclose(got, expected, rtol=1e-6)
