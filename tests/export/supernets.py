"""Small supernets of the families that are exported, and where their lowered stages are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from nestling.elastic import ElasticLlama, ElasticMobileNet, ElasticViT, Supernet, recalibrate

CACHE = Path(__file__).resolve().parents[2] / "build" / "cache" / "lowering"
WIDTHS = (0.5, 1.0)


def make_vit(*, dim: int = 32, depth: int = 2) -> Supernet:
    torch.manual_seed(0)
    return ElasticViT(
        image_size=8, patch=4, channels=1, dim=dim, depth=depth, heads=2, classes=5, widths=WIDTHS
    ).eval()


def make_cnn(
    *,
    blocks: Sequence[tuple[int, int, int]] = ((8, 2, 1), (8, 2, 1), (12, 2, 2)),
    head: int | None = 24,
) -> Supernet:
    torch.manual_seed(0)
    supernet = ElasticMobileNet(
        image_size=8,
        channels=1,
        stem=8,
        stem_stride=1,
        stem_out=None,
        blocks=tuple(blocks),
        head=head,
        classes=5,
        widths=WIDTHS,
        align=1,
    )
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    recalibrate(supernet, [torch.randn(64, 1, 8, 8)])
    return supernet.eval()


def make_small_cnn() -> Supernet:
    """One block, for what takes long to compile."""
    return make_cnn(blocks=((8, 2, 1),), head=16)


def make_short_cnn() -> Supernet:
    """A residual block, and one that changes the shape."""
    return make_cnn(blocks=((8, 2, 1), (12, 2, 2)), head=16)


def make_llama() -> Supernet:
    torch.manual_seed(0)
    return ElasticLlama(
        vocabulary=64, dim=32, depth=1, heads=4, hidden=64, positions=6, widths=WIDTHS
    ).eval()
