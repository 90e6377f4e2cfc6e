"""Policies of the expert cache on traces: against models, each other, and the optimum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core.expert_traces import cyclic, drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nestling_runtime.expert_replay import POLICIES, Trace, optimum, replay


def lru_hits(trace: Trace, slots: int) -> int:
    """Hits of a list that is kept in the order of use."""
    kept: list[tuple[int, int]] = []
    hits = 0
    for row, layer in enumerate(trace.layers):
        keys = [(int(layer), expert) for expert in trace.chosen_experts(row)]
        there = [key for key in keys if key in kept]
        hits += len(there)
        for key in there:
            kept.remove(key)
            kept.append(key)
        for key in keys:
            if key not in there:
                kept = [*kept[max(0, len(kept) - slots + 1) :], key]
    return hits


def activation_hits(trace: Trace, slots: int, layers: int) -> int:
    """Hits by activation matrices of requests one after another, in numpy."""
    collection: list[npt.NDArray[np.int64]] = []
    own = np.zeros((layers, trace.experts), np.int64)
    kept: dict[tuple[int, int], int] = {}  # when it was used last
    running: int | None = None
    hits = uses = 0

    def likeness(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float:
        return float((one * other).sum() / np.sqrt(float((other * other).sum())))

    for row, layer in enumerate(int(number) for number in trace.layers):
        if trace.requests[row] != running:
            if running is not None:
                if len(collection) < 16:
                    collection.append(own)
                else:
                    collection[int(np.argmax([likeness(own, each) for each in collection]))] = own
            own, running = np.zeros_like(own), int(trace.requests[row])
        keys = [(layer, expert) for expert in trace.chosen_experts(row)]
        for key in keys:
            own[key] += 1
        parts = own / (own.sum(axis=1, keepdims=True) + 1)
        if collection:
            best = collection[int(np.argmax([likeness(own, each) for each in collection]))]
            parts = parts + best / (best.sum(axis=1, keepdims=True) + 1)
        near = layers - (np.arange(layers) - layer - 1) % layers
        priority = (parts + 0.001) * near[:, None]
        there = [key for key in keys if key in kept]
        hits += len(there)
        for key in [*there, *(key for key in keys if key not in there)]:
            if key not in kept and len(kept) == slots:
                del kept[min(kept, key=lambda other: (priority[other], kept[other]))]
            uses += 1
            kept[key] = uses
    return hits


@pytest.mark.parametrize("requests", [3, 24])
def test_activation_matrices_are_those_of_the_paper(requests: int) -> None:
    trace = drawn(seed=2, layers=4, experts=8, top_k=2, requests=requests, tokens=30)
    hits = replay(trace, 11, eviction="activation").hits
    # Single and double precision may part where priorities are all but equal.
    assert hits == pytest.approx(activation_hits(trace, 11, 4), rel=0.01)
    assert hits != replay(trace, 11, eviction="lru").hits


traces = st.builds(
    drawn,
    seed=st.integers(0, 1 << 30),
    layers=st.integers(1, 5),
    experts=st.sampled_from([2, 5, 8, 16]),
    top_k=st.integers(1, 2),
    requests=st.integers(1, 4),
    tokens=st.integers(1, 30),
    skew=st.floats(0, 2),
    topic=st.floats(0, 1),
    cling=st.sampled_from([0.0, 0.7, 0.95]),
    together=st.integers(1, 2),
)


@settings(max_examples=30, deadline=None)
@given(trace=traces, slots=st.integers(1, 40))
def test_no_policy_beats_the_optimum(trace: Trace, slots: int) -> None:
    uses = sum(len(trace.chosen_experts(row)) for row in range(len(trace.layers)))
    best = optimum(trace, slots)
    assert best.hits + best.misses == uses
    for eviction in POLICIES:
        found = replay(trace, slots, eviction=eviction)
        assert found.hits + found.misses == uses
        assert found.hits <= best.hits
        # Every miss fills a slot or takes one.
        assert max(0, found.misses - slots) <= found.evictions <= found.misses
    assert replay(trace, slots, eviction="lru").hits == lru_hits(trace, slots)


@settings(max_examples=20, deadline=None)
@given(trace=traces)
def test_with_room_for_all_every_expert_is_read_once(trace: Trace) -> None:
    uses = [
        (int(layer), expert)
        for row, layer in enumerate(trace.layers)
        for expert in trace.chosen_experts(row)
    ]
    for eviction in POLICIES:
        found = replay(trace, trace.experts * 5, eviction=eviction)
        assert (found.misses, found.evictions) == (len(set(uses)), 0)
        halves = replay(trace, trace.experts * 10, eviction=eviction, slices=2)
        assert (halves.hits, halves.misses) == (2 * found.hits, 2 * found.misses)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("kind", "quarter", "half"),
    [
        ({"skew": 0.5, "topic": 0.8, "cling": 0.7}, 0.03, 0.01),
        ({"skew": 0.1, "topic": 0.2, "cling": 0.5}, 0.04, 0.03),
        ({"skew": 0.1, "topic": 0.3, "cling": 0.95}, 0.007, 0.004),
        ({"skew": 1.5, "topic": 0.5, "cling": 0.7}, 0.02, 0.001),
        ({"skew": 0.2, "topic": 1.5, "cling": 0.5}, 0.03, 0.002),
        ({"skew": 0.5, "topic": 0.8, "cling": 0.7, "together": 4}, 0.15, -0.002),
    ],
    ids=["usual", "balanced", "clinging", "skewed", "topical", "four at once"],
)
def test_ours_hits_more_than_lru(
    seed: int, kind: dict[str, Any], quarter: float, half: float
) -> None:
    """The margins are a little below what was found; an eighth is just one round of the layers."""
    trace = drawn(seed=seed, layers=6, experts=16, top_k=2, requests=8, tokens=80, **kind)
    for room, gain in ((0.125, -0.002), (0.25, quarter), (0.5, half)):
        rates = {
            name: replay(trace, int(6 * 16 * room), eviction=name).hit_rate for name in POLICIES
        }
        assert rates["foresight"] >= rates["lru"] + gain, (room, rates)
        # And is the best of all, or next to it.
        assert rates["foresight"] >= max(rates.values()) - 0.004, (room, rates)


def test_ours_keeps_what_lru_throws_away_in_a_cycle() -> None:
    """All of a cycle just do not fit: LRU hits nothing, the optimum nearly all."""
    trace = cyclic(layers=4, experts=8, length=5, tokens=200)
    slots = 16
    assert replay(trace, slots, eviction="lru").hits == 0
    best = optimum(trace, slots).hit_rate
    assert best > 0.7
    assert replay(trace, slots, eviction="foresight").hit_rate > 0.9 * best


def test_a_prediction_that_is_right_is_a_hit() -> None:
    trace = drawn(seed=3, layers=4, experts=8, top_k=2, requests=2, tokens=50)
    ahead = Trace(
        trace.layers,
        trace.requests,
        trace.probabilities,
        trace.top_k,
        # At each visit, what the next row's router will say.
        predicted_layers=np.append(trace.layers[1:].astype(np.int64), -1),
        predicted=np.roll(trace.probabilities, -1, axis=0),
    )
    for eviction in POLICIES:
        found = replay(ahead, 4, eviction=eviction, prefetch="predicted")
        assert found.misses == trace.top_k
        assert found.prefetch_used == found.prefetched


def test_foresight_uses_predictions_that_are_not_fetched() -> None:
    """Half of the room is awaited prefetches; what stays besides is what the predictor expects."""
    trace = drawn(seed=5, layers=4, experts=16, top_k=2, requests=4, tokens=80, cling=0.3)
    rng = np.random.default_rng(0)
    coming = np.roll(trace.probabilities, -1, axis=0)
    noisy = (coming * rng.lognormal(0, 0.7, coming.shape)).astype(np.float32)
    ahead = Trace(
        trace.layers,
        trace.requests,
        trace.probabilities,
        trace.top_k,
        predicted_layers=np.append(trace.layers[1:].astype(np.int64), -1),
        predicted=noisy,
    )
    with_it = replay(ahead, 16, eviction="foresight", prefetch="predicted")
    without = replay(ahead, 16, eviction="lru", prefetch="predicted")
    assert with_it.hits > without.hits


def sequence_model(trace: Trace, layers: int) -> int:
    """Count the uses that sequence statistics foretell."""
    counts = np.zeros((layers, trace.experts, trace.experts))
    visits = np.zeros((layers, trace.experts))
    before: dict[int, tuple[int, list[int]]] = {}
    foretold = 0
    for row, layer in enumerate(int(number) for number in trace.layers):
        request = int(trace.requests[row])
        chosen = trace.chosen_experts(row)
        if request in before and (before[request][0] + 1) % layers == layer:
            last, experts = before[request]
            known = [e for e in experts if visits[last, e]]
            chances: npt.NDArray[np.float64] = np.zeros(trace.experts)
            for expert in known:
                chances += counts[last, expert] / visits[last, expert]
            order = np.argsort(-chances, kind="stable")[: trace.top_k]
            foretold += sum(chances[e] > 0 and int(e) in chosen for e in order)
            visits[last, experts] += 1
            for expert in experts:
                counts[last, expert, chosen] += 1
        before[request] = (layer, chosen)
    return foretold


@pytest.mark.parametrize("seed", range(3))
def test_sequence_statistics_foretell_what_a_table_does(seed: int) -> None:
    trace = drawn(seed=seed, layers=3, experts=6, top_k=2, requests=3, tokens=60, tied=True)
    # With no more room than one visit needs, what was used is a prefetch, or was just used.
    found = replay(trace, 2, eviction="lru", prefetch="sequence")
    expected = sequence_model(trace, layers=3)
    assert found.prefetch_used == pytest.approx(expected, abs=0.02 * expected)


def test_sequence_statistics_help_where_layers_follow_each_other() -> None:
    trace = drawn(seed=1, layers=4, experts=16, top_k=2, requests=4, tokens=150, tied=True)
    alone = replay(trace, 16, eviction="lru")
    ahead = replay(trace, 16, eviction="lru", prefetch="sequence")
    assert ahead.hit_rate > alone.hit_rate + 0.1


def test_a_trace_comes_back_from_its_file(tmp_path: Path) -> None:
    trace = drawn(seed=0, layers=2, experts=4, top_k=1, requests=1, tokens=5)
    trace.save(tmp_path / "trace.npz")
    again = Trace.load(tmp_path / "trace.npz")
    assert again.top_k == 1
    assert again.chosen is None
    np.testing.assert_array_equal(again.probabilities, trace.probabilities)
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match="not a trace"):
        Trace.load(tmp_path / "other.npz")


def test_what_a_visit_used_may_be_said() -> None:
    trace = drawn(seed=0, layers=2, experts=8, top_k=2, requests=2, tokens=20)
    chosen = np.zeros(trace.probabilities.shape, np.bool_)
    chosen[:, [1, 4, 6]] = True
    said = Trace(trace.layers, trace.requests, trace.probabilities, 2, chosen=chosen)
    found = replay(said, 6)
    assert (found.hits, found.misses) == (3 * len(trace.layers) - 6, 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eviction": "fifo"}, "no eviction"),
        ({"prefetch": "oracle"}, "no prefetch"),
        ({"prefetch": "predicted"}, "no predictions"),
        ({"layers": 1}, "not among 1"),
        ({"slices": 3}, "no cache of"),
        ({"slots": 0}, "slots is at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any], words: str) -> None:
    trace = drawn(seed=0, layers=2, experts=4, top_k=1, requests=1, tokens=5)
    with pytest.raises(ValueError, match=words):
        replay(trace, **{"slots": 2, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"layers": np.zeros(3)},
        {"chosen": np.zeros((2, 3))},
        {"top_k": 5},
        {"predicted": np.zeros((2, 4))},
        {"probabilities": np.zeros(2)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    sound: dict[str, Any] = {name: np.zeros(2) for name in ("layers", "requests")}
    sound |= {"probabilities": np.zeros((2, 4)), "top_k": 1}
    Trace(**sound)
    with pytest.raises(ValueError, match=r"is |are |together"):
        Trace(**{**sound, **change})


def test_no_slot_is_refused_by_the_optimum() -> None:
    with pytest.raises(ValueError, match="at least one"):
        optimum(drawn(seed=0, layers=1, experts=2, top_k=1, requests=1, tokens=1), 0)
