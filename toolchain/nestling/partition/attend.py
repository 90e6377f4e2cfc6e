"""The operator `nestling::attend`: attention of new tokens over a cache that belongs to a session.

Everything around it (projections, rotary positions, norms) is delegated. The product with the cache
is an operator of our own, because a delegate would read the cache at its full length, pack it anew
for every token and need a mask; this one reads what is filled, in place. Its kernel is
`firmware/executorch/attend.cpp`; what is here defines it for torch, and is its reference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SCHEMA = (
    "(Tensor queries, Tensor new_keys, Tensor new_values, Tensor keys, Tensor values, "
    "Tensor position, int first_group, int queries_per_group, int head_dim"
)
_Library: Any = torch.library.Library
_library = _Library("nestling", "DEF")
_library.define(f"attend{_SCHEMA}) -> Tensor")
_library.define(f"attend.out{_SCHEMA}, *, Tensor(a!) out) -> Tensor(a!)")


def attend(
    queries: Tensor,
    new_keys: Tensor,
    new_values: Tensor,
    keys: Tensor,
    values: Tensor,
    position: Tensor,
    first_group: int,
    queries_per_group: int,
    head_dim: int,
) -> Tensor:
    """Attend from each new token to the cached tokens, the new ones before it and itself.

    Args:
        queries: float32 (new tokens, heads * head_dim), scaled; heads of groups `first_group`, ...
        new_keys: float32 (new tokens, groups * head_dim), of all groups.
        new_values: as `new_keys`.
        keys: float32 (rows, groups * head_dim); rows before `position` count, others are not read.
        values: as `keys`.
        position: int64 (1,): how many tokens the cache holds.
        first_group: key-value group of the first head.
        queries_per_group: heads that share one group.
        head_dim: width of one head.

    Returns:
        float32 (new tokens, heads * head_dim).
    """
    result: Tensor = torch.ops.nestling.attend(
        queries,
        new_keys,
        new_values,
        keys,
        values,
        position,
        first_group,
        queries_per_group,
        head_dim,
    )
    return result


def _reference(
    queries: Tensor,
    new_keys: Tensor,
    new_values: Tensor,
    keys: Tensor,
    values: Tensor,
    position: Tensor,
    first_group: int,
    queries_per_group: int,
    head_dim: int,
) -> Tensor:
    past, new = int(position), queries.shape[0]
    heads = queries.shape[1] // head_dim
    group = first_group + torch.arange(heads) // queries_per_group
    q = queries.reshape(new, heads, head_dim).transpose(0, 1)
    k = torch.cat((keys[:past], new_keys)).reshape(past + new, -1, head_dim)[:, group]
    v = torch.cat((values[:past], new_values)).reshape(past + new, -1, head_dim)[:, group]
    scores = q @ k.permute(1, 2, 0)
    later = torch.arange(past + new)[None] > past + torch.arange(new)[:, None]
    weights = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1)
    y: Tensor = weights @ v.transpose(0, 1)
    return y.transpose(0, 1).reshape(new, heads * head_dim)


def _shape(queries: Tensor, *rest: object) -> Tensor:
    return torch.empty_like(queries)


def _out(*arguments: object, out: Tensor) -> Tensor:
    return out.copy_(_reference(*arguments))  # type: ignore[arg-type]


_library.impl("attend", _reference, "CompositeExplicitAutograd")
_library.impl("attend.out", _out, "CompositeExplicitAutograd")
torch.library.register_fake("nestling::attend", _shape, lib=_library)
