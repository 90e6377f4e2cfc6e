"""Training a decoder of experts: roundings, wishes on routing, and that it learns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import pytest
import torch
from torch.nn import functional as F

from nestling.elastic import Supernet
from nestling.experts.bank import StackedExperts
from nestling.experts.decoder import ExpertLlama
from nestling.experts.routing import Routing, expert_layers
from nestling.experts.slices import ExpertBits, NibbleMatrix
from nestling.language.corpus import Kind
from nestling.language.muon import Muon, orthogonal
from nestling.language.training import LanguageTraining
from nestling.recipes.experts.language import make_decoder, upcycle
from nestling.recipes.experts.language.training import (
    ExpertTraining,
    change,
    kept_share,
    rounded_experts,
    train_experts,
)

TEXTS: dict[Kind, torch.Tensor] = {
    "prose": torch.arange(50).repeat(10),
    "code": torch.arange(49, -1, -1).repeat(10),
}
CONFIG = ExpertTraining(
    LanguageTraining(steps=30, windows=4, length=16, warmup=2, lr=0.01), group=16
)


@pytest.fixture
def decoder() -> ExpertLlama:
    torch.manual_seed(0)
    return make_decoder(
        dim=32, layers=1, heads=2, groups=1, experts=4, top_k=2, hidden=16, shared_hidden=16
    )


def test_it_learns_with_whole_and_with_rounded_experts(decoder: ExpertLlama) -> None:
    losses: list[dict[str, float]] = []
    rounded: tuple[ExpertBits | None, ...] = (None, 4)

    def evaluate(supernet: Supernet) -> Mapping[str, float]:
        tokens = torch.arange(16)[None]
        found = {}
        for bits in rounded:
            with torch.no_grad(), rounded_experts(supernet, bits, CONFIG.group):
                logits = supernet(tokens)[0]
            found[str(bits)] = float(F.cross_entropy(logits, tokens[0] + 1))
        losses.append(found)
        return found

    fit = train_experts(decoder, TEXTS, CONFIG, evaluate=evaluate, evaluate_every=15)
    assert fit.step == 30
    assert all(losses[-1][name] < losses[0][name] for name in losses[0])


def test_a_run_out_of_time_ends_with_a_fall(decoder: ExpertLlama) -> None:
    schedule = dataclasses.replace(CONFIG.schedule, steps=1000)
    config = dataclasses.replace(CONFIG, schedule=schedule)
    assert train_experts(decoder, TEXTS, config, seconds=0.0).step < 10


@pytest.mark.parametrize("bits", [4, 8])
def test_rounded_experts_are_those_of_the_slices(decoder: ExpertLlama, bits: ExpertBits) -> None:
    bank = expert_layers(decoder)[0].bank
    assert isinstance(bank, StackedExperts)
    torch.nn.init.normal_(bank.up)
    before = bank.up.detach().clone()
    wanted = torch.stack([NibbleMatrix.quantize(m, 16).weight(bits) for m in before])
    with rounded_experts(decoder, bits, 16):
        found = bank.up.detach().clone()
    # Scales of the slices have 16 bits, which moves a few weights by a step of theirs.
    step = before.reshape(4, 16, 2, 16).abs().amax(-1, keepdim=True) / 119.0
    steps = ((found - wanted).reshape(4, 16, 2, 16) / step).abs()
    assert float((steps > 0.2).float().mean()) < 0.02
    assert torch.equal(bank.up, before)


def test_experts_that_last_cost_nothing() -> None:
    scores = torch.tensor([[9.0, -9.0, 9.0, -9.0]]).repeat(12, 1)
    chosen = scores.topk(2, dim=-1).indices
    call = Routing("", "", torch.zeros(12, 8), scores, chosen)
    assert float(change(call, 2)) == pytest.approx(0.0, abs=1e-6)
    assert float(kept_share([call], 2)) == 1.0
    even = Routing("", "", torch.zeros(12, 8), torch.zeros(12, 4), chosen)
    assert float(change(even, 2)) == pytest.approx(math.log(2.0), abs=1e-6)
    others = torch.eye(4)[torch.arange(12) % 4] * 50.0
    call = Routing("", "", torch.zeros(12, 8), others, others.topk(1, dim=-1).indices)
    assert float(change(call, 2)) == pytest.approx(50.0, abs=1e-3)
    assert float(kept_share([call], 2)) == 0.0


@torch.no_grad()
def test_an_upcycled_decoder_begins_where_the_shared_experts_were() -> None:
    shapes = {"dim": 32, "layers": 1, "heads": 2, "groups": 1, "experts": 4, "top_k": 2}
    donor = make_decoder(**shapes, hidden=8, shared_hidden=16).eval()
    for parameter in donor.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    begun = make_decoder(**shapes, hidden=8).eval()
    upcycle(begun, donor)
    for layer in expert_layers(donor):
        assert isinstance(layer.bank, StackedExperts)
        layer.bank.down.zero_()
    tokens = torch.arange(16)[None]
    torch.testing.assert_close(begun(tokens), donor(tokens), rtol=1e-4, atol=1e-5)


def test_muon_takes_a_stack_as_its_matrices() -> None:
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(3, 6, 4))
    alone = [torch.nn.Parameter(matrix.detach().clone()) for matrix in stack]
    gradients = torch.randn(3, 6, 4)
    stack.grad = gradients.clone()
    for parameter, gradient in zip(alone, gradients, strict=True):
        parameter.grad = gradient.clone()
    Muon([stack]).step()
    Muon(alone).step()
    torch.testing.assert_close(stack.detach(), torch.stack([p.detach() for p in alone]))
    assert orthogonal(gradients).shape == gradients.shape
