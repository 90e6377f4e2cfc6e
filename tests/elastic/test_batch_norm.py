"""Statistics: folded exactly, kept for each level, and measured again before use."""

from __future__ import annotations

import random

import pytest
import torch
from elastic.samples import randomise, supernets
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic import ElasticInvertedResidual, ElasticMobileNet, Supernet, recalibrate
from nestling.elastic.batch_norm import ConvNorm, NestedBatchNorm2d, pad_same, plain_copy
from nestling.errors import ModelError


def norms(supernet: Supernet) -> list[NestedBatchNorm2d]:
    return [m for m in supernet.modules() if isinstance(m, NestedBatchNorm2d)]


@pytest.mark.parametrize("same_padding", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_folded_convolution_computes_the_same(same_padding: bool, stride: int) -> None:
    conv = nn.Conv2d(3, 6, 3, stride=stride, padding=0 if same_padding else 1)
    module = ConvNorm(conv, nn.ReLU(), same_padding=same_padding, eps=1e-3)
    randomise(module)
    x = torch.randn(2, 3, 7, 6)
    with torch.no_grad():
        padded = pad_same(x, conv) if same_padding else x
        norm = module.norm
        expected = F.relu(
            F.batch_norm(
                conv(padded),
                norm.running_mean[0],
                norm.running_var[0],
                norm.weight,
                norm.bias,
                eps=1e-3,
            )
        )
        assert torch.equal(plain_copy(module)(x), module(x))
        torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("stride", "kernel", "dilation"), [(1, 3, 1), (2, 3, 1), (2, 5, 1)])
