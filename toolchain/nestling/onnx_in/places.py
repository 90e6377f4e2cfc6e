"""What a place that can be elastic is, and what finding one of any kind takes.

A candidate is a run of layers with something between them that can be cut into units. Its
neighbourhood tells the norm before it, the residual sum behind it and the norm after that. Where
operators can be written in many ways (an activation, the heads of attention), what they compute is
compared with what an elastic block would, instead of how they are spelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from nestling.elastic.activation import activation_module
from nestling.onnx_in.operators import LAYER_NORM, base_name, close, constant_of, only_user
from nestling.onnx_in.trace import onnx_name

_ACTIVATIONS = ("relu", "relu6", "gelu", "gelu_new", "silu", "hardswish", "tanh")
_POINTWISE = (
    *("add", "clamp", "clamp_max", "clamp_min", "div", "elu", "erf", "exp", "gelu", "hardsigmoid"),
    *("hardswish", "hardtanh", "leaky_relu", "maximum", "minimum", "mul", "neg", "pow"),
    *("reciprocal", "relu", "relu6", "rsub", "sigmoid", "silu", "softplus", "sqrt", "sub", "tanh"),
)
_PROBE = torch.linspace(-8.0, 8.0, 257)
_LARGEST_REGION = 64


@dataclass(frozen=True)
class Refusal:
    """A place that looked elastic and is left as it is.

    Attributes:
        where: ONNX operator and node.
        why: in a few words.
    """

    where: str
    why: str


@dataclass
class Search:
    """A graph, what its nodes gave for the example inputs, and what was refused.

    Attributes:
        module: the graph.
        values: see `nestling.onnx_in.trace.run_nodes`.
        refusals: filled while places are looked for.
    """

    module: GraphModule
    values: Mapping[Node, Any]
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, node: Node, why: str) -> None:
        """Note why a candidate cannot be elastic."""
        self.refusals.append(Refusal(onnx_name(node), why))

    def tensor(self, node: Any) -> Tensor | None:
        """Return the constant that a node stands for, or None."""
        return constant_of(node, self.module)

    def weight(self, layer: Node) -> Tensor:
        """Return the weight of a linear or a convolution."""
        weight = self.tensor(layer.args[1])
        assert weight is not None, "the weight of a layer is a constant"
        return weight

    def bias(self, layer: Node) -> Tensor:
        """Return its bias, zeros where it has none."""
        bias = self.tensor(layer.args[2]) if len(layer.args) > 2 else None
        return self.weight(layer).new_zeros(len(self.weight(layer))) if bias is None else bias


@dataclass(frozen=True)
class Ends:
    """Where a place begins and ends.

    Attributes:
        entry: the stream that enters.
        prepared: what the units read: the stream, or what a norm makes of it.
        last: the layer whose result is added to the stream, or leaves where nothing is added.
        exit: the stream that leaves.
        residual: whether the stream is added.
        post: applied after the sum, by `exit`; the sum itself, or None where nothing follows it.
    """

    entry: Node
    prepared: Node
    last: Node
    exit: Node
    residual: bool
    post: Node | None = None


@dataclass(frozen=True)
class Place:
    """An elastic place.

    Attributes:
        kind: of block, see `nestling.elastic.families.graph`.
        ends: where it begins and ends.
        units: how many units it has.
        arguments: of the block, in plain values.
        tensors: weights of the block by their qualified names in it.
        mask: of attention, added to its scores.
    """

    kind: str
    ends: Ends
    units: int
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    mask: Node | None = None

    @property
    def where(self) -> str:
        """ONNX operator and node of the last layer."""
        return onnx_name(self.ends.last)


def find_ends(last: Node, prepared: Node) -> Ends | None:
    """Tell norm, residual sum and what follows it from the neighbours of a run of layers.

    Returns:
        None where the units read something else than the stream that their result is added to.
    """
    total = only_user(last)
    if total is None or not is_sum(total):
        return Ends(prepared, prepared, last, last, False)
    entry = total.args[1] if total.args[0] is last else total.args[0]
    assert isinstance(entry, Node)
    if entry is not prepared and between([entry], prepared) is None:
        return None
    after = only_user(total)
    normed = after is not None and after.target is LAYER_NORM and prepared is entry
    if after is not None and (normed or base_name(after) == "relu"):
        return Ends(entry, prepared, last, after, True, total)
    return Ends(entry, prepared, last, total, True)


def is_sum(node: Node) -> bool:
    """Return whether a node adds two computed tensors."""
    computed = [a for a in node.args if isinstance(a, Node) and a.op != "get_attr"]
    return base_name(node) == "add" and len(computed) == 2 and not node.kwargs


def between(starts: Iterable[Node], end: Node, largest: int = _LARGEST_REGION) -> set[Node] | None:
    """Return what computes `end` from `starts`, the end included and constants not.

    Args:
        starts: where to stop.
        end: where to begin.
        largest: give up on more operators than this.

    Returns:
        None where it needs something else too, or does not need the starts.
    """
    stops, waiting, met = set(starts), [end], False
    found: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node in stops:
            met = True
        elif node.op == "placeholder" or len(found) > largest:
            return None
        elif node.op != "get_attr" and node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found if met else None


def pointwise_between(end: Any, targets: tuple[Any, ...]) -> tuple[set[Node], list[Node]] | None:
    """Return the pointwise operators that end in `end`, and the layers whose results they read.

    Args:
        end: last of them, or the layer itself.
        targets: operators of the layers at which to stop.

    Returns:
        None where something else than constants comes in.
    """
    if not isinstance(end, Node):
        return None
    found: set[Node] = set()
    sources: list[Node] = []
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node.target in targets:
            if node not in sources:
                sources.append(node)
        elif base_name(node) in _POINTWISE and len(found) < _LARGEST_REGION:
            found.add(node)
            waiting.extend(n for n in node.all_input_nodes if n.op != "get_attr" and n not in found)
        else:
            return None
    return found, sources


def is_closed(nodes: set[Node], readers: set[Node]) -> bool:
    """Return whether only `readers`, and the nodes themselves, read what the nodes give."""
    return all(user in nodes or user in readers for node in nodes for user in node.users)


def evaluate(search: Search, given: Mapping[Node, Tensor], end: Node) -> Tensor | None:
    """Compute a node from other values than the example's; None if operators do not take them."""
    env: dict[Node, Any] = dict(given)
    runner = Interpreter(search.module)

    def load(node: Node) -> Any:
        if node not in env:
            if node.op == "get_attr":
                env[node] = search.tensor(node)
            else:
                args = torch.fx.node.map_arg(node.args, load)
                kwargs = torch.fx.node.map_arg(node.kwargs, load)
                env[node] = runner.call_function(node.target, args, kwargs)
        return env[node]

    try:
        with torch.no_grad():
            value = load(end)
    except (RuntimeError, IndexError, TypeError):
        return None
    return value if isinstance(value, Tensor) else None


