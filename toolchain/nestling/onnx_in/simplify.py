"""Bring a traced graph into one form, whatever exporter wrote the file.

What does nothing goes, linear layers and layer norms become one operator each, equal expressions
are computed once, and nothing depends any more on the batch being one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from nestling.onnx_in.operators import (
    CONV,
    LAYER_NORM,
    LINEAR,
    add_constant,
    aten,
    base_name,
    calls,
    close,
    constant_of,
    finish,
    only_user,
    replace,
    scalar_of,
)
from nestling.onnx_in.trace import fold_constants, run_nodes
from nestling.targets.structure import tensor_bytes

_COPIES = (
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.dropout.default,
    aten.lift_fresh_copy.default,
)
# Operators that do nothing where they leave type and shape alone.
_RESHAPES = (
    aten._to_copy.default,
    aten._unsafe_view.default,
    aten.expand.default,
    aten.pad.default,
    aten.constant_pad_nd.default,
    aten.reshape.default,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.to.dtype,
    aten.unsqueeze.default,
    aten.view.default,
)
_VIEWS = (aten.reshape.default, aten.view.default, aten._unsafe_view.default)
_SQUEEZES = (aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default, aten.flatten.using_ints)
_PRODUCTS = (aten.matmul.default, aten.mm.default)
_NORM_STEPS = {
    "add",
    "div",
    "mean",
    "mul",
    "pow",
    "reciprocal",
    "rsqrt",
    "sqrt",
    "sub",
}


def simplify(module: GraphModule, inputs: Mapping[str, Tensor]) -> None:
    """Simplify a graph in place; it computes the same up to rounding."""
    _drop_idle(module, inputs)
    _merge_batch_norms(module)
    _merge_linears(module)
    _lift_linears(module, inputs)
    _merge_layer_norms(module, inputs)
    _drop_idle(module, inputs)
    _merge_equal(module)
    _free_the_batch(module, inputs)
    fold_constants(module, inputs)


def _drop_idle(module: GraphModule, inputs: Mapping[str, Tensor]) -> None:
    values = run_nodes(module, inputs)
    for node in calls(module):
        source = node.args[0] if node.args else None
        if not isinstance(source, Node):
            continue
        before, after = values.get(source), values.get(node)
        if not isinstance(before, Tensor) or not isinstance(after, Tensor):
            continue
        same = before.shape == after.shape and before.dtype == after.dtype
        idle = node.target in _COPIES or (node.target in _RESHAPES and same)
        if base_name(node) in ("mul", "div") and len(node.args) == 2 and same:
            idle = scalar_of(node.args[1], module) == 1.0
        if base_name(node) == "add" and len(node.args) == 2 and same and not node.kwargs:
            added = constant_of(node.args[1], module)
            idle = added is not None and not added.any()
        if node.target is aten.permute.default and same:
            idle = list(node.args[1]) == sorted(node.args[1])  # type: ignore[arg-type]
        if idle:
            node.replace_all_uses_with(source)
    finish(module)


def _merge_linears(module: GraphModule) -> None:
    """Write products with constant matrices as linears, and sums and scales behind into them."""
    for node in calls(module, *_PRODUCTS, aten.addmm.default):
        arguments = node.args[1:] if node.target is aten.addmm.default else node.args
        weight = constant_of(arguments[1], module)
        if weight is None or weight.dim() != 2 or node.kwargs:
            continue
        bias = constant_of(node.args[0], module) if len(arguments) < len(node.args) else None
        if len(arguments) < len(node.args) and (bias is None or bias.dim() != 1):
            continue
        transposed = add_constant(module, node, weight.t().contiguous())
        replace(
            module,
            node,
            LINEAR,
            (arguments[0], transposed, node.args[0] if bias is not None else None),
        )
    finish(module)
    for node in calls(module, LINEAR):
        current = node
        while (user := only_user(current)) is not None:
            merged = _merge_into(module, current, user)
            if merged is None:
                break
            current = merged
    finish(module)


def _merge_into(module: GraphModule, linear: Node, user: Node) -> Node | None:
    """Put a constant that is added to, or multiplied with, a linear's result into the linear."""
    if base_name(user) not in ("add", "mul") or user.kwargs or len(user.args) != 2:
        return None
    other = user.args[1] if user.args[0] is linear else user.args[0]
    value = constant_of(other, module)
    weight = constant_of(linear.args[1], module)
    if value is None or weight is None or not value.is_floating_point():
        return None
    rows = weight.shape[0]
    if value.numel() != rows or (value.dim() and value.shape[-1] != rows) or rows == 1:
        return None
    value = value.reshape(rows)
    bias = constant_of(linear.args[2], module) if len(linear.args) > 2 else None
    if base_name(user) == "add":
        bias = value if bias is None else bias + value
    else:
        weight = weight * value[:, None]
        bias = None if bias is None else bias * value
    weight_node = add_constant(module, user, weight)
    bias_node = None if bias is None else add_constant(module, user, bias)
    return replace(module, user, LINEAR, (linear.args[0], weight_node, bias_node))


