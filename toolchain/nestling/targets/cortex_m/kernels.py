"""Which kernel of the engine an ExecuTorch operator becomes, with which parameters.

Each function takes a call of the program and gives one kernel call. Constants are laid out for
the core by ``packing``; nothing here knows where tensors will lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestling.errors import ExportError
from nestling.targets.cortex_m.operators import OPERATORS
from nestling.targets.cortex_m.packing import (
    Isa,
    PackedWeights,
    pack_conv2d,
    pack_depthwise,
    pack_linear,
)
from nestling.targets.cortex_m.program import Call, ProgramTensor
from nestling.targets.cortex_m.scratch import (
    conv2d_scratch_bytes,
    depthwise_scratch_bytes,
    linear_scratch_bytes,
)

NHWC = (0, 2, 3, 1)
_ADD_SCRATCH_BYTES = 2048
_NUMPY = {"i8": np.int8, "i32": np.int32, "f32": np.float32}


@dataclass(frozen=True)
class Operand:
    """A tensor and the order of dimensions in which the kernel wants it in memory."""

    tensor: ProgramTensor
    order: tuple[int, ...]


@dataclass(frozen=True)
class KernelCall:
    """A kernel with everything but addresses.

    Attributes:
        kernel: a key of :data:`nestling.targets.cortex_m.operators.OPERATORS`.
        params: its parameter record.
        inputs: what it reads.
        constants: packed constants that follow the inputs; ``None``: an absent one.
        output: what it writes.
        scratch_bytes: memory that it needs while it runs.
        label: what it is in the program, for messages.
    """

    kernel: str
    params: bytes
    inputs: tuple[Operand, ...]
    output: Operand
    label: str
    constants: tuple[NDArray[Any] | None, ...] = field(default=())
    scratch_bytes: int = 0


def select_kernel(call: Call, isa: Isa) -> KernelCall:
    """Find the kernel for a call.

    Raises:
        ExportError: there is none, or not with these arguments; names the operator.
    """
    select = _SELECTORS.get(call.name)
    if select is None:
        raise ExportError(
            f"the engine has no operator for {call.name}",
            stage=call.place,
            actual=f"{call.name}.{call.overload} -> {call.output}",
            hint="quantise the layer, or replace it by operators that ExecuTorch lowers for "
            "Cortex-M",
        )
    return select(call, isa)


def unsupported(call: Call, why: str) -> ExportError:
    """The error for a call that the engine's kernel cannot do."""
    return ExportError(f"{call.name}: {why}", stage=call.place, actual=str(call.output))


def constant(tensor: Any, call: Call) -> NDArray[Any]:
    """Values of a constant tensor in its logical shape.

    Raises:
        ExportError: it is computed.
    """
    if not isinstance(tensor, ProgramTensor) or tensor.data is None:
        raise unsupported(call, "weights must be constants")
    flat = np.frombuffer(tensor.data, _NUMPY[tensor.dtype]).reshape(tensor.memory_shape)
    return flat.transpose(np.argsort(tensor.dim_order))


def _optional(tensor: Any, call: Call) -> NDArray[Any] | None:
    return None if tensor is None else constant(tensor, call).reshape(-1)


def _rows(tensor: ProgramTensor) -> tuple[int, ...]:
    return tuple(range(len(tensor.sizes)))


def _pair(values: Any) -> tuple[int, int]:
    return (int(values[0]), int(values[-1]))


def _int8_only(call: Call) -> None:
    for tensor in (*call.inputs, call.output):
        if tensor.dtype == "f32":
            raise unsupported(call, "floating point; only int8 is supported")


def _packed(weights: PackedWeights) -> tuple[NDArray[Any], NDArray[Any]]:
    return weights.weights, weights.channels


@dataclass(frozen=True)
class _Convolution:
    """What a convolution and a depthwise one have in common: the operators' arguments by name."""

    x: ProgramTensor
    bias: Any
    stride: Any
    padding: Any
    dilation: Any
    input_offset: int
    output_offset: Any
    multipliers: Any
    shifts: Any
    low: Any
    high: Any


