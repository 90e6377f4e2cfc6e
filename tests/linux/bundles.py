"""Bundles for the tests of the daemon, and what they compute by the runtime in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from export.supernets import CACHE
from linux.daemon import Array
from runtime.tiny_bundle import artifacts, tiny_builder
from runtime.tiny_model import INPUT_UNITS, PATHS, lower
from torch import nn

import nestling_runtime
from nestling.bundle.writer import BundleBuilder
from nestling.elastic import ElasticViT
from nestling.export import export_bundle

SLOW_UNITS = 256
SLOW_ROWS = 64
SLOW_PRODUCTS = 8  # in a stage
SLOW_STAGES = 1000


def write_tiny(path: Path, scale: float = 1.0) -> Path:
    """The tiny net; with `scale`, a version whose logits are that many times larger."""
    made = artifacts()
    stages = dict(made.stages)
    for name, lowered in made.stages.items():
        if name == "head" or name.startswith("fused."):
            stages[name] = replace(
                lowered,
                weights={
                    key: replace(weight, data=_scaled(weight.data, scale))
                    if _is_of_head(weight.data, made.stages["head"].weights.values())
                    else weight
                    for key, weight in lowered.weights.items()
                },
            )
    tiny_builder(replace(made, stages=stages)).write(path)
    return path


def _scaled(data: bytes, scale: float) -> bytes:
    return (np.frombuffer(data, np.float32) * np.float32(scale)).tobytes()


def _is_of_head(data: bytes, weights: object) -> bool:
    return any(data == weight.data for weight in weights)  # type: ignore[attr-defined]


def write_int8(path: Path) -> Path:
    """A small ViT with dynamic int8: one named path a width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ElasticViT(
            image_size=8,
            patch=4,
            channels=1,
            dim=32,
            depth=1,
            heads=2,
            classes=10,
            widths=(0.5, 1.0),
            depths=(1.0,),
        ).eval()
    export_bundle(net, path, scheme="int8-dynamic", jobs=1, cache_dir=CACHE, fused=False)
    return path


class Turns(nn.Module):
    """(rows, units) f32, turned by the same rotation again and again: much work, few bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Linear(SLOW_UNITS, SLOW_UNITS, bias=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            nn.init.orthogonal_(self.turn.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(SLOW_PRODUCTS):
            x = self.turn(x)
        return x


def write_slow(path: Path) -> Path:
    """A chain of equal stages: `long` runs for seconds, `short` is one of them."""
    lowered = lower(Turns(), (torch.zeros(SLOW_ROWS, SLOW_UNITS),), external=True)
    builder = BundleBuilder(name="slow", target="xnnpack")
    builder.add_section("core", "blob")
    shape = (SLOW_ROWS, SLOW_UNITS)
    image = builder.add_slot("image", "f32", shape, "input")
    x = builder.add_slot("x", "f32", shape)
    logits = builder.add_slot("logits", "f32", shape, "output")
    bindings = [
        (name, builder.add_constant("core", name, w.data, w.dtype, w.shape, w.dim_order))
        for name, w in lowered.weights.items()
    ]
    program = builder.add_program(lowered.pte)
    macs = SLOW_PRODUCTS * SLOW_ROWS * SLOW_UNITS * SLOW_UNITS
    chain = []
    for number in range(SLOW_STAGES):
        builder.add_position(f"layer{number}", number, False)
        chain.append(
            builder.add_stage(
                f"layer{number}",
                program=program,
                first=number,
                last=number,
                inputs=[image if number == 0 else x],
                outputs=[logits if number == SLOW_STAGES - 1 else x],
                bindings=bindings,
                level=1,
                macs=macs,
                arena_bytes=lowered.arena_bytes,
            )
        )
    weight_bytes = sum(len(w.data) for w in lowered.weights.values())
    one = builder.add_stage(
        "only",
        program=program,
        first=0,
        last=SLOW_STAGES - 1,
        inputs=[image],
        outputs=[logits],
        bindings=bindings,
        level=1,
        macs=macs,
        arena_bytes=lowered.arena_bytes,
    )
    for name, stages in (("short", [one]), ("long", chain)):
        builder.add_path(
            name,
            stages,
            parameters=weight_bytes // 4,
            macs=macs * len(stages),
            weight_bytes=weight_bytes,
        )
    builder.write(path)
    return path


def random_image(seed: int, shape: tuple[int, ...] = (1, INPUT_UNITS)) -> Array:
    """An input."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def expected(bundle: Path, path: str, image: Array) -> Array:
    """What the SDK computes in this process, which other tests compare with eager torch."""
    with nestling_runtime.open(bundle, threads=1) as model, model.session() as session:
        session.select(path)
        (name,) = (slot.name for slot in model.bundle.slots if slot.role == "input")
        (logits,) = session.run(**{name: image}).values()
        return np.ravel(logits)


__all__ = [
    "PATHS",
    "SLOW_ROWS",
    "SLOW_UNITS",
    "expected",
    "random_image",
    "write_int8",
    "write_slow",
    "write_tiny",
]
