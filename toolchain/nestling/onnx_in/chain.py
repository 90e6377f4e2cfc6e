"""Choose the elastic places that follow one another, and take the rest of the graph apart.

A supernet is a chain: whatever a place computes, everything behind it sees only the stream that
leaves it. A connection that passes around places (a U-net's, say) rules them out. What stands
between two places becomes a block that always runs whole; what stands before and behind them, stem
and head.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.fx import Node

from nestling.elastic.families.graph import OperatorGraph, Plain, Ref, Step
from nestling.errors import ModelError
from nestling.onnx_in.operators import LAYER_NORM
from nestling.onnx_in.places import Place, Refusal, Search, between, is_closed, name_activation

_LARGEST_GAP = 4096


@dataclass(frozen=True)
class Chain:
    """A graph as a chain.

    Attributes:
        places: elastic places, in order.
        gaps: what stands before each place but the first: where it begins and ends, or None.
        context: what the stem hands to all, masks first.
        output: what the model gives.
    """

    places: list[Place]
    gaps: list[tuple[Node, Node] | None]
    context: list[Node]
    output: Node


def choose_chain(search: Search, places: list[Place]) -> Chain:
    """Choose as many places as follow one another.

    Raises:
        ModelError: there is none.
    """
    order = {node: index for index, node in enumerate(search.module.graph.nodes)}
    output = next(n for n in search.module.graph.nodes if n.op == "output").args[0]
    output = output[0] if isinstance(output, list | tuple) else output
    candidates = [place for place in _one_mask(search, places) if _stands_alone(search, place)]
    candidates.sort(key=lambda place: order[place.ends.exit])
    lengths: list[int] = []
    previous: list[int | None] = []
    for index, place in enumerate(candidates):
        best: int | None = None
        for earlier in range(index):
            longer = best is None or lengths[earlier] > lengths[best]
            if longer and _follows(candidates[earlier], place):
                best = earlier
        previous.append(best)
        lengths.append(1 if best is None else lengths[best] + 1)
    chosen: Chain | None = None
    for last in sorted(range(len(candidates)), key=lambda i: -lengths[i]):
        picked = [last]
        while (earlier_one := previous[picked[0]]) is not None:
            picked.insert(0, earlier_one)
        chosen = _close(search, [candidates[i] for i in picked], output)
        if chosen is not None:
            break
    if chosen is None:
        raise _nothing_found(search)
    for place in candidates:
        if place not in chosen.places:
            search.refusals.append(Refusal(place.where, "a connection passes around it"))
    return chosen


def extract(
    search: Search, starts: dict[Node, str], ends: list[Node], inputs: list[str] | None = None
) -> OperatorGraph:
    """Take the operators between nodes as a module.

    Args:
        search: the graph.
        starts: nodes that are given -> names of the inputs.
        ends: nodes that are wanted.
        inputs: names of all inputs in their order; default: those of `starts`.
    """
    needed: set[Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in needed and node not in starts:
            needed.add(node)
            waiting.extend(node.all_input_nodes)
    names = dict(starts)
    steps: list[Step] = []
    tensors: dict[str, Tensor] = {}
    for node in search.module.graph.nodes:
        if node not in needed:
            continue
        tensor = search.tensor(node)
        if tensor is not None:
            names[node] = f"weight{len(tensors)}"
            tensors[names[node]] = tensor
            continue
        if node.op != "call_function":
            raise ModelError("a part of the model cannot be taken alone", actual=node.name)
        names[node] = f"v{len(steps)}"
        steps.append(
            Step(
                names[node],
                _operator_name(node),
                tuple(_argument(a, names) for a in node.args),
                {k: _argument(v, names) for k, v in node.kwargs.items() if k not in _PLACEMENT},
            )
        )
    outputs = [names[node] for node in ends]
    return OperatorGraph(inputs or list(starts.values()), outputs, steps, tensors)


def describe_module(search: Search, start: Node, end: Node) -> tuple[Plain, dict[str, Tensor]]:
    """Return what computes `end` from `start` in plain values, and its weights."""
    if start is end:
        return {"kind": "identity"}, {}
    if end.target is LAYER_NORM and end.args[0] is start:
        _, dim, weight, bias, eps = end.args[:5]
        scale, shift = search.tensor(weight), search.tensor(bias)
        if scale is not None and shift is not None:
            plain = {"kind": "layer_norm", "dim": dim[0], "eps": eps}  # type: ignore[index]
            return plain, {"weight": scale, "bias": shift}
    if len(between([start], end) or ()) == 1:
        activation = name_activation(search, start, end)
        if activation is not None:
            return {"kind": "activation", "name": activation}, {}
    graph = extract(search, {start: "x"}, [end])
    return graph.to_plain(), {name: getattr(graph, name).detach() for name in graph.tensor_names}


_PLACEMENT = ("device", "layout", "pin_memory")


def _operator_name(node: Node) -> str:
    name = str(node.target)
    return name.removeprefix("aten.") if name.startswith("aten.") else "getitem"


def _argument(value: Any, names: dict[Node, str]) -> Any:
    if isinstance(value, Node):
        return Ref(names[value])
    if isinstance(value, list | tuple):
        return [_argument(item, names) for item in value]
    return value


def _one_mask(search: Search, places: list[Place]) -> list[Place]:
    """Keep the places with the mask that most have, and those without."""
    masks = Counter(place.mask for place in places if place.mask is not None)
    if not masks:
        return places
    (mask, _), *_ = masks.most_common(1)
    kept = []
    for place in places:
        if place.mask in (None, mask):
            kept.append(place)
        else:
            search.refusals.append(Refusal(place.where, "its mask is not that of the others"))
    return kept


def _stands_alone(search: Search, place: Place) -> bool:
    starts = [place.ends.entry] + ([place.mask] if place.mask is not None else [])
    inside = between(starts, place.ends.exit, _LARGEST_GAP)
    if inside is not None and is_closed(inside - {place.ends.exit}, {place.ends.exit}):
        return True
    search.refusals.append(Refusal(place.where, "something inside it is used elsewhere"))
    return False


def _follows(earlier: Place, later: Place) -> bool:
    start, end = earlier.ends.exit, later.ends.entry
    return start is end or between([start], end, _LARGEST_GAP) is not None


def _close(search: Search, places: list[Place], output: Node) -> Chain | None:
    """Return the chain if the head sees nothing but the stream and what the stem gives."""
    behind: set[Node] = set()
    for node in search.module.graph.nodes:
        if node is places[0].ends.entry or any(n in behind for n in node.all_input_nodes):
            behind.add(node)
    context = [place.mask for place in places if place.mask is not None][:1]
    if any(mask in behind for mask in context):
        return None
    last, seen, waiting = places[-1].ends.exit, set(), [output]
    while waiting:
        node = waiting.pop()
        if node is last or node in seen or node.op == "get_attr":
            continue
        seen.add(node)
        if node in behind and node is not places[0].ends.entry:
            waiting.extend(node.all_input_nodes)
        elif node is places[0].ends.entry or node.op == "placeholder":
            return None
        elif node not in context:
            context.append(node)
    gaps: list[tuple[Node, Node] | None] = []
    for before, after in pairwise(places):
        start, end = before.ends.exit, after.ends.entry
        gaps.append(None if start is end else (start, end))
    return Chain(places, gaps, context, output)


def _nothing_found(search: Search) -> ModelError:
    near = "; ".join(f"{refusal.where}: {refusal.why}" for refusal in search.refusals[:3])
    return ModelError(
        "the model has no elastic place",
        expected="residual blocks of feed-forward, attention or convolutions",
        actual=near or "none",
    )
