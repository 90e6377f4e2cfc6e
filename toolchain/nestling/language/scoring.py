"""Whole windows at once, every token on a path of its own.

Teacher-forced text needs no loop over positions: what a token leaves in the cache is, at every
layer, the keys and values of the stream that reaches it. A token that skips a layer hands its
stream on unchanged, so the layer's keys and values of it are those of its last computed stream:
that is the state rule PROPAGATE, and training through it is what makes the rule cheap in quality.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nestling.elastic import ElasticAttention, ElasticFeedForward, Supernet
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.recursive_feed_forward import VersatileFeedForward
from nestling.elastic.supernet import split_stem
from nestling.errors import ModelError
from nestling.experts.layer import ExpertFeedForward

AnyFeedForward = ElasticFeedForward | ExpertFeedForward | VersatileFeedForward
"""Second block of a decoder's layer."""


def decoder_layers(supernet: Supernet) -> list[tuple[ElasticAttention, AnyFeedForward]]:
    """Return the layers of a decoder.

    Raises:
        ModelError: The supernet is not made of attention and feed-forward blocks in turn, or its
            attention is elastic: keys and values then differ in shape between paths.
    """
    layers = []
    for pair in supernet.layers():
        if (
            len(pair) != 2
            or not isinstance(pair[0], ElasticAttention)
            or not isinstance(pair[1], AnyFeedForward)
        ):
            raise ModelError("not a decoder of attention and feed-forward blocks")
        if pair[0].spec.levels != 1:
            raise ModelError(
                "the attention is elastic, so paths cannot share one cache",
                module=pair[0].name,
                hint="convert with heads_widths=(1.0,)",
            )
        layers.append((pair[0], pair[1]))
    return layers


def run_each(
    blocks: Sequence[ElasticBlock], x: Tensor, context: Sequence[Tensor], levels: Tensor
) -> Tensor:
    """Run blocks with levels of each token's own.

    Args:
        blocks: Part of a chain.
        x: The stream, (batch, positions, dim).
        context: See `Supernet`.
        levels: Integers, (batch, positions, len(blocks)); 0 leaves the block out for the token.

    Returns:
        (batch, positions, dim).
    """
    for index, block in enumerate(blocks):
        level = levels[..., index]
        h = block.norm(x)
        if isinstance(block, AnyFeedForward):
            x = x + block.transform_each(h, level)
        else:
            y = block.transform(h, block.spec.levels, *context)
            x = x + y * (level > 0)[..., None]
    return x


def logits_each(supernet: Supernet, tokens: Tensor, levels: Tensor) -> Tensor:
    """Return the logits of windows whose tokens take paths of their own, state propagated.

    Args:
        supernet: A decoder, see `decoder_layers`.
        tokens: int64, (batch, positions).
        levels: Integers, (batch, positions, blocks).

    Returns:
        float32, (batch, positions, vocabulary).
    """
    x, context = split_stem(supernet.stem(tokens))
    x = run_each(supernet.chain, x, context, levels)
    return supernet.head(x, *context)  # type: ignore[no-any-return]
