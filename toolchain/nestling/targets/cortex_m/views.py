"""Operators that only rearrange: views of bytes that are there already, copied as late as possible.

A view says for each element of a tensor which element of a buffer it is. Reshaping, permuting and
slicing compose into one view; only where a kernel needs an order of memory that the buffer has not
is anything copied, by one transposition however many rearrangements there were.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestling.targets.cortex_m.program import Call, ProgramTensor

Index = NDArray[np.int32]
"""In a tensor's logical shape, the number of each element in its buffer."""


def dense(sizes: tuple[int, ...], order: tuple[int, ...]) -> Index:
    """The view of a tensor that fills its buffer with its dimensions in ``order``."""
    shape = [sizes[d] for d in order]
    count = int(np.prod(shape, dtype=np.int64))
    numbers = np.arange(count, dtype=np.int32).reshape(shape)
    return numbers.transpose(np.argsort(order)) if order else numbers


def rearrange(call: Call, index: Index) -> Index | None:
    """View of the output of a call that only rearranges its first input.

    Args:
        call: any call.
        index: view of its first input.

    Returns:
        ``None`` where the call computes something, or repeats elements.
    """
    name = call.name.partition("::")[2]
    args: tuple[Any, ...] = call.args
    sizes = call.output.sizes
    if call.output.dtype != call.inputs[0].dtype:
        return None
    if name in _RESHAPES:
        return index.reshape(sizes)
    if name in _COPIES:
        return index
    if name in ("transpose", "permute_copy"):
        permuted: Index = index.transpose(args[1])
        return permuted
    if name == "transpose_copy":
        swapped: Index = index.swapaxes(args[1], args[2])
        return swapped
    if name == "t_copy":
        turned: Index = index.transpose()
        return turned
    if name == "select_copy":
        taken: Index = index.take(args[2], axis=args[1])
        return taken
    if name == "slice_copy":
        cut: list[Any] = [slice(None)] * index.ndim
        cut[args[1]] = slice(args[2], args[3], args[4] if len(args) > 4 else 1)
        part: Index = index[tuple(cut)]
        return part
    if name == "expand_copy" and sizes == index.shape:
        return index
    return None


_RESHAPES = {
    "view_copy",
    "et_view",
    "_unsafe_view",
    "reshape_copy",
    "unsqueeze_copy",
    "squeeze_copy",
    "flatten_copy",
    "_reshape_alias_copy",
}
_COPIES = {
    "_clone_dim_order",
    "_to_dim_order_copy",
    "clone",
    "_to_copy",
    "alias_copy",
    "detach_copy",
    "lift_fresh_copy",
}


def in_memory(index: Index, order: tuple[int, ...]) -> Index:
    """The numbers of a view's elements as ``order`` puts them one after another."""
    return np.ascontiguousarray(index.transpose(order)).reshape(-1) if order else index.reshape(-1)


def first_of_run(numbers: Index) -> int | None:
    """Where a run of neighbours starts; ``None`` when the elements are not neighbours in order."""
    first = int(numbers[0])
    expected = np.arange(first, first + numbers.size, dtype=np.int32)
    return first if np.array_equal(numbers, expected) else None


def as_transposition(numbers: Index) -> tuple[int, list[int], list[int]] | None:
    """Say a rearrangement as a transposition of a part of the buffer.

    Returns:
        The first element of the part, its shape, and the permutation: dimension i of the output is
        dimension ``permutation[i]`` of the part. ``None`` if it is not one, or gathers elements
        that do not fill the part.
    """
    first = int(numbers.min())
    left = numbers - first
    loops: list[tuple[int, int]] = []  # (size, step), innermost first
    while left.size > 1:
        step = int(left[1]) - int(left[0])
        breaks = np.flatnonzero(np.diff(left) != step)
        size = int(breaks[0]) + 1 if breaks.size else left.size
        if step <= 0 or left.size % size:
            return None
        loops.append((size, step))
        left = left[::size]
    sizes = [size for size, _ in reversed(loops)] or [1]
    steps = [step for _, step in reversed(loops)] or [1]
    by_step = sorted(range(len(sizes)), key=lambda i: -steps[i])
    shape = [sizes[i] for i in by_step]
    permutation = [by_step.index(i) for i in range(len(sizes))]
    source = np.arange(numbers.size, dtype=np.int32).reshape(shape).transpose(permutation)
    if not np.array_equal(source.reshape(-1), numbers - first):
        return None
    return first, shape, permutation


def concatenated(call: Call) -> tuple[list[ProgramTensor], int] | None:
    """Pieces and dimension of a concatenation."""
    if call.name != "aten::cat":
        return None
    pieces = call.args[0]
    assert isinstance(pieces, list)
    dim = call.args[1] if len(call.args) > 1 and isinstance(call.args[1], int) else 0
    return pieces, dim % len(call.output.sizes)
