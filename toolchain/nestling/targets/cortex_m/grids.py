"""Grids: which real number an int8 value between two stages stands for.

Stages meet in slots, and any legal list of stages must compose, with blocks skipped or at any
width. So every slot has one grid for all stages that read or write it, fixed before anything is
quantised, from what flows there under a mixture of subnets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver

from nestling.partition.calibrate import Samples


@dataclass(frozen=True)
class Grid:
    """Value of an int8 number q: ``(q - zero_point) * scale``.

    Attributes:
        scale: positive; a float32.
        zero_point: -128 to 127.
    """

    scale: float
    zero_point: int

    def quantize(self, values: Tensor) -> Tensor:
        """Nearest int8 numbers, ties to even, saturated."""
        steps = torch.round(values * (1.0 / self.scale)) + self.zero_point
        return steps.clamp(-128, 127).to(torch.int8)

    def dequantize(self, numbers: Tensor) -> Tensor:
        """The values of int8 numbers, float32."""
        return (numbers.to(torch.float32) - self.zero_point) * self.scale


def find_grid(values: Sequence[Tensor]) -> Grid:
    """Choose the grid that loses least of ``values``, float32 of any shapes.

    Large values may be cut off if that helps the others: PyTorch's histogram observer decides.
    """
    observer = HistogramObserver(
        dtype=torch.int8, qscheme=torch.per_tensor_affine, quant_min=-128, quant_max=127
    )
    for tensor in values:
        observer(tensor)
    scale, zero_point = observer.calculate_qparams()
    return Grid(float(scale), int(zero_point))


def stream_grids(streams: Sequence[Tensor], samples: Sequence[Samples]) -> list[Grid]:
    """Grids of the streams behind positions 0, 1, ..., n; streams of one shape share a slot.

    Args:
        streams: an example of each, as in :class:`nestling.partition.cut.Cut`.
        samples: inputs of positions 0 to n + 1, from
            :func:`nestling.partition.calibrate.record_inputs`.
    """
    seen: dict[tuple[int, ...], list[Tensor]] = {}
    for border, stream in enumerate(streams):
        seen.setdefault(tuple(stream.shape), []).extend(s[0] for s in samples[border + 1])
    grids = {shape: find_grid(values) for shape, values in seen.items()}
    return [grids[tuple(stream.shape)] for stream in streams]