def test_same_padding_is_that_of_tensorflow(
    size: int, stride: int, kernel: int, dilation: int
) -> None:
    conv = nn.Conv2d(1, 1, kernel, stride=stride, dilation=dilation)
    x = torch.randn(1, 1, size, size)
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    padded = F.pad(x, (total // 2, total - total // 2) * 2)
    assert torch.equal(pad_same(x, conv), padded)
    assert conv(pad_same(x, conv)).shape[-1] == out


def test_training_updates_the_prefix_and_the_level_that_ran() -> None:
    block = ElasticInvertedResidual(4, 4, 8, widths=(2, 4, 8))
    before = {name: value.clone() for name, value in block.state_dict().items()}
    block.train()
    block.level = 2
    block(torch.randn(4, 4, 5, 5) + 1)
    after = block.state_dict()

    def changed(name: str) -> Tensor:
        return (before[name] != after[name]).any(dim=1 if "project" in name else 0)

    for name in ("expand_norm.running_mean", "depthwise_norm.running_var"):
        assert changed(name).tolist() == [True] * 4 + [False] * 4
    assert changed("project_norm.running_mean").tolist() == [False, True, False]


def test_training_agrees_with_torch() -> None:
    ours, theirs = NestedBatchNorm2d(6).train(), nn.BatchNorm2d(6).train()
    for seed in range(3):
        x = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2 + 1
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_mean[0], theirs.running_mean)
    assert torch.equal(ours.running_var[0], theirs.running_var)


def test_recalibration_is_the_mean_over_batches_and_subnets() -> None:
    supernet, _ = supernets()["mobilenet_v2"]
    batches = [torch.randn(4, 1, 8, 8) + i for i in range(3)]
    subnets = [supernet.space.smallest(), supernet.space.full()]
    recalibrate(supernet, batches, subnets)
    first = supernet.stem.first
    with torch.no_grad():
        values = torch.stack([first.conv(batch) for batch in batches])
    torch.testing.assert_close(first.norm.running_mean[0], values.mean(dim=(0, 1, 3, 4)))
    variances = values.transpose(1, 2).flatten(2).var(dim=2).mean(dim=0)
    torch.testing.assert_close(first.norm.running_var[0], variances)


def test_recalibration_keeps_what_no_subnet_reaches() -> None:
    supernet, inputs = supernets()["mobilenet_v2"]
    block = supernet.chain[0]
    assert isinstance(block, ElasticInvertedResidual)
    before = block.project_norm.running_mean.clone()
    tail = block.expand_norm.running_mean[0, block.widths[0] :].clone()
    recalibrate(supernet, [inputs[0]], [supernet.space.smallest()])
    assert not torch.equal(block.project_norm.running_mean[0], before[0])
    assert torch.equal(block.project_norm.running_mean[1:], before[1:])
    assert torch.equal(block.expand_norm.running_mean[0, block.widths[0] :], tail)


def test_recalibration_leaves_mode_subnet_and_weights() -> None:
    supernet, inputs = supernets()["mobilenet_v2"]
    weights = [p.clone() for p in supernet.parameters()]
    small = supernet.space.smallest()
    supernet.train().select(small)
    recalibrate(supernet, [(inputs[0],)])
    assert supernet.training
    assert supernet.active == small
    assert not any(norm.collecting for norm in norms(supernet))
    assert all(torch.equal(a, b) for a, b in zip(weights, supernet.parameters(), strict=True))
    supernet.eval()
    with torch.no_grad():
        assert torch.equal(supernet(*inputs), supernet.dense(small)(*inputs))


def test_recalibration_without_data_or_subnets() -> None:
    supernet, inputs = supernets()["mobilenet_v2"]
    with pytest.raises(ModelError, match="batch"):
        recalibrate(supernet, [])
    with pytest.raises(ModelError, match="subnet"):
        recalibrate(supernet, inputs, [])
    assert not any(norm.collecting for norm in norms(supernet))


def test_recalibration_without_batch_norm_does_nothing() -> None:
    supernet, inputs = supernets()["vit"]
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    recalibrate(supernet, inputs)
    assert all(torch.equal(before[name], v) for name, v in supernet.state_dict().items())


def test_plain_batch_norm_in_a_stem_is_recalibrated_too() -> None:
    stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
    block = ElasticInvertedResidual(4, 4, 8)
    supernet = Supernet(stem, [block], nn.Identity(), inputs={"x": torch.zeros(1, 1, 6, 6)})
    batches = [torch.randn(8, 1, 6, 6) * 3 + i for i in range(3)]
    recalibrate(supernet.train(), batches)
    with torch.no_grad():
        mean = torch.stack([stem[0](batch) for batch in batches]).mean(dim=(0, 1, 3, 4))
    torch.testing.assert_close(stem[1].running_mean, mean)
    assert stem[1].momentum == 0.1
    assert stem[1].training


def test_forgetting_to_recalibrate_ruins_the_small_subnets() -> None:
    """The classic failure: deploy a small subnet with the statistics of the full one."""
    torch.manual_seed(0)
    directions = F.normalize(torch.randn(4, 64), dim=1)
    labels = torch.randint(0, 4, (256,))
    images = (3 * directions[labels] + 0.5 * torch.randn(256, 64)).reshape(-1, 1, 8, 8)
    supernet = ElasticMobileNet(
        image_size=8,
        channels=1,
        stem=8,
        stem_stride=1,
        stem_out=None,
        blocks=((8, 4, 1), (16, 4, 2), (16, 4, 1)),
        head=None,
        classes=4,
        depths=(1.0,),
    )
    optimiser = torch.optim.AdamW(supernet.parameters(), lr=1e-2)
    rng = random.Random(0)
    supernet.train()
    for _ in range(60):
        index = torch.randint(0, 256, (64,))
        optimiser.zero_grad()
        for subnet in (supernet.space.full(), supernet.space.sample(rng)):
            logits = supernet(images[index], subnet=subnet)
            F.cross_entropy(logits, labels[index]).backward()
        optimiser.step()
    supernet.eval()

    @torch.no_grad()
    def accuracy() -> float:
        logits = supernet(images, subnet=supernet.space.smallest())
        return (logits.argmax(1) == labels).float().mean().item()

    for norm in norms(supernet):
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0)
    recalibrate(supernet, images.split(64), [supernet.space.full()])
    for block in supernet.chain:
        assert isinstance(block, ElasticInvertedResidual)
        norm = block.project_norm
        norm.running_mean.copy_(norm.running_mean[-1:].expand_as(norm.running_mean))
        norm.running_var.copy_(norm.running_var[-1:].expand_as(norm.running_var))
    forgotten = accuracy()
    recalibrate(supernet, images.split(64))
    assert accuracy() > 0.9
    assert forgotten < accuracy() - 0.2
