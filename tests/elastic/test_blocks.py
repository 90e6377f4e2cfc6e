"""Every kind of block: the three views agree, and with networks written by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from elastic.samples import BLOCKS, DIM, HEAD, blocks
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic import ElasticBlock, ElasticFeedForward, ElasticInvertedResidual
from nestling.elastic.attention import MASKED
from nestling.errors import ModelError

CASES = [(name, level) for name in BLOCKS for level in range(4)]


def run(block: ElasticBlock, level: int, inputs: tuple[Tensor, ...]) -> Tensor:
    block.level = level
    with torch.no_grad():
        return block(*inputs)


def legal(block: ElasticBlock, level: int) -> None:
    if level > len(block.widths) or (level == 0 and not block.skippable):
        pytest.skip("no such level")


@pytest.mark.parametrize(("name", "level"), CASES)
def test_forward_is_the_dense_block_bit_for_bit(name: str, level: int) -> None:
    block, inputs = blocks()[name]
    legal(block, level)
    with torch.no_grad():
        assert torch.equal(run(block, level, inputs), block.dense(level)(*inputs))


@pytest.mark.parametrize(("name", "level"), CASES)
def test_parts_add_up(name: str, level: int) -> None:
    block, inputs = blocks()[name]
    legal(block, level)
    if level == 0:
        assert torch.equal(run(block, 0, inputs), inputs[0])
        return
    x, context = inputs[0], inputs[1:]
    with torch.no_grad():
        h = block.prepare()(x, *context)
        total = sum(block.part(j)(h, *context) for j in range(1, level + 1))
        y = block.finish(level)(total)
        y = block.post(x + y if block.residual else y)
    torch.testing.assert_close(y, run(block, level, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BLOCKS)
def test_levels_differ(name: str) -> None:
    block, inputs = blocks()[name]
    outputs = [run(block, level, inputs) for level in range(1, len(block.widths) + 1)]
    for a, b in itertools.combinations(outputs, 2):
        assert (a - b).abs().max() > 1e-2


@pytest.mark.parametrize("name", BLOCKS)
def test_training_computes_the_same(name: str) -> None:
    block, inputs = blocks()[name]
    if isinstance(block, ElasticInvertedResidual):
        pytest.skip("batch norm computes something else in training")
    for level in range(1, len(block.widths) + 1):
        expected = run(block, level, inputs)
        block.train()
        torch.testing.assert_close(run(block, level, inputs), expected, atol=1e-5, rtol=1e-5)
        block.eval()


@pytest.mark.parametrize("name", BLOCKS)
def test_a_permutation_leaves_the_full_block_unchanged(name: str) -> None:
    block, inputs = blocks()[name]
    full = len(block.widths)
    before, small = run(block, full, inputs), run(block, 1, inputs)
    order = torch.arange(block.units).flip(0)
    block.permute(order)
    torch.testing.assert_close(run(block, full, inputs), before, atol=1e-5, rtol=1e-5)
    assert (run(block, 1, inputs) - small).abs().max() > 1e-3
    block.permute(torch.argsort(order))
    assert torch.equal(run(block, full, inputs), before)


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_reach_the_prefix_alone(name: str) -> None:
    block, inputs = blocks()[name]
    block.level = 1
    block(*inputs).square().sum().backward()
    units = block.widths[0]
    rows = {
        "up": units,
        "gate": units,
        "q": units * getattr(block, "query_width", 0),
        "k": units * getattr(block, "head_dim", 0),
        "v": units * getattr(block, "head_dim", 0),
        "expand": units,
        "depthwise": units,
        "first": units,
    }
    seen = 0
    for name_, count in rows.items():
        layer = getattr(block, name_, None)
        if layer is not None:
            assert layer.weight.grad[:count].abs().sum() > 0
            assert layer.weight.grad[count:].abs().sum() == 0
            seen += 1
    assert seen >= 1


@pytest.mark.parametrize("name", BLOCKS)
def test_everything_exports_with_static_shapes(name: str) -> None:
    block, inputs = blocks()[name]
    x, context = inputs[0][:1], tuple(c[:1] if c.dim() == 4 else c for c in inputs[1:])
    last = len(block.widths)
    with torch.no_grad():
        h = block.prepare()(x, *context)
        y = block.part(1)(h, *context)
    for module, arguments in (
        (block.prepare(), (x, *context)),
        (block.part(last), (h, *context)),
        (block.finish(1), (y,)),
        (block.dense(1), (x, *context)),
    ):
        program = torch.export.export(module, arguments)
        torch.testing.assert_close(program.module()(*arguments), module(*arguments))


@pytest.mark.parametrize("name", BLOCKS)
def test_parts_own_their_weights_and_share_none(name: str) -> None:
    block, _ = blocks()[name]
    theirs = {p.data_ptr() for p in block.parameters()}
    seen: set[int] = set()
    parts = [block.part(level) for level in range(1, len(block.widths) + 1)]
    for part in parts:
        for parameter in part.parameters():
            assert parameter.is_contiguous()
            assert parameter.data_ptr() not in theirs | seen
            seen.add(parameter.data_ptr())


@pytest.mark.parametrize("name", BLOCKS)
def test_levels_that_do_not_exist(name: str) -> None:
    block, _ = blocks()[name]
    for level in (-1, len(block.widths) + 1):
        for view in (block.part, block.finish, block.dense):
            with pytest.raises(ModelError, match="no such level"):
                view(level)


def test_feed_forward_by_hand() -> None:
    block, (x,) = blocks()["ffn"]
    assert isinstance(block, ElasticFeedForward)
    for level, width in enumerate(block.widths, start=1):
        h = F.layer_norm(x, (DIM,), block.norm.weight, block.norm.bias)
        hidden = F.gelu(h @ block.up.weight[:width].t() + block.up.bias[:width])
        y = x + hidden @ block.down.weight[:, :width].t() + block.down.bias
        torch.testing.assert_close(run(block, level, (x,)), y, atol=1e-5, rtol=1e-5)


def test_grouped_attention_by_hand() -> None:
    """One query head after the other, keys and values looked up, complex rotation."""
    block, inputs = blocks()["attention-gqa"]
    x, mask, cos, sin = inputs
    angles = torch.atan2(sin[:, 0, HEAD // 2 :], cos[:, 0, HEAD // 2 :])
    turn = torch.polar(torch.ones_like(angles), angles)

    def rotate(values: Tensor) -> Tensor:
        halves = torch.complex(values[..., : HEAD // 2], values[..., HEAD // 2 :]) * turn
        return torch.cat((halves.real, halves.imag), dim=-1)

    h = block.norm(x)
    repeat = block.queries_per_group
    y = x + block.o.bias if block.o.bias is not None else x.clone()
    for level, groups in enumerate(block.widths, start=1):
        total = y.clone()
        for head in range(groups * repeat):
            q_rows = slice(head * HEAD, (head + 1) * HEAD)
            kv_rows = slice(head // repeat * HEAD, (head // repeat + 1) * HEAD)
            q = rotate(h @ block.q.weight[q_rows].t())
            k = rotate(h @ block.k.weight[kv_rows].t())
            scores = q @ k.transpose(1, 2) / HEAD**0.5
            assert torch.equal(mask == MASKED, torch.ones_like(mask).triu(1).bool())
            scores = scores.masked_fill(mask == MASKED, -torch.inf)
            values = torch.softmax(scores, dim=-1) @ (h @ block.v.weight[kv_rows].t())
            total = total + values @ block.o.weight[:, q_rows].t()
        torch.testing.assert_close(run(block, level, inputs), total, atol=1e-5, rtol=1e-5)


def test_attention_against_torch() -> None:
    block, (x,) = blocks()["attention"]
    torch_attention = nn.MultiheadAttention(DIM, 4, batch_first=True).eval()
    with torch.no_grad():
        torch_attention.in_proj_weight.copy_(
            torch.cat((block.q.weight, block.k.weight, block.v.weight))
        )
        torch_attention.in_proj_bias.copy_(torch.cat((block.q.bias, block.k.bias, block.v.bias)))
        torch_attention.out_proj.load_state_dict(block.o.state_dict())
        h = block.norm(x)
        expected = x + torch_attention(h, h, h, need_weights=False)[0]
    torch.testing.assert_close(run(block, 3, (x,)), expected, atol=1e-5, rtol=1e-5)


def test_inverted_residual_by_hand() -> None:
    block, (x,) = blocks()["inverted-residual"]
    assert isinstance(block, ElasticInvertedResidual)
    for level, width in enumerate(block.widths, start=1):
        layers = nn.Sequential(
            nn.Conv2d(8, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        ).eval()
        with torch.no_grad():
            layers[0].weight.copy_(block.expand.weight[:width])
            layers[3].weight.copy_(block.depthwise.weight[:width])
            layers[6].weight.copy_(block.project.weight[:, :width])
            for index, norm, row in (
                (1, block.expand_norm, 0),
                (4, block.depthwise_norm, 0),
                (7, block.project_norm, level - 1),
            ):
                channels = layers[index].num_features
                layers[index].weight.copy_(norm.weight[:channels])
                layers[index].bias.copy_(norm.bias[:channels])
                layers[index].running_mean.copy_(norm.running_mean[row, :channels])
                layers[index].running_var.copy_(norm.running_var[row, :channels])
            expected = x + layers(x)
        torch.testing.assert_close(run(block, level, (x,)), expected, atol=1e-5, rtol=1e-5)
    assert isinstance(block.finish(3), nn.Identity)
    assert not isinstance(block.finish(1), nn.Identity)


def test_a_scale_of_zero_does_not_divide_by_zero() -> None:
    block, inputs = blocks()["inverted-residual"]
    assert isinstance(block, ElasticInvertedResidual)
    with torch.no_grad():
        block.project_norm.weight[::2] = 0
        total = block.part(1)(inputs[0])
        y = inputs[0] + block.finish(1)(total)
    torch.testing.assert_close(y, run(block, 1, inputs), atol=1e-5, rtol=1e-5)


def test_dropout_works_in_training_alone() -> None:
    block = ElasticFeedForward(DIM, 8, widths=(8,), dropout=0.5)
    x = torch.randn(4, DIM)
    assert not torch.equal(block.train()(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


def test_blocks_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="heads do not divide"):
        from nestling.elastic import ElasticAttention

        ElasticAttention(DIM, 3)
    with pytest.raises(ModelError, match="does not divide"):
        ElasticFeedForward(DIM, 6, name="ffn")
    with pytest.raises(ModelError, match="unknown activation"):
        ElasticFeedForward(DIM, 8, activation="softplus2")