def _lift_linears(module: GraphModule, inputs: Mapping[str, Tensor]) -> None:
    """Let a linear read the tensor before a view that leaves the last axis alone."""
    values = run_nodes(module, inputs)
    waiting = list(calls(module, LINEAR))
    while waiting:
        node = waiting.pop(0)
        view = node.args[0]
        if not isinstance(view, Node) or view.target not in (*_VIEWS, aten.permute.default):
            continue
        source = view.args[0]
        assert isinstance(source, Node)
        before, rows = values[source], values[node].shape[-1]
        if before.dim() < 2 or before.shape[-1] != values[view].shape[-1]:
            continue
        if view.target is aten.permute.default:
            order = [int(axis) % before.dim() for axis in view.args[1]]  # type: ignore[union-attr, arg-type]
            if order[-1] != before.dim() - 1:
                continue
            moved: tuple[Any, ...] = (aten.permute.default, order)
        else:
            moved = (aten.reshape.default, list(values[node].shape))
        with module.graph.inserting_before(node):
            lifted = module.graph.call_function(LINEAR, (source, *node.args[1:]))
        lifted.meta.update(node.meta)
        values[lifted] = before.new_empty((*before.shape[:-1], rows))
        values[replace(module, node, moved[0], (lifted, moved[1]))] = values[node]
        waiting.append(lifted)
    finish(module)
    for node in calls(module, *_VIEWS):
        inner = node.args[0]
        while isinstance(inner, Node) and inner.target in (*_VIEWS, *_SQUEEZES):
            inner = inner.args[0]
        if inner is not node.args[0]:
            node.args = (inner, *node.args[1:])
    finish(module)


def _merge_batch_norms(module: GraphModule) -> None:
    """Put batch norms with fixed statistics into the convolutions before them."""
    for norm in calls(module, aten.batch_norm.default):
        conv = norm.args[0]
        if not isinstance(conv, Node) or conv.target is not CONV or only_user(conv) is not norm:
            continue
        scale, shift, mean, variance = (constant_of(value, module) for value in norm.args[1:5])
        weight = constant_of(conv.args[1], module)
        if mean is None or variance is None or weight is None or norm.args[5]:
            continue
        factor = torch.rsqrt(variance + float(norm.args[7]))  # type: ignore[arg-type]
        factor = factor if scale is None else factor * scale
        bias = constant_of(conv.args[2], module) if len(conv.args) > 2 else None
        moved = (0.0 if bias is None else bias) - mean
        offset = moved * factor if shift is None else moved * factor + shift
        weights = [weight * factor[:, None, None, None], offset]
        nodes = [add_constant(module, norm, value) for value in weights]
        replace(module, norm, CONV, (conv.args[0], *nodes, *conv.args[3:]))
    finish(module)


def _merge_layer_norms(module: GraphModule, inputs: Mapping[str, Tensor]) -> None:
    """Find layer norms written as mean, difference, power, ... and check them by their values."""
    values = run_nodes(module, inputs)
    for mean in calls(module, aten.mean.dim):
        source = mean.args[0]
        if not isinstance(source, Node):
            continue
        difference = next(
            (u for u in source.users if base_name(u) == "sub" and u.args[1] is mean), None
        )
        if difference is None:
            continue
        region = {mean, difference}
        end, found = None, None
        for node in module.graph.nodes:
            if node in region or base_name(node) not in _NORM_STEPS:
                continue
            computed = [n for n in node.all_input_nodes if n.op != "get_attr"]
            if computed and all(n in region for n in computed):
                region.add(node)
                if values[node].shape != values[source].shape:
                    continue
                candidate = _layer_norm_of(module, source, region, values, node)
                if candidate is not None:
                    end, found = node, candidate
        if end is None or found is None:
            continue
        weight, bias, eps = found
        dim = [int(values[source].shape[-1])]
        nodes = [None if t is None else add_constant(module, end, t) for t in (weight, bias)]
        replace(module, end, LAYER_NORM, (source, dim, *nodes, eps))
    finish(module)