def _conv2d(call: Call, isa: Isa) -> KernelCall:
    x, weight, *rest = call.args[:12]
    assert isinstance(x, ProgramTensor)
    layer = _Convolution(x, *rest)  # type: ignore[arg-type]
    filters = constant(weight, call)
    if filters.shape[3] == 1 and filters.shape[0] == x.sizes[1] > 1:
        # Depthwise in all but name, as ExecuTorch writes it for batches above one.
        return _as_depthwise(call, layer, filters.transpose(3, 1, 2, 0), 1, isa)
    return _as_conv2d(call, layer, filters, isa)


def _depthwise(call: Call, isa: Isa) -> KernelCall:
    x, weight, bias, stride, padding, dilation, multiplier, *rest = call.args[:13]
    assert isinstance(x, ProgramTensor) and isinstance(multiplier, int)
    layer = _Convolution(x, bias, stride, padding, dilation, *rest)  # type: ignore[arg-type]
    filters = constant(weight, call)
    if x.sizes[1] == 1:
        # ExecuTorch counts a convolution of one channel as depthwise; conv2d is the fast one.
        return _as_conv2d(call, layer, filters.transpose(3, 1, 2, 0), isa)
    return _as_depthwise(call, layer, filters, multiplier, isa)


def _as_conv2d(call: Call, layer: _Convolution, filters: NDArray[Any], isa: Isa) -> KernelCall:
    """`filters`: [output channels, height, width, input channels of a group]."""
    outputs, kernel_height, kernel_width, group_inputs = filters.shape
    groups = layer.x.sizes[1] // group_inputs
    packed = pack_conv2d(
        filters,
        _optional(layer.bias, call),
        constant(layer.multipliers, call),
        constant(layer.shifts, call),
        input_offset=layer.input_offset,
        groups=groups,
        isa=isa,
    )
    fields: dict[str, Any] = dict(
        **_image(layer.x, call.output),
        output_channels=outputs,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        **_geometry(layer.stride, layer.padding, layer.dilation),
        groups=groups,
        input_zero_point=-layer.input_offset,
        output_zero_point=layer.output_offset,
        activation_min=layer.low,
        activation_max=layer.high,
        layout=packed.layout,
        runs=packed.runs,
        scaling=packed.scaling,
    )
    return KernelCall(
        "conv2d",
        OPERATORS["conv2d"].pack(**fields),
        (Operand(layer.x, NHWC),),
        Operand(call.output, NHWC),
        str(call),
        _packed(packed),
        conv2d_scratch_bytes(fields),
    )


def _as_depthwise(
    call: Call, layer: _Convolution, filters: NDArray[Any], multiplier: int, isa: Isa
) -> KernelCall:
    """`filters`: [1, height, width, output channels]."""
    _, kernel_height, kernel_width, _ = filters.shape
    packed = pack_depthwise(
        filters,
        _optional(layer.bias, call),
        constant(layer.multipliers, call),
        constant(layer.shifts, call),
        input_offset=layer.input_offset,
        isa=isa,
    )
    fields: dict[str, Any] = dict(
        **_image(layer.x, call.output),
        channel_multiplier=multiplier,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        **_geometry(layer.stride, layer.padding, layer.dilation),
        input_zero_point=-layer.input_offset,
        output_zero_point=layer.output_offset,
        activation_min=layer.low,
        activation_max=layer.high,
        layout=packed.layout,
        scaling=packed.scaling,
    )
    return KernelCall(
        "depthwise",
        OPERATORS["depthwise"].pack(**fields),
        (Operand(layer.x, NHWC),),
        Operand(call.output, NHWC),
        str(call),
        _packed(packed),
        depthwise_scratch_bytes(fields),
    )


def _linear(call: Call, isa: Isa) -> KernelCall:
    x, weight, bias, kernel_sum, input_offset, filter_offset, output_offset = call.args[:7]
    multipliers, shifts, high, low = call.args[7:11]
    assert isinstance(x, ProgramTensor) and isinstance(input_offset, int)
    assert isinstance(filter_offset, int)
    filters = constant(weight, call)
    outputs, inputs = filters.shape
    packed = pack_linear(
        filters,
        _optional(bias, call),
        np.asarray(multipliers),
        np.asarray(shifts),
        input_offset=input_offset,
        filter_offset=filter_offset,
        kernel_sum=_optional(kernel_sum, call),
        isa=isa,
    )
    fields: dict[str, Any] = {
        "batches": x.elements // inputs,
        "inputs": inputs,
        "outputs": outputs,
        "output_zero_point": output_offset,
        "activation_min": low,
        "activation_max": high,
        "layout": packed.layout,
        "scaling": packed.scaling,
    }
    return KernelCall(
        "linear",
        OPERATORS["linear"].pack(**fields),
        (Operand(x, _rows(x)),),
        Operand(call.output, _rows(call.output)),
        str(call),
        _packed(packed),
        linear_scratch_bytes(fields),
    )


