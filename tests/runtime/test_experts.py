"""Experts that come and go: whatever the options, the answers are those of all resident."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime.expert_bundle import expected
from runtime.expert_cases import TOKENS, Case, close, experts_of, parts_of
from runtime.expert_samples import Floats

import nestling_runtime
from nestling_runtime import (
    BudgetError,
    EngineError,
    Model,
    Session,
    expert_abi,
)
from nestling_runtime.experts import ModelExperts


@pytest.fixture(scope="module")
def model(nibbles: Case) -> Iterator[Model]:
    with nestling_runtime.open(nibbles.path, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("which", ["floats", "nibbles"])
@pytest.mark.parametrize("tokens", TOKENS)
def test_layers_compute_what_numpy_does(
    which: str, tokens: int, request: pytest.FixtureRequest
) -> None:
    case: Case = request.getfixturevalue(which)
    with nestling_runtime.open(case.path, threads=1) as model, model.session() as session:
        experts = experts_of(model)
        experts.configure(predictor="none")
        close(case.run(session, tokens), case.expected(tokens))
        first = experts.statistics()
        assert first.calls == 2
        assert first.tokens == 2 * tokens
        assert first.misses == first.loads > 0
        case.run(session, tokens)
        again = experts.statistics()
        assert (again.misses, again.late) == (first.misses, 0)
        assert again.hits == first.hits + first.lookups


def test_a_bundle_says_what_experts_it_has(nibbles: Case, model: Model, tiny_path: Path) -> None:
    found = experts_of(model)
    for view, layer in zip(found.layers, nibbles.layers, strict=True):
        assert (view.dim, view.hidden, view.experts, view.top_k, view.group) == (
            layer.dim,
            layer.hidden,
            layer.experts,
            layer.top_k,
            layer.group,
        )
        assert view.slice_bytes == tuple(map(len, layer.slices(0)))
        assert view.predicted_layer == layer.predicted_layer
    assert found.total_bytes == sum(sum(view.slice_bytes) * view.experts for view in found.layers)
    with nestling_runtime.open(tiny_path, threads=1) as without:
        assert without.experts is None


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Any options under which a run waits for what is missing."""
    slots = draw(st.sampled_from((0, 2, 3, 4, 7, 12)))
    return {
        "slots": slots,
        "eviction": draw(st.sampled_from(expert_abi.EVICTIONS)),
        "predictor": draw(st.sampled_from(expert_abi.PREDICTORS)),
        "order": draw(st.sampled_from(expert_abi.ORDERS)),
        "storage_latency_us": draw(st.sampled_from((0, 20))),
    }


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chosen=options(),
    runs=st.lists(st.tuples(st.sampled_from(TOKENS), st.integers(0, 2)), min_size=1, max_size=6),
)
def test_waiting_gives_the_answers_of_all_resident(
    nibbles: Case,
    model: Model,
    wanted: dict[tuple[int, int], Floats],
    chosen: dict[str, Any],
    runs: Sequence[tuple[int, int]],
) -> None:
    experts = experts_of(model)
    slots = chosen.pop("slots")
    experts.configure(budget_bytes=slots * experts.slot_bytes, **chosen)
    with model.session() as session:
        for tokens, seed in runs:
            np.testing.assert_array_equal(nibbles.run(session, tokens, seed), wanted[tokens, seed])
    counted = experts.statistics()
    assert counted.calls == 2 * len(runs)
    assert counted.tokens == 2 * sum(tokens for tokens, _ in runs)
    assert counted.prefetch_used <= counted.prefetched <= counted.loads + 2
    assert counted.resident <= counted.slots
    assert counted.peak_bytes <= counted.slots * experts.slot_bytes
    assert counted.evictions >= counted.loads - counted.slots
    assert counted.failed_loads == counted.timeouts == counted.low_bits == 0
    if chosen["predictor"] == "none":
        assert counted.prefetched == 0
        # The half of an expert that is there may give way while the other half is waited for.
        assert counted.misses <= counted.loads <= 2 * counted.misses
        assert counted.resident == counted.loads - counted.evictions
    if slots:
        assert counted.slots == slots


def test_an_expert_in_memory_for_two_is_enough_for_any_number_of_tokens(
    nibbles: Case, model: Model, wanted: dict[tuple[int, int], Floats]
) -> None:
    experts = experts_of(model)
    needed = {}
    for order in ("queue", "cache"):
        experts.configure(
            budget_bytes=4 * experts.slot_bytes, order=order, predictor="none", eviction="lru"
        )
        with model.session() as session:
            np.testing.assert_array_equal(nibbles.run(session, 6), wanted[6, 0])
        needed[order] = experts.statistics().loads
    scores = list(nibbles.inputs(6).values())[1:]
    distinct = sum(
        len({e for row in np.argsort(-s, axis=1)[:, : layer.top_k] for e in row})
        for s, layer in zip(scores, nibbles.layers, strict=True)
    )
    assert needed["queue"] == 2 * distinct  # each expert once, both slices
    assert needed["cache"] > needed["queue"]


