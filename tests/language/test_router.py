"""Duo-LLM's routes: all of them, the best, learnt ones, drawn ones."""

from __future__ import annotations

import pytest
import torch

from nestling.elastic import Supernet
from nestling.language.bits import Windows, score_subnet, token_bits
from nestling.language.router import (
    Routed,
    list_routes,
    pick_routes,
    random_routes,
    score_routes,
    train_router,
)
from nestling.language.running import PathTable, follow_exits, follow_text, read_paths


def test_routes_are_scored_as_networks(decoder: Supernet, windows: Windows) -> None:
    routes = list_routes(decoder)
    assert len(routes) == 9
    assert routes[0] == decoder.space.smallest() and routes[-1] == decoder.space.full()
    scores = score_routes(decoder, windows)
    full = score_subnet(decoder, routes[-1], windows)[1].flatten(0, 1).softmax(-1)
    for index, route in enumerate(routes):
        bits, logits = score_subnet(decoder, route, windows)
        torch.testing.assert_close(scores.bits[:, index], bits.flatten(), rtol=1e-3, atol=1e-3)
        expected = -(full * logits.flatten(0, 1).log_softmax(-1)).sum(-1) / torch.tensor(2.0).log()
        torch.testing.assert_close(scores.expected_bits[:, index], expected, rtol=1e-3, atol=1e-3)


def test_prices_and_draws_keep_the_mean_cost() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(4000, 5, generator=generator)
    costs = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    for mean in (1.5, 2.5, 4.0):
        picked, price = pick_routes(losses, costs, mean)
        assert float(costs[picked].mean()) == pytest.approx(min(mean, 3.0), abs=0.06)
        assert torch.equal(picked, (losses + price * costs).argmin(-1))
        drawn = random_routes(costs, mean, 20000)
        assert float(costs[drawn].mean()) == pytest.approx(mean, abs=0.05)
    # Whoever looks does better than whoever does not, at the same cost.
    picked, _ = pick_routes(losses, costs, 2.0)
    drawn = random_routes(costs, 2.0, 4000)
    rows = torch.arange(4000)
    assert float(losses[rows, picked].mean()) < 0.7 * float(losses[rows, drawn].mean())


def test_a_router_learns_and_decides_at_every_token(decoder: Supernet, windows: Windows) -> None:
    routes = list_routes(decoder)
    scores = score_routes(decoder, windows)
    router = train_router(scores, steps=300, batch=64, lr=0.01)
    regrets = scores.expected_bits - scores.expected_bits[:, -1:]
    with torch.no_grad():
        error = (router(scores.streams) - regrets).square().mean()
    assert float(error) < 0.5 * float(regrets.var())
    table = PathTable(decoder, routes)
    costs = (table.blocks + table.state + table.head).float()
    with torch.no_grad():
        picked, price = pick_routes(router(scores.streams), costs, float(costs.mean()))
    policy = Routed(router, costs, price)
    looped = follow_text(decoder, windows, routes, policy)
    at_once = follow_exits(decoder, windows, routes, policy)
    assert float((looped.path == at_once.path).double().mean()) > 0.97  # near ties
    assert float((at_once.path.flatten() == picked).double().mean()) > 0.97
    logits = read_paths(decoder, windows, routes, looped.path)
    bits = token_bits(logits, windows.targets)
    torch.testing.assert_close(looped.bits, bits, rtol=1e-3, atol=1e-3)
