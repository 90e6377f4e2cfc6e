"""Find feed-forward places: two linears with an activation, or a gated one, between them."""

from __future__ import annotations

from torch.fx import Node

from nestling.onnx_in.operators import LINEAR, calls
from nestling.onnx_in.places import (
    Place,
    Search,
    find_ends,
    is_closed,
    linear_tensors,
    name_activation,
    name_gate,
    pointwise_between,
)


def find_feed_forward(search: Search) -> list[Place]:
    """Return the feed-forward places of a graph; near misses are noted as refused."""
    found = (_match(search, down) for down in calls(search.module, LINEAR))
    return [place for place in found if place is not None]


def _match(search: Search, down: Node) -> Place | None:
    region = pointwise_between(down.args[0], (LINEAR,))
    if region is None or not region[0]:
        return None
    nodes, sources = region
    inputs = {source.args[0] for source in sources}
    hidden = down.args[0]
    if len(sources) > 2 or len(inputs) != 1 or not is_closed({*nodes, *sources}, {down}):
        return None
    (prepared,) = inputs
    assert isinstance(prepared, Node) and isinstance(hidden, Node)
    ends = find_ends(down, prepared)
    if ends is None or not ends.residual:
        search.refuse(down, "no residual sum around these two linears")
        return None
    gate, up = None, sources[0]
    if len(sources) == 1:
        activation = name_activation(search, up, hidden)
    else:
        told = name_gate(search, sources, hidden)
        activation, gate, up = told if told is not None else (None, None, up)
    if activation is None:
        search.refuse(down, "the activation before it is not a known one")
        return None
    layers = {"up": up, "down": down} | ({"gate": gate} if gate is not None else {})
    tensors = linear_tensors(search, layers)
    units, dim = tensors["up.weight"].shape
    arguments = {
        "dim": dim,
        "hidden": units,
        "activation": activation,
        "gated": gate is not None,
    }
    return Place("feed_forward", ends, units, arguments, tensors)
