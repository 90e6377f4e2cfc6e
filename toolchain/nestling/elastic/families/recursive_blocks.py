"""Blocks that a path visits more than once: other places of the chain with the same weights.

To everything that walks along a chain (training, the eager decoder, the exporter, state rules) a
visit is a block like any other, with a name and a layer of its own. Its submodules are those of the
first visit, so nothing is stored or trained twice.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.attention import ElasticAttention, attend, split_context, split_heads
from nestling.elastic.block import ElasticBlock
from nestling.elastic.feed_forward import ElasticFeedForward


class KeptState:
    """Keys and values of the first visit, for the visits behind it in the same forward pass.

    Attributes:
        keys: (batch, positions, groups, head_dim), normed and not rotated; None before a pass.
        values: (batch, positions, groups * head_dim).
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptState:
        """Return an empty one, the same for all blocks that are copied together."""
        fresh = memo[id(self)] = KeptState()
        return fresh


class AttentionVisit(ElasticAttention):
    """A visit of an attention block.

    Args:
        first: The block as the first visit has it; its submodules are taken, not copied.
        visit: Which visit, from 1.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
        skippable: See `ElasticBlock`.
        kept: Where the first visit leaves its keys and values and later ones find them: the
            recursive sharing of Mixture-of-Recursions (arXiv 2507.10524). None: every visit has
            keys and values of its own, the paper's recursion-wise caching.

    Attributes:
        first_name: Name of the first visit.
    """

    def __init__(
        self,
        first: ElasticAttention,
        visit: int,
        *,
        name: str,
        layer: int,
        skippable: bool,
        kept: KeptState | None = None,
    ) -> None:
        super().__init__(
            first.q.in_features,
            first.units * first.queries_per_group,
            groups=first.units,
            head_dim=first.head_dim,
            heads_widths=first.widths,
            masked=first.masked,
            rotary=first.rotary,
            norm=first.norm,
            name=name,
            layer=layer,
            skippable=skippable,
            dropout=first.dropout,
            attention_dropout=first.attention_dropout,
        )
        _take_modules(self, first)
        self.visit = visit
        self.first_name = first.name
        self.kept = kept

    @property
    def borrows(self) -> bool:
        """Whether it attends to the first visit's keys and values."""
        return self.kept is not None and self.visit > 1

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the block. `h` and the result: (batch, positions, dim).

        A later visit may have fewer rows than the first one kept: they are its first rows.
        """
        if self.kept is None:
            return super().transform(h, level, *context)
        if self.visit == 1:
            keys = split_heads(self.k(h), self.head_dim)
            self.kept.keys = keys if self.k_norm is None else self.k_norm(keys)
            self.kept.values = self.v(h)
        kept_keys, kept_values = self.kept.keys, self.kept.values
        assert kept_keys is not None and kept_values is not None  # the first visit always runs
        q = split_heads(self.q(h), self.head_dim)
        q = q * self._scale if self.q_norm is None else self.q_norm(q, self._scale)
        mask, cos, sin = split_context(context, self.masked, self.rotary)
        dropout = self.attention_dropout if self.training else None
        rows = slice(h.shape[0])
        y = attend(
            q,
            kept_keys[rows],
            kept_values[rows],
            self.units,
            self.head_dim,
            mask,
            cos,
            sin,
            dropout,
        )
        return F.linear(self._observe(y), self.o.weight, self.o.bias)

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return plain attention with groups `first..last-1`; not of a visit that borrows."""
        if self.borrows:
            raise NotImplementedError("it reads the cache of another block; cut it as a decoder")
        return super().cut(first, last, level=level)

    def permute(self, order: Tensor) -> None:
        """Reorder the groups in place, at the first visit; the others have the same weights."""
        if self.visit == 1:
            super().permute(order)

    def count_parameters(self, level: int) -> int:
        """Return what the visit adds: nothing behind the first."""
        return super().count_parameters(level) if self.visit == 1 else 0


class FeedForwardVisit(ElasticFeedForward):
    """A visit of a feed-forward block.

    Args:
        first: The block as the first visit has it; its submodules are taken, not copied.
        visit: Which visit, from 1.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
        skippable: See `ElasticBlock`.

    Attributes:
        first_name: Name of the first visit.
    """

    def __init__(
        self, first: ElasticFeedForward, visit: int, *, name: str, layer: int, skippable: bool
    ) -> None:
        super().__init__(
            first.up.in_features,
            first.units,
            widths=first.widths,
            activation=first.activation_name,
            gated=first.gate is not None,
            norm=first.norm,
            name=name,
            layer=layer,
            skippable=skippable,
            dropout=first.dropout,
        )
        _take_modules(self, first)
        self.visit = visit
        self.first_name = first.name

    def permute(self, order: Tensor) -> None:
        """Reorder the neurons in place, at the first visit; the others have the same weights."""
        if self.visit == 1:
            super().permute(order)

    def count_parameters(self, level: int) -> int:
        """Return what the visit adds: nothing behind the first."""
        return super().count_parameters(level) if self.visit == 1 else 0


Visit = AttentionVisit | FeedForwardVisit
"""A block that is visited more than once."""


def _take_modules(into: ElasticBlock, first: ElasticBlock) -> None:
    for name, module in first.named_children():
        setattr(into, name, module)
