"""Sorting by importance: the full net stays, what matters comes first."""

from __future__ import annotations

import pytest
import torch
from elastic.samples import BLOCKS, DIM, FAMILIES, blocks, supernets
from torch import Tensor, nn

from nestling.elastic import ElasticFeedForward, Supernet, sort_units
from nestling.elastic.importance import collect
from nestling.errors import ModelError

METHODS = ("magnitude", "activation", "taylor")


def loss(output: Tensor, batch: tuple[Tensor, ...]) -> Tensor:
    return output.square().mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sorting_leaves_the_full_net_unchanged(family: str, method: str) -> None:
    supernet, inputs = supernets()[family]
    with torch.no_grad():
        before = supernet(*inputs)
    small = supernet.space.smallest()
    supernet.select(small)
    old = supernet.chain[0].state_dict()
    weights = {name: value.clone() for name, value in old.items()}
    sort_units(supernet, method, [inputs], loss)  # type: ignore[arg-type]
    assert supernet.active == small
    assert any(not torch.equal(weights[n], v) for n, v in supernet.chain[0].state_dict().items())
    with torch.no_grad():
        after = supernet(*inputs, subnet=supernet.space.full())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    scores = supernet.chain[-1].importance("magnitude")
    if method == "magnitude":
        assert torch.equal(scores, scores.sort(descending=True).values)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_dead_unit_has_no_importance(name: str) -> None:
    block, inputs = blocks()[name]
    dead = block.units // 2
    for layer, repeat in (
        ("down", 1),
        ("project", 1),
        ("second", 1),
        ("o", getattr(block, "query_width", 1)),
    ):
        if hasattr(block, layer):
            with torch.no_grad():
                getattr(block, layer).weight[:, dead * repeat : (dead + 1) * repeat] = 0
    block.layer = -1
    stem = WithContext(inputs[1:])
    supernet = Supernet(stem, [block], Head(), inputs={"x": inputs[0][:1]}, depths=(1.0,))
    collect(supernet.eval(), "taylor", [inputs[:1]], loss)
    scores = block.importance("taylor")
    assert scores.shape == (block.units,)
    assert scores[dead] == 0
    assert (scores > 0).sum() >= block.units - 2  # an activation may clip one
    assert block.probe is None


def test_taylor_is_the_gradient_of_removing_a_unit() -> None:
    block, (x,) = blocks()["ffn"]
    assert isinstance(block, ElasticFeedForward)
    block.layer = -1
    supernet = Supernet(nn.Identity(), [block], Head(), inputs={"x": x[:1]}).eval()
    collect(supernet, "taylor", [x], loss)
    scores, step = block.importance("taylor"), 1e-3
    weight = block.down.weight
    for unit in range(block.units):
        with torch.no_grad():
            column = weight[:, unit].clone()
            weight[:, unit] = column * (1 + step)
            up = loss(supernet(x), (x,))
            weight[:, unit] = column * (1 - step)
            down = loss(supernet(x), (x,))
            weight[:, unit] = column
        torch.testing.assert_close(
            scores[unit], (up - down).abs() / (2 * step), rtol=0.02, atol=1e-3
        )


def test_activation_is_the_mean_size_of_what_a_unit_hands_on() -> None:
    block, (x,) = blocks()["ffn"]
    assert isinstance(block, ElasticFeedForward)
    block.layer = -1
    supernet = Supernet(nn.Identity(), [block], Head(), inputs={"x": x[:1]}).eval()
    collect(supernet, "activation", [x[:1], x[1:2]])
    with torch.no_grad():
        hidden = block.activation(block.up(block.norm(x[:2])))
    torch.testing.assert_close(block.importance("activation"), hidden.abs().mean(dim=(0, 1)))


def test_sorting_makes_the_small_subnet_better() -> None:
    torch.manual_seed(0)
    block = ElasticFeedForward(DIM, 64)
    with torch.no_grad():
        block.down.weight *= 0.1
        block.down.weight[:, 40:56] *= 30
    x = torch.randn(50, DIM)
    supernet = Supernet(nn.Identity(), [block], Head(), inputs={"x": x[:1]}, depths=(1.0,)).eval()
    small = supernet.space.smallest()
    with torch.no_grad():
        full = supernet(x)
        before = (supernet(x, subnet=small) - full).norm()
        sort_units(supernet)
        after = (supernet(x, subnet=small) - full).norm()
    assert after < 0.2 * before


def test_what_is_missing_is_said() -> None:
    supernet, inputs = supernets()["vit"]
    with pytest.raises(ModelError, match="unknown importance"):
        sort_units(supernet, "random")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="batches"):
        sort_units(supernet, "activation")
    with pytest.raises(ModelError, match="loss"):
        sort_units(supernet, "taylor", [inputs])
    with pytest.raises(ModelError, match="no statistics"):
        supernet.chain[0].importance("taylor")


class WithContext(nn.Module):
    def __init__(self, context: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.context = context

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x, *self.context)


class Head(nn.Module):
    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return x
