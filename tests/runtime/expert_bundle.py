"""A bundle of two layers of experts, whose scores are inputs: a test says which experts are chosen.

The programs call the operator and do nothing else; they are kept under build/cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from runtime.expert_samples import ExpertLayer, Floats, sections

from nestling.bundle.writer import BundleBuilder
from nestling.experts.operator import experts

CACHE = Path(__file__).resolve().parents[2] / "build" / "cache" / "tests-experts"


class Call(torch.nn.Module):
    """The operator alone."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return experts(hidden, scores, self.layer)


def program(layer: int, tokens: int, shape: ExpertLayer) -> bytes:
    """A program for one layer and number of tokens."""
    what = (layer, tokens, shape.dim, shape.experts, version("executorch"), __name__)
    cached = CACHE / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.pte"
    if not cached.exists():
        from executorch.exir import ExecutorchBackendConfig, to_edge
        from executorch.exir.passes import MemoryPlanningPass

        inputs = (torch.zeros(tokens, shape.dim), torch.zeros(tokens, shape.experts))
        from executorch.exir import EdgeCompileConfig

        edge = to_edge(
            torch.export.export(Call(layer), inputs),
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
        made = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
        CACHE.mkdir(parents=True, exist_ok=True)
        part = cached.with_suffix(f".{id(made)}")
        part.write_bytes(bytes(made.buffer))
        part.replace(cached)
    return cached.read_bytes()


def expert_builder(
    layers: Sequence[ExpertLayer],
    tokens: Sequence[int] = (1, 6),
    data: dict[str, bytes] | None = None,
) -> BundleBuilder:
    """Paths `t1`, `t6` ...: all layers, one after the other, each on scores of its own."""
    builder = BundleBuilder(name="experts", target="portable")
    for number in range(len(layers)):
        builder.add_position(f"layer{number}", number, True)
    for count in tokens:
        dim = layers[0].dim
        stream = builder.add_slot(f"x.t{count}", "f32", (count, dim), "input")
        chain = []
        for number, layer in enumerate(layers):
            name = f"{number}.t{count}"
            scores = builder.add_slot(f"scores{name}", "f32", (count, layer.experts), "input")
            role = "output"
            out = builder.add_slot(f"y{name}", "f32", (count, dim), role)
            chain.append(
                builder.add_stage(
                    f"layer{name}",
                    program=builder.add_program(program(number, count, layer)),
                    first=number,
                    last=number,
                    inputs=[stream, scores],
                    outputs=[out],
                    macs=count,
                )
            )
            stream = out
        builder.add_path(f"t{count}", chain, macs=count * len(layers))
    for name, part in (data or sections(layers)).items():
        builder.add_data(name, part)
    return builder


def expected(
    layers: Sequence[ExpertLayer], x: Floats, scores: Sequence[Floats], bits: int = 8
) -> Floats:
    """What the last layer gives."""
    for layer, row in zip(layers, scores, strict=True):
        x = layer.forward(x, row, bits).astype(np.float32)
    return x
