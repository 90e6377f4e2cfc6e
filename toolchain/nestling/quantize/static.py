"""int8 weights and activations with ranges fixed by calibration."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Self

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from torch import Tensor, nn
from torch.export import ExportedProgram, export, load, save

from nestling.errors import ExportError
from nestling.quantize.observe import quantize_graph


class ExportedStage(nn.Module):
    """A quantised graph as a module that can be called, composed and sent to another process."""

    def __init__(self, program: ExportedProgram) -> None:
        super().__init__()
        self._program = program
        self.quantized = program.module(check_guards=False)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the graph; float32 in and out."""
        outputs: Tensor | tuple[Tensor, ...] = self.quantized(*inputs)
        return outputs

    def train(self, mode: bool = True) -> Self:
        """Do nothing: a quantised graph has one mode, and exported graphs refuse to be asked."""
        return self

    def to_bytes(self) -> bytes:
        """Serialise in torch's own format: graph modules cannot be pickled."""
        buffer = io.BytesIO()
        save(self._program, buffer)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> ExportedStage:
        """Read what :meth:`to_bytes` wrote."""
        return ExportedStage(load(io.BytesIO(data)))

    def __reduce__(self) -> tuple[Callable[[bytes], ExportedStage], tuple[bytes]]:
        """Pickle by way of :meth:`to_bytes`."""
        return ExportedStage.from_bytes, (self.to_bytes(),)


def trace_float(module: nn.Module, samples: Sequence[tuple[Tensor, ...]]) -> ExportedProgram:
    """Export a stage as it is before quantisation.

    Raises:
        ExportError: there are no samples.
    """
    if not samples:
        raise ExportError(
            "scheme int8-static needs calibration data", hint="pass real inputs as calibration"
        )
    with torch.no_grad():
        return export(module, samples[0])


def quantize_static(
    program: ExportedProgram, samples: Sequence[tuple[Tensor, ...]]
) -> ExportedStage:
    """Quantise a stage to int8 per output channel, with activation ranges seen on ``samples``.

    The same samples must be given for every width of one block: then all of them see the same
    ranges up to where their sums differ, and their integer weights and biases are the same bytes.

    Args:
        program: what :func:`trace_float` gave.
        samples: real inputs of the stage, each a tuple with batch size 1.

    Returns:
        A module of quantise and dequantise operators with float32 input and output.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = program.module(check_guards=False)
        quantizer = XNNPACKQuantizer()
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
        return ExportedStage(export(quantize_graph(graph, quantizer, samples), samples[0]))