def name_activation(search: Search, source: Node, end: Node) -> str | None:
    """Return the name of the activation between a layer and a node, None if it is unknown."""
    y = evaluate(search, {source: _PROBE}, end)
    return None if y is None else _match(y, _PROBE)


def name_gate(search: Search, sources: list[Node], end: Node) -> tuple[str, Node, Node] | None:
    """Return activation, gate and the layer that it multiplies, of `act(gate) * up`."""
    for gate, up in (sources, sources[::-1]):
        y = evaluate(search, {gate: _PROBE, up: torch.full_like(_PROBE, 1.0)}, end)
        doubled = evaluate(search, {gate: _PROBE, up: torch.full_like(_PROBE, -2.0)}, end)
        if y is None or doubled is None or not close(doubled, -2.0 * y):
            continue
        name = _match(y, _PROBE)
        if name is not None:
            return name, gate, up
    return None


def linear_tensors(search: Search, layers: Mapping[str, Node]) -> dict[str, Tensor]:
    """Return weights and biases of layers under their names in the block."""
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{name}.weight"] = search.weight(layer)
        tensors[f"{name}.bias"] = search.bias(layer)
    return tensors


def _match(y: Tensor, x: Tensor) -> str | None:
    if y.shape != x.shape:
        return None
    return next((n for n in _ACTIVATIONS if close(activation_module(n)(x), y, 1e-6)), None)
