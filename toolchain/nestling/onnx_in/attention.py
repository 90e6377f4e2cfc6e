"""Find attention places: projections of one input, a softmax, and a projection of the result.

Exporters spell the middle in many ways. So only its ends are read from the graph: which linears
feed the scores and the sums, how many scores there are, what is added to them. An elastic block
made of that must then give what the graph gives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fx import Node

from nestling.elastic.attention import attend
from nestling.onnx_in.operators import (
    LINEAR,
    aten,
    base_name,
    calls,
    close,
    only_user,
    scalar_of,
)
from nestling.onnx_in.places import (
    Place,
    Search,
    find_ends,
    is_closed,
    linear_tensors,
)

SOFTMAX = aten.softmax.int
_PRODUCTS = (aten.matmul.default, aten.bmm.default)
_AXES = (aten.reshape.default, aten.permute.default, aten.transpose.int)
_LARGEST_REGION = 96


def find_attention(search: Search) -> list[Place]:
    """Return the attention places of a graph; near misses are noted as refused."""
    found = (_match(search, output) for output in calls(search.module, LINEAR))
    return [place for place in found if place is not None]


def _match(search: Search, output: Node) -> Place | None:
    middle, sources = _middle(output)
    softmaxes = [node for node in middle if node.target is SOFTMAX]
    if len(softmaxes) != 1 or not sources:
        return None
    inputs = {source.args[0] for source in sources}
    if len(inputs) != 1 or len(sources) not in (1, 3):
        search.refuse(output, "its queries, keys and values are not projections of one input")
        return None
    (prepared,) = inputs
    assert isinstance(prepared, Node)
    # A mask may be read by all layers; only what the projections lead to must stay inside.
    inner = {node for node in middle if _depends(node, sources)}
    if not is_closed({*inner, *sources}, {output}):
        search.refuse(output, "something inside the attention before it is read from outside")
        return None
    (softmax,) = softmaxes
    parts = _projections(search, softmax, inner, sources)
    last = _last_view(search, output, prepared)
    ends = find_ends(last, prepared)
    shape = search.values[prepared].shape
    if parts is None or len(shape) != 3 or shape[0] != 1:
        search.refuse(output, "the attention before it is of an unusual kind")
        return None
    if ends is None or not ends.residual:
        search.refuse(output, "no residual sum around the attention before it")
        return None
    masks = _masks(search, softmax, inner)
    if masks is None:
        search.refuse(output, "the scores of the attention before it are changed in an unusual way")
        return None
    q, k, v = parts
    heads = search.values[softmax].numel() // shape[1] ** 2
    if not heads or len(q[0]) % heads or len(k[0]) % (len(q[0]) // heads):
        search.refuse(output, "the heads of the attention before it cannot be told apart")
        return None
    head_dim = len(q[0]) // heads
    groups = len(k[0]) // head_dim
    # The block multiplies scores by one over the root of the head's width, whatever was there.
    factor = _score_factor(search, softmax, inner) * math.sqrt(head_dim)
    if abs(factor - 1.0) > 1e-6:
        q = (q[0] * factor, q[1] * factor)
    mask = masks[0] if masks else None
    tensors = linear_tensors(search, {"o": output})
    for name, (weight, bias) in {"q": q, "k": k, "v": v}.items():
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, bias
    if not _agrees(search, tensors, last, prepared, groups, head_dim, mask):
        search.refuse(output, "the attention before it computes something else than the usual")
        return None
    arguments = {
        "dim": shape[-1],
        "heads": heads,
        "groups": groups,
        "head_dim": head_dim,
        "masked": mask is not None,
    }
    return Place("attention", ends, groups, arguments, tensors, mask)


def _middle(output: Node) -> tuple[set[Node], list[Node]]:
    """Return what lies between a linear and the linears before it, in the order of the graph."""
    found: set[Node] = set()
    sources: list[Node] = []
    waiting = [output.args[0]]
    while waiting and len(found) < _LARGEST_REGION:
        node = waiting.pop()
        assert isinstance(node, Node)
        if node.target is LINEAR:
            if node not in sources:
                sources.append(node)
        elif node not in found and node.op == "call_function":
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found, sources


def _last_view(search: Search, output: Node, prepared: Node) -> Node:
    """Follow a linear's result to where it has the form of the stream, axes in their order."""
    last = output
    while search.values[last].shape != search.values[prepared].shape:
        user = only_user(last)
        if user is None or user.target not in _AXES:
            break
        last = user
    return last


