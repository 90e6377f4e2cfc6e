"""4-bit weights as the Vulkan delegate takes them: read by products of floating-point activations.

Its operator for 4-bit weights and activations that are quantised at run time wants their scales in
a form that only some exporters give; the one for 4-bit weights alone takes ours, and loses nothing.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.quantize.linear import GroupQuantizedLinear

_ops = torch.ops.quantized_decomposed


class WeightOnlyLinear(nn.Module):
    """A 4-bit layer whose activations stay floating point.

    Args:
        linear: gives the weights, their scales and the bias.
    """

    def __init__(self, linear: GroupQuantizedLinear) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """Float32 ``[..., in]`` to float32 ``[..., out]``."""
        layer = self.linear
        weight = _ops.dequantize_per_channel_group(
            layer.weight,
            layer.scale,
            layer.zero_point,
            -8,
            7,
            torch.int8,
            layer.group_size,
            torch.float32,
        )
        return F.linear(x, weight, layer.bias)


def quantize_weights_alone(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose 4-bit layers take floating-point activations."""
    if isinstance(module, GroupQuantizedLinear):
        return WeightOnlyLinear(module)
    result = copy.deepcopy(module)
    for name, child in list(result.named_modules()):
        if isinstance(child, GroupQuantizedLinear):
            parent = result.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], WeightOnlyLinear(child))
    return result
