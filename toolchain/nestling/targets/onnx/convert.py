"""From a torch module to an ONNX model whose weights lie outside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count

import onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.onnx._internal.exporter import _core, _registration

from nestling.errors import ExportError, first_line
from nestling.targets.lowered import ExternalConstant, LoweredProgram
from nestling.targets.quiet import quiet

OPSET = 20
"""The first with GELU as one operator; onnxruntime has it since 1.17."""

WEIGHTS_NAME = "weights.bin"
"""File beside the models that holds the weights of all of them."""

EXTERNAL_BYTES = 128
"""Tensors smaller than this stay in the model: saying where they lie would take as much."""

# What a convolution does when it says nothing; None: its weight says it.
_CONV_DEFAULTS = {"kernel_shape": None, "dilations": 1, "strides": 1, "pads": 0}


def convert(
    module: nn.Module | ExportedProgram,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """Convert a module to an ONNX model with its weights inside.

    Args:
        module: in evaluation mode, or traced already.
        inputs: one example each; shapes become static.
        input_names: of the graph's inputs.
        output_names: of the graph's outputs; default: torch's own names.

    Raises:
        ExportError: torch cannot trace or convert it; says why.
    """
    try:
        with quiet():
            program = _core.export(
                module,
                tuple(inputs),
                registry=_operators(),
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=None if output_names is None else list(output_names),
                verbose=False,
                optimize=True,
            )
    except Exception as error:  # whatever the exporter of the day raises
        raise ExportError("the conversion to ONNX failed", actual=first_line(error)) from error
    model: onnx.ModelProto = program.model_proto
    return model


@cache
def _operators() -> _registration.ONNXRegistry:
    """Torch's table of operators. `torch.onnx.export` makes it anew each time, for two seconds."""
    return _registration.ONNXRegistry.from_torchlib(opset_version=OPSET)


def lower(
    program: ExportedProgram,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> LoweredProgram:
    """Lower a traced module to an ONNX model, its weights beside it.

    The model refers to `WEIGHTS_NAME`; where in it each weight lies is filled in by
    :func:`place_weights`. What the exporter notes about sources is dropped: with it a model of many
    small operators would be larger than its weights.

    Raises:
        ExportError: torch cannot convert it; says why.
    """
    # The exporter does not mind a name that it uses itself; so real names come last.
    given = {f"nestling:input{index}": name for index, name in enumerate(input_names)}
    made = {f"nestling:output{index}": name for index, name in enumerate(output_names)}
    model = convert(program, inputs, list(given), list(made))
    _strip(model)
    _rename(model, given | made)
    constants = {}
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor).tobytes()
        if len(data) >= EXTERNAL_BYTES:
            constants[tensor.name] = ExternalConstant(data, None)
            kept = onnx.TensorProto(
                name=tensor.name,
                data_type=tensor.data_type,
                dims=tensor.dims,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            tensor.CopyFrom(kept)
    return LoweredProgram(
        program=model.SerializeToString(deterministic=True),
        constants=constants,
        arena_bytes=0,
        delegated=len(model.graph.node),
        portable=(),
    )


def place_weights(program: LoweredProgram, place: Callable[[bytes], int]) -> bytes:
    """Return the model with the places of its weights in `WEIGHTS_NAME` filled in.

    Args:
        program: what :func:`lower` gave.
        place: takes the bytes of a weight, gives their offset in the file.
    """
    model = onnx.ModelProto.FromString(program.program)
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        data = program.constants[tensor.name].data
        del tensor.external_data[:]
        entries = {"location": WEIGHTS_NAME, "offset": place(data), "length": len(data)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    return bytes(model.SerializeToString(deterministic=True))


def _strip(model: onnx.ModelProto) -> None:
    """Drop what says nothing: notes, names of nodes, shapes in between, attributes by default."""
    del model.metadata_props[:]
    model.ClearField("doc_string")
    graph = model.graph
    del graph.value_info[:]
    del graph.metadata_props[:]
    graph.ClearField("doc_string")
    for entry in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]
        entry.ClearField("doc_string")
    for node in graph.node:
        node.ClearField("name")
        told = [attribute for attribute in node.attribute if not _is_default(node, attribute)]
        del node.attribute[:]
        node.attribute.extend(told)


def _is_default(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> bool:
    if node.op_type == "Conv" and attribute.name in _CONV_DEFAULTS:
        default = _CONV_DEFAULTS[attribute.name]
        return default is None or set(attribute.ints) == {default}
    schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
    known = schema.attributes.get(attribute.name)
    if known is None or known.default_value.type != attribute.type:
        return False
    value, default = helper.get_attribute_value(attribute), known.default_value
    return bool(value == helper.get_attribute_value(default))


def _rename(model: onnx.ModelProto, ends: Mapping[str, str]) -> None:
    """Name inputs and outputs as asked for, and number all other tensors.

    A small model would else be made of names.
    """
    graph = model.graph
    free = (name for name in map("{:x}".format, count()) if name not in ends.values())
    names = [tensor.name for tensor in graph.initializer]
    names += [output for node in graph.node for output in node.output if output]
    numbers = dict(zip((name for name in names if name not in ends), free, strict=False))
    numbers |= ends
    for entry in (*graph.initializer, *graph.input, *graph.output):
        entry.name = numbers[entry.name]
    for node in graph.node:
        for fields in (node.input, node.output):
            for index, name in enumerate(fields):
                fields[index] = numbers.get(name, name)
