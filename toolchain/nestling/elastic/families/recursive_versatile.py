"""Decoders whose feed-forward blocks are used wide or deep (VersatileFFN, arXiv 2512.14531)."""

from __future__ import annotations

from typing import Any

from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.families.recursive_feed_forward import VersatileFeedForward
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.norms import RMSNorm
from nestling.elastic.subnet import FULL, Subnet, make_space
from nestling.errors import ModelError


class VersatileLlama(ElasticLlama):
    """An `ElasticLlama` whose layers behind the core have a `VersatileFeedForward`.

    Named paths: `wide`, if there are slices, `once`, then `visits2`, ... and `full`, the most.

    Args:
        ffn_visits: The most visits of a feed-forward block.
        slices: Into how many experts a block is cut for its wide use; 0: it has none.
        taken: Slices that each token takes.
        **llama: What `ElasticLlama` takes, but for `depths` and `heads_widths`.

    Raises:
        ModelError: Slices do not divide the neurons, or there is nothing versatile.
    """

    def __init__(
        self, *, ffn_visits: int = 2, slices: int = 0, taken: int = 1, **llama: Any
    ) -> None:
        core = llama.get("core_layers", 0)
        if core >= llama.get("depth", 12) or (ffn_visits < 2 and slices == 0):
            raise ModelError("no feed-forward block has a second use", actual=(ffn_visits, slices))
        dim = llama.get("dim", 768)
        eps = llama.get("eps", 1e-6)
        hidden = llama.get("hidden") or -(-dim * 8 // 3 // 64) * 64

        def make(layer: int, name: str) -> ElasticBlock | None:
            if layer < core:
                return None
            inner = ElasticFeedForward(
                dim,
                hidden,
                widths=llama.get("widths", (1.0,)),
                activation=llama.get("activation", "silu"),
                gated=True,
                bias=llama.get("ffn_bias", False),
                norm=RMSNorm(dim, eps),
                name=name,
                layer=layer,
                dropout=llama.get("dropout", 0.0),
            )
            wide = _slice(inner, slices, taken) if slices else None
            units = hidden // slices * taken if slices else 0
            return VersatileFeedForward(inner, ffn_visits, wide, units)

        super().__init__(
            **{"widths": (1.0,), **llama},
            depths=(1.0,),
            heads_widths=(1.0,),
            feed_forwards=make,
        )
        self.space = make_space([b.spec for b in self.chain], (1.0,), self._named())
        self.select(self.space.full())
        self.family = "versatile_llama"
        self.config = {
            "family": self.family,
            "ffn_visits": ffn_visits,
            "slices": slices,
            "taken": taken,
            **llama,
        }

    def _named(self) -> dict[str, Subnet]:
        block = next(b for b in self.chain if isinstance(b, VersatileFeedForward))
        levels = {"wide": 1} if block.wide is not None else {}
        levels["once"] = block.once
        for visits in range(2, block.visits + 1):
            levels[f"visits{visits}"] = block.once + visits - 1
        levels[FULL] = levels.popitem()[1]
        return {
            name: Subnet(tuple(min(level, b.spec.levels) for b in self.chain))
            for name, level in levels.items()
        }


def _slice(inner: ElasticFeedForward, slices: int, taken: int) -> ElasticBlock:
    """Return slices of a block as experts that have its weights and norm."""
    # Expert layers are elastic blocks themselves.
    from nestling.experts.layer import ExpertFeedForward
    from nestling.experts.virtual import VirtualExperts

    bank = VirtualExperts(
        inner.up,
        inner.down,
        inner.gate,
        activation=inner.activation_name,
        experts=slices,
        top_k=taken,
        name=inner.name,
    )
    return ExpertFeedForward(
        bank, norm=inner.norm, name=inner.name, layer=inner.layer, skippable=inner.skippable
    )
