"""Quantise a stage with a quantiser of ExecuTorch's Arm backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from executorch.backends.arm.quantizer import get_symmetric_quantization_config
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from nestling.quantize.observe import quantize_graph
from nestling.targets.quiet import quiet


def quantize_stage(
    module: nn.Module, samples: Sequence[tuple[Tensor, ...]], quantizer: Any
) -> ExportedProgram:
    """Quantise to int8 per output channel, activations with the ranges seen on ``samples``.

    Layer norms stay floating point: decomposed into int8 operators, a variance has too few steps.

    Args:
        module: in evaluation mode.
        samples: real inputs of the stage, each a tuple with batch size 1.
        quantizer: of the backend.

    Returns:
        A program with float32 inputs and outputs.
    """
    with quiet():
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_module_type(nn.LayerNorm, None)
        graph = export(module, samples[0]).module(check_guards=False)
        return export(quantize_graph(graph, quantizer, samples), samples[0])
