"""A supernet so small that a test session can export it: one transformer layer, two levels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from export.supernets import CACHE

from nestling.bench.sidecar import write_sidecar
from nestling.elastic import ElasticViT, Supernet, save
from nestling.export import export_bundle


@dataclass(frozen=True)
class Mini:
    """The supernet, its checkpoint, its bundle; beside the bundle its sidecar."""

    supernet: Supernet
    checkpoint: Path
    bundle: Path


def build_supernet() -> Supernet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ElasticViT(
            image_size=8,
            patch=4,
            channels=1,
            dim=16,
            depth=1,
            heads=2,
            classes=10,
            widths=(0.5, 1.0),
            depths=(1.0,),
        ).eval()


def build_mini(folder: Path) -> Mini:
    supernet = build_supernet()
    checkpoint = folder / "mini.pt"
    save(supernet, checkpoint)
    bundle = folder / "mini.nest"
    quality = {name: {"accuracy": 0.5} for name in supernet.space.named}
    export_bundle(supernet, bundle, jobs=1, cache_dir=CACHE, quality=quality)
    write_sidecar(bundle, supernet, model="mini", scheme="fp32", jobs=1)
    return Mini(supernet, checkpoint, bundle)
