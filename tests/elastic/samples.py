"""Small blocks and supernets, with weights far from zero so that mistakes show."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nestling.elastic import (
    ElasticAttention,
    ElasticBert,
    ElasticBlock,
    ElasticConvolution,
    ElasticFeedForward,
    ElasticInvertedResidual,
    ElasticLlama,
    ElasticMobileNet,
    ElasticViT,
    Supernet,
)
from nestling.elastic.attention import MASKED, rotary_tables
from nestling.elastic.batch_norm import NestedBatchNorm2d
from nestling.elastic.norms import RMSNorm

POSITIONS, DIM, HEAD = 5, 16, 4


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give all weights and statistics random values of a useful size, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, fan_in**-0.5, generator=generator)
            else:
                parameter.normal_(0.5, 0.5, generator=generator)
        for norm in module.modules():
            if isinstance(norm, NestedBatchNorm2d | nn.BatchNorm2d):
                norm.running_mean.normal_(0, 0.5, generator=generator)
                norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.eval()


def context(masked: bool, rotary: bool) -> tuple[Tensor, ...]:
    values: list[Tensor] = []
    if masked:
        values.append(torch.full((POSITIONS, POSITIONS), MASKED).triu(1))
    if rotary:
        frequencies = 100.0 ** -torch.arange(0, 1, 2 / HEAD)
        values.extend(rotary_tables(frequencies, torch.arange(POSITIONS)))
    return tuple(values)


def blocks() -> dict[str, tuple[ElasticBlock, tuple[Tensor, ...]]]:
    """Return every kind of block with an input (and context) of batch 3."""
    torch.manual_seed(1)
    x = torch.randn(3, POSITIONS, DIM)
    image = torch.randn(3, 8, 6, 6)
    widths = (2, 5, 8)
    made: dict[str, tuple[ElasticBlock, tuple[Tensor, ...]]] = {
        "ffn": (ElasticFeedForward(DIM, 8, widths=widths), (x,)),
        "ffn-post-norm": (
            ElasticFeedForward(DIM, 8, widths=widths, post=nn.LayerNorm(DIM)),
            (x,),
        ),
        "ffn-gated": (
            ElasticFeedForward(
                DIM, 8, widths=widths, gated=True, bias=False, activation="silu", norm=RMSNorm(DIM)
            ),
            (x,),
        ),
        "attention": (ElasticAttention(DIM, 4, heads_widths=(1, 3, 4)), (x,)),
        "attention-masked": (
            ElasticAttention(DIM, 4, masked=True, post=nn.LayerNorm(DIM)),
            (x, torch.tensor([[0, 0, 0, MASKED, MASKED]] * 3).reshape(3, 1, 1, 5)),
        ),
        "attention-gqa": (
            ElasticAttention(DIM, 8, groups=4, head_dim=HEAD, bias=False, masked=True, rotary=True),
            (x, *context(True, True)),
        ),
        "attention-qk-norm": (
            ElasticAttention(
                DIM, 4, groups=2, head_dim=HEAD, qk_norm_eps=1e-6, rotary=True, output_bias=False
            ),
            (x, *context(False, True)),
        ),
    }
    for name, options in {
        "residual": {},
        "strided": {"stride": 2, "out": 12},
        "same-padding": {"stride": 2, "same_padding": True},
        "dilated": {"dilation": 2, "kernel_size": 5, "activation": "hardswish"},
    }.items():
        out = options.pop("out", 8)  # type: ignore[attr-defined]
        made[f"inverted-{name}"] = (
            ElasticInvertedResidual(8, out, 24, widths=(8, 20, 24), **options),  # type: ignore[arg-type]
            (image,),
        )
    made["convolution"] = (
        ElasticConvolution(8, 24, widths=(8, 20, 24), second_kernel_size=1, post=nn.ReLU()),
        (image,),
    )
    for index, (name, (block, inputs)) in enumerate(made.items()):
        block.name = name
        block.layer = 0
        randomise(block, index)
        made[name] = (block, inputs)
    return made


def supernets() -> dict[str, tuple[Supernet, tuple[Tensor, ...]]]:
    """Return a small supernet of every family with inputs of batch 3."""
    torch.manual_seed(2)
    tokens = torch.randint(0, 30, (3, 7))
    padding = torch.ones_like(tokens)
    padding[1, 4:] = 0
    made: dict[str, tuple[Supernet, tuple[Tensor, ...]]] = {
        "vit": (
            ElasticViT(
                image_size=8, patch=4, dim=DIM, depth=4, heads=4, hidden=8, classes=5, channels=1
            ),
            (torch.randn(3, 1, 8, 8),),
        ),
        "bert": (
            ElasticBert(
                vocabulary=30, dim=DIM, depth=3, heads=4, hidden=8, positions=7, max_positions=9
            ),
            (tokens, padding, torch.randint(0, 2, (3, 7))),
        ),
        "mobilenet_v2": (
            ElasticMobileNet(
                image_size=8,
                channels=1,
                stem=8,
                stem_stride=1,
                stem_out=8,
                blocks=((8, 4, 1), (12, 4, 2), (12, 2, 1), (12, 2, 1), (16, 2, 1)),
                head=20,
                classes=5,
            ),
            (torch.randn(3, 1, 8, 8),),
        ),
        "llama": (
            ElasticLlama(
                vocabulary=30,
                dim=DIM,
                depth=3,
                heads=8,
                groups=4,
                head_dim=4,
                hidden=8,
                positions=7,
            ),
            (tokens,),
        ),
    }
    for index, (supernet, _) in enumerate(made.values()):
        randomise(supernet, index)
    return made


BLOCKS = tuple(blocks())
FAMILIES = tuple(supernets())
