"""Linear layers with integer weights and activations quantised at run time.

They are written in the operators that ExecuTorch's XNNPACK partitioner recognises, so the same
module is the eager reference, the thing that is exported, and the oracle of the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.ao.quantization.fx import _decomposed as _decomposed  # registers the operators

_ops = torch.ops.quantized_decomposed
_INT8_MIN, _INT8_MAX = -128, 127
_SMALLEST_SCALE = 1e-9
NIBBLE_LIMIT = 119
"""Largest weight of a nibble layer: 119 = 16 * 7 + 7, so both nibbles fit four signed bits."""


def quantize_activations(x: Tensor) -> Tensor:
    """Round each token of ``x`` (float32 ``[..., features]``) to its own int8 grid.

    The graph that this traces to is what XNNPACK runs as one quantisation of the whole tensor.
    """
    scale, zero_point = _ops.choose_qparams_per_token_asymmetric(x, torch.int8)
    quantized = _ops.quantize_per_token(x, scale, zero_point, _INT8_MIN, _INT8_MAX, torch.int8)
    restored: Tensor = _ops.dequantize_per_token(
        quantized, scale, zero_point, _INT8_MIN, _INT8_MAX, torch.int8, torch.float32
    )
    return restored


def row_scales(weight: Tensor, limit: int) -> Tensor:
    """Scale of each row of ``weight`` ``[out, in]`` that maps its largest value to ``limit``."""
    return (weight.abs().amax(dim=1) / limit).clamp_min(_SMALLEST_SCALE).to(torch.float32)


class IntegerLinear(nn.Module):
    """What code around an ``nn.Linear`` may ask of the layer that replaces it.

    Attributes:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features


class RowQuantizedLinear(IntegerLinear):
    """Weights of ``bits`` bits with one scale a row, activations int8 per token.

    Attributes:
        weight: int8 ``[out, in]``; 4-bit values are held one a byte until they are lowered.
        scale: float32 ``[out]``.
    """

    weight: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self.limit = 2 ** (bits - 1) - 1
        self.register_buffer("weight", weight.to(torch.int8).contiguous())
        self.register_buffer("scale", scale.to(torch.float32).contiguous())
        self.register_buffer("zero_point", torch.zeros(len(scale), dtype=torch.int64))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    @staticmethod
    def from_linear(linear: nn.Linear, bits: int) -> RowQuantizedLinear:
        """Quantise ``linear``, rounding to nearest."""
        weight = linear.weight.detach()
        limit = 2 ** (bits - 1) - 1
        scale = row_scales(weight, limit)
        rounded = torch.round(weight / scale[:, None]).clamp(-limit - 1, limit)
        return RowQuantizedLinear(rounded, scale, linear.bias, bits)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 ``[..., in]`` to float32 ``[..., out]``."""
        weight = _ops.dequantize_per_channel(
            self.weight, self.scale, self.zero_point, 0, -self.limit - 1, self.limit, torch.int8
        )
        return nn.functional.linear(quantize_activations(x), weight, self.bias)


class GroupQuantizedLinear(IntegerLinear):
    """4-bit weights with one scale for every ``group_size`` inputs, activations int8 per token.

    Attributes:
        weight: int8 ``[out, in]`` in -8..7.
        scale: float32 ``[out, in / group_size]``, rounded to bfloat16 as XNNPACK stores it.
    """

    weight: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, linear: nn.Linear, group_size: int) -> None:
        out_features, in_features = linear.weight.shape
        super().__init__(in_features, out_features)
        groups = linear.weight.detach().reshape(out_features, in_features // group_size, group_size)
        scale = (groups.abs().amax(dim=2) / 7).clamp_min(_SMALLEST_SCALE)
        scale = scale.to(torch.bfloat16).to(torch.float32)
        weight = torch.round(groups / scale[:, :, None]).clamp(-8, 7).to(torch.int8)
        self.group_size = group_size
        self.register_buffer("weight", weight.reshape(out_features, in_features).contiguous())
        self.register_buffer("scale", scale.contiguous())
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=torch.int32))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Float32 ``[..., in]`` to float32 ``[..., out]``."""
        weight = _ops.dequantize_per_channel_group(
            self.weight,
            self.scale,
            self.zero_point,
            -8,
            7,
            torch.int8,
            self.group_size,
            torch.float32,
        )
        return nn.functional.linear(quantize_activations(x), weight, self.bias)


class NibbleLinear(IntegerLinear):
    """int8 weights kept as two 4-bit layers: ``weight = 16 * high + low``.

    ``high`` alone is a 4-bit layer of the same weights, so dropping ``low`` halves the bytes and
    the precision without touching what is resident. Slicing the most significant bits is the idea
    of Matryoshka quantisation (arXiv:2502.06786); the signed low nibble keeps both halves in the
    range of one 4-bit kernel.

    Args:
        linear: float32 layer to quantise.
        bits: 4 leaves the low nibbles out, 8 takes both.
    """

    def __init__(self, linear: nn.Linear, bits: int) -> None:
        super().__init__(linear.in_features, linear.out_features)
        weight = linear.weight.detach()
        scale = row_scales(weight, NIBBLE_LIMIT)
        rounded = torch.round(weight / scale[:, None]).clamp(-NIBBLE_LIMIT, NIBBLE_LIMIT)
        high = torch.floor((rounded + 8) / 16)
        low = rounded - 16 * high
        self.high = RowQuantizedLinear(high, 16 * scale, linear.bias, bits=4)
        self.low = RowQuantizedLinear(low, scale, None, bits=4) if bits == 8 else None

    def forward(self, x: Tensor) -> Tensor:
        """Float32 ``[..., in]`` to float32 ``[..., out]``."""
        y: Tensor = self.high(x)
        return y if self.low is None else y + self.low(x)
