"""Floating point between a dequantise and a quantise, turned into operators on int8.

ExecuTorch leaves what it has no int8 kernel for in floating point. LayerNorm has a kernel here;
any function of single values becomes a table, filled by running the very operators in its place
on all 256 inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from nestling.targets.cortex_m.program import Call, ProgramTensor, StaticProgram
from nestling.targets.cortex_m.reference import evaluate

QUANTIZE = "cortex_m::quantize_per_tensor"
DEQUANTIZE = "cortex_m::dequantize_per_tensor"

_POINTWISE = {
    *("abs", "celu", "clamp", "cos", "elu", "erf", "exp", "gelu", "hardsigmoid", "hardswish"),
    *("hardtanh", "leaky_relu", "log", "log10", "log1p", "log2", "logit", "neg", "reciprocal"),
    *("relu", "rsqrt", "sigmoid", "silu", "sin", "sqrt", "tan", "tanh"),
}
"""Operators of one tensor and numbers, without the namespace ``aten::``."""


def rewrite(program: StaticProgram) -> list[Call]:
    """Return the program's calls with all such groups replaced."""
    calls = list(program.calls)
    makers = {output.number: call for call in calls for output in call.outputs}
    readers: dict[int, int] = {}
    for call in calls:
        for tensor in call.inputs:
            readers[tensor.base] = readers.get(tensor.base, 0) + 1
    for tensor in program.outputs:
        readers[tensor.base] = readers.get(tensor.base, 0) + 1
    replaced: dict[int, Call | None] = {}
    for call in calls:
        if call.name == QUANTIZE:
            group = _float_group(call, makers, readers)
        elif _pointwise(call) and call.output.dtype == "i8" and call.inputs[0].dtype == "i8":
            group = [call]
        else:
            continue
        new = _replacement(group) if group else None
        if new is not None and group:
            # Others may read what the first one dequantises; it goes with the last reader.
            replaced.update({id(old): None for old in group[1:]})
            replaced[id(call)] = new
    left = [replaced.get(id(call), call) for call in calls]
    return _drop_unread([call for call in left if call is not None], program)


def _drop_unread(calls: list[Call], program: StaticProgram) -> list[Call]:
    """Leave out dequantise calls whose readers are gone."""
    read = {tensor.base for call in calls for tensor in call.inputs}
    read |= {tensor.base for tensor in program.outputs}
    return [c for c in calls if c.name != DEQUANTIZE or c.output.number in read]


def _pointwise(call: Call) -> bool:
    namespace, _, name = call.name.partition("::")
    return namespace == "aten" and name in _POINTWISE and len(call.inputs) == 1


def _float_group(last: Call, makers: dict[int, Call], readers: dict[int, int]) -> list[Call] | None:
    """Calls from a dequantise to this quantise, if nobody else reads what is between them."""
    group = [last]
    tensor = last.inputs[0]
    while True:
        maker = makers.get(tensor.base)
        if maker is None or tensor.base != tensor.number:
            return None
        if maker.name == DEQUANTIZE:
            return [maker, *group]
        if readers[tensor.base] != 1 or maker.output.number != tensor.number:
            return None
        if maker.name != "aten::native_layer_norm" and not _pointwise(maker):
            return None
        group.insert(0, maker)
        tensor = maker.inputs[0]


def _replacement(group: list[Call]) -> Call | None:
    last = group[-1]
    norms = [call for call in group if call.name == "aten::native_layer_norm"]
    if norms:
        return _layer_norm(group) if len(group) == 3 else None
    table = _table(group)
    source = group[0].inputs[0]
    return replace(last, name="cortex_m::quantized_activation", args=(source, table))


def _layer_norm(group: list[Call]) -> Call:
    first, norm, last = group
    source, scale, zero_point = first.args[:3]
    _, shape, gamma, beta, epsilon = norm.args[:5]
    args = (source, scale, zero_point, shape, gamma, beta, epsilon, *last.args[1:5])
    return replace(last, name="nestling::layer_norm", args=args)


def _table(group: list[Call]) -> bytes:
    """The last call's int8 output for each int8 input of the first, from -128 up."""
    value: Any = torch.arange(-128, 128, dtype=torch.int16).to(torch.int8)
    for call in group:
        args = tuple(value if isinstance(a, ProgramTensor) else a for a in call.args)
        (value,) = evaluate(call, args)
    table: bytes = value.numpy().tobytes()
    return table