def _image(x: ProgramTensor, output: ProgramTensor) -> dict[str, int]:
    batches, channels, height, width = x.sizes
    return {
        "batches": batches,
        "input_height": height,
        "input_width": width,
        "input_channels": channels,
        "output_height": output.sizes[2],
        "output_width": output.sizes[3],
    }


def _geometry(stride: Any, padding: Any, dilation: Any) -> dict[str, int]:
    names = ("stride", "pad", "dilation")
    result = {}
    for name, values in zip(names, (stride, padding, dilation), strict=True):
        result[f"{name}_height"], result[f"{name}_width"] = _pair(values)
    return result


def _batch_matmul(call: Call, isa: Isa) -> KernelCall:
    lhs, lhs_offset, rhs, rhs_offset, zero_point, multiplier, shift = call.args[:7]
    assert isinstance(lhs, ProgramTensor) and isinstance(rhs, ProgramTensor)
    assert isinstance(lhs_offset, int) and isinstance(rhs_offset, int)
    batches, rows, inner = lhs.sizes
    columns = rhs.sizes[1]
    params = OPERATORS["batch_matmul"].pack(
        batches=batches,
        rows=rows,
        columns=columns,
        inner=inner,
        lhs_zero_point=-lhs_offset,
        rhs_zero_point=-rhs_offset,
        output_zero_point=zero_point,
        output_multiplier=multiplier,
        output_shift=shift,
    )
    return KernelCall(
        "batch_matmul",
        params,
        (Operand(lhs, _rows(lhs)), Operand(rhs, _rows(rhs))),
        Operand(call.output, _rows(call.output)),
        str(call),
        scratch_bytes=4 * columns,
    )


def _operands(call: Call, a: Any, b: Any) -> tuple[tuple[Operand, Operand], dict[str, int]]:
    """Operands of an element by element operator, in the output's order of memory.

    The shorter one must be the innermost dimensions, which the kernel then repeats.
    """
    output = call.output
    rank = len(output.sizes)
    operands = []
    for tensor in (a, b):
        if not isinstance(tensor, ProgramTensor):
            raise unsupported(call, "both operands must be tensors")
        lead = rank - len(tensor.sizes)
        sizes = (1,) * lead + tensor.sizes
        inner = tensor.elements
        for size, full in zip(
            (sizes[d] for d in reversed(output.dim_order)),
            (output.sizes[d] for d in reversed(output.dim_order)),
            strict=True,
        ):
            if inner == 1:
                break
            if size != full:
                raise unsupported(call, f"cannot repeat {tensor}")
            inner //= size
        order = tuple(d - lead for d in output.dim_order if d >= lead)
        operands.append(Operand(tensor, order))
    counts = {
        "elements": output.elements,
        "self_elements": operands[0].tensor.elements,
        "other_elements": operands[1].tensor.elements,
    }
    return (operands[0], operands[1]), counts


def _add(call: Call, isa: Isa) -> KernelCall:
    a, za, ma, sa, b, zb, mb, sb, zero_point, multiplier, shift, low, high = call.args
    operands, counts = _operands(call, a, b)
    params = OPERATORS["add"].pack(
        **counts,
        self_zero_point=za,
        self_multiplier=ma,
        self_shift=sa,
        other_zero_point=zb,
        other_multiplier=mb,
        other_shift=sb,
        output_zero_point=zero_point,
        output_multiplier=multiplier,
        output_shift=shift,
        activation_min=low,
        activation_max=high,
    )
    output = Operand(call.output, call.output.dim_order)
    return KernelCall("add", params, operands, output, str(call), scratch_bytes=_ADD_SCRATCH_BYTES)


