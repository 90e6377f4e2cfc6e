"""Token by token with a key-value cache, in eager torch: the oracle of the native decode loop.

Many conversations run as rows of one batch, each token of each row on a path of its own. A token
is computed on a path; when its logits are not good enough it is computed again on a larger path,
which starts behind the last block that the two have in common. What layers that a token skipped
hold in the cache is the state rule:

- KEEP: paths that differ in feed-forward width alone leave rows of the same shape; nothing to do.
- PROPAGATE: a skipped layer gets the keys and values of the stream that was handed through it.
- RECOMPUTE: it gets those of the full path. A runtime computes them lazily, in one batch, when a
  later token needs the layer; what is in the cache then is the same as here.
- SHARE: it gets the rows of the last layer that ran (Mixture-of-Recursions, arXiv 2507.10524).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional as F

from nestling.elastic import ElasticAttention, Subnet, Supernet
from nestling.elastic.attention import rotate, split_heads
from nestling.elastic.families.recursive_blocks import AttentionVisit
from nestling.errors import PathError
from nestling.language.scoring import AnyFeedForward, decoder_layers


class StateRule(Enum):
    """What the cache holds of layers that a token skipped; see the module."""

    PROPAGATE = "propagate"
    RECOMPUTE = "recompute"
    SHARE = "share"


@dataclass(frozen=True)
class Signals:
    """What is known of tokens behind an exit; every tensor has one entry a row.

    Attributes:
        entropy_bits: Of the distribution, before any temperature.
        confidence: The largest probability.
        margin: The largest less the second largest.
        similarity: Cosine between the stream before and after the last layer that ran (MuE, arXiv
            2211.11152).
        path: That made them, int64.
        stream: The stream behind the last layer that ran, (rows, dim).
    """

    entropy_bits: Tensor
    confidence: Tensor
    margin: Tensor
    similarity: Tensor
    path: Tensor
    stream: Tensor


def measure_logits(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return entropy in bits, largest probability, and margin of (..., vocabulary)."""
    log = F.log_softmax(logits.float(), dim=-1)
    entropy = -(log.exp() * log).sum(dim=-1) / math.log(2.0)
    best = log.topk(2, dim=-1).values.exp()
    return entropy, best[..., 0], best[..., 0] - best[..., 1]


