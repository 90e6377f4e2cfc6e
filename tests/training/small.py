"""Small supernets and data sets for the tests of training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from nestling.elastic import ElasticMobileNet, ElasticViT, Supernet
from nestling.training import TrainConfig

CLASSES = 4
CONFIG = TrainConfig(
    steps=8, batch_size=12, lr=1e-2, warmup=2, log_every=1, recalibrate_batches=2, device="cpu"
)


def build_vit(dropout: float = 0.0) -> Supernet:
    """Return a three-layer ViT, the same on every call."""
    torch.manual_seed(11)
    return ElasticViT(
        image_size=4,
        patch=2,
        channels=1,
        dim=16,
        depth=3,
        heads=4,
        classes=CLASSES,
        widths=(0.25, 0.5, 1.0),
        depths=(2, 3),
        dropout=dropout,
    )


def build_cnn() -> Supernet:
    """Return a three-block CNN with batch norm, the same on every call."""
    torch.manual_seed(12)
    return ElasticMobileNet(
        image_size=4,
        channels=1,
        stem=8,
        stem_stride=1,
        stem_out=None,
        blocks=((8, 2, 1), (8, 2, 1), (12, 2, 2)),
        head=None,
        classes=CLASSES,
        widths=(0.5, 1.0),
        depths=(2, 3),
    )


def make_data(samples: int = 30) -> TensorDataset:
    """Return images whose class is the brightest quadrant."""
    generator = torch.Generator().manual_seed(13)
    images = torch.rand(samples, 1, 4, 4, generator=generator)
    labels = images.reshape(samples, 2, 2, 2, 2).sum(dim=(2, 4)).flatten(1).argmax(dim=1)
    return TensorDataset(images, labels)


def add_noise(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Add noise drawn from the generator, a stand-in for augmentation."""
    images, labels = batch
    return images + 0.01 * torch.randn(images.shape, generator=generator), labels
