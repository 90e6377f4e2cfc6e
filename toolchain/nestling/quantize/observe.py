"""Static quantisation of an exported graph by torchao, with whatever quantiser a backend brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def quantize_graph(
    graph: nn.Module, quantizer: Any, samples: Sequence[tuple[Tensor, ...]]
) -> nn.Module:
    """Quantise a graph, activations with the ranges seen on ``samples``.

    Args:
        graph: the module of an exported program; changed in place.
        quantizer: a quantiser of torchao's kind; says what is quantised and how.
        samples: real inputs, each a tuple with batch size 1.

    Returns:
        A module of quantise and dequantise operators with float32 inputs and outputs.
    """
    prepared: Any = prepare_pt2e(graph, quantizer)
    for sample in samples:
        prepared(*sample)
    converted: nn.Module = convert_pt2e(prepared)
    return converted
