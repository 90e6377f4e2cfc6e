"""What the stages of a decoder compute: a few tokens behind those whose keys and values are cached.

Stages keep nothing. What survives a run are the rows of keys and values that attention stages
return; the engine puts them where the session's cache wants them, without a copy. A cache has one
row for each token, of all key-value groups, whatever the width of the stage: so all paths share it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.attention import ElasticAttention, rotate, split_heads
from nestling.elastic.block import linear_slice
from nestling.partition.attend import attend


class RotaryRows(nn.Module):
    """Rotary tables of the positions that a run computes.

    Args:
        cos: (rows, head_dim), for all positions that there can be.
        sin: as `cos`.
        tokens: tokens of one run.
    """

    cos: Tensor
    sin: Tensor
    offsets: Tensor

    def __init__(self, cos: Tensor, sin: Tensor, tokens: int) -> None:
        super().__init__()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("offsets", torch.arange(tokens), persistent=False)

    def rows(self, position: Tensor) -> Tensor:
        """Return the positions of the run, int64 (tokens,)."""
        return position + self.offsets

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine, each (tokens, 1, head_dim)."""
        shape = (len(rows), 1, self.cos.shape[1])
        cos, sin = F.embedding(rows, self.cos), F.embedding(rows, self.sin)
        return cos.reshape(shape), sin.reshape(shape)


class EmbedStage(nn.Module):
    """`(tokens, position) -> (stream, cos, sin)`."""

    def __init__(self, embedding: nn.Embedding, rotary: RotaryRows) -> None:
        super().__init__()
        self.embedding = copy.deepcopy(embedding)
        self.rotary = rotary

    def forward(self, tokens: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take int64 (1, tokens) and (1,); return (1, tokens, dim) and two rotary tables."""
        cos, sin = self.rotary(self.rotary.rows(position))
        return self.embedding(tokens), cos, sin


class ResumeStage(nn.Module):
    """`(kept, position) -> (stream, cos, sin)`: go on from streams that an exit has kept."""

    def __init__(self, rotary: RotaryRows) -> None:
        super().__init__()
        self.rotary = rotary

    def forward(self, kept: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take (rows, dim) and int64 (1,); return as `EmbedStage` does."""
        rows = self.rotary.rows(position)
        cos, sin = self.rotary(rows)
        return F.embedding(rows, kept).reshape(1, len(rows), -1), cos, sin


class KeepStage(nn.Module):
    """`stream -> rows`: what an exit keeps, so that deeper layers can go on later."""

    def forward(self, x: Tensor) -> Tensor:
        """(1, tokens, dim) to (tokens, dim)."""
        return x.reshape(x.shape[1], x.shape[2]).clone()


class TakeStage(nn.Module):
    """`(streams, row) -> stream` of one token."""

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        """(1, tokens, dim) and int64 (1,) to (1, 1, dim)."""
        return torch.index_select(x, 1, row)


class KeyValueStage(nn.Module):
    """`(stream, cos, sin) -> (key rows, value rows)` of one attention block.

    As a stage of its own it fills the cache of a layer that a path leaves out, from the stream at
    the path's exit (the hidden state propagation of CALM, arXiv:2207.07061).
    """

    def __init__(self, block: ElasticAttention) -> None:
        super().__init__()
        self.head_dim = block.head_dim
        self.norm = copy.deepcopy(block.norm).eval()
        self.k = linear_slice(block.k)
        self.v = linear_slice(block.v)
        self.k_norm = None if block.k_norm is None else block.k_norm.scaled(1.0)

    def project(self, h: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows of keys and values, each (tokens, groups * head_dim)."""
        k = split_heads(self.k(h), self.head_dim)
        if self.k_norm is not None:
            k = self.k_norm(k)
        shape = (h.shape[1], self.k.out_features)
        return rotate(k, cos, sin).reshape(shape), self.v(h).reshape(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Run it."""
        return self.project(self.norm(x), cos, sin)


class AttentionStage(KeyValueStage):
    """`(stream, cos, sin, position, keys, values) -> (stream, key rows, value rows)`.

    A narrow stage has fewer queries, never fewer keys: its rows are as good for every other width.

    Args:
        block: the block, at any level.
        level: which level to cut.
    """

    def __init__(self, block: ElasticAttention, level: int) -> None:
        super().__init__(block)
        self.queries_per_group = block.queries_per_group
        self.first_groups: list[int] = []
        self.q = nn.ModuleList()
        self.o = nn.ModuleList()
        scale = block.head_dim**-0.5
        first = 0
        for last in block.widths[:level]:
            rows = slice(first * block.query_width, last * block.query_width)
            self.q.append(linear_slice(block.q, rows, scale=scale if block.q_norm is None else 1.0))
            self.o.append(linear_slice(block.o, columns=rows, bias=first == 0))
            self.first_groups.append(first)
            first = last
        self.q_norm = None if block.q_norm is None else block.q_norm.scaled(scale)

    def forward(  # type: ignore[override]
        self, x: Tensor, cos: Tensor, sin: Tensor, position: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run it."""
        h = self.norm(x)
        new_keys, new_values = self.project(h, cos, sin)
        y = self.attend(x, h, (cos, sin), position, (new_keys, new_values), (keys, values))
        return y, new_keys, new_values

    def attend(
        self,
        x: Tensor,
        h: Tensor,
        rotary: tuple[Tensor, Tensor],
        position: Tensor,
        new: tuple[Tensor, Tensor],
        cached: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the stream `x` with the attention of its normed self `h` added.

        Args:
            x: (1, tokens, dim).
            h: as `x`.
            rotary: as `RotaryRows` returns.
            position: int64 (1,).
            new: rows of keys and values of the new tokens.
            cached: rows of all tokens, of which those before `position` count.
        """
        y = x
        for first, project, out in zip(self.first_groups, self.q, self.o, strict=True):
            q = split_heads(project(h), self.head_dim)
            if self.q_norm is not None:
                q = self.q_norm(q)
            q = rotate(q, *rotary).reshape(x.shape[1], -1)
            heads = attend(
                q,
                *new,
                *cached,
                position,
                first,
                self.queries_per_group,
                self.head_dim,
            )
            y = y + out(heads.reshape(1, x.shape[1], -1))
        return y


class BorrowingAttentionStage(AttentionStage):
    """`(stream, cos, sin, position, keys, values) -> stream`: attend to another block's cache.

    That block has run for the same tokens before, in this run or in one that this one goes on
    from, so rows of the new tokens are in the cache already.

    Args:
        block: as for `AttentionStage`.
        level: as for `AttentionStage`.
        tokens: tokens of one run.
    """

    offsets: Tensor

    def __init__(self, block: ElasticAttention, level: int, tokens: int) -> None:
        super().__init__(block, level)
        del self.k, self.v
        self.k_norm = None
        self.register_buffer("offsets", torch.arange(tokens), persistent=False)

    def forward(  # type: ignore[override]
        self, x: Tensor, cos: Tensor, sin: Tensor, position: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Run it."""
        rows = position + self.offsets
        new = (F.embedding(rows, keys), F.embedding(rows, values))
        return self.attend(x, self.norm(x), (cos, sin), position, new, (keys, values))
