"""What all of this package asks of a traced graph of operators, and how it changes one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

aten = torch.ops.aten

LINEAR = aten.linear.default
LAYER_NORM = aten.layer_norm.default
CONV = aten.conv2d.default

_TOLERANCE = 1e-4


def constant_of(node: Any, module: GraphModule) -> Tensor | None:
    """Return the tensor that a node stands for, or None if it is computed."""
    if isinstance(node, Node) and node.op == "get_attr":
        value = getattr(module, str(node.target))
        return value if isinstance(value, Tensor) else None
    return None


def add_constant(module: GraphModule, before: Node, value: Tensor) -> Node:
    """Add a constant to a graph and return the node that stands for it."""
    number = 0
    while hasattr(module, f"made_{number}"):
        number += 1
    module.register_buffer(f"made_{number}", value.detach().clone())
    with module.graph.inserting_before(before):
        return module.graph.get_attr(f"made_{number}")


def calls(module: GraphModule, *targets: Any) -> Iterator[Node]:
    """Yield the calls of operators, in order, while the graph may change."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and (not targets or node.target in targets):
            yield node


def scalar_of(value: Any, module: GraphModule) -> float | None:
    """Return a number that is written as one, or as a tensor with one element."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    tensor = constant_of(value, module)
    return float(tensor) if tensor is not None and tensor.numel() == 1 else None


def base_name(node: Node) -> str:
    """Return the operator's name without its overload: `add` for `aten.add.Tensor`."""
    return str(node.target).split(".")[1] if str(node.target).startswith("aten.") else ""


def replace(module: GraphModule, node: Node, target: Any, args: tuple[Any, ...]) -> Node:
    """Put a call in the place of another node, which must not have users outside."""
    with module.graph.inserting_before(node):
        new = module.graph.call_function(target, args)
    new.meta.update(node.meta)
    node.replace_all_uses_with(new)
    return new


def only_user(node: Node) -> Node | None:
    """Return the one node that reads a node, or None if there are none or several."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def finish(module: GraphModule) -> None:
    """Bring a graph in order after it was changed."""
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()


def close(a: Tensor, b: Tensor, tolerance: float = _TOLERANCE) -> bool:
    """Return whether two results agree up to rounding, measured by the largest value."""
    if a.shape != b.shape:
        return False
    scale = float(b.abs().max()) if b.numel() else 0.0
    return bool((a - b).abs().max() <= tolerance * max(scale, 1e-3)) if b.numel() else True