def _layer_norm_of(
    module: GraphModule, source: Node, region: set[Node], values: Mapping[Node, Any], end: Node
) -> tuple[Tensor | None, Tensor | None, float] | None:
    """Return scale, shift and epsilon if the region up to `end` is a layer norm."""
    x, y = values[source], values[end]
    vectors: list[Tensor] = []
    numbers: list[float] = []
    for node in region:
        for argument in node.args:
            number = scalar_of(argument, module)
            tensor = constant_of(argument, module)
            if number is not None:
                numbers.append(number)
            elif tensor is not None and tensor.numel() == x.shape[-1]:
                vectors.append(tensor.reshape(-1))
    options: list[tuple[Tensor | None, Tensor | None]] = [(None, None)]
    options += [(v, None) for v in vectors]
    options += [(v, w) for v in vectors for w in vectors if v is not w]
    for eps in (n for n in numbers if 0 < n < 1e-2):
        for weight, bias in reversed(options):
            made = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
            if made.shape == y.shape and close(made, y):
                return weight, bias, eps
    return None


def _merge_equal(module: GraphModule) -> None:
    """Compute equal expressions once, and keep equal constants once."""
    constants: dict[tuple[object, ...], Node] = {}
    for node in list(module.graph.nodes):
        value = constant_of(node, module)
        if value is not None:
            about = (value.dtype, tuple(value.shape), tensor_bytes(value))
            first = constants.setdefault(about, node)
            if first is not node:
                node.replace_all_uses_with(first)
    seen: dict[str, Node] = {}
    for node in calls(module):
        key = repr((str(node.target), node.args, node.kwargs))
        if key in seen:
            node.replace_all_uses_with(seen[key])
        else:
            seen[key] = node
    finish(module)


def _free_the_batch(module: GraphModule, inputs: Mapping[str, Tensor]) -> None:
    """Let operators that name the batch's size take any.

    A reshape keeps the examples outermost, so its first size can be left open. A constant that is
    joined to every example, such as a class token, is repeated for each.
    """
    values = run_nodes(module, inputs)
    for node in calls(module, *_VIEWS):
        shape = list(values[node].shape)
        if shape:
            node.target = aten.reshape.default
            node.args = (node.args[0], [-1, *shape[1:]])
    for node in calls(module, aten.expand.default):
        source = node.args[0]
        shape = list(values[node].shape)
        before = values[source]  # type: ignore[index]
        computed = isinstance(source, Node) and source.op != "get_attr"
        if computed and before.dim() == len(shape) and before.shape[0] == shape[0]:
            node.args = (source, [-1, *shape[1:]])
    for node in calls(module, aten.cat.default):
        _repeat_constants(module, node, values)
    for node in calls(module, aten.index.Tensor):
        _reshape_full_gather(module, node, values)
    finish(module)


def _repeat_constants(module: GraphModule, node: Node, values: Mapping[Node, Any]) -> None:
    parts: list[Node] = list(node.args[0])  # type: ignore[arg-type]
    axis = node.args[1] if len(node.args) > 1 else 0
    computed = next((part for part in parts if part.op != "get_attr"), None)
    if axis == 0 or computed is None:
        return
    for index, part in enumerate(parts):
        if part.op != "get_attr" or values[part].shape[0] != 1:
            continue
        with module.graph.inserting_before(node):
            size = module.graph.call_function(aten.sym_size.int, (computed, 0))
            rest = [-1] * (values[part].dim() - 1)
            parts[index] = module.graph.call_function(aten.expand.default, (part, [size, *rest]))
    node.args = (parts, *node.args[1:])


def _reshape_full_gather(module: GraphModule, node: Node, values: Mapping[Node, Any]) -> None:
    """Write a gather that takes every element once, in order, as the reshape that it is."""
    source, indices = node.args
    before, after = values[source], values[node]  # type: ignore[index]
    if before.numel() == after.numel() and after.dim():
        positions = torch.arange(before.numel()).reshape(before.shape)
        chosen = [values[i] if isinstance(i, Node) else i for i in indices]  # type: ignore[union-attr]
        if torch.equal(aten.index.Tensor(positions, chosen).reshape(-1), positions.reshape(-1)):
            replace(module, node, aten.reshape.default, (source, [-1, *after.shape[1:]]))
