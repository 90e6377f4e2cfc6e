"""The elastic block: one residual sub-layer whose inner width and presence can be chosen.

What a block computes at level k >= 1, with `w` its first `widths[k-1]` units::

    y = post((x if residual else 0) + finish_k(sum over units of w, of their contribution to
    prepare(x)))

and `y = x` at level 0. The same block is seen in three ways that must agree:

- `forward`: prefix slices of the full tensors, at `self.level`; what training uses;
- `prepare`, `part`, `finish`, `post`: what the exporter lowers, one constant for each level;
- `dense`: the subnet by hand, one plain module of sliced weights; bit-identical to `forward` in
  evaluation mode.

`post` is where a post-norm network (BERT) has its norm, which follows the residual sum and
therefore cannot be part of `finish`; it is the identity elsewhere.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.subnet import BlockSpec
from nestling.errors import ModelError

Method = Literal["magnitude", "activation", "taylor"]


class ElasticBlock(nn.Module, ABC):
    """Base of all elastic blocks.

    Args:
        units: How many units the block has.
        widths: Units at level 1, 2, ...; increasing, the last is `units`.
        name: Unique within a chain; the supernet fills it in where it is empty.
        layer: The layer that depth drops this block with; the supernet fills in -1.
        skippable: Whether the block may be left out. Needs `residual`.
        residual: Whether the input is added to the result.
        norm: Applied to the input before everything else.
        post: Applied after the residual sum.
        dropout: Probability with which elements of the result are dropped in training.

    Attributes:
        level: The active level; 0 = the identity. A plain attribute, not a buffer.
        probe: Called by importance collection with the hidden activations, whose unit axis is
            `probe_axis` and which hold `probe_repeat` consecutive elements for each unit.
    """

    probe_axis: int = -1
    probe_repeat: int = 1

    def __init__(
        self,
        *,
        units: int,
        widths: Sequence[int],
        name: str = "",
        layer: int = -1,
        skippable: bool = True,
        residual: bool = True,
        norm: nn.Module | None = None,
        post: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if tuple(widths)[-1:] != (units,):
            raise ModelError(
                "the last width must be all units",
                module=name or None,
                expected=units,
                actual=widths,
            )
        if skippable and not residual:
            raise ModelError("a block without a residual cannot be left out", module=name or None)
        self.name = name
        self.layer = layer
        self.units = units
        self.widths = tuple(widths)
        self.skippable = skippable
        self.residual = residual
        self.dropout = dropout
        self.norm = norm if norm is not None else nn.Identity()
        self.post = post if post is not None else nn.Identity()
        self.level = len(self.widths)
        self.probe: Callable[[Tensor], Tensor] | None = None
        self.statistics: dict[str, Tensor] = {}

    @property
    def spec(self) -> BlockSpec:
        """What the space of subnets has to know about this block."""
        return BlockSpec(self.name, self.layer, self.widths, self.skippable)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Run the block at `self.level`."""
        if self.level == 0:
            return x
        y = self.transform(self.norm(x), self.level, *context)
        if self.training and self.dropout:
            y = F.dropout(y, self.dropout)
        if self.residual:
            y = x + y
        return self.post(y)  # type: ignore[no-any-return]

    @abstractmethod
    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the first units on the prepared input, `finish` included."""

    @abstractmethod
    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return a plain module of units `first..last-1`, which computes their contribution.

        Args:
            first: First unit. The one with unit 0 carries the output bias.
            last: One past the last unit.
            level: The level whose per-level statistics, if any, are folded in.
        """

    @abstractmethod
    def magnitude(self) -> Tensor:
        """Return the importance of every unit by its weights alone, float, shape (units,)."""

    @abstractmethod
    def permute(self, order: Tensor) -> None:
        """Reorder the units in place: new unit i is old unit `order[i]`."""

    def prepare(self) -> nn.Module:
        """Return `(x, *context) -> h`, a module of its own; the identity in post-norm blocks."""
        return WithContext(_plain(self.norm))

    def part(self, level: int) -> nn.Module:
        """Return `(h, *context) -> contribution` of the units that `level` adds to `level - 1`."""
        first = self.widths[level - 2] if level > 1 else 0
        return self.cut(first, self.width(level), level=len(self.widths)).eval()

    def finish(self, level: int) -> nn.Module:
        """Return what follows the sum of the parts 1..level, before the residual sum."""
        self.width(level)
        return nn.Identity()

    def dense(self, level: int) -> nn.Module:
        """Return `(x, *context) -> y`, the block at this level by hand, with weights of its own."""
        if level == 0 and self.skippable:
            return WithContext(nn.Identity())
        body = self.cut(0, self.width(level), level=level)
        return DenseBlock(_plain(self.norm), body, _plain(self.post), self.residual).eval()

    def width(self, level: int) -> int:
        """Return the units of a level.

        Raises:
            ModelError: The block has no such level.
        """
        if not 1 <= level <= len(self.widths):
            raise ModelError(
                "the block has no such level",
                module=self.name,
                expected=f"1..{len(self.widths)}",
                actual=level,
            )
        return self.widths[level - 1]

    def importance(self, method: Method) -> Tensor:
        """Return the importance of every unit, float, shape (units,).

        Args:
            method: `magnitude` looks at weights; `activation` and `taylor` at what
                `nestling.elastic.importance.collect` has gathered before.

        Raises:
            ModelError: Unknown method, or nothing was gathered for it.
        """
        if method == "magnitude":
            return self.magnitude()
        if method not in self.statistics:
            raise ModelError(
                f"no statistics for importance by {method}",
                module=self.name,
                hint="pass batches to sort_units",
            )
        return self.statistics[method]

    def count_parameters(self, level: int) -> int:
        """Return how many parameters the block has at a level when it stands alone."""
        return sum(p.numel() for p in self.dense(level).parameters())

    def _observe(self, hidden: Tensor) -> Tensor:
        return hidden if self.probe is None else self.probe(hidden)


