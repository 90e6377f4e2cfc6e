"""Operators of the engine, mirrored: numbers, parameter records and scratch memory.

The headers in firmware/micro/kernels are the contract; a test compares this file with them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operator:
    """One operator of firmware/micro/operators.h.

    Attributes:
        number: its number there.
        fields: of its parameter record, in order: ``"name:u"`` (uint32), ``":i"`` (int32), ``":f"``
            (float32); ``"name[4]:u"`` is an array.
    """

    number: int
    fields: tuple[str, ...]

    def pack(self, **values: Any) -> bytes:
        """Make a parameter record; each field of it must be given."""
        names = []
        layout = "<"
        flat: list[int | float] = []
        for field in self.fields:
            name, _, kind = field.partition(":")
            name, _, count = name.partition("[")
            names.append(name)
            layout += count.rstrip("]") + {"u": "I", "i": "i", "f": "f"}[kind]
            flat.extend(values[name] if count else [values[name]])
        if set(names) != set(values):
            raise TypeError(f"no such fields: {sorted(set(values) - set(names))}")
        return struct.pack(layout, *flat)

    @property
    def params_bytes(self) -> int:
        """Size of the parameter record."""
        total = 0
        for field in self.fields:
            name = field.partition(":")[0]
            total += 4 * int(name.partition("[")[2].rstrip("]") or 1)
        return total


def _fields(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_IMAGE = (
    "kernel_height:u kernel_width:u stride_height:u stride_width:u pad_height:u pad_width:u "
    "dilation_height:u dilation_width:u "
)
_WINDOW = (
    "batches:u channels:u input_height:u input_width:u output_height:u output_width:u "
    "kernel_height:u kernel_width:u stride_height:u stride_width:u pad_height:u pad_width:u "
)
_BOUNDS = "activation_min:i activation_max:i "
_PAIR = "elements:u self_elements:u other_elements:u "

OPERATORS: dict[str, Operator] = {
    "conv2d": Operator(
        1,
        _fields(
            "batches:u input_height:u input_width:u input_channels:u output_height:u "
            "output_width:u output_channels:u " + _IMAGE + "groups:u input_zero_point:i "
            "output_zero_point:i " + _BOUNDS + "layout:u runs:u scaling:u"
        ),
    ),
    "depthwise": Operator(
        2,
        _fields(
            "batches:u input_height:u input_width:u input_channels:u output_height:u "
            "output_width:u channel_multiplier:u " + _IMAGE + "input_zero_point:i "
            "output_zero_point:i " + _BOUNDS + "layout:u scaling:u"
        ),
    ),
    "linear": Operator(
        3,
        _fields(
            "batches:u inputs:u outputs:u output_zero_point:i " + _BOUNDS + "layout:u scaling:u"
        ),
    ),
    "batch_matmul": Operator(
        4,
        _fields(
            "batches:u rows:u columns:u inner:u lhs_zero_point:i rhs_zero_point:i "
            "output_zero_point:i output_multiplier:i output_shift:i"
        ),
    ),
    "add": Operator(
        5,
        _fields(
            _PAIR + "self_zero_point:i self_multiplier:i self_shift:i other_zero_point:i "
            "other_multiplier:i other_shift:i output_zero_point:i output_multiplier:i "
            "output_shift:i " + _BOUNDS
        ),
    ),
    "mul": Operator(
        6,
        _fields(
            _PAIR + "self_zero_point:i other_zero_point:i output_zero_point:i "
            "output_multiplier:i output_shift:i"
        ),
    ),
    "div": Operator(
        7,
        _fields(
            "elements:u self_zero_point:i other_zero_point:i output_zero_point:i output_scale:f"
        ),
    ),
    "minimum": Operator(8, _fields(_PAIR)),
    "maximum": Operator(9, _fields(_PAIR)),
    "activation": Operator(10, _fields("elements:u")),
    "softmax": Operator(11, _fields("rows:u columns:u input_zero_point:i input_scale:f")),
    "layer_norm": Operator(
        12,
        _fields(
            "rows:u columns:u input_zero_point:i input_scale:f epsilon:f output_inverse_scale:f "
            "output_zero_point:i quant_min:i quant_max:i"
        ),
    ),
    "avg_pool": Operator(13, _fields(_WINDOW + "zero_point:i scale:f")),
    "max_pool": Operator(14, _fields(_WINDOW + _BOUNDS)),
    "pad": Operator(15, _fields("input_shape[4]:u before[4]:u after[4]:u value:i")),
    "transpose": Operator(16, _fields("rank:u element_bytes:u input_shape[6]:u permutation[6]:u")),
    "quantize": Operator(
        17, _fields("elements:u inverse_scale:f zero_point:i quant_min:i quant_max:i")
    ),
    "dequantize": Operator(18, _fields("elements:u zero_point:i scale:f")),
}
"""By the name of the kernel."""

OPERATOR_NAMES: dict[int, str] = {operator.number: name for name, operator in OPERATORS.items()}
