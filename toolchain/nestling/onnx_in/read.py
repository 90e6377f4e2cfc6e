"""Read an ONNX file, and say in one sentence what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import checker, inliner

from nestling.errors import ModelError, first_line

Shapes = Mapping[str, Sequence[int]]
"""Input name -> sizes of all its dimensions."""

_GRAPH_OPERATORS = ("If", "Loop", "Scan", "SequenceMap")
_MOST_NAMED = 5


def read_model(path: Path, shapes: Shapes | None = None) -> onnx.ModelProto:
    """Read a model with its weights, inline its functions and fix the shapes of its inputs.

    Args:
        path: The file; weights in files beside it are read too.
        shapes: Of inputs whose shapes the file leaves open. A batch that is left open becomes 1.

    Raises:
        ModelError: The file cannot be read, or is no valid model; an operator cannot be converted,
            it and its node are named; or a shape is not known.
    """
    model = _load(path)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_operators(model)
    _check(model)
    _fix_shapes(model, dict(shapes or {}))
    return model


def model_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller gives; old files list their weights there as well."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)


def _describe(node: onnx.NodeProto) -> str:
    """Return operator and name of a node, or the name of its output where it has none."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    name = node.name or next((output for output in node.output if output), "without a name")
    return f"{operator} ({name})"


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError("no such file", actual=str(path))
    try:
        model: onnx.ModelProto = onnx.load(path, load_external_data=False)
    except Exception as error:  # of whatever reads protocol buffers
        raise ModelError(
            "the file is not an ONNX model, or is cut short", actual=str(path)
        ) from error
    if not model.graph.node:
        raise ModelError("the file is not an ONNX model, or is cut short", actual=str(path))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise ModelError(
            f"the weights beside {path.name} cannot be read",
            actual=first_line(error),
            hint="keep the files of its external data in the same folder",
        ) from error
    return model


def _check_operators(model: onnx.ModelProto) -> None:
    from onnx2fx.op_registry import is_supported

    versions = {opset.domain: opset.version for opset in model.opset_import}
    unknown = [
        _describe(node)
        for node in _all_nodes(model.graph)
        if node.op_type in _GRAPH_OPERATORS
        or not is_supported(node.op_type, node.domain, versions.get(node.domain, 1))
    ]
    if unknown:
        more = len(unknown) - _MOST_NAMED
        raise ModelError(
            "the model has operators that cannot be converted: "
            + ", ".join(unknown[:_MOST_NAMED])
            + (f" and {more} more" if more > 0 else "")
        )


def _check(model: onnx.ModelProto) -> None:
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError) as error:
        raise ModelError("not a valid ONNX model", actual=first_line(error)) from error


def _fix_shapes(model: onnx.ModelProto, shapes: dict[str, Sequence[int]]) -> None:
    names = [value.name for value in model_inputs(model)]
    unknown = sorted(set(shapes) - set(names))
    if unknown:
        raise ModelError("the model has no such input", expected=" or ".join(names), actual=unknown)
    for value in model_inputs(model):
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise ModelError("an input is not a tensor", actual=value.name)
        dims = tensor.shape.dim
        given = shapes.get(value.name)
        if given is not None and tensor.HasField("shape") and len(given) != len(dims):
            raise ModelError(
                f"input {value.name!r} has another number of dimensions",
                expected=len(dims),
                actual=tuple(given),
            )
        if given is None:
            given = _known_shape(value)
        del tensor.shape.dim[:]
        for size in given:
            tensor.shape.dim.add(dim_value=size)
    # What the file says about tensors in between and outputs may have been open as well.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _known_shape(value: onnx.ValueInfoProto) -> list[int]:
    tensor = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
    if sizes and sizes[0] <= 0:
        sizes[0] = 1
    if not tensor.HasField("shape") or any(size <= 0 for size in sizes):
        said = [dim.dim_param or (dim.dim_value or "?") for dim in tensor.shape.dim]
        raise ModelError(
            f"the shape of input {value.name!r} is not fixed",
            actual=", ".join(map(str, said)) or "nothing said",
            hint=f"fix it with --shape {value.name}=1,...",
        )
    return sizes
