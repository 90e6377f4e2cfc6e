"""Packs the tiny net's stages into a bundle, and keeps what is slow to make under build/cache."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from runtime import tiny_model
from runtime.tiny_model import (
    BLOCKS,
    CLASSES,
    INPUT_UNITS,
    LEVELS,
    PATHS,
    STREAM_UNITS,
    AtLevels,
    Lowered,
    TinyNet,
    Weight,
    content_key,
)
from torch import nn

from nestling.bundle.writer import BundleBuilder
from nestling.targets.lean_torch import lean_torch

CACHE = Path(__file__).resolve().parents[2] / "build" / "cache" / "tests-runtime"


@dataclass(frozen=True)
class Artifacts:
    """What lowering gives: programs of the stages, and plain programs of the same nets."""

    stages: Mapping[str, Lowered]
    dense: Mapping[str, bytes]


def artifacts() -> Artifacts:
    """Lower the net, or take it from the cache if neither it nor ExecuTorch has changed."""
    source = Path(tiny_model.__file__).read_bytes()
    key = hashlib.sha256(source + version("executorch").encode()).hexdigest()[:16]
    cached = CACHE / f"tiny-{key}.pickle"
    CACHE.mkdir(parents=True, exist_ok=True)
    # Test processes that start together wait for the first one instead of lowering as well.
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cached.exists():
            made = _lower_all()
            # Plain tuples: the names of these classes' modules depend on how tests are run.
            stages = {name: astuple(lowered) for name, lowered in made.stages.items()}
            cached.write_bytes(pickle.dumps((stages, dict(made.dense))))
    stages, dense = pickle.loads(cached.read_bytes())
    return Artifacts(
        {
            name: Lowered(pte, {key: Weight(*weight) for key, weight in weights.items()}, arena)
            for name, (pte, weights, arena) in stages.items()
        },
        dense,
    )


def _lower_all() -> Artifacts:
    net = TinyNet().eval()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), lean_torch():
            warnings.simplefilter("ignore")
            modules = tiny_model.stage_modules(net)
            stages: dict[str, Lowered] = {}
            for name, (module, inputs) in modules.items():
                block, _, level = name.partition(".")
                twin = f"block0.{level}"
                if block.startswith("block") and twin in stages:
                    stages[name] = _with_weights(stages[twin], modules[twin][0], module)
                else:
                    stages[name] = tiny_model.lower(module, inputs, external=True)
            image = torch.zeros(1, INPUT_UNITS)
            dense = {
                name: tiny_model.lower(AtLevels(net, levels), (image,), external=False).pte
                for name, levels in PATHS.items()
            }
    finally:
        logging.disable(logging.NOTSET)
    return Artifacts(stages, dense)


def _with_weights(lowered: Lowered, module: nn.Module, other: nn.Module) -> Lowered:
    """The stage of a module that differs from the lowered one in nothing but its weights.

    XNNPACK names a weight by the hash of its bytes, kernels by its name in the module.
    """
    program = lowered.pte
    weights = {}
    values = dict(other.named_parameters())
    names = {_bytes(value): name for name, value in module.named_parameters()}
    for wanted, weight in lowered.weights.items():
        data = _bytes(values[names[weight.data]])
        if weight.dtype is None:
            assert wanted == hashlib.sha256(weight.data).hexdigest()
            name = hashlib.sha256(data).hexdigest()
            program = program.replace(wanted.encode(), name.encode())
            weights[name] = replace(weight, data=data)
        else:
            weights[wanted] = replace(weight, data=data)
    return Lowered(program, weights, lowered.arena_bytes)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


def level_of(stage: str) -> int:
    """Nesting level of a block stage; 1 for everything else."""
    return int(stage.rpartition(".w")[2]) if ".w" in stage else 1


def chain_of(levels: tuple[int, ...]) -> list[str]:
    """Names of the stages of a subnet."""
    blocks = [f"block{i}.w{level}" for i, level in enumerate(levels) if level]
    return ["stem", *blocks, "head"]


def tiny_builder(made: Artifacts, *, fused: bool = True, target: str = "xnnpack") -> BundleBuilder:
    """The bundle of the net: positions stem, block0..2, head; sections by nesting level."""
    builder = BundleBuilder(name="tiny", target=target, meta={"purpose": "tests"})
    for name in ("core", "level2", "level3"):
        builder.add_section(name, "blob", 1 if name == "core" else int(name[-1]))
    slots = {
        "image": builder.add_slot("image", "f32", (1, INPUT_UNITS), "input"),
        "x": builder.add_slot("x", "f32", (1, STREAM_UNITS)),
        "gate": builder.add_slot("gate", "f32", (1, STREAM_UNITS)),
        "logits": builder.add_slot("logits", "f32", (1, CLASSES), "output"),
    }
    builder.add_position("stem", 0, True)
    for index in range(BLOCKS):
        builder.add_position(f"block{index}", index, False)
    builder.add_position("head", BLOCKS, True)
    stages: dict[str, int] = {}
    sizes: dict[str, dict[str, int]] = {}
    homes: dict[str, str] = {}
    for name, lowered in made.stages.items():
        if name.startswith("fused.") and not fused:
            continue
        section = "core" if level_of(name) == 1 else f"level{level_of(name)}"
        bindings = []
        for wanted, weight in lowered.weights.items():
            key = content_key(weight) if weight.dtype else wanted
            # Fused stages come last and add no constant of their own.
            home = homes.setdefault(key, section)
            index = builder.add_constant(
                home, key, weight.data, weight.dtype, weight.shape, weight.dim_order
            )
            bindings.append((wanted, index))
        sizes[name] = {content_key(w): len(w.data) for w in lowered.weights.values()}
        if name == "stem":
            span, inputs, outputs = (0, 0), ["image"], ["x", "gate"]
        elif name == "head":
            span, inputs, outputs = (BLOCKS + 1, BLOCKS + 1), ["x"], ["logits"]
        elif name.startswith("fused."):
            span, inputs, outputs = (0, BLOCKS + 1), ["image"], ["logits"]
        else:
            position = int(name[len("block")]) + 1
            span, inputs, outputs = (position, position), ["x", "gate"], ["x"]
        stages[name] = builder.add_stage(
            name,
            program=builder.add_program(lowered.pte),
            first=span[0],
            last=span[1],
            inputs=[slots[slot] for slot in inputs],
            outputs=[slots[slot] for slot in outputs],
            bindings=bindings,
            level=level_of(name),
            macs=sum(sizes[name].values()) // 4,
            arena_bytes=lowered.arena_bytes,
        )
    for name, levels in PATHS.items():
        chain = chain_of(levels)
        constants = {key: size for stage in chain for key, size in sizes[stage].items()}
        builder.add_path(
            name,
            [stages[stage] for stage in chain],
            fused=stages[f"fused.{name}"] if fused else None,
            parameters=sum(constants.values()) // 4,
            macs=sum(sizes[stage][key] for stage in chain for key in sizes[stage]) // 4,
            weight_bytes=sum(constants.values()),
            quality={"accuracy": 0.5 + 0.1 * sum(levels) / (LEVELS * BLOCKS)},
            cost_us={"test": 1.0 + sum(levels)},
        )
    return builder