def _depends(node: Node, sources: list[Node]) -> bool:
    seen: set[Node] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current in sources:
            return True
        if current not in seen and current.target is not LINEAR:
            seen.add(current)
            waiting.extend(current.all_input_nodes)
    return False


def _projections(
    search: Search, softmax: Node, inner: set[Node], sources: list[Node]
) -> list[tuple[Tensor, Tensor]] | None:
    """Return weight and bias of queries, keys and values."""
    if len(sources) == 1:
        weight, bias = search.weight(sources[0]), search.bias(sources[0])
        if len(weight) % 3:
            return None
        return list(zip(weight.chunk(3), bias.chunk(3), strict=True))
    products = [node for node in inner if node.target in _PRODUCTS]
    scores = [node for node in products if _depends_on(softmax, node)]
    sums = [node for node in products if _depends_on(node, softmax)]
    if len(scores) != 1 or len(sums) != 1:
        return None
    queries, keys = (_source(argument, sources) for argument in scores[0].args)
    values = next(
        (_source(a, sources) for a in sums[0].args if not _depends_on(a, softmax)),  # type: ignore[arg-type]
        None,
    )
    if queries is None or keys is None or values is None or len({queries, keys, values}) != 3:
        return None
    return [(search.weight(s), search.bias(s)) for s in (queries, keys, values)]


def _depends_on(node: Node, other: Node) -> bool:
    return node is other or _depends(node, [other])


def _source(argument: object, sources: list[Node]) -> Node | None:
    assert isinstance(argument, Node)
    found = [source for source in sources if _depends_on(argument, source)]
    return found[0] if len(found) == 1 else None


def _masks(search: Search, softmax: Node, inner: set[Node]) -> list[Node] | None:
    """Return what is added to the scores, at most one; None where more happens to them."""
    masks: list[Node] = []
    node = softmax.args[0]
    while isinstance(node, Node) and node in inner and node.target not in _PRODUCTS:
        others = [n for n in node.all_input_nodes if n not in inner]
        tensors = [n for n in others if scalar_of(n, search.module) is None]
        if tensors:
            if base_name(node) != "add" or len(tensors) != 1:
                return None
            masks.extend(tensors)
        before = [n for n in node.all_input_nodes if n in inner]
        if len(before) != 1:
            return None
        node = before[0]
    if len(masks) > 1:
        return None
    for mask in masks:
        shape = search.values[mask].shape
        positions = search.values[softmax].shape[-1]
        padded = (*[1] * (4 - len(shape)), *shape)
        if len(shape) > 4 or padded[:2] != (1, 1) or padded[3] != positions:
            return None
    return masks


def _score_factor(search: Search, softmax: Node, inner: set[Node]) -> float:
    """Return the product of all numbers that queries, keys or scores are multiplied by."""
    factor = 1.0
    for node in inner:
        if base_name(node) not in ("mul", "div") or not _depends_on(softmax, node):
            continue
        number = next(
            (s for s in (scalar_of(a, search.module) for a in node.args) if s is not None), 1.0
        )
        factor = factor / number if base_name(node) == "div" else factor * number
    return factor


def _agrees(
    search: Search,
    tensors: dict[str, Tensor],
    last: Node,
    prepared: Node,
    groups: int,
    head_dim: int,
    mask: Node | None,
) -> bool:
    h = search.values[prepared]

    def linear(x: Tensor, name: str) -> Tensor:
        return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    with torch.no_grad():
        added = None if mask is None else search.values[mask]
        queries = linear(h, "q") / math.sqrt(head_dim)
        y = attend(queries, linear(h, "k"), linear(h, "v"), groups, head_dim, added)
        return close(linear(y, "o"), search.values[last])