def _mul(call: Call, isa: Isa) -> KernelCall:
    a, za, b, zb, zero_point, multiplier, shift = call.args
    operands, counts = _operands(call, a, b)
    params = OPERATORS["mul"].pack(
        **counts,
        self_zero_point=za,
        other_zero_point=zb,
        output_zero_point=zero_point,
        output_multiplier=multiplier,
        output_shift=shift,
    )
    return KernelCall(
        "mul", params, operands, Operand(call.output, call.output.dim_order), str(call)
    )


def _div(call: Call, isa: Isa) -> KernelCall:
    a, za, b, zb, zero_point, scale = call.args
    if call.output.dtype != "i8":
        raise unsupported(call, "int16 is not supported")
    operands, counts = _operands(call, a, b)
    params = OPERATORS["div"].pack(
        elements=counts["elements"],
        self_zero_point=za,
        other_zero_point=zb,
        output_zero_point=zero_point,
        output_scale=scale,
    )
    return KernelCall(
        "div", params, operands, Operand(call.output, call.output.dim_order), str(call)
    )


def _extremum(kernel: str) -> Callable[[Call, Isa], KernelCall]:
    def select(call: Call, isa: Isa) -> KernelCall:
        _int8_only(call)
        operands, counts = _operands(call, call.args[0], call.args[1])
        params = OPERATORS[kernel].pack(**counts)
        output = Operand(call.output, call.output.dim_order)
        return KernelCall(kernel, params, operands, output, str(call))

    return select


def _activation(call: Call, isa: Isa) -> KernelCall:
    x, table = call.args[:2]
    values = table if isinstance(table, bytes) else constant(table, call).tobytes()
    assert isinstance(x, ProgramTensor)
    order = call.output.dim_order
    return KernelCall(
        "activation",
        OPERATORS["activation"].pack(elements=x.elements),
        (Operand(x, order),),
        Operand(call.output, order),
        str(call),
        (np.frombuffer(values, np.int8),),
    )


def _softmax(call: Call, isa: Isa) -> KernelCall:
    x, dim, zero_point, _, multiplier, shift = call.args[:6]
    assert isinstance(x, ProgramTensor) and isinstance(dim, int)
    assert isinstance(multiplier, int) and isinstance(shift, int)
    if dim % len(x.sizes) != len(x.sizes) - 1:
        raise unsupported(call, "only over the last dimension")
    columns = x.sizes[-1]
    params = OPERATORS["softmax"].pack(
        rows=x.elements // columns,
        columns=columns,
        input_zero_point=zero_point,
        input_scale=math.ldexp(float(multiplier), shift - 57),
    )
    return KernelCall(
        "softmax",
        params,
        (Operand(x, _rows(x)),),
        Operand(call.output, _rows(call.output)),
        str(call),
        scratch_bytes=4 * columns,
    )


def _layer_norm(call: Call, isa: Isa) -> KernelCall:
    x, scale, zero_point, shape, gamma, beta, epsilon, out_scale, out_zero, low, high = call.args
    assert isinstance(x, ProgramTensor) and isinstance(out_scale, float)
    assert isinstance(shape, list)
    columns = math.prod(shape)
    params = OPERATORS["layer_norm"].pack(
        rows=x.elements // columns,
        columns=columns,
        input_zero_point=zero_point,
        input_scale=scale,
        epsilon=epsilon,
        output_inverse_scale=1.0 / out_scale,
        output_zero_point=out_zero,
        quant_min=low,
        quant_max=high,
    )
    return KernelCall(
        "layer_norm",
        params,
        (Operand(x, _rows(x)),),
        Operand(call.output, _rows(call.output)),
        str(call),
        (_optional(gamma, call), _optional(beta, call)),
    )


def _window(call: Call, kernel: Any, stride: Any, padding: Any) -> dict[str, int]:
    x = call.inputs[0]
    image = _image(x, call.output)
    image["channels"] = image.pop("input_channels")
    kernel_height, kernel_width = _pair(kernel)
    stride_height, stride_width = _pair(stride or kernel)
    pad_height, pad_width = _pair(padding)
    return image | {
        "kernel_height": kernel_height,
        "kernel_width": kernel_width,
        "stride_height": stride_height,
        "stride_width": stride_width,
        "pad_height": pad_height,
        "pad_width": pad_width,
    }