class EagerDecoder:
    """A batch of conversations of equal length.

    Args:
        supernet: A decoder, see `decoder_layers`.
        rows: How many.
        capacity: Tokens that each may hold.
        rule: What skipped layers leave.

    Attributes:
        position: Tokens that each row holds.
        steering: Vectors that are added to the stream at a layer's input, (dim,) by layer; may
            change from one token to the next. Layers that a token skips do not see theirs.
    """

    def __init__(
        self,
        supernet: Supernet,
        rows: int = 1,
        capacity: int | None = None,
        rule: StateRule = StateRule.PROPAGATE,
    ) -> None:
        self.supernet = supernet.eval()
        self.rule = rule
        self.rows = rows
        self._layers = decoder_layers(supernet)
        self._cos: Tensor = supernet.stem.cos  # type: ignore[assignment]
        self._sin: Tensor = supernet.stem.sin  # type: ignore[assignment]
        self.capacity = len(self._cos) if capacity is None else capacity
        first = self._layers[0][0]
        shape = (rows, self.capacity, first.units, first.head_dim)
        self.keys = [torch.zeros(shape) for _ in self._layers]
        self.values = [torch.zeros(shape) for _ in self._layers]
        names = [attention.name for attention, _ in self._layers]
        for index, (attention, _) in enumerate(self._layers):
            if isinstance(attention, AttentionVisit) and attention.borrows:
                source = names.index(attention.first_name)
                self.keys[index], self.values[index] = self.keys[source], self.values[source]
        self.position = 0
        self.steering: dict[int, Tensor] = {}
        self._full = torch.tensor(supernet.space.full().levels)
        self._streams: list[Tensor] = []
        self._hidden: list[Tensor] = []
        self._levels = torch.zeros(0)

    def rewind(self, position: int) -> None:
        """Forget all tokens from `position` on."""
        if not 0 <= position <= self.position:
            raise PathError("cannot rewind", expected=f"0..{self.position}", actual=position)
        self.position = position

    @torch.inference_mode()
    def feed(self, tokens: Tensor, levels: Tensor | Subnet) -> Tensor:
        """Append tokens and return their logits.

        Args:
            tokens: int64, (rows, count).
            levels: One path for all; or levels, (rows, count, blocks).

        Returns:
            float32, (rows, count, vocabulary).

        Raises:
            PathError: The context is full.
        """
        return self.feed_stream(self.supernet.stem.embedding(tokens), levels)  # type: ignore[operator]

    @torch.inference_mode()
    def feed_stream(self, x: Tensor, levels: Tensor | Subnet) -> Tensor:
        """Do what `feed` does with embeddings in the place of tokens: (rows, count, dim)."""
        count = x.shape[1]
        if self.position + count > self.capacity:
            raise PathError(
                "the context is full", expected=self.capacity, actual=self.position + count
            )
        self.position += count
        self._streams = [x]
        self._levels = self._expand(levels, count)
        return self._run(0)

    @torch.inference_mode()
    def go_on(self, levels: Tensor | Subnet, rows: Tensor) -> Tensor:
        """Compute the tokens that were fed last on another path, from where the two part.

        Args:
            levels: As in `feed`.
            rows: bool, (rows,): whose tokens go on; the others stay as they are.

        Returns:
            Logits of all rows; those that do not go on give what they gave before.
        """
        wanted = self._expand(levels, self._levels.shape[1])
        wanted = torch.where(rows[:, None, None], wanted, self._levels)
        differ = (wanted != self._levels).flatten(0, 1).any(dim=0).nonzero()
        if len(differ) == 0:
            return self._head(self._streams[-1])
        layer = int(differ[0]) // 2
        self._levels = wanted
        self._streams = self._streams[: layer + 1]
        return self._run(layer)

    def similarity(self) -> Tensor:
        """Return the cosine across the last layer that ran for each token: (rows, count)."""
        result = torch.ones(self._levels.shape[:2])
        for layer in range(len(self._layers)):
            cosine = F.cosine_similarity(self._streams[layer], self._streams[layer + 1], dim=-1)
            result = torch.where(self._levels[..., 2 * layer] > 0, cosine, result)
        return result

    def stream(self) -> Tensor:
        """Return the stream behind the last layer of the tokens fed last: (rows, count, dim)."""
        return self._streams[-1]

    def signals(self, logits: Tensor, path: Tensor) -> Signals:
        """Return what is known of the last token of each row; `logits` is (rows, vocabulary)."""
        entropy, confidence, margin = measure_logits(logits)
        similarity, stream = self.similarity()[:, -1], self.stream()[:, -1]
        return Signals(entropy, confidence, margin, similarity, path, stream)

    def _expand(self, levels: Tensor | Subnet, count: int) -> Tensor:
        if isinstance(levels, Subnet):
            self.supernet.space.check(levels)
            levels = torch.tensor(levels.levels)
        return levels.expand(self.rows, count, len(self._full))

    def _run(self, first: int) -> Tensor:
        x = self._streams[-1]
        hidden = x
        if self.rule is StateRule.RECOMPUTE and first:
            hidden = self._hidden[first]
        if first == 0:
            self._hidden = [x]
        del self._hidden[first + 1 :]
        for index in range(first, len(self._layers)):
            attention, ffn = self._layers[index]
            on, level = self._levels[..., 2 * index], self._levels[..., 2 * index + 1]
            if index in self.steering:
                x = x + self.steering[index] * (on > 0)[..., None]
                hidden = hidden + self.steering[index]
            if self.rule is StateRule.RECOMPUTE:
                # What the full path leaves in the cache, beside the stream that gives the logits.
                full = torch.full_like(level, int(self._full[2 * index + 1]))
                self._store(index, attention.norm(hidden))
                hidden = self._layer(attention, ffn, index, hidden, torch.ones_like(on), full)
            else:
                self._store(index, attention.norm(x), on)
            self._hidden.append(hidden)
            x = self._layer(attention, ffn, index, x, on, level)
            self._streams.append(x)
        return self._head(x)

    def _layer(
        self,
        attention: ElasticAttention,
        ffn: AnyFeedForward,
        index: int,
        x: Tensor,
        on: Tensor,
        level: Tensor,
    ) -> Tensor:
        x = x + self._attend(attention, index, attention.norm(x)) * (on > 0)[..., None]
        return x + ffn.transform_each(ffn.norm(x), level)

    def _store(self, index: int, h: Tensor, on: Tensor | None = None) -> None:
        """Put keys and values of the tokens that are being computed into the cache."""
        attention = self._layers[index][0]
        if isinstance(attention, AttentionVisit) and attention.borrows:
            return
        first = self.position - h.shape[1]
        place = slice(first, self.position)
        k, v = (split_heads(part(h), attention.head_dim) for part in (attention.k, attention.v))
        if attention.k_norm is not None:
            k = attention.k_norm(k)
        k = rotate(k, self._cos[place], self._sin[place])
        if self.rule is StateRule.SHARE and on is not None and index:
            ran = (on > 0)[..., None, None]
            k = torch.where(ran, k, self.keys[index - 1][:, place])
            v = torch.where(ran, v, self.values[index - 1][:, place])
        self.keys[index][:, place] = k
        self.values[index][:, place] = v

    def _attend(self, attention: ElasticAttention, index: int, h: Tensor) -> Tensor:
        count, position = h.shape[1], self.position
        q = split_heads(attention.q(h), attention.head_dim)
        if attention.q_norm is not None:
            q = attention.q_norm(q)
        first = position - count
        q = rotate(q, self._cos[first:position], self._sin[first:position])
        visible = torch.arange(position) <= torch.arange(first, position)[:, None]
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            self.keys[index][:, :position].transpose(1, 2),
            self.values[index][:, :position].transpose(1, 2),
            visible,
            enable_gqa=True,
        )
        return attention.o(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _head(self, x: Tensor) -> Tensor:
        return self.supernet.head(x).float()  # type: ignore[no-any-return]
