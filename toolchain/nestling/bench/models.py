"""The networks that `make bench` measures.

The digits models are trained, so their accuracy means something. The others have random weights of
realistic sizes: only speed and bytes are measured on them, and neither depends on the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nestling.elastic import Supernet

WIDTHS = (0.25, 0.5, 0.75, 1.0)
DEPTHS = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class BenchModel:
    """One network and how it is measured.

    Attributes:
        name: What records call it.
        build: Makes it with random weights; None for a recipe's, which is trained.
        recipe: Name of the recipe that trains it.
        schemes: Of quantisation.
    """

    name: str
    build: Callable[[], Supernet] | None
    recipe: str | None
    schemes: tuple[str, ...]


def build_vit_s16() -> Supernet:
    """ViT-S/16 at 224 x 224: 12 layers of width 384, 6 heads, 22 M parameters."""
    from nestling.elastic import ElasticViT

    _seed()
    return ElasticViT(widths=WIDTHS, depths=DEPTHS).eval()


def build_mobilenet_v2() -> Supernet:
    """MobileNetV2 at 224 x 224: 17 inverted residuals, 3.5 M parameters."""
    from nestling.elastic import ElasticMobileNet

    _seed()
    return ElasticMobileNet(widths=WIDTHS, depths=DEPTHS).eval()


def build_llama_100m() -> Supernet:
    """A decoder of 110 M parameters on a window of 16 tokens: 12 layers of width 768, 12 heads.

    Gated feed-forward blocks of 2048, rotary positions, a vocabulary of 16,000; logits of the last
    token.
    """
    from nestling.elastic import ElasticLlama

    _seed()
    return ElasticLlama(
        vocabulary=16_000,
        dim=768,
        depth=12,
        heads=12,
        hidden=2048,
        positions=16,
        last_only=True,
        widths=WIDTHS,
        depths=DEPTHS,
    ).eval()


def _seed() -> None:
    import torch

    torch.manual_seed(0)


BENCH_MODELS: tuple[BenchModel, ...] = (
    BenchModel("digits-vit", None, "digits-vit", ("fp32", "int8-static")),
    BenchModel("digits-cnn", None, "digits-cnn", ("fp32", "int8-static")),
    BenchModel("vit-s16-224", build_vit_s16, None, ("fp32", "int8-dynamic")),
    BenchModel("mobilenet-v2-224", build_mobilenet_v2, None, ("fp32", "int8-static")),
    BenchModel("llama-100m", build_llama_100m, None, ("fp32", "int8-dynamic")),
)