def test_the_order_follows_from_tokens_and_experts(nibbles: Case, model: Model) -> None:
    experts_of(model).configure(order="auto")
    with model.session() as session:
        nibbles.run(session, 1)
        assert experts_of(model).statistics().queue_calls == 0
        nibbles.run(session, 6)  # 6 x 2 of 6, 6 x 3 of 8
        assert experts_of(model).statistics().queue_calls == 2


def test_four_bits_need_half_the_bytes(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    experts.configure(bits=4, predictor="none")
    with model.session() as session:
        close(nibbles.run(session, 6), nibbles.expected(6, bits=4))
    four = experts.statistics()
    experts.configure(bits=8, predictor="none")
    with model.session() as session:
        nibbles.run(session, 6)
    eight = experts.statistics()
    assert four.loads * 2 == eight.loads
    assert four.low_bits == 0
    assert four.loaded_bytes < 0.6 * eight.loaded_bytes


def test_low_bits_answer_first_and_the_rest_is_read_behind(
    nibbles: Case, model: Model, wanted: dict[tuple[int, int], Floats]
) -> None:
    experts = experts_of(model)
    experts.configure(on_miss="low_bits", predictor="none", order="cache")
    with model.session() as session:
        first = nibbles.run(session, 1)
        counted = experts.statistics()
        assert counted.low_bits > 0
        upgrades = sum(len(layer.slices(0)[1]) * layer.top_k for layer in nibbles.layers)
        high = sum(len(layer.slices(0)[0]) * layer.top_k for layer in nibbles.layers)
        settle(experts, loads=2 * sum(layer.top_k for layer in nibbles.layers))
        np.testing.assert_array_equal(nibbles.run(session, 1), wanted[1, 0])
    after = experts.statistics()
    assert after.low_bits == counted.low_bits
    assert after.loaded_bytes == high + upgrades  # the upgrade moved the second half alone
    if counted.low_bits == 5:  # nothing of the rest came in between
        close(first, nibbles.expected(1, bits=4))


def settle(experts: ModelExperts, loads: int) -> None:
    """Wait until the loader has read what it was asked for."""
    tick = threading.Event()
    for _ in range(2000):
        if experts.statistics().loads >= loads:
            return
        tick.wait(0.005)
    raise AssertionError(f"still reading: {experts.statistics()}")


def test_second_choices_are_resident_and_good_enough(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    inputs = nibbles.inputs(1)
    scores = np.full((1, 6), -9.0, np.float32)
    scores[0, [0, 1]] = 1.0, 0.9
    other = scores.copy()
    other[0, 2] = 1.1  # a little better than 0, and not resident
    name = "y0.t1"

    def run(session: Session, row: Floats) -> Floats:
        session.select("t1")
        return session.run(**{**inputs, "scores0.t1": row})[name]

    experts.configure(on_miss="second_choice", second_choice_ratio=0.8, predictor="none")
    with model.session() as session:
        run(session, scores)  # nothing was resident: 0 and 1 are waited for
        assert experts.statistics().second_choices == 0
        got = run(session, other)
        assert experts.statistics().second_choices == 1
    layer, x = nibbles.layers[0], inputs["x.t1"]
    p = np.exp(other[0].astype(np.float64))
    p /= p.sum()
    wanted = sum(p[e] * layer.expert(e, x) for e in (0, 1))
    close(got, wanted)

    experts.configure(on_miss="second_choice", second_choice_ratio=1.0, predictor="none")
    with model.session() as session:
        run(session, scores)
        close(run(session, other), layer.forward(x, other))
        assert experts.statistics().second_choices == 0


def test_missing_experts_are_computed_elsewhere(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    asked: list[tuple[int, int]] = []

    def elsewhere(layer: int, expert: int, rows: Floats) -> Any:
        asked.append((layer, expert))
        return nibbles.layers[layer].expert(expert, rows)

    experts.configure(on_miss="elsewhere", elsewhere=elsewhere, predictor="none")
    with model.session() as session:
        close(nibbles.run(session, 6), nibbles.expected(6))
        assert experts.statistics().elsewhere == len(asked) > 0
        settle(experts, loads=2 * len(set(asked)))
        asked.clear()
        close(nibbles.run(session, 6), nibbles.expected(6))
        assert asked == []

    def broken(layer: int, expert: int, rows: Floats) -> Any:
        raise KeyError("the other machine is off")

    experts.configure(on_miss="elsewhere", elsewhere=broken, predictor="none")
    with model.session() as session:
        with pytest.raises(EngineError, match=r"expert \d of layer 0 could not be computed else"):
            nibbles.run(session, 1)
        assert isinstance(experts.take_error(), KeyError)
    experts.configure()


def test_a_right_prediction_is_read_before_it_is_asked_for(nibbles: Case, model: Model) -> None:
    """Layer 0 takes as long as the storage needs for what its predictor asks for."""
    experts = experts_of(model)
    inputs = nibbles.inputs(1)
    predictor = nibbles.layers[0].predictor
    assert predictor is not None
    inputs["scores1.t1"] = inputs["x.t1"] @ predictor[0].T + predictor[1]
    asked: list[int] = []

    def elsewhere(layer: int, expert: int, rows: Floats) -> Any:
        asked.append(layer)
        settle(experts, loads=2 * (3 + 2))  # three predicted experts, and two that are missing
        return nibbles.layers[layer].expert(expert, rows)

    experts.configure(predictor="router", on_miss="elsewhere", elsewhere=elsewhere, order="cache")
    with model.session() as session:
        session.select("t1")
        got = session.run(**inputs)["y1.t1"]
    close(got, expected(nibbles.layers, *parts_of(inputs)))
    counted = experts.statistics()
    assert asked == [0, 0]
    assert counted.prefetch_used == counted.hits == 2 * 3
    assert counted.loads == 2 * (3 + 2)  # nothing was read in vain
    experts.configure()


def test_everything_can_be_read_at_once(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    experts.configure()
    experts.load()
    loaded = experts.statistics()
    assert loaded.resident == loaded.slots == 2 * (6 + 8)
    with model.session() as session:
        close(nibbles.run(session, 6), nibbles.expected(6))
    after = experts.statistics()
    assert (after.misses, after.hit_rate) == (0, 1.0)
    experts.reset_statistics()
    zero = experts.statistics()
    assert (zero.calls, zero.hits, zero.loads, zero.resident) == (0, 0, 0, loaded.resident)
    experts.configure(budget_bytes=5 * experts.slot_bytes)
    experts.load()
    assert experts.statistics().resident == 4  # two whole experts
    experts.configure()


def test_an_emulated_storage_takes_its_time_and_says_so(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    experts.configure(storage_bytes_per_s=10_000_000, storage_latency_us=100, predictor="none")
    with model.session() as session:
        nibbles.run(session, 1)
        took_ns = session.last_run_ns
    counted = experts.statistics()
    assert counted.storage_bytes_per_s == 10_000_000
    assert counted.storage_latency_us == 100
    least_ns = counted.loads * 100_000 + counted.loaded_bytes * 100
    assert took_ns >= least_ns
    assert counted.wait_ns > 0
    experts.configure()


def test_calls_are_recorded(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    experts.configure()
    experts.record(3)
    with model.session() as session:
        nibbles.run(session, 1)
        nibbles.run(session, 6)
    calls = experts.recorded()
    assert [(call.layer, call.tokens) for call in calls] == [(0, 1), (1, 1), (0, 6)]
    assert calls[0].request == calls[1].request != calls[2].request
    assert experts.dropped_calls == 1
    for call, layer in zip(calls, (0, 1, 0), strict=True):
        scores = nibbles.inputs(call.tokens)[f"scores{layer}.t{call.tokens}"].astype(np.float64)
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        shape = nibbles.layers[layer]
        np.testing.assert_allclose(call.probabilities[: shape.experts], p.mean(axis=0), rtol=1e-5)
        assert not call.probabilities[shape.experts :].any()
        chosen = {int(e) for row in np.argsort(-scores, axis=1)[:, : shape.top_k] for e in row}
        assert call.chosen == tuple(sorted(chosen))
    experts.record(0)
    assert experts.recorded() == ()


def test_options_are_checked_and_the_old_ones_stay(nibbles: Case, model: Model) -> None:
    experts = experts_of(model)
    experts.configure(budget_bytes=6 * experts.slot_bytes)
    for bad in (
        {"bits": 5},
        {"second_choice_ratio": 1.5},
        {"second_choice_ratio": float("nan")},
        {"on_miss": "elsewhere"},
    ):
        with pytest.raises(EngineError, match="out of its range"):
            experts.configure(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eviction is one of lru"):
        experts.configure(eviction="fifo")  # type: ignore[arg-type]
    with pytest.raises(BudgetError) as error:
        experts.configure(budget_bytes=2 * experts.slot_bytes - 1)
    assert error.value.missing_bytes == 1
    assert experts.statistics().slots == 6
    with model.session() as session:
        close(nibbles.run(session, 1), nibbles.expected(1))
    experts.configure()


def test_sessions_share_the_experts(
    nibbles: Case, model: Model, wanted: dict[tuple[int, int], Floats]
) -> None:
    experts = experts_of(model)
    experts.configure(budget_bytes=4 * experts.slot_bytes, storage_latency_us=10)
    wrong: list[object] = []

    def work(shift: int) -> None:
        with model.session() as session:
            for step in range(8):
                key = (TOKENS[(step + shift) % 2], (step + shift) % 3)
                if not np.array_equal(nibbles.run(session, *key), wanted[key]):
                    wrong.append(key)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert experts.statistics().calls == 4 * 8 * 2
    experts.configure()
