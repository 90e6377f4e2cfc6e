"""Bundles of plans for the tests: digits CNNs with random weights, and programs in one piece."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from nestling.elastic import ElasticMobileNet, Supernet, recalibrate
from nestling.export import export_bundle
from nestling.recipes.digits import CNN_BLOCKS, load_digits_split
from nestling.targets.cortex_m.cores import get_core
from nestling.targets.cortex_m.lower import lower_stage
from nestling.targets.cortex_m.quantize import quantize_stage
from nestling_runtime.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / "build" / "cache" / "lowering"
SAMPLES = ROOT / "build" / "micro-samples"


@cache
def held_out() -> Tensor:
    """Held-out digits, float32 [samples, 1, 8, 8]."""
    return load_digits_split()[2]


def digits_cnn() -> Supernet:
    """The beginning of the recipe digits-cnn, untrained, with norms that suit its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = ElasticMobileNet(
            image_size=8,
            channels=1,
            stem=16,
            stem_stride=1,
            stem_out=None,
            blocks=CNN_BLOCKS[:3],
            head=None,
            classes=10,
            widths=(0.25, 0.5, 1.0),
            depths=(2, 3),
        )
    recalibrate(supernet, [load_digits_split()[0][:256]])
    return supernet.eval()


def small_cnn() -> Supernet:
    """Two blocks at two widths, the second of which can be left out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        supernet = ElasticMobileNet(
            image_size=8,
            channels=3,
            stem=8,
            stem_stride=1,
            stem_out=None,
            blocks=((8, 2, 1), (8, 2, 1), (12, 2, 2)),
            head=None,
            classes=5,
            widths=(0.5, 1.0),
            depths=(2, 3),
        )
    recalibrate(supernet, [torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))])
    return supernet.eval()


def export_sample(supernet: Supernet, name: str, target: str, calibration: Tensor) -> Path:
    """Export into build/micro-samples/, the reference programs beside it; lowering is cached."""
    bundle = SAMPLES / f"{name}.{target}.nest"
    SAMPLES.mkdir(parents=True, exist_ok=True)
    export_bundle(
        supernet,
        bundle,
        target=target,
        scheme="int8-static",
        calibration=[(calibration,)],
        jobs=1,
        cache_dir=CACHE,
        reference_dir=references(bundle),
    )
    return bundle


def references(bundle: Path) -> Path:
    """Where the reference programs of a sample are."""
    return Path(f"{bundle}.reference")


@cache
def digits_bundle(target: str = "cortex-m55") -> Path:
    """A bundle of the digits CNN."""
    return export_sample(digits_cnn(), "digits-cnn", target, load_digits_split()[0][:256])


@cache
def small_bundle(target: str = "cortex-m55") -> Path:
    """A bundle of the small CNN, whose images have three channels."""
    return export_sample(small_cnn(), "small-cnn", target, small_images(32))


def small_images(count: int) -> Tensor:
    """Inputs of the small CNN."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def random_chains(bundle: Path, supernet: Supernet, count: int) -> list[list[int]]:
    """Legal lists of stages that have no name: any mix of levels and depths."""
    with Bundle.open(bundle) as opened:
        numbers = {stage.name: number for number, stage in enumerate(opened.stages)}
        named = [list(path.chain) for path in opened.paths]
    rng = random.Random(5)
    chains: list[list[int]] = []
    while len(chains) < count:
        levels = supernet.space.sample(rng).levels
        blocks = zip(supernet.chain, levels, strict=True)
        names = ["stem", *(f"{block.name}.w{level}" for block, level in blocks if level), "head"]
        chain = [numbers[name] for name in names]
        if chain not in chains and chain not in named:
            chains.append(chain)
    return chains


def lower_whole(module: nn.Module, samples: Tensor, target: str = "cortex-m55") -> bytes:
    """What somebody brings: a model lowered in one piece, float32 in and out."""
    inputs = tuple((sample[None],) for sample in samples)
    quantized = quantize_stage(module.eval(), inputs, None, None)
    return lower_stage(quantized, get_core(target), int8_input=False, int8_output=False)
