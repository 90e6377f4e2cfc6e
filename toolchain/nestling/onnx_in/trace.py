"""From an ONNX model to one flat graph of torch's aten operators, constants folded.

The conversion of operators is onnx2fx's: of the converters there are, the one that knows what
today's exporters write and needs torch and onnx alone (onnx2torch ends at opset 17; it and
onnx2pytorch want torchvision, which cannot be imported beside a torch for CPUs). It gives a graph
of its own helper functions, some of which compute shapes; running it once with everything constant
folded leaves plain operators with plain numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.fx.traceback import preserve_node_meta

from nestling.errors import ModelError, first_line
from nestling.onnx_in.read import model_inputs

_SHAPE_OPERATORS = ("Shape", "Size")
_NAME = "onnx_name"
_SEED = 20240229


@dataclass(frozen=True)
class Traced:
    """A model as a graph of operators.

    Attributes:
        module: the graph; its attributes are weights and constants.
        inputs: example inputs of batch 1 by name, in their order.
        output_name: of the output that is kept.
        dropped_outputs: names of those that are not.
    """

    module: GraphModule
    inputs: dict[str, Tensor]
    output_name: str
    dropped_outputs: tuple[str, ...]


def trace_model(model: onnx.ModelProto, output: str | None = None) -> Traced:
    """Convert a model whose shapes are fixed.

    Args:
        model: see `nestling.onnx_in.read.read_model`.
        output: name of the output to keep; default: the first.

    Raises:
        ModelError: an operator cannot be converted; names it and its node. Or the model has no such
            output.
    """
    names = [value.name for value in model.graph.output]
    chosen = names[0] if output is None else output
    if chosen not in names:
        raise ModelError("the model has no such output", expected=" or ".join(names), actual=chosen)
    del model.graph.output[:]
    model.graph.output.add(name=chosen)
    inputs = example_inputs(model)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = _convert(model)
        fold_constants(module, inputs)
        flat = _flatten(module, inputs)
        fold_constants(flat, inputs)
    return Traced(flat, inputs, chosen, tuple(name for name in names if name != chosen))


def example_inputs(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return an input of each kind: normal noise, ones for masks, small numbers for tokens.

    Raises:
        ModelError: torch has no such element type.
    """
    random = torch.Generator().manual_seed(_SEED)
    made = {}
    for value in model_inputs(model):
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        kind = value.type.tensor_type.elem_type
        name = onnx.TensorProto.DataType.Name(kind)
        if kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind).name
            made[value.name] = torch.randn(shape, generator=random).to(getattr(torch, dtype))
        elif kind in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind).name
            made[value.name] = torch.ones(shape, dtype=getattr(torch, dtype))
        else:
            raise ModelError(
                f"input {value.name!r} has an element type that is not supported", actual=name
            )
    if not made:
        raise ModelError("the model has no input")
    return made


def run_nodes(module: GraphModule, inputs: Mapping[str, Tensor]) -> dict[Node, Any]:
    """Run a graph and return what every node gives.

    Raises:
        ModelError: an operator fails; names it and its node.
    """
    runner = _Recorder(module)
    with torch.no_grad():
        runner.run(*inputs.values())
    return runner.values


def fold_constants(module: GraphModule, inputs: Mapping[str, Tensor]) -> None:
    """Replace everything that does not depend on the inputs' values by what it is, in place."""
    values = run_nodes(module, inputs)
    constant: set[Node] = set()
    for node in module.graph.nodes:
        if node.op == "get_attr" or (
            node.op == "call_function"
            and (
                node.meta.get("onnx_op_type") in _SHAPE_OPERATORS
                or all(argument in constant for argument in node.all_input_nodes)
            )
        ):
            constant.add(node)
    for node in list(module.graph.nodes):
        if node in constant or node.op == "placeholder":
            continue
        arguments = [n for n in node.all_input_nodes if n in constant and n.op != "get_attr"]
        for argument in arguments:
            _inline(module, node, argument, values[argument])
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def onnx_name(node: Node) -> str:
    """Return the ONNX operator and node that a node comes from."""
    name: str | None = node.meta.get("custom", {}).get(_NAME)
    return name if name is not None else f"{node.target} ({node.name})"


class _Recorder(Interpreter):
    """Keeps what every node gives, and names the node that fails."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[Node, Any] = {}
        self.extra_traceback = False

    def run_node(self, n: Node) -> Any:
        try:
            value = super().run_node(n)
        except ModelError:
            raise
        except Exception as error:  # whatever an operator raises
            raise ModelError(
                f"operator {onnx_name(n)} cannot be run", actual=first_line(error)
            ) from error
        self.values[n] = value
        return value


@cache
def _converter() -> Any:
    """Return the converter, with what it lacks."""
    import onnx2fx

    onnx2fx.register_op("GatherND", _convert_gather_nd)
    return onnx2fx


def _convert_gather_nd(builder: Any, node: onnx.NodeProto) -> Node:
    """Convert GatherND without looking at the indices one by one, as onnx2fx does."""
    data, indices = (builder.get_value(name) for name in node.input)
    batch_axes = next((a.i for a in node.attribute if a.name == "batch_dims"), 0)
    call: Node = builder.call_function(_gather_nd, args=(data, indices, batch_axes))
    return call


def _gather_nd(data: Tensor, indices: Tensor, batch_axes: int) -> Tensor:
    if not batch_axes:
        return data[tuple(indices.unbind(-1))]
    shape = indices.shape[:batch_axes]
    rows = data.reshape(-1, *data.shape[batch_axes:])
    flat = indices.reshape(-1, *indices.shape[batch_axes:])
    examples = torch.arange(len(flat)).reshape(-1, *[1] * (flat.dim() - 2))
    taken = rows[(examples, *flat.unbind(-1))]
    return taken.reshape(*shape, *taken.shape[1:])


def _convert(model: onnx.ModelProto) -> GraphModule:
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    try:
        module: GraphModule = _converter().convert(model)
    except Exception as error:  # the converter's handlers raise what they meet
        raise ModelError("the model cannot be converted", actual=first_line(error)) from error
    for converted in module.graph.nodes:
        operator, name = (converted.meta.get(f"onnx_{key}") for key in ("op_type", "name"))
        # Of a node's notes, tracing keeps those under this key.
        converted.meta["custom"] = {_NAME: f"{operator} ({name})"} if operator else {}
    return module.eval()


def _flatten(module: GraphModule, inputs: Mapping[str, Tensor]) -> GraphModule:
    """Trace the converter's helpers down to operators."""

    def run(*values: Tensor) -> Any:
        return Interpreter(module).run(*values)

    try:
        with preserve_node_meta():
            flat = make_fx(run, pre_dispatch=True)(*inputs.values())
    except Exception as error:  # a helper that looks at values, such as NonZero
        raise ModelError(
            "the model computes shapes from its inputs' values", actual=first_line(error)
        ) from error
    return flat


def _inline(module: GraphModule, node: Node, argument: Node, value: Any) -> None:
    """Put a constant in the place of an argument of a node."""
    if isinstance(value, Tensor):
        name = f"folded_{argument.name}"
        if not hasattr(module, name):
            module.register_buffer(name, value.detach().clone())
        with module.graph.inserting_before(node):
            replacement: Any = module.graph.get_attr(name)
    else:
        replacement = value

    def swap(candidate: Node) -> Any:
        return replacement if candidate is argument else candidate

    node.args = map_arg(node.args, swap)
    node.kwargs = map_arg(node.kwargs, swap)
