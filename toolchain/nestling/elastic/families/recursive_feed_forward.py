"""One feed-forward block used wide for easy tokens and deep for hard ones (VersatileFFN).

Source: "VersatileFFN: achieving parameter efficiency in LLMs via adaptive wide-and-deep
reuse", arXiv 2512.14531. Wide: a router picks a few of the block's slices as experts. Deep: the
whole block is visited again and again, each time on what it made of the stream before. The paper
blends both by a gate that judges difficulty; here they are levels of one block, so a path takes
one of them, and any policy judges.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nestling.elastic.block import ElasticBlock
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.errors import ModelError


class VersatileFeedForward(ElasticBlock):
    """A feed-forward block that may be used in part, once, or several times.

    Its levels, small to large: `wide`, if there is one; those of `inner`, once; then `inner` at its
    last level twice, thrice, ... A unit is a hidden neuron that is computed for a token.

    Args:
        inner: The block; its name and place are this one's.
        visits: The most.
        wide: Slices of the block as experts, with the block's own weights and norm.
        wide_units: Neurons that a token takes of them.

    Attributes:
        once: The last level at which `inner` is visited no more than once.
    """

    def __init__(
        self,
        inner: ElasticFeedForward,
        visits: int,
        wide: ElasticBlock | None = None,
        wide_units: int = 0,
    ) -> None:
        if visits < 1 or (wide is not None and not 0 < wide_units < inner.widths[0]):
            raise ModelError(
                "slices must be fewer than the block's neurons, and visits one at least",
                module=inner.name or None,
                expected=f"0 < wide_units < {inner.widths[0]}, visits >= 1",
                actual=(wide_units, visits),
            )
        slices = () if wide is None else (wide_units,)
        deep = tuple(visit * inner.units for visit in range(2, visits + 1))
        super().__init__(
            units=visits * inner.units,
            widths=(*slices, *inner.widths, *deep),
            name=inner.name,
            layer=inner.layer,
            skippable=inner.skippable,
            norm=nn.Identity(),  # each visit norms what it sees
            dropout=inner.dropout,
        )
        self.inner = inner
        self.wide = wide
        self.visits = visits
        self.once = len(slices) + len(inner.widths)

    @property
    def gate(self) -> nn.Linear | None:
        """Gate projection of the block, if there is one."""
        return self.inner.gate

    def visits_at(self, level: int) -> tuple[int, int]:
        """Return how often `inner` runs at a level, and at which of its own; 0 times for `wide`."""
        self.width(level)
        inner = level - int(self.wide is not None)
        if inner == 0:
            return 0, 0
        return max(1, level - self.once + 1), min(inner, len(self.inner.widths))

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Return what is added to the stream `h`, (batch, ..., dim), which is not normed."""
        visits, inner = self.visits_at(level)
        if visits == 0:
            return self._slices(h)
        total = self._visit(h, inner)
        for _ in range(visits - 1):
            total = total + self._visit(h + total, inner)
        return total

    def transform_each(self, h: Tensor, levels: Tensor) -> Tensor:
        """Run every position at a level of its own.

        Args:
            h: (batch, positions, dim), not normed.
            levels: Integers, (batch, positions). Level 0 gives zeros.

        Returns:
            (batch, positions, dim).
        """
        first = levels - int(self.wide is not None)
        at = first.clamp(0, len(self.inner.widths))
        total = self.inner.transform_each(self.inner.norm(h), at)
        for visit in range(2, self.visits + 1):
            more = levels - self.once + 1 >= visit
            total = total + self._visit(h + total, len(self.inner.widths)) * more[..., None]
        if self.wide is not None:
            total = torch.where((levels == 1)[..., None], self._slices(h), total)
        return total

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return a level as a plain module; part of one cannot be cut."""
        if first or last != self.width(level):
            raise NotImplementedError("its levels are no sums; cut it as a decoder")
        visits, inner = self.visits_at(level)
        if self.wide is not None and visits == 0:
            return _Added([self.wide.dense(1)])
        return _Added([self.inner.dense(inner)] * visits)

    def part(self, level: int) -> nn.Module:
        """Refuse: a further visit is no term of a sum."""
        raise NotImplementedError("its levels are no sums; cut it as a decoder")

    def magnitude(self) -> Tensor:
        """Return ones: what is computed twice has one order."""
        return torch.ones(self.units)

    def permute(self, order: Tensor) -> None:
        """Do nothing: visits and slices are where they are."""

    def _visit(self, x: Tensor, level: int) -> Tensor:
        return self.inner.transform(self.inner.norm(x), level)

    def _slices(self, x: Tensor) -> Tensor:
        assert self.wide is not None
        return self.wide.transform(self.wide.norm(x), 1)


class _Added(nn.Module):
    """`(x, *context) -> what blocks, one after the other, add to x`; the same block may repeat."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Run them."""
        y = x
        for block in self.blocks:
            y = block(y, *context)
        return y - x
