"""The tiny bundle for two targets: XNNPACK, and ExecuTorch's own kernels."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import astuple, replace
from importlib.metadata import version
from pathlib import Path

from runtime import tiny_model
from runtime.tiny_bundle import CACHE
from runtime.tiny_model import Lowered, TinyNet, Weight, content_key
from torch import nn

from nestling.bundle.writer import BundleBuilder
from nestling.targets.lean_torch import lean_torch


def portable_stages() -> Mapping[str, Lowered]:
    """Lower the stages without a delegate, or take them from the cache; no fused ones."""
    source = Path(tiny_model.__file__).read_bytes() + Path(__file__).read_bytes()
    key = hashlib.sha256(source + version("executorch").encode()).hexdigest()[:16]
    cached = CACHE / f"tiny-portable-{key}.pickle"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock-portable").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cached.exists():
            cached.write_bytes(pickle.dumps({n: astuple(s) for n, s in _lower().items()}))
    return {
        name: Lowered(pte, {key: Weight(*weight) for key, weight in weights.items()}, arena)
        for name, (pte, weights, arena) in pickle.loads(cached.read_bytes()).items()
    }


def _lower() -> dict[str, Lowered]:
    net = TinyNet().eval()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), lean_torch():
            warnings.simplefilter("ignore")
            stages = tiny_model.stage_modules(net)
            made = {
                name: tiny_model.lower(module, inputs, external=True, delegate=False)
                for name, (module, inputs) in stages.items()
                if name in ("stem", "head") or name.startswith("block0.")
            }
    finally:
        logging.disable(logging.NOTSET)
    for name, (module, _) in stages.items():
        block, _, level = name.partition(".")
        if block.startswith("block") and name not in made:
            made[name] = _with_weights(made[f"block0.{level}"], module)
    return made


def _with_weights(lowered: Lowered, module: nn.Module) -> Lowered:
    """Return a stage whose program is that of an equal one, with weights of its own."""
    values = dict(module.named_parameters())
    return replace(
        lowered,
        weights={
            name: replace(weight, data=values[name].detach().numpy().tobytes())
            for name, weight in lowered.weights.items()
        },
    )


def add_target(builder: BundleBuilder, target: str, stages: Mapping[str, Lowered]) -> None:
    """Add stages for another target, which stand in for those that the builder has."""
    manifest, _ = builder.build()
    for own in manifest.stages:
        if own.name not in stages:
            continue
        lowered = stages[own.name]
        bindings = []
        for wanted, weight in lowered.weights.items():
            index = builder.add_constant(
                f"core@{target}",
                content_key(weight) if weight.dtype else wanted,
                weight.data,
                weight.dtype,
                weight.shape,
                weight.dim_order,
            )
            bindings.append((wanted, index))
        builder.add_stage(
            f"{own.name}@{target}",
            program=builder.add_program(lowered.pte, section=f"programs@{target}", target=target),
            first=own.first,
            last=own.last,
            inputs=own.inputs,
            outputs=own.outputs,
            bindings=bindings,
            level=own.level,
            bits=own.bits,
            macs=own.macs,
            arena_bytes=lowered.arena_bytes,
        )
