"""Experts of a dense block: all of them together are the block."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from nestling.elastic import ElasticFeedForward, ElasticLlama, Supernet, load, save
from nestling.elastic.subnet import Subnet
from nestling.errors import ModelError
from nestling.experts.carve import Carving, carve, carve_decoder, carved_paths, group_neurons
from nestling.experts.routing import expert_layers
from nestling.experts.virtual import virtual_experts
from nestling.language.corpus import load_corpus
from nestling.recipes import language as recipe


def make_block(*, gated: bool, bias: bool) -> ElasticFeedForward:
    torch.manual_seed(0)
    block = ElasticFeedForward(
        24, 48, widths=(1.0,), gated=gated, bias=bias, activation="silu", name="ffn"
    ).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(2.0)
            if parameter.dim() == 1:
                parameter.add_(0.1)
    return block


@pytest.mark.parametrize(("gated", "bias"), [(True, False), (False, True)])
def test_all_experts_together_are_the_dense_block(gated: bool, bias: bool) -> None:
    block = make_block(gated=gated, bias=bias)
    x = torch.randn(2, 40, 24)
    with torch.no_grad():
        expected = block(x)
        inputs = block.norm(x).flatten(0, 1)
        errors = []
        for top_k in (4, 2, 1):
            carved = carve(block, inputs, Carving(4, top_k, 8))
            errors.append(float(F.mse_loss(carved(x), expected)))
        assert errors[0] < 1e-10
        assert errors[0] < errors[1] < errors[2]
        # Groups that fit together are worth more than any groups of the same sizes.
        alone = carve(block, inputs, Carving(4, 2, 8))
        shuffled = copy.deepcopy(block)
        assert float(F.mse_loss(alone(x), expected)) < errors_at_random(shuffled, x)
        torch.testing.assert_close(virtual_experts(block, 4, 4)(x), expected, rtol=1e-5, atol=1e-5)


def errors_at_random(block: ElasticFeedForward, x: torch.Tensor) -> float:
    """Mean error when half of the block's neurons are left out, whichever."""
    expected = block(x)
    errors = []
    for seed in range(4):
        kept = torch.randperm(48, generator=torch.Generator().manual_seed(seed))[:28]
        part = copy.deepcopy(block)
        left = torch.ones(48, dtype=torch.bool)
        left[kept] = False
        part.down.weight[:, left] = 0.0
        errors.append(float(F.mse_loss(part(x), expected)))
    return sum(errors) / len(errors)


def test_groups_are_found_where_there_are_some() -> None:
    """Neurons that fire together, whichever the token, end in one expert; busy ones are shared."""
    torch.manual_seed(1)
    pattern = torch.randint(3, (200,))
    activations = 0.01 * torch.randn(200, 16)
    activations[:, :4] += 3.0
    for group in range(3):
        rows = (pattern == group).nonzero()
        activations[rows, 4 + 4 * group + torch.arange(4)] += 2.0
    order = torch.randperm(16)
    found = group_neurons(activations[:, order], Carving(3, 1, 4, active_share=0.5))
    assert sorted(order[found.shared].tolist()) == [0, 1, 2, 3]
    groups = sorted(sorted(order[group].tolist()) for group in found.routed)
    assert groups == [[4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    for group, neuron in zip(found.routed, found.representatives, strict=True):
        assert int(neuron) in group.tolist()


def test_virtual_experts_train_the_block_itself() -> None:
    layer = virtual_experts(make_block(gated=True, bias=False), 6, 2)
    layer(torch.randn(1, 5, 24)).square().sum().backward()
    assert layer.bank.up.weight.grad is not None  # type: ignore[union-attr]
    assert sum(p.numel() for p in layer.bank.parameters()) == 3 * 24 * 48


def test_a_carved_decoder_is_the_decoder_and_can_be_kept(tmp_path) -> None:
    torch.manual_seed(0)
    dense = ElasticLlama(
        vocabulary=40,
        dim=32,
        depth=3,
        heads=4,
        hidden=48,
        positions=16,
        widths=(0.5, 1.0),
        heads_widths=(1.0,),
        core_layers=1,
        tied=True,
    ).eval()
    text = torch.randint(40, (4, 16))
    carved = carve_decoder(dense, text, Carving(5, 5, 8))
    with torch.no_grad():
        expected = dense(text, subnet=dense.space.full())
        found = carved(text)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert carved_paths(dense, carved) == {
        "tiny": Subnet((1, 1, 0, 0, 1, 1)),
        "full": carved.space.full(),
    }
    save(carved, tmp_path / "carved.pt")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "carved.pt")(text), found, rtol=0, atol=0)
    with pytest.raises(ModelError, match="divide"):
        carve_decoder(dense, text, Carving(7, 2, 8))
    with pytest.raises(ModelError, match="dense"):
        carve_decoder(carved, text, Carving(5, 2, 8))
    with pytest.raises(ModelError, match="divide"):
        virtual_experts(make_block(gated=True, bias=False), 5, 2)


def test_a_trained_decoder_keeps_most_of_its_quality() -> None:
    """With half of the routed experts, on the decoder that comes along."""
    decoder, tokenizer = recipe.load_trained()
    ids = [
        tokenizer.encode(document.text, add_special_tokens=False).ids[:129]
        for split in ("train", "held-out")
        for document in load_corpus(split)[:200:20]
    ]
    windows = torch.tensor([tokens for tokens in ids if len(tokens) == 129])
    text, held_out = windows[::2], windows[1::2]

    def score(net: Supernet) -> float:
        with torch.no_grad():
            logits = net(held_out[:, :-1], subnet=net.space.full())
        return float(F.cross_entropy(logits.flatten(0, 1), held_out[:, 1:].flatten()))

    dense = score(decoder)
    carved = carve_decoder(decoder, text[:, :-1], Carving(8, 4, 128))
    assert score(carved) == pytest.approx(dense, rel=0.05)
    for layer in expert_layers(carved):
        layer.bank.top_k = 8
    assert score(carved) == pytest.approx(dense, rel=1e-4)
