"""A net small enough to lower in seconds, cut into stages by hand, for the tests of the runtime.

The toolchain's export is not used on purpose: the runtime is tested on what the format allows, and
its oracles are ExecuTorch itself (a plain program of the same subnet) and eager torch.

The net: a stem makes the stream `x` and a context `gate`; three blocks add to the stream at one of
three widths (or are skipped); a head makes the logits. Blocks have a LayerNorm, which XNNPACK
leaves to ExecuTorch's own kernels, so both kinds of external constants occur: those that a delegate
packs and those that the method keeps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

# Input of the net, (1, 16), or its logits, (1, 10).
Image = npt.NDArray[np.float32]

INPUT_UNITS = 16
STREAM_UNITS = 32
LEVEL_UNITS = 8
LEVELS = 3
BLOCKS = 3
CLASSES = 10


class Stem(nn.Module):
    """(1, 16) f32 -> stream (1, 32), gate (1, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(INPUT_UNITS, STREAM_UNITS)
        self.gate = nn.Linear(INPUT_UNITS, STREAM_UNITS)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.embed(image), torch.sigmoid(self.gate(image))


class Block(nn.Module):
    """x + gate * sum of parts(norm(x)); one part per nesting level."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(STREAM_UNITS)
        nn.init.normal_(self.norm.weight, mean=1.0, std=0.2)
        nn.init.normal_(self.norm.bias, std=0.2)
        self.up = nn.ModuleList(nn.Linear(STREAM_UNITS, LEVEL_UNITS) for _ in range(LEVELS))
        self.down = nn.ModuleList(
            nn.Linear(LEVEL_UNITS, STREAM_UNITS, bias=False) for _ in range(LEVELS)
        )

    def forward(self, x: torch.Tensor, gate: torch.Tensor, level: int = LEVELS) -> torch.Tensor:
        h = self.norm(x)
        y = x
        for up, down in zip(self.up[:level], self.down[:level], strict=True):
            y = y + gate * down(torch.relu(up(h)))
        return y


class Head(nn.Module):
    """stream (1, 32) -> logits (1, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Linear(STREAM_UNITS, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(x)


class TinyNet(nn.Module):
    """Stem, three blocks, head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = Stem()
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = Head()

    def forward(
        self, image: torch.Tensor, levels: tuple[int, ...] = (LEVELS,) * BLOCKS
    ) -> torch.Tensor:
        x, gate = self.stem(image)
        for block, level in zip(self.blocks, levels, strict=True):
            if level:
                x = block(x, gate, level)
        return self.head(x)


class AtLevels(nn.Module):
    """A subnet of the net as one module, for the fused stages and the oracle."""

    def __init__(self, net: TinyNet, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.levels = levels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image, self.levels)


class BlockAt(nn.Module):
    """One block at one width."""

    def __init__(self, block: Block, level: int) -> None:
        super().__init__()
        self.block = block
        self.level = level

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.block(x, gate, self.level)


@dataclass(frozen=True)
class Weight:
    """An external constant; dtype and shape only if the method itself asks for its layout."""

    data: bytes
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    dim_order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Lowered:
    """A program without its weights, and the weights by the names it asks for."""

    pte: bytes
    weights: dict[str, Weight] = field(default_factory=dict)
    arena_bytes: int = 0


def lower(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    *,
    external: bool,
    delegate: bool = True,
) -> Lowered:
    """Lower `module` to XNNPACK.

    Args:
        module: Module in eval mode.
        inputs: Example inputs, f32.
        external: Leave the weights outside of the program, and the buffers of inputs and outputs
            to the caller (a nestling stage); otherwise a plain ExecuTorch program (the oracle).
        delegate: Let XNNPACK take what it can; otherwise ExecuTorch's own kernels run all of it.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass
    from executorch.exir.passes.external_constants_pass import (
        delegate_external_constants_pass_unlifted,
    )

    program = torch.export.export(module.eval(), inputs)
    if not external:
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        return Lowered(bytes(edge.to_executorch().buffer))
    graph = program.module(check_guards=False)
    partitioner = [XnnpackPartitioner()] if delegate else []
    delegate_external_constants_pass_unlifted(graph, gen_tag_fn=lambda node: "delegate")
    program = torch.export.export(graph, inputs)
    edge = to_edge_transform_and_lower(program, partitioner=partitioner)
    delegate_store: Any = edge._named_data_store.get_named_data_store_output()
    executorch = edge.to_executorch(
        ExecutorchBackendConfig(
            memory_planning_pass=MemoryPlanningPass(
                alloc_graph_input=False, alloc_graph_output=False
            ),
            external_constants=True,
        )
    )
    weights: dict[str, Weight] = {}
    for entries in delegate_store.external_data.values():
        for name, entry in entries.items():
            weights[name] = Weight(bytes(delegate_store.buffers[entry.buffer_index]))
    emitted: Any = executorch._emitter_output
    layouts = external_layouts(emitted.program)
    for entries in emitted.external_constant_map.values():
        for name, buffer_index in entries.items():
            sizes, dim_order = layouts[name]
            data = bytes(emitted.external_constant_buffer[buffer_index])
            weights[name] = Weight(data, "f32", sizes, dim_order)
    planned = emitted.program.execution_plan[0].non_const_buffer_sizes
    return Lowered(bytes(executorch.buffer), weights, sum(planned))


def external_layouts(program: Any) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Sizes and dim order of the constants that a program's own kernels read, by name."""
    found = {}
    for plan in program.execution_plan:
        for value in plan.values:
            info = getattr(value.val, "extra_tensor_info", None)
            if info is not None and info.fully_qualified_name:
                name = info.fully_qualified_name
                found[name] = (tuple(value.val.sizes), tuple(value.val.dim_order))
    return found


def stage_modules(net: TinyNet) -> dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]]:
    """Every stage of the bundle by name, with example inputs."""
    image = torch.zeros(1, INPUT_UNITS)
    stream = torch.zeros(1, STREAM_UNITS)
    stages: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {"stem": (net.stem, (image,))}
    for index, block in enumerate(net.blocks):
        assert isinstance(block, Block)
        for level in range(1, LEVELS + 1):
            # Two tensors: one given twice would be exported as one input.
            both = (torch.zeros(1, STREAM_UNITS), torch.zeros(1, STREAM_UNITS))
            stages[f"block{index}.w{level}"] = (BlockAt(block, level), both)
    stages["head"] = (net.head, (stream,))
    for name, levels in PATHS.items():
        stages[f"fused.{name}"] = (AtLevels(net, levels), (image,))
    return stages


PATHS: dict[str, tuple[int, ...]] = {
    "tiny": (1, 0, 1),
    "base": (2, 2, 2),
    "full": (LEVELS,) * BLOCKS,
}


def content_key(weight: Weight) -> str:
    """Key of a constant in the bundle: its content, and its layout where it has one."""
    layout = repr((weight.dtype, weight.shape)).encode() if weight.dtype else b""
    return hashlib.sha256(layout + weight.data).hexdigest()