class WithContext(nn.Module):
    """A module of one input in a place that also hands over the context."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Run the module on the first input alone."""
        return self.module(x)  # type: ignore[no-any-return]


class DenseBlock(nn.Module):
    """A block by hand: `post(x + body(norm(x)))`, or without `x +`."""

    def __init__(self, norm: nn.Module, body: nn.Module, post: nn.Module, residual: bool) -> None:
        super().__init__()
        self.norm = norm
        self.body = body
        self.post = post
        self.residual = residual

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Run the block."""
        y = self.body(self.norm(x), *context)
        if self.residual:
            y = x + y
        return self.post(y)  # type: ignore[no-any-return]


def linear_slice(
    source: nn.Linear,
    rows: slice | None = None,
    columns: slice | None = None,
    *,
    bias: bool = True,
    scale: float = 1.0,
) -> nn.Linear:
    """Return a linear layer of its own with some rows (outputs) and columns (inputs) of another.

    Args:
        source: Where the weights are cloned from.
        rows: Outputs to take, all by default; the bias follows.
        columns: Inputs to take, all by default.
        bias: Whether to take the bias along, if there is one.
        scale: Multiplied into weights and bias.
    """
    weight = source.weight.detach()[rows or slice(None), columns or slice(None)]
    taken = source.bias.detach()[rows or slice(None)] if bias and source.bias is not None else None
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=taken is not None, device="meta")
    layer.weight = own_parameter(weight * scale if scale != 1.0 else weight)
    if taken is not None:
        layer.bias = own_parameter(taken * scale if scale != 1.0 else taken)
    return layer


def own_parameter(value: Tensor) -> nn.Parameter:
    """Return a contiguous copy as a parameter."""
    return nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format))


def permute_rows(parameter: Tensor, order: Tensor, axis: int = 0) -> None:
    """Reorder a tensor along an axis, in place."""
    with torch.no_grad():
        parameter.copy_(parameter.index_select(axis, order))


def _plain(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval()
