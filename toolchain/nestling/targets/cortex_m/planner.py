"""Place activations in the arena, with ExecuTorch's own planner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from executorch.exir.memory_planning import greedy
from executorch.exir.tensor import TensorSpec
from torch.export import ExportGraphSignature
from torch.fx import Graph, GraphModule

from nestling.targets.cortex_m.plan import ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """A piece of memory.

    Attributes:
        bytes: size.
        first: number of the operator that writes it.
        last: number of the last operator that reads it.
    """

    bytes: int
    first: int
    last: int


def place(pieces: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Choose offsets so that pieces alive at one time do not overlap.

    Returns:
        An offset for each piece, a multiple of 16, and the size of the arena.
    """
    specs = []
    for piece in pieces:
        spec = TensorSpec(torch.uint8, torch.Size([piece.bytes]))
        spec.lifetime = [piece.first, piece.last]
        specs.append(spec)
    if not specs:
        return [], 0
    module = GraphModule(torch.nn.Module(), Graph())
    # It asks for a set, whose order would decide between pieces of one size, differently each time.
    ordered: Any = specs
    result = greedy(ALIGNMENT, ordered, module, ExportGraphSignature([], []))
    return [result.spec_dict[spec].mem_offset for spec in specs], max(result.bufsizes)
