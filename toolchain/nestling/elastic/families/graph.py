"""Supernets of networks that came as a graph of operators, an ONNX file for example.

Elastic places are the usual blocks. What stands before, between and behind them is kept as a list
of operators in plain values, so that a checkpoint can hold the structure too: reading it runs no
code but torch's own operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn

from nestling.elastic.activation import activation_module
from nestling.elastic.attention import ElasticAttention
from nestling.elastic.block import ElasticBlock
from nestling.elastic.convolution import ElasticConvolution
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.fixed import FixedBlock
from nestling.elastic.inverted_residual import ElasticInvertedResidual
from nestling.elastic.supernet import Supernet
from nestling.errors import ModelError

Plain = dict[str, Any]
"""Plain values: dictionaries, lists, strings and numbers."""

_BLOCKS: dict[str, Callable[..., ElasticBlock]] = {
    "attention": ElasticAttention,
    "convolution": ElasticConvolution,
    "feed_forward": ElasticFeedForward,
    "inverted_residual": ElasticInvertedResidual,
}
_MODULE_ARGUMENTS = ("norm", "post")
_GETITEM = "getitem"


class ElasticGraph(Supernet):
    """A supernet whose parts are told in plain values.

    Args:
        stem: A module, see `build_module`; gives the stream and the context.
        blocks: Each the arguments of a block and its `kind`: `attention`, `convolution`,
            `feed_forward` or `inverted_residual`, where `norm` and `post` are modules; or `fixed`
            with a `module`.
        head: A module of the stream and the context.
        inputs: Element type and shape of each input, batch 1, by name.
        context_names: See `Supernet`.
        output_name: See `Supernet`.
        depths: See `make_space`.
    """

    def __init__(
        self,
        *,
        stem: Plain,
        blocks: Sequence[Plain],
        head: Plain,
        inputs: Mapping[str, tuple[str, Sequence[int]]],
        context_names: Sequence[str] = (),
        output_name: str = "logits",
        depths: Sequence[float | int] | None = None,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__(
            build_module(stem),
            [_build_block(block) for block in blocks],
            build_module(head),
            inputs={
                # Ones where numbers are tokens or masks: a mask of zeros would leave nothing.
                name: (torch.zeros if _dtype(dtype).is_floating_point else torch.ones)(
                    tuple(shape), dtype=_dtype(dtype)
                )
                for name, (dtype, shape) in inputs.items()
            },
            context_names=context_names,
            output_name=output_name,
            family="graph",
            depths=depths,
            config={"family": "graph", **config},
        )


@dataclass(frozen=True)
class Ref:
    """A value of a graph, as an argument.

    Attributes:
        name: Of the value.
    """

    name: str


@dataclass(frozen=True)
class Step:
    """One call of an operator.

    Attributes:
        output: Name of the value that it gives.
        operator: `<operator>.<overload>` of torch's aten operators, or `getitem`.
        arguments: By position: `Ref`, numbers, text, dtypes, and lists of these.
        options: By name.
    """

    output: str
    operator: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


class OperatorGraph(nn.Module):
    """A list of operators as a module.

    Args:
        inputs: Names of the inputs.
        outputs: Names of the outputs; one is returned as it is, more as a tuple.
        steps: In the order in which they run.
        tensors: Weights and constants by name; those in floating point can be trained.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        steps: Sequence[Step],
        tensors: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.steps = tuple(steps)
        for step in self.steps:
            _find_operator(step.operator)
        self.tensor_names = tuple(tensors)
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor.detach().clone()))
            else:
                self.register_buffer(name, tensor.detach().clone())

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run the operators; inputs past those of the graph are ignored."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.tensor_names}
        values.update(zip(self.inputs, inputs, strict=False))
        for step in self.steps:
            arguments = _resolve(step.arguments, values)
            options = {name: _resolve(value, values) for name, value in step.options.items()}
            values[step.output] = _find_operator(step.operator)(*arguments, **options)
        if len(self.outputs) == 1:
            return values[self.outputs[0]]  # type: ignore[no-any-return]
        return tuple(values[name] for name in self.outputs)

    def to_plain(self) -> Plain:
        """Return the structure, without the values of weights."""
        return {
            "kind": "graph",
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "steps": [
                [
                    step.output,
                    step.operator,
                    _encode(list(step.arguments)),
                    {name: _encode(value) for name, value in step.options.items()},
                ]
                for step in self.steps
            ],
            "tensors": {
                name: [_dtype_name(getattr(self, name).dtype), list(getattr(self, name).shape)]
                for name in self.tensor_names
            },
        }


def build_module(plain: Plain) -> nn.Module:
    """Build a module from plain values: a graph, a layer norm, an activation or the identity.

    Raises:
        ModelError: The values describe none of these.
    """
    try:
        kind = plain["kind"]
        if kind == "graph":
            return _build_graph(plain)
        if kind == "layer_norm":
            return nn.LayerNorm(plain["dim"], eps=plain["eps"])
        if kind == "activation":
            return activation_module(plain["name"])
        if kind == "identity":
            return nn.Identity()
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("the description of a module is not valid", actual=str(error)) from error
    raise ModelError("unknown kind of module", actual=kind)


def _build_block(plain: Plain) -> ElasticBlock:
    arguments = dict(plain)
    kind = arguments.pop("kind", None)
    if kind == "fixed":
        arguments["module"] = build_module(arguments["module"])
        return FixedBlock(**arguments)
    if kind not in _BLOCKS:
        raise ModelError("unknown kind of block", expected=" or ".join(_BLOCKS), actual=kind)
    for name in _MODULE_ARGUMENTS:
        if name in arguments:
            arguments[name] = build_module(arguments[name])
    return _BLOCKS[kind](**arguments)


def _build_graph(plain: Plain) -> OperatorGraph:
    steps = [
        Step(
            output,
            operator,
            tuple(_decode(arguments)),
            {name: _decode(value) for name, value in options.items()},
        )
        for output, operator, arguments, options in plain["steps"]
    ]
    tensors = {
        name: torch.zeros(tuple(shape), dtype=_dtype(dtype))
        for name, (dtype, shape) in plain["tensors"].items()
    }
    return OperatorGraph(plain["inputs"], plain["outputs"], steps, tensors)


@cache
def _find_operator(name: str) -> Callable[..., Any]:
    if name == _GETITEM:
        return getitem
    operator, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, operator, None)
    if packet is None or overload not in packet.overloads():
        raise ModelError("torch has no such operator", actual=name)
    found: Callable[..., Any] = getattr(packet, overload)
    return found


def _resolve(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, list | tuple):
        return [_resolve(item, values) for item in value]
    return value


def _encode(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": _dtype_name(value)}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ModelError("an operator has an argument that cannot be kept", actual=repr(value))


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "ref" in value:
        return Ref(value["ref"])
    if "dtype" in value:
        return _dtype(value["dtype"])
    return getattr(torch, value["memory_format"])


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ModelError("torch has no such element type", actual=name)
    return found
