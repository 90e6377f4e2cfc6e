"""What a token costs, in multiply-accumulates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestling.elastic import Subnet, Supernet
from nestling.elastic.families.recursive_blocks import AttentionVisit
from nestling.language.scoring import decoder_layers


class TokenCosts:
    """Multiply-accumulates of one token, by block.

    Products with weights are counted, and those of attention with `context` cached tokens.

    Args:
        supernet: A decoder.
        context: Tokens in the cache.

    Attributes:
        head: Of the head, once for every exit that is looked at.
        propagate: Of the keys and values that one skipped layer is given, if it has a cache.
    """

    def __init__(self, supernet: Supernet, context: int = 128) -> None:
        layers = decoder_layers(supernet)
        attention, _ = layers[0]
        dim = attention.q.in_features
        self.head = supernet.head.classifier.weight.numel()  # type: ignore[union-attr, operator]
        self.propagate = attention.k.weight.numel() + attention.v.weight.numel()
        heads = attention.q.weight.numel() + attention.o.weight.numel()
        own = [not (isinstance(a, AttentionVisit) and a.borrows) for a, _ in layers]
        self._state = torch.tensor(own) * self.propagate
        self._attention = heads + self._state + 2 * attention.q.out_features * context
        rows = []
        most = max(ffn.spec.levels for _, ffn in layers)
        for _, ffn in layers:
            matrices = 2 if ffn.gate is None else 3
            widths = (0, *ffn.widths)
            rows.append(
                [matrices * dim * widths[min(level, len(widths) - 1)] for level in range(most + 1)]
            )
        self._ffn = torch.tensor(rows)

    def blocks(self, levels: Tensor) -> Tensor:
        """Return what the blocks of paths cost: (...), of levels (..., blocks)."""
        on, ffn = levels[..., 0::2], levels[..., 1::2]
        layer = torch.arange(ffn.shape[-1])
        return ((on > 0) * self._attention + self._ffn[layer, ffn]).sum(dim=-1)

    def state(self, levels: Tensor) -> Tensor:
        """Return what it costs to propagate state into the layers that paths skip: (...)."""
        return ((levels[..., 0::2] == 0) * self._state).sum(dim=-1)

    def token(self, subnet: Subnet | Sequence[int]) -> int:
        """Return what one token on a path costs, its head included and its state propagated."""
        levels = torch.tensor(subnet.levels if isinstance(subnet, Subnet) else tuple(subnet))
        return int(self.blocks(levels) + self.state(levels)) + self.head
