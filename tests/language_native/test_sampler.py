"""The sampler and its signals against numpy in double precision."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_bool, c_float, c_uint32, c_uint64

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling_runtime import native
from nestling_runtime.decoder_abi import LogitSignals, Sampling

Logits = npt.NDArray[np.float32]


class Candidate(Structure):
    """`nst_candidate`."""

    _fields_ = [("weight", c_float), ("token", c_uint32)]


class Sampler(Structure):
    """`nst_sampler`."""

    _fields_ = [
        ("sampling", Sampling),
        ("candidates", POINTER(Candidate)),
        ("vocabulary", c_uint32),
        ("state", c_uint64),
    ]


def measure(logits: Logits) -> LogitSignals | None:
    """Call the library."""
    signals = LogitSignals()
    function = native.library().nst_measure_logits
    function.restype = c_bool
    pointer = logits.ctypes.data_as(POINTER(c_float))
    return signals if function(pointer, c_uint32(len(logits)), byref(signals)) else None


def draw(logits: Logits, sampling: Sampling, count: int) -> list[int]:
    """Draw that many tokens."""
    library = native.library()
    sampler, candidates = Sampler(), (Candidate * len(logits))()
    library.nst_sampler_init.restype = c_bool
    assert library.nst_sampler_init(byref(sampler), byref(sampling), candidates, len(logits))
    library.nst_sampler_draw.restype = c_uint32
    pointer = logits.ctypes.data_as(POINTER(c_float))
    best = int(np.argmax(logits))
    return [library.nst_sampler_draw(byref(sampler), pointer, best) for _ in range(count)]


class SplitMix:
    """The generator, in Python."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        mask = (1 << 64) - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)


logit_rows = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=200).map(
    lambda values: np.array(values, dtype=np.float32)
)


@given(logit_rows)
def test_signals(logits: Logits) -> None:
    signals = measure(logits)
    assert signals is not None
    z = logits.astype(np.float64)
    p = np.exp(z - z.max())
    p /= p.sum()
    ranked = np.sort(p)[::-1]
    entropy = -(p * np.log2(np.maximum(p, 1e-300))).sum()
    assert signals.best == np.argmax(logits)
    assert signals.entropy_bits == pytest.approx(entropy, abs=2e-5 * (1 + entropy))
    assert signals.confidence == pytest.approx(ranked[0], rel=1e-5)
    assert signals.margin == pytest.approx(ranked[0] - (ranked[1:2].sum() or 0), abs=1e-5)


@given(logit_rows, st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 199))
def test_what_is_not_finite_is_refused(logits: Logits, value: float, at: int) -> None:
    logits[at % len(logits)] = value
    assert measure(logits) is None


@given(
    logits=logit_rows,
    temperature=st.floats(0.125, 4, width=32),
    top_k=st.integers(0, 210),
    top_p=st.sampled_from([0.0, 0.25, 0.5, 0.875, 1.0]),
    seed=st.integers(0, (1 << 64) - 1),
)
@settings(max_examples=200)
def test_draws(logits: Logits, temperature: float, top_k: int, top_p: float, seed: int) -> None:
    count = 8
    tokens = draw(logits, Sampling(temperature, top_k, top_p, 0, seed), count)
    z = logits.astype(np.float64) / temperature
    weights = np.exp(z - z.max())
    truncated = 0 < top_k < len(logits) or 0 < top_p < 1
    order = np.lexsort((np.arange(len(logits)), -logits)) if truncated else np.arange(len(logits))
    order = order[: top_k or len(order)]
    if 0 < top_p < 1:
        reached = np.cumsum(weights[order]) / weights[order].sum()
        order = order[: int(np.searchsorted(reached, top_p - 1e-6)) + 1]
        more = order if len(order) == len(reached) else None
    else:
        more = order
    sums = np.cumsum(weights[order]) / weights[order].sum()
    generator = SplitMix(seed)
    for token in tokens:
        target = generator.uniform()
        expected = order[min(int(np.searchsorted(sums, target, side="right")), len(order) - 1)]
        edges = np.concatenate(([0.0], sums))
        near = np.abs(edges - target).min() < 1e-4  # float32 may land on the other side
        if more is not None and not near:
            assert token == expected
        else:
            assert weights[token] > 0


def test_greedy_is_the_first_of_equals() -> None:
    logits = np.array([1, 3, 3, 2], dtype=np.float32)
    assert draw(logits, Sampling(), 3) == [1, 1, 1]
    signals = measure(logits)
    assert signals is not None and signals.best == 1


def test_shares_are_those_of_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32))
    tokens = draw(np.ascontiguousarray(logits), Sampling(1.0, 0, 0.0, 0, 9), 20000)
    shares = np.bincount(tokens, minlength=4) / len(tokens)
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.125, 0.125], atol=0.02)


@pytest.mark.parametrize("bad", [(-1.0, 0, 0.0), (np.nan, 0, 0.0), (1.0, 0, 1.5), (1.0, 0, -0.1)])
def test_parameters_that_make_no_sense(bad: tuple[float, int, float]) -> None:
    sampler, candidates = Sampler(), (Candidate * 4)()
    library = native.library()
    library.nst_sampler_init.restype = c_bool
    sampling = Sampling(bad[0], bad[1], bad[2], 0, 0)
    assert not library.nst_sampler_init(byref(sampler), byref(sampling), candidates, 4)
    assert ctypes.sizeof(Candidate) == 8
