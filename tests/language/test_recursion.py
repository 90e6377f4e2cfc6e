"""Layers that are visited again, and feed-forward blocks that are used wide or deep."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from nestling.elastic import Supernet, load, save, sort_units
from nestling.elastic.families.recursive import RecursiveLlama
from nestling.elastic.families.recursive_feed_forward import VersatileFeedForward
from nestling.elastic.families.recursive_versatile import VersatileLlama
from nestling.elastic.supernet import split_stem
from nestling.errors import ModelError
from nestling.language.bits import Windows
from nestling.language.corpus import Kind
from nestling.language.costs import TokenCosts
from nestling.language.decoder import EagerDecoder, StateRule
from nestling.language.recursion import (
    ChosenVisits,
    VisitLosses,
    VisitTraining,
    balance_loss,
    visit_streams,
)
from nestling.language.running import follow_text
from nestling.language.scoring import decoder_layers, logits_each
from nestling.language.training import LanguageTraining, train_language

TOKENS = 12
Net = TypeVar("Net", bound=Supernet)


def make_recursive(shares_state: bool = False, shared_layers: int = 1) -> RecursiveLlama:
    """One layer, then up to three visits of others; weights large enough that paths differ."""
    torch.manual_seed(0)
    return _enlarge(
        RecursiveLlama(
            vocabulary=50,
            dim=32,
            first_layers=1,
            shared_layers=shared_layers,
            visits=3,
            shares_state=shares_state,
            heads=4,
            groups=2,
            hidden=48,
            positions=32,
            widths=(0.5, 1.0),
            tied=True,
        )
    )


def make_versatile() -> VersatileLlama:
    """A core layer, then one whose block is used as a slice of four, once, twice or thrice."""
    torch.manual_seed(0)
    net = VersatileLlama(
        vocabulary=50,
        dim=32,
        depth=2,
        core_layers=1,
        ffn_visits=3,
        slices=4,
        heads=4,
        groups=2,
        hidden=48,
        positions=32,
        widths=(0.5, 1.0),
    )
    return _enlarge(net)


def _enlarge(net: Net) -> Net:
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=1.2 * parameter.shape[1] ** -0.5)
    return net.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(50, (2, TOKENS), generator=torch.Generator().manual_seed(1))


def unrolled_logits(net: RecursiveLlama, tokens: Tensor, visits: int) -> Tensor:
    """The same by hand: attention written out, one set of weights, a loop."""
    x, (mask, *rotary) = split_stem(net.stem(tokens))
    cos, sin = rotary
    first, count = net.shared
    body = net.chain[: first + count]
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    order = list(range(first)) + list(range(first, first + count)) * visits
    for step, index in enumerate(order):
        block = body[index]
        if index % 2:
            level = block.spec.levels
            x = x + block.transform(block.norm(x), level)
            continue
        h = block.norm(x)
        q, k, v = (
            part(h).unflatten(-1, (-1, block.head_dim))  # type: ignore[operator]
            for part in (block.q, block.k, block.v)
        )
        q, k = (t * cos + torch.cat(t.chunk(2, dim=-1)[::-1], dim=-1) * sin for t in (q, k))
        if net.config is not None and net.config["shares_state"]:
            k, v = kept.setdefault(index, (k, v))
        k, v = (t.repeat_interleave(2, dim=2) for t in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * block.head_dim**-0.5 + mask  # type: ignore[operator]
        y = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(dim=-1), v).flatten(2)
        x = x + block.o(y)  # type: ignore[operator]
        assert step < len(order)
    return net.head(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("shares_state", [False, True])
@pytest.mark.parametrize("shared_layers", [1, 2])
def test_a_path_is_a_loop_over_the_same_layers(
    tokens: Tensor, shares_state: bool, shared_layers: int
) -> None:
    net = make_recursive(shares_state, shared_layers)
    again = copy.deepcopy(net)
    for visits, (name, subnet) in enumerate(net.visit_paths().items(), 1):
        assert name == ("once", "twice", "thrice")[visits - 1]
        with torch.no_grad():
            expected = unrolled_logits(net, tokens, visits)
            torch.testing.assert_close(net(tokens, subnet=subnet), expected)
            torch.testing.assert_close(again(tokens, subnet=subnet), expected)
        decoder = EagerDecoder(net, rows=2)
        for at in range(TOKENS):
            logits = decoder.feed(tokens[:, at : at + 1], subnet)
            torch.testing.assert_close(logits[:, 0], expected[:, at], atol=1e-4, rtol=1e-4)


def test_visits_add_no_weights(tmp_path: Path) -> None:
    net = make_recursive()
    counts = {net.count_parameters(subnet) for subnet in net.visit_paths().values()}
    router = sum(p.numel() for p in net.router.parameters())
    tied = net.stem.embedding.weight.numel()  # type: ignore[union-attr, operator]
    assert counts == {sum(p.numel() for p in net.parameters()) - router + tied}
    save(net, tmp_path / "net.pt")
    loaded = load(tmp_path / "net.pt")
    assert isinstance(loaded, RecursiveLlama) and list(loaded.space.named) == [
        "once",
        "twice",
        "full",
    ]
    text = torch.arange(8)[None]
    torch.testing.assert_close(loaded(text), net(text), atol=0.0, rtol=0.0)
    once = TokenCosts(net).token(net.visit_paths()["once"])
    thrice = TokenCosts(net).token(net.visit_paths()["thrice"])
    assert thrice > once
    # With one cache, visits that are left out need no keys and values.
    shared = TokenCosts(make_recursive(shares_state=True))
    attention = decoder_layers(net)[0][0]
    rows = attention.k.weight.numel() + attention.v.weight.numel()
    assert shared.token(net.visit_paths()["once"]) == once - 2 * rows


def test_units_are_sorted_once(tokens: Tensor) -> None:
    net = make_recursive()
    before = net(tokens)
    sort_units(net, "magnitude")
    torch.testing.assert_close(net(tokens), before, atol=1e-4, rtol=1e-4)
    for block in net.chain:
        if block.name.endswith("ffn"):
            scores = block.magnitude()
            assert bool((scores[:-1] >= scores[1:]).all())


def test_there_must_be_something_to_visit_again() -> None:
    with pytest.raises(ModelError, match="visited twice"):
        RecursiveLlama(vocabulary=8, dim=8, heads=2, visits=1)
    with pytest.raises(ModelError, match="second use"):
        VersatileLlama(vocabulary=8, dim=8, depth=1, heads=2, ffn_visits=1)


def test_balance_is_best_where_all_are_chosen_evenly() -> None:
    even = torch.eye(3).repeat(4, 1)
    one = torch.tensor([[1.0, 0.0, 0.0]]).repeat(12, 1)
    assert float(balance_loss(even)) == pytest.approx(1.0)
    assert float(balance_loss(one)) == pytest.approx(3.0)


def test_the_router_learns_which_tokens_need_another_visit() -> None:
    # In a network of random weights it is the text that decides: even tokens come out as the first
    # visit says, odd ones as the third does.
    net = make_recursive()
    tokens = torch.randint(50, (4, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = [net.head(stream) for stream in visit_streams(net, tokens)]
        stream = visit_streams(net, tokens)[0]
    targets = torch.where(tokens % 2 == 1, logits[2].argmax(dim=-1), logits[0].argmax(dim=-1))
    net.requires_grad_(False)
    net.router.requires_grad_(True)
    losses = VisitLosses(net, VisitTraining(price=0.0, balance=0.0))
    optimizer = torch.optim.Adam(net.router.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        total = torch.stack(list(losses(tokens, targets).values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    each = torch.stack(
        [
            torch.nn.functional.cross_entropy(one.transpose(1, 2), targets, reduction="none")
            for one in logits
        ],
        dim=-1,
    )
    chosen = net.router(stream).argmax(dim=-1, keepdim=True)
    routed, fixed = float(each.gather(-1, chosen).mean()), float(each.mean(dim=(0, 1)).min())
    oracle = float(each.min(dim=-1).values.mean())
    assert routed < oracle + 0.5 * (fixed - oracle)
    windows = Windows(tokens, targets, torch.ones(4, 16), ("prose",) * 4)
    paths = list(net.visit_paths().values())
    run = follow_text(net, windows, paths, ChosenVisits(net.router), StateRule.RECOMPUTE)
    assert torch.equal(run.path, chosen[..., 0])


@pytest.mark.parametrize("shares_state", [False, True])
def test_network_and_router_train_together(shares_state: bool) -> None:
    net = make_recursive(shares_state)
    texts: dict[Kind, Tensor] = {
        "prose": torch.arange(50).repeat(4),
        "code": torch.arange(49, -1, -1).repeat(4),
    }
    config = LanguageTraining(steps=12, windows=4, length=16, warmup=2, lr=0.01)
    before = net.router.output.weight.clone()
    tokens = torch.arange(16)[None]

    def loss(name: str) -> float:
        with torch.no_grad():
            logits = net(tokens, subnet=net.space.named[name])[0]
            return float(torch.nn.functional.cross_entropy(logits, tokens[0] + 1))

    first = {name: loss(name) for name in net.space.named}
    train_language(net, texts, config, more_losses=VisitLosses(net, VisitTraining()))
    assert all(loss(name) < first[name] for name in net.space.named)
    assert not torch.equal(net.router.output.weight, before)
    copy.deepcopy(net)  # what the export does; nothing of a training step may be in the way


def test_levels_of_a_versatile_block(tokens: Tensor) -> None:
    net = make_versatile()
    block = net.chain[-1]
    assert isinstance(block, VersatileFeedForward)
    assert [str(subnet) for subnet in net.space.named.values()] == ["1111", "1113", "1114", "1115"]
    x = torch.randn(2, TOKENS, 32)
    inner, wide = block.inner, block.wide
    assert wide is not None
    visit = [x]
    inner.level = 2
    for _ in range(3):
        visit.append(inner(visit[-1]))
    expected = [wide(x), x + inner.transform(inner.norm(x), 1), *visit[1:]]
    for level, result in enumerate(expected, 1):
        block.level = level
        torch.testing.assert_close(block(x), result)
        torch.testing.assert_close(block.dense(level)(x), result)
    levels = torch.arange(2 * TOKENS).reshape(2, TOKENS) % 6
    each = x + block.transform_each(x, levels)
    for level, result in enumerate([x, *expected]):
        torch.testing.assert_close(each[levels == level], result[levels == level])


def test_slices_of_a_versatile_block_are_trained_with_it(tokens: Tensor) -> None:
    net = make_versatile().train()
    block = net.chain[-1]
    assert isinstance(block, VersatileFeedForward)
    for name in ("wide", "full"):
        net.zero_grad()
        net(tokens, subnet=net.space.named[name]).square().mean().backward()
        assert block.inner.up.weight.grad is not None
        assert float(block.inner.up.weight.grad.abs().sum()) > 0


def test_a_versatile_decoder_decodes(tokens: Tensor) -> None:
    net = make_versatile()
    paths = list(net.space.named.values())
    levels = torch.tensor([path.levels for path in paths])
    taken = torch.arange(2 * TOKENS).reshape(2, TOKENS) % len(paths)
    with torch.no_grad():
        expected = logits_each(net, tokens, levels[taken])
    decoder = EagerDecoder(net, rows=2)
    for at in range(TOKENS):
        logits = decoder.feed(tokens[:, at : at + 1], levels[taken[:, at : at + 1]])
        torch.testing.assert_close(logits[:, 0], expected[:, at], atol=1e-4, rtol=1e-4)
    costs = [TokenCosts(net).token(path) for path in paths]
    assert costs == sorted(costs)