def _avg_pool(call: Call, isa: Isa) -> KernelCall:
    x, kernel, stride, padding, _, zero_point, multiplier, shift = call.args[:8]
    assert isinstance(x, ProgramTensor)
    assert isinstance(multiplier, int) and isinstance(shift, int)
    params = OPERATORS["avg_pool"].pack(
        **_window(call, kernel, stride, padding),
        zero_point=zero_point,
        scale=math.ldexp(float(multiplier), shift - 31),
    )
    return KernelCall(
        "avg_pool", params, (Operand(x, NHWC),), Operand(call.output, NHWC), str(call)
    )


def _max_pool(call: Call, isa: Isa) -> KernelCall:
    x, kernel, stride, padding, dilation, _, in_zero, out_zero, low, high = call.args[:10]
    assert isinstance(x, ProgramTensor)
    if _pair(dilation) != (1, 1) or in_zero != out_zero:
        raise unsupported(call, "with a dilation or a change of zero point")
    params = OPERATORS["max_pool"].pack(
        **_window(call, kernel, stride, padding), activation_min=low, activation_max=high
    )
    return KernelCall(
        "max_pool", params, (Operand(x, NHWC),), Operand(call.output, NHWC), str(call)
    )


def _pad(call: Call, isa: Isa) -> KernelCall:
    x, before, after, value = call.args[:4]
    assert isinstance(x, ProgramTensor)
    _int8_only(call)
    order = _rows(x)
    if len(x.sizes) == 4 and (
        x.sizes[1] == 1 or x.sizes[2] == x.sizes[3] == 1 or x.dim_order[:2] == (0, 2)
    ):
        order = NHWC  # the operator counts in the order of memory there
    shape = [x.sizes[d] for d in order]
    params = OPERATORS["pad"].pack(
        input_shape=[1] * (4 - len(shape)) + shape, before=before, after=after, value=value
    )
    return KernelCall("pad", params, (Operand(x, order),), Operand(call.output, order), str(call))


def _quantize(call: Call, isa: Isa) -> KernelCall:
    x, scale, zero_point, low, high = call.args[:5]
    assert isinstance(x, ProgramTensor) and isinstance(scale, float)
    if call.output.dtype != "i8":
        raise unsupported(call, "only int8 is supported")
    params = OPERATORS["quantize"].pack(
        elements=x.elements,
        inverse_scale=1.0 / scale,
        zero_point=zero_point,
        quant_min=low,
        quant_max=high,
    )
    order = call.output.dim_order
    return KernelCall(
        "quantize", params, (Operand(x, order),), Operand(call.output, order), str(call)
    )


def _dequantize(call: Call, isa: Isa) -> KernelCall:
    x, scale, zero_point = call.args[:3]
    assert isinstance(x, ProgramTensor)
    if x.dtype != "i8":
        raise unsupported(call, "only int8 is supported")
    params = OPERATORS["dequantize"].pack(elements=x.elements, zero_point=zero_point, scale=scale)
    order = call.output.dim_order
    return KernelCall(
        "dequantize", params, (Operand(x, order),), Operand(call.output, order), str(call)
    )


_SELECTORS: dict[str, Callable[[Call, Isa], KernelCall]] = {
    "cortex_m::quantized_conv2d": _conv2d,
    "cortex_m::quantized_depthwise_conv2d": _depthwise,
    "cortex_m::quantized_linear": _linear,
    "cortex_m::quantized_batch_matmul": _batch_matmul,
    "cortex_m::quantized_add": _add,
    "cortex_m::quantized_mul": _mul,
    "cortex_m::quantized_div": _div,
    "cortex_m::minimum": _extremum("minimum"),
    "cortex_m::maximum": _extremum("maximum"),
    "cortex_m::quantized_activation": _activation,
    "cortex_m::softmax": _softmax,
    "cortex_m::quantized_avg_pool2d": _avg_pool,
    "cortex_m::quantized_max_pool2d": _max_pool,
    "cortex_m::pad": _pad,
    "cortex_m::quantize_per_tensor": _quantize,
    "cortex_m::dequantize_per_tensor": _dequantize,
    "nestling::layer_norm": _layer_norm,
}
"""By the operator's name; ``nestling::`` ones are made by ``rewrite``."""
