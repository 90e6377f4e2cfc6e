"""Stages that store and compute in 16-bit floating point.

The model keeps its interface: the stem takes float32 and the head gives float32. Everything between
is half, the tensors in slots too, so that no stage converts what the next one converts back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from nestling.partition.blocks import BlockCut
from nestling.partition.cut import Cut, StageCut, StageKey
from nestling.partition.wires import Slot, Wires


class HalfStem(nn.Module):
    """A stem in half precision that takes float32.

    Args:
        stem: ``(*inputs) -> x`` or ``(x, *context)``.
    """

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the stem; integers stay what they are."""
        outputs = self.stem(*_all_as(torch.float16, inputs))
        if isinstance(outputs, Tensor):
            return _as(torch.float16, outputs)
        return _all_as(torch.float16, outputs)


class HalfHead(nn.Module):
    """A head in half precision that gives float32.

    Args:
        head: ``(x, *context) -> output``.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the head."""
        output: Tensor = self.head(*inputs)
        return _as(torch.float32, output)


def whole_in_half_precision(module: nn.Module) -> nn.Module:
    """Return a whole model, which takes and gives float32, with everything inside in half."""
    return HalfHead(HalfStem(copy.deepcopy(module).half())).eval()


def in_half_precision(pieces: Cut) -> Cut:
    """Return the pieces with weights, arithmetic and the tensors between them in half precision.

    Args:
        pieces: with float32 modules, which are left unchanged.
    """
    last = max(key.position for key in pieces.stages)
    converted = replace(
        pieces,
        stages={key: _convert(key, stage, last) for key, stage in pieces.stages.items()},
        streams=_all_as(torch.float16, pieces.streams),
        context={name: _as(torch.float16, t) for name, t in pieces.context.items()},
    )
    if isinstance(converted, BlockCut):
        converted = replace(converted, wired=_convert_wires(converted.wired))
    return converted


def _convert(key: StageKey, stage: StageCut, last: int) -> StageCut:
    module = copy.deepcopy(stage.module).half()
    if key.position == 0:
        return replace(stage, module=HalfStem(module).eval())
    if key.position == last:
        module = HalfHead(module).eval()
    inputs = _all_as(torch.float16, stage.example_inputs)
    return replace(stage, module=module, example_inputs=inputs)


def _convert_wires(wires: Wires) -> Wires:
    slots = {
        name: Slot(_as(torch.float16, slot.tensor), slot.role) if slot.role == "internal" else slot
        for name, slot in wires.slots.items()
    }
    return replace(wires, slots=slots)


def _as(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _all_as(dtype: torch.dtype, tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(_as(dtype, tensor) for tensor in tensors)
