"""Run a program with ExecuTorch's reference operators: the oracle that plans are held against.

It shares nothing with the compiler but the reader of programs: no packing, no memory planning, no
kernels of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import executorch.backends.cortex_m.passes  # noqa: F401  (registers torch.ops.cortex_m)
import numpy as np
import torch
from executorch.exir.scalar_type import ScalarType
from torch import Tensor

from nestling.errors import ExportError
from nestling.targets.cortex_m.program import Call, ProgramTensor, StaticProgram

_TORCH = {
    "f32": torch.float32,
    "f16": torch.float16,
    "i64": torch.int64,
    "i32": torch.int32,
    "u8": torch.uint8,
    "i8": torch.int8,
    "bool": torch.bool,
}
_DTYPES = {
    ScalarType.FLOAT: torch.float32,
    ScalarType.LONG: torch.int64,
    ScalarType.INT: torch.int32,
    ScalarType.CHAR: torch.int8,
    ScalarType.BYTE: torch.uint8,
    ScalarType.SHORT: torch.int16,
}


def run_reference(program: StaticProgram, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a method.

    Args:
        program: from :func:`nestling.targets.cortex_m.program.read_program`.
        inputs: in their logical shapes, of any strides.

    Returns:
        The outputs, in their logical shapes.
    """
    values: dict[int, Tensor] = {}
    for tensor, value in zip(program.inputs, inputs, strict=True):
        if tuple(value.shape) != tensor.sizes or value.dtype != _TORCH[tensor.dtype]:
            raise ExportError("an input has the wrong form", expected=tensor, actual=value.shape)
        values[tensor.number] = _in_order(value, tensor)
    for call in program.calls:
        args = tuple(_fetch(argument, values) for argument in call.args)
        for tensor, value in zip(call.outputs, evaluate(call, args), strict=True):
            values[tensor.number] = _in_order(value, tensor)
    return [_fetch(tensor, values) for tensor in program.outputs]


def evaluate(call: Call, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Compute one call on tensors.

    Raises:
        ExportError: torch has no such operator.
    """
    namespace, _, name = call.name.partition("::")
    if name in ("_clone_dim_order", "_to_dim_order_copy"):
        return (args[0].clone(),)
    if name == "et_view":
        return (args[0].contiguous().reshape(call.output.sizes),)
    packet = getattr(getattr(torch.ops, namespace), name, None)
    if packet is None:
        raise ExportError(f"there is no reference for {call.name}", stage=call.place)
    if namespace == "cortex_m":
        if name.endswith("quantize_per_tensor"):
            args = (*args[:5], _DTYPES[ScalarType(args[5])])
        return (packet.default(*args),)
    overload = getattr(packet, call.overload)
    names = [a.name for a in overload._schema.arguments if a.is_out]
    pairs = zip(names, call.outputs, strict=True)
    outputs = {name: torch.empty(0, dtype=_TORCH[tensor.dtype]) for name, tensor in pairs}
    result = overload(*args, **outputs)
    return result if isinstance(result, tuple) else (result,)


def _fetch(argument: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(argument, list):
        return [_fetch(item, values) for item in argument]
    if not isinstance(argument, ProgramTensor):
        return argument
    if argument.data is not None:
        flat = torch.frombuffer(bytearray(argument.data), dtype=_TORCH[argument.dtype])
        return _from_memory(flat, argument)
    if argument.number in values:
        return values[argument.number]
    base = values.get(argument.base)
    if base is not None and base.numel() == argument.elements:  # a view that was left out
        strides = base.stride()
        order = sorted(range(base.dim()), key=lambda d: (-strides[d], d))
        return _from_memory(base.permute(order).reshape(-1), argument)
    return torch.empty(argument.sizes, dtype=_TORCH[argument.dtype])  # scratch memory


def _from_memory(flat: Tensor, tensor: ProgramTensor) -> Tensor:
    inverse = np.argsort(tensor.dim_order).tolist()
    return flat.reshape(tensor.memory_shape).permute(inverse)


def _in_order(value: Tensor, tensor: ProgramTensor) -> Tensor:
    """The same values with the strides that the program gives the tensor."""
    value = value.reshape(tensor.sizes)
    if value.dim() == 0:
        return value
    memory = value.permute(tensor.dim_order).contiguous().reshape(-1)
    return _from_memory(memory, tensor)
