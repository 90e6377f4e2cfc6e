"""Quantise a stage with a quantiser of ExecuTorch's Arm backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from executorch.backends.arm.quantizer import get_symmetric_quantization_config
from torch import Tensor, nn
from torch.export import ExportedProgram, export
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from nestling.errors import ExportError
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

    Raises:
        ExportError: there are no samples.
    """
    if not samples:
        raise ExportError("int8 stages need calibration data", hint="pass real inputs")
    with quiet():
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_module_type(nn.LayerNorm, None)
        graph = export(module, samples[0]).module(check_guards=False)
        prepared: Any = prepare_pt2e(graph, quantizer)
        for sample in samples:
            prepared(*sample)
        return export(convert_pt2e(prepared), samples[0])
