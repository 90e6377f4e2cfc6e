"""Plain modules built of elastic blocks."""

from __future__ import annotations

import pytest
import torch
from elastic.samples import DIM, randomise
from torch import Tensor, nn

from nestling.elastic import (
    ElasticAttention,
    ElasticFeedForward,
    ElasticInvertedResidual,
    FixedBlock,
    convert,
)
from nestling.errors import ModelError


def sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Sequential(ElasticInvertedResidual(8, 8, 16), ElasticInvertedResidual(8, 8, 16)),
        nn.Conv2d(8, 12, 2, stride=2),
        ElasticInvertedResidual(12, 12, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, DIM)
        self.blocks = nn.ModuleList(
            [
                ElasticAttention(DIM, 4, layer=0),
                ElasticFeedForward(DIM, 8, layer=0),
                ElasticFeedForward(DIM, 8, layer=1),
            ]
        )
        self.head = Last()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Last(nn.Module):
    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return x[:, -1]


@torch.no_grad()
def test_a_sequential_with_something_fixed_between() -> None:
    model = randomise(sequential())
    x = torch.randn(2, 1, 6, 6)
    before = model(x)
    supernet = convert(model, inputs={"image": x[:1]}).eval()
    assert torch.equal(supernet(x), before)
    assert [block.name for block in supernet.chain] == ["2.0", "2.1", "3", "4"]
    assert isinstance(supernet.chain[2], FixedBlock)
    assert supernet.space.depths == ((0, 2, 3), (0, 1, 2, 3))
    for subnet in supernet.space.enumerate_uniform():
        y = supernet(x, subnet=subnet)
        assert torch.equal(supernet.dense(subnet)(x), y)
    assert supernet.input_names == ("image",)
    assert supernet.family == "custom"


@torch.no_grad()
def test_a_module_with_stem_blocks_and_head() -> None:
    model = randomise(Own())
    x = torch.randn(2, 3, 4)
    before = model(x)
    supernet = convert(model, inputs={"x": x[:1]}, output_name="last").eval()
    assert torch.equal(supernet(x), before)
    assert [len(layer) for layer in supernet.layers()] == [2, 1]
    assert supernet.output_name == "last"


def test_a_supernet_is_returned_as_it_is() -> None:
    supernet = convert(Own(), inputs={"x": torch.zeros(1, 3, 4)})
    assert convert(supernet) is supernet


def test_no_elastic_place() -> None:
    with pytest.raises(ModelError, match="no elastic place") as caught:
        convert(nn.Sequential(nn.Linear(4, 4)), inputs={"x": torch.zeros(1, 4)})
    for word in ("Sequential", "ElasticFeedForward", "ViTForImageClassification"):
        assert word in str(caught.value)


def test_example_inputs_are_needed() -> None:
    with pytest.raises(ModelError, match="example inputs"):
        convert(sequential())


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = ElasticFeedForward(DIM, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + 1


def test_an_order_that_cannot_be_seen() -> None:
    inputs = {"x": torch.zeros(1, DIM)}
    with pytest.raises(ModelError, match=r"order.*Hidden"):
        convert(Hidden(), inputs=inputs)
    with pytest.raises(ModelError, match=r"order.*module 1"):
        convert(nn.Sequential(ElasticFeedForward(DIM, 8), Hidden(), ElasticFeedForward(DIM, 8)))


@pytest.mark.parametrize("thing", [3, None, object()])
def test_things_that_are_no_model(thing: object) -> None:
    with pytest.raises(ModelError, match="not a model"):
        convert(thing)
