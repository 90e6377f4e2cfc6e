"""Quantise a stage for Cadence's DSPs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram, export

from nestling.targets.cadence.compiler import import_cadence
from nestling.targets.quiet import quiet


def make_quantizer() -> Any:
    """Return a quantiser of the backend."""
    quantizers = import_cadence("quantizer.quantizer")
    return quantizers.CadenceDefaultQuantizer()


def quantize_stage(
    module: nn.Module, samples: Sequence[tuple[Tensor, ...]], quantizer: Any
) -> ExportedProgram:
    """Quantise to int8, activations with the ranges seen on ``samples``.

    Args:
        module: in evaluation mode.
        samples: real inputs of the stage, each a tuple with batch size 1.
        quantizer: from :func:`make_quantizer`.

    Returns:
        A program with float32 inputs and outputs.
    """
    compiler = import_cadence("compiler")
    with quiet():
        quantized = compiler.get_fake_quant_model(
            module, samples[0], quantizer, calibration_data=list(samples)
        )
        return export(quantized, samples[0])
