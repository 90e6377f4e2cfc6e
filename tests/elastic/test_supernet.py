"""Supernets of every family: subnets against dense networks, costs against arithmetic."""

from __future__ import annotations

import random

import pytest
import torch
from elastic.samples import DIM, FAMILIES, supernets
from torch import nn

from nestling.elastic import ElasticFeedForward, ElasticMobileNet, ElasticViT, Subnet, Supernet
from nestling.elastic.batch_norm import ConvNorm, NestedBatchNorm2d
from nestling.elastic.block import ElasticBlock
from nestling.elastic.supernet import split_stem
from nestling.errors import ModelError, PathError


def chosen(supernet: Supernet, count: int = 12) -> list[Subnet]:
    rng = random.Random(0)
    samples = [supernet.space.sample(rng) for _ in range(count)]
    return [*supernet.space.named.values(), *samples]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_subnet_is_the_dense_network_bit_for_bit(family: str) -> None:
    supernet, inputs = supernets()[family]
    for subnet in chosen(supernet):
        dense = supernet.dense(subnet)
        assert torch.equal(supernet(*inputs, subnet=subnet), dense(*inputs))
        elastic = (ElasticBlock, ConvNorm, NestedBatchNorm2d)
        assert not any(isinstance(module, elastic) for module in dense.modules())


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_subnet_is_the_sum_of_its_parts(family: str) -> None:
    supernet, inputs = supernets()[family]
    for subnet in chosen(supernet, 4):
        x, context = split_stem(supernet.plain_stem()(*inputs))
        for block, level in zip(supernet.chain, subnet.levels, strict=True):
            if level:
                h = block.prepare()(x, *context)
                total = sum(block.part(j)(h, *context) for j in range(1, level + 1))
                y = block.finish(level)(total)
                x = block.post(x + y if block.residual else y)
        y = supernet.plain_head()(x, *context)
        torch.testing.assert_close(y, supernet(*inputs, subnet=subnet), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_networks_export(family: str) -> None:
    supernet, _ = supernets()[family]
    inputs = supernet.example_inputs()
    assert [len(value) for value in inputs] == [1] * len(supernet.input_names)
    dense = supernet.dense(supernet.space.smallest())
    program = torch.export.export(dense, inputs)
    torch.testing.assert_close(program.module()(*inputs), dense(*inputs))
    stem = torch.export.export(supernet.plain_stem(), inputs)
    outputs = stem.module()(*inputs)
    count = 1 if isinstance(outputs, torch.Tensor) else len(outputs)
    assert count == 1 + len(supernet.context_names)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_of_a_subnet(family: str) -> None:
    supernet, _ = supernets()[family]
    counts = []
    for subnet in supernet.space.named.values():
        expected = sum(p.numel() for p in supernet.dense(subnet).parameters())
        counts.append(supernet.count_parameters(subnet))
        assert counts[-1] == expected
    assert counts == sorted(counts)


def test_macs_of_a_transformer_by_arithmetic() -> None:
    supernet, _ = supernets()["vit"]
    positions, head_dim = 5, 4
    # Levels 1..4 are 1..4 heads and 2, 4, 6, 8 neurons.
    for subnet in (supernet.space.full(), Subnet((1, 2, 0, 0, 3, 0, 4, 1))):
        expected = 4 * 16 * 1 * DIM + DIM * 5
        for index, level in enumerate(subnet.levels):
            if index % 2:
                expected += positions * 2 * DIM * 2 * level
            else:
                width = level * head_dim
                expected += positions * 4 * DIM * width + 2 * positions * positions * width
        assert supernet.macs(subnet) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_macs_leaves_everything_as_it_was(family: str) -> None:
    supernet, _ = supernets()[family]
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    subnet = supernet.space.smallest()
    supernet.train().select(subnet)
    assert supernet.macs(supernet.space.full()) > supernet.macs(subnet) > 0
    assert supernet.training
    assert supernet.active == subnet
    assert [block.level for block in supernet.chain] == list(subnet.levels)
    assert all(torch.equal(before[name], v) for name, v in supernet.state_dict().items())


def test_select_stays_until_the_next_one() -> None:
    supernet, inputs = supernets()["vit"]
    small = supernet.space.smallest()
    with torch.no_grad():
        full = supernet(*inputs)
        y = supernet(*inputs, subnet=small)
        assert torch.equal(supernet(*inputs), y)
        supernet.select(supernet.space.full())
        assert torch.equal(supernet(*inputs), full)


def test_an_illegal_subnet_changes_nothing() -> None:
    supernet, _ = supernets()["mobilenet_v2"]
    strided = next(i for i, block in enumerate(supernet.chain) if not block.skippable)
    levels = list(supernet.space.full().levels)
    levels[strided] = 0
    with pytest.raises(PathError, match=f"layer{strided}"):
        supernet.select(Subnet(tuple(levels)))
    assert supernet.active == supernet.space.full()


def test_layers_group_blocks() -> None:
    supernet, _ = supernets()["vit"]
    assert [len(layer) for layer in supernet.layers()] == [2] * 4


def test_layers_for_some_blocks_only() -> None:
    blocks = [ElasticFeedForward(DIM, 8, layer=0), ElasticFeedForward(DIM, 8)]
    with pytest.raises(ModelError, match="its layer"):
        Supernet(nn.Identity(), blocks, nn.Identity(), inputs={"x": torch.zeros(1, DIM)})


def test_sizes_that_do_not_divide() -> None:
    with pytest.raises(ModelError, match="patches"):
        ElasticViT(image_size=10, patch=4)
    with pytest.raises(ModelError, match=r"layer0\.ffn"):
        ElasticViT(image_size=8, patch=4, dim=16, heads=4, hidden=9)
    blocks = ((8, 6, 1), (8, 5, 1))
    ElasticMobileNet(image_size=8, stem=8, stem_out=None, blocks=blocks, widths=(0.3, 1.0))
    with pytest.raises(ModelError, match=r"layer0"):
        ElasticMobileNet(
            image_size=8, stem=8, stem_out=None, blocks=blocks, widths=(0.3, 1.0), align=1
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_training_a_subnet_lowers_its_loss(family: str) -> None:
    supernet, inputs = supernets()[family]
    subnet = supernet.space.named["small"]
    supernet.train()
    optimiser = torch.optim.SGD(supernet.parameters(), lr=0.02)
    with torch.no_grad():
        target = torch.randn_like(supernet(*inputs, subnet=subnet))
    losses = []
    for _ in range(8):
        loss = nn.functional.mse_loss(supernet(*inputs, subnet=subnet), target)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
