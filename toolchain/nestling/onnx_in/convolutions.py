"""Find convolutional places: inverted residuals, and pairs of convolutions."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from nestling.onnx_in.operators import CONV, base_name, calls
from nestling.onnx_in.places import (
    Place,
    Search,
    find_ends,
    is_closed,
    linear_tensors,
    name_activation,
    pointwise_between,
)


def find_inverted_residuals(search: Search) -> list[Place]:
    """Return runs of a 1x1, a depthwise and a 1x1 convolution with activations between them."""
    found = (_match_inverted(search, project) for project in calls(search.module, CONV))
    return [place for place in found if place is not None]


def find_convolutions(search: Search) -> list[Place]:
    """Return residual blocks that end in a convolution, an activation and a convolution.

    In a bottleneck these are its last two; the first stays whole.
    """
    found = (_match_pair(search, second) for second in calls(search.module, CONV))
    return [place for place in found if place is not None]


def _match_inverted(search: Search, project: Node) -> Place | None:
    second = pointwise_between(project.args[0], (CONV,))
    if second is None or len(second[1]) != 1 or not _is_1x1(search, project):
        return None
    depthwise = second[1][0]
    if not _is_depthwise(search, depthwise):
        return None
    start = depthwise.args[0]
    assert isinstance(start, Node)
    padded = base_name(start) in ("pad", "constant_pad_nd")
    first = pointwise_between(start.args[0] if padded else start, (CONV,))
    if first is None or len(first[1]) != 1 or not _is_1x1(search, first[1][0]):
        return None
    expand = first[1][0]
    inner = {*second[0], depthwise, *first[0], expand} | ({start} if padded else set())
    if not is_closed(inner, {project}):
        return None
    prepared = expand.args[0]
    assert isinstance(prepared, Node)
    ends = find_ends(project, prepared)
    activations = {
        name_activation(search, depthwise, project.args[0]),  # type: ignore[arg-type]
        name_activation(search, expand, start.args[0] if padded else start),  # type: ignore[arg-type]
    }
    tensors = linear_tensors(search, {"expand": expand, "depthwise": depthwise, "project": project})
    units, channels = tensors["expand.weight"].shape[:2]
    out_channels = len(tensors["project.weight"])
    kernel = int(tensors["depthwise.weight"].shape[-1])
    stride, padding, dilation = _geometry(depthwise)
    adds = stride == 1 and channels == out_channels
    if ends is None or ends.entry is not prepared or ends.post is not None:
        search.refuse(project, "its surroundings are not those of an inverted residual")
        return None
    if ends.residual != adds:
        search.refuse(project, "its residual sum is not the usual one")
        return None
    if None in activations or len(activations) != 1:
        search.refuse(project, "the activations before it are not a known one")
        return None
    if None in (stride, padding, dilation) or kernel % 2 == 0:
        search.refuse(project, "the depthwise convolution before it is not square")
        return None
    arguments = {
        "channels": channels,
        "out_channels": out_channels,
        "expansion": units,
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "activation": activations.pop(),
        "same_padding": padded,
    }
    return Place("inverted_residual", ends, units, arguments, tensors)


def _match_pair(search: Search, second: Node) -> Place | None:
    region = pointwise_between(second.args[0], (CONV,))
    if region is None or not region[0] or len(region[1]) != 1:
        return None
    first = region[1][0]
    prepared, hidden = first.args[0], second.args[0]
    assert isinstance(prepared, Node) and isinstance(hidden, Node)
    if max(_groups(first), _groups(second)) > 1 or not is_closed({*region[0], first}, {second}):
        return None
    ends = find_ends(second, prepared)
    if ends is None or not ends.residual:
        return None
    tensors = linear_tensors(search, {"first": first, "second": second})
    sizes = [int(tensors[f"{name}.weight"].shape[-1]) for name in ("first", "second")]
    usual = all(
        size % 2 and search.weight(conv).shape[2] == size and _geometry(conv) == (1, size // 2, 1)
        for conv, size in zip((first, second), sizes, strict=True)
    )
    activation = name_activation(search, first, hidden)
    if not usual or activation is None:
        search.refuse(second, "its convolutions or their activation are of an unusual kind")
        return None
    units, inputs = tensors["first.weight"].shape[:2]
    arguments = {
        "channels": len(tensors["second.weight"]),
        "hidden": units,
        "inputs": inputs,
        "kernel_size": sizes[0],
        "second_kernel_size": sizes[1],
        "activation": activation,
    }
    return Place("convolution", ends, units, arguments, tensors)


def _is_1x1(search: Search, conv: Node) -> bool:
    return (
        search.weight(conv).shape[2:] == (1, 1)
        and _geometry(conv) == (1, 0, 1)
        and not _groups(conv) > 1
    )


def _is_depthwise(search: Search, conv: Node) -> bool:
    weight = search.weight(conv)
    square = weight.shape[2] == weight.shape[3]
    return square and weight.shape[1] == 1 and _groups(conv) == len(weight) > 1


def _geometry(conv: Node) -> tuple[int | None, int | None, int | None]:
    """Return stride, padding and dilation, each None where the two axes differ."""
    given = dict(enumerate(conv.args))
    return _common(given.get(3, 1)), _common(given.get(4, 0)), _common(given.get(5, 1))


def _common(sizes: Any) -> int | None:
    values = set(sizes) if isinstance(sizes, list | tuple) else {sizes}
    return int(values.pop()) if len(values) == 1 else None


def _groups(conv: Node) -> int:
    groups: Any = conv.args[6] if len(conv.args) > 6 else 1
    return int(groups)
