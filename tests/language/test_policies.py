"""Policies against their formulas, and what they do against whole windows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language.conftest import make_decoder
from torch import Tensor

from nestling.elastic import Subnet, Supernet
from nestling.errors import PathError
from nestling.language.bits import Windows, score_subnet, token_bits
from nestling.language.costs import TokenCosts
from nestling.language.decoder import Signals, StateRule, measure_logits
from nestling.language.policies import (
    ACCEPT,
    Alternating,
    ConfidenceExit,
    EntropyAdaptive,
    Fixed,
    RandomMix,
    Speculative,
    TokenPolicy,
)
from nestling.language.running import follow_exits, follow_text, read_paths, write_greedily
from nestling.language.scoring import logits_each
from nestling.language.speculation import speculate

TABLE = torch.tensor([path.levels for path in make_decoder().space.named.values()])


def signals(path: int = 0, **values: float) -> Signals:
    def row(name: str) -> Tensor:
        return torch.tensor([values.get(name, 0.0)])

    return Signals(
        row("entropy_bits"),
        row("confidence"),
        row("margin"),
        row("similarity"),
        torch.tensor([path]),
        torch.zeros(1, 4),
    )


def paths(supernet: Supernet) -> list[Subnet]:
    return list(supernet.space.named.values())


def test_signals_are_those_of_the_distribution() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.125, 0.125], [1.0, 0.0, 0.0, 0.0]])
    entropy, confidence, margin = measure_logits((probabilities + 1e-30).log())
    torch.testing.assert_close(entropy, torch.tensor([1.75, 0.0]))
    torch.testing.assert_close(confidence, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(margin, torch.tensor([0.25, 1.0]))


@given(
    entropies=st.lists(st.floats(0, 8, width=32), min_size=1, max_size=40),
    threshold=st.floats(0, 8, width=32),
    window=st.integers(1, 6),
    stay=st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_entropy_is_a_rolling_mean_with_a_minimum_stay(
    entropies: list[float], threshold: float, window: int, stay: int
) -> None:
    controller = EntropyAdaptive(0, 1, threshold, window, stay).start(1)
    path, since, seen = 1, stay, []
    assert controller.choose(None, 0).tolist() == [1]
    for position, entropy in enumerate(entropies, 1):
        seen.append(torch.tensor(entropy))
        mean = float(torch.stack(seen[-window:]).mean())
        wanted = int(mean > threshold)
        if wanted != path and since >= stay:
            path, since = wanted, 1
        else:
            since += 1
        last = signals(entropy_bits=entropy)
        assert controller.choose(last, position).tolist() == [path]
        assert controller.accept(last).tolist() == [ACCEPT]


def test_entropy_ahead_goes_on_with_the_token_at_hand() -> None:
    controller = EntropyAdaptive(0, 2, 1.0, window=2, ahead=True).start(1)
    for entropy, expected in ((0.5, ACCEPT), (1.6, 2), (1.0, 2), (0.1, ACCEPT)):
        assert controller.choose(None, 0).tolist() == [0]
        assert controller.accept(signals(entropy_bits=entropy)).tolist() == [expected]
        if expected == 2:
            assert controller.accept(signals(2, entropy_bits=9.0)).tolist() == [ACCEPT]


def test_confidence_climbs_until_it_is_sure() -> None:
    controller = ConfidenceExit((0, 1, 3), (0.9, 0.6), similarity=0.99).start(1)
    assert controller.choose(None, 0).tolist() == [0]
    assert controller.accept(signals(0, confidence=0.9)).tolist() == [ACCEPT]
    assert controller.accept(signals(0, confidence=0.89)).tolist() == [1]
    assert controller.accept(signals(0, confidence=0.1, similarity=0.99)).tolist() == [ACCEPT]
    assert controller.accept(signals(1, confidence=0.61)).tolist() == [ACCEPT]
    assert controller.accept(signals(1, confidence=0.5)).tolist() == [3]
    assert controller.accept(signals(3, confidence=0.0)).tolist() == [ACCEPT]


def test_a_random_mix_has_its_share_and_its_seed() -> None:
    draws = [RandomMix(0, 1, 0.3, seed=4).start(5000).choose(None, 0) for _ in range(2)]
    assert torch.equal(*draws)
    assert float(draws[0].double().mean()) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    "policy",
    [
        Alternating(0, 2),
        RandomMix(0, 2, 0.4),
        EntropyAdaptive(0, 2, 4.6, window=2, ahead=True),
        EntropyAdaptive(0, 2, 4.6, window=3, minimum_stay=2),
        ConfidenceExit((0, 1, 2), (0.3, 0.4)),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_following_is_reading_with_the_same_paths(
    decoder: Supernet, windows: Windows, policy: TokenPolicy
) -> None:
    run = follow_text(decoder, windows, paths(decoder), policy)
    assert len(run.path.unique()) > 1
    logits = read_paths(decoder, windows, paths(decoder), run.path)
    expected = token_bits(logits, windows.targets)
    torch.testing.assert_close(run.bits, expected, rtol=1e-3, atol=1e-3)
    by_hand = logits_each(decoder, windows.tokens, TABLE[run.path])
    torch.testing.assert_close(logits, by_hand, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "policy",
    [
        RandomMix(0, 2, 0.4),
        EntropyAdaptive(0, 2, 4.6, window=2, minimum_stay=2, ahead=True),
        ConfidenceExit((0, 2), (0.3,), similarity=0.9),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_what_is_decided_behind_the_core_needs_no_loop(
    decoder: Supernet, windows: Windows, policy: TokenPolicy
) -> None:
    looped = follow_text(decoder, windows, paths(decoder), policy)
    at_once = follow_exits(decoder, windows, paths(decoder), policy)
    assert len(looped.path.unique()) > 1
    assert torch.equal(at_once.path, looped.path) and torch.equal(at_once.macs, looped.macs)
    torch.testing.assert_close(at_once.bits, looped.bits, rtol=1e-3, atol=1e-3)


def test_recomputing_takes_each_token_from_its_own_network(
    decoder: Supernet, windows: Windows
) -> None:
    policy = ConfidenceExit((0, 2), (0.3,))
    run = follow_text(decoder, windows, paths(decoder), policy, StateRule.RECOMPUTE)
    tiny, full = (score_subnet(decoder, paths(decoder)[path], windows)[0] for path in (0, 2))
    expected = torch.where(run.path == 0, tiny, full)
    torch.testing.assert_close(run.bits, expected, rtol=1e-3, atol=1e-3)
    at_once = follow_exits(decoder, windows, paths(decoder), policy, StateRule.RECOMPUTE)
    torch.testing.assert_close(at_once.bits, expected, rtol=1e-3, atol=1e-3)
    # Layers that a token skipped are run for it later; each look behind the core is a head.
    costs = TokenCosts(decoder)
    every = costs.token(decoder.space.full())
    for one in (run, at_once):
        assert torch.equal(one.macs, torch.where(one.path == 0, every, every + costs.head))


def test_costs_are_products_with_weights(decoder: Supernet, windows: Windows) -> None:
    costs = TokenCosts(decoder, context=0)
    for subnet in decoder.space.named.values():
        # Torch counts a window of 32 tokens, attention's scores and sums too.
        counted = decoder.macs(subnet)
        layers = sum(level > 0 for level in subnet.levels[0::2])
        attention = layers * 2 * 32 * 32 * 32
        levels = torch.tensor(subnet.levels)
        ours = 32 * (int(costs.blocks(levels)) + costs.head) + attention
        norms = 32 * 32 * (2 * layers + 1)  # in evaluation their means are products too
        assert counted - ours in (0, norms)
    run = follow_text(decoder, windows, paths(decoder), ConfidenceExit((0, 2), (0.3,)))
    with_context = TokenCosts(decoder)
    tiny, full = (with_context.token(paths(decoder)[path]) for path in (0, 2))
    assert torch.equal(run.macs, torch.where(run.path == 0, tiny, full + with_context.head))


def test_writing_is_the_greedy_path(decoder: Supernet) -> None:
    prompt = [3, 1, 4, 1, 5]
    written = [w.token for w in write_greedily(decoder, prompt, paths(decoder), Fixed(2), 12)]
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(12):
            ids.append(
                int(decoder(torch.tensor([ids]), subnet=decoder.space.full())[0, -1].argmax())
            )
    assert written == ids[5:]


@pytest.mark.parametrize("tokens", [1, 3, 5])
@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_speculation_says_what_the_full_path_says(
    decoder: Supernet, tokens: int, confidence: float
) -> None:
    prompt = [7, 7, 2]
    expected = [w.token for w in write_greedily(decoder, prompt, paths(decoder), Fixed(2), 25)]
    policy = Speculative(0, 2, tokens, confidence)
    counts = speculate(decoder, prompt, paths(decoder), policy, 25)
    assert counts.tokens == expected
    assert sum(counts.by_draft_token) == counts.accepted <= counts.drafted
    assert len(counts.verified) == 25 - counts.accepted
    # A draft by the verifying path itself is never refused.
    itself = speculate(decoder, prompt, paths(decoder), Speculative(2, 2, 4), 25)
    assert itself.tokens == expected and itself.acceptance == 1.0
    assert len(itself.verified) == math.ceil(25 / 5)


def test_an_unknown_path_is_an_error(decoder: Supernet, windows: Windows) -> None:
    with pytest.raises(PathError, match="a path that there is not"):
        follow_text(decoder, windows, paths(decoder), Fixed(3))
