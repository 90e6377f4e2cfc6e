"""Elastic attention; a unit is one key-value group: key and value head with their query heads.

The units of a level compute their own attention and their own slice of the output projection, so
that levels add up like those of any other block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.block import ElasticBlock, linear_slice, permute_rows
from nestling.elastic.norms import JoinedHeadsNorm, RMSNorm
from nestling.elastic.widths import DEFAULT_WIDTHS, resolve_widths
from nestling.errors import ModelError

# Added to scores that must not count: its exponential is 0, and it fits into float16 too.
MASKED = -30000.0


class ElasticAttention(ElasticBlock):
    """Multi-head or grouped-query attention.

    The context, in this order: `mask` if `masked` (added to the scores, broadcast to (batch, heads,
    queries, keys)), then `cos` and `sin` if `rotary` (each (positions, 1, head_dim), see
    `rotary_tables`).

    Args:
        dim: Width of the residual stream.
        heads: Query heads.
        groups: Key-value heads, the units. Default: one for each query head.
        head_dim: Width of one head. Default: `dim / heads`.
        heads_widths: Levels as fractions of `groups`, rounded up to whole ones, or as counts.
        bias: Whether query, key and value projections have biases.
        output_bias: Whether the output projection has one. Default: as `bias`.
        qk_norm_eps: If given, queries and keys pass a root-mean-square norm for each head (Qwen3).
        qk_norm_whole: Whether that norm is over all heads at once (OLMoE); then there is one level.
        masked: Whether the context has a mask.
        rotary: Whether the context has rotary tables.
        norm: Applied before. Default: a LayerNorm, unless `post` is given.
        post: Applied after the residual sum.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
        skippable: See `ElasticBlock`.
        dropout: See `ElasticBlock`.
        attention_dropout: Probability of dropping attention weights in training.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        groups: int | None = None,
        head_dim: int | None = None,
        heads_widths: Sequence[float | int] = DEFAULT_WIDTHS,
        bias: bool = True,
        output_bias: bool | None = None,
        qk_norm_eps: float | None = None,
        qk_norm_whole: bool = False,
        masked: bool = False,
        rotary: bool = False,
        norm: nn.Module | None = None,
        post: nn.Module | None = None,
        name: str = "",
        layer: int = -1,
        skippable: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        groups = heads if groups is None else groups
        label = name or "attention"
        if heads % groups or (head_dim is None and dim % heads):
            raise ModelError(
                "the heads do not divide",
                module=label,
                expected="heads divisible by groups, dim by heads",
                actual=f"dim {dim}, heads {heads}, groups {groups}",
            )
        super().__init__(
            units=groups,
            widths=resolve_widths(heads_widths, groups, label, round_up=True),
            name=name,
            layer=layer,
            skippable=skippable,
            norm=nn.LayerNorm(dim) if norm is None and post is None else norm,
            post=post,
            dropout=dropout,
        )
        self.head_dim = dim // heads if head_dim is None else head_dim
        self.queries_per_group = heads // groups
        self.masked = masked
        self.rotary = rotary
        self.attention_dropout = attention_dropout
        self.q = nn.Linear(dim, heads * self.head_dim, bias=bias)
        self.k = nn.Linear(dim, groups * self.head_dim, bias=bias)
        self.v = nn.Linear(dim, groups * self.head_dim, bias=bias)
        output_bias = bias if output_bias is None else output_bias
        self.o = nn.Linear(heads * self.head_dim, dim, bias=output_bias)
        if qk_norm_whole and len(self.widths) > 1:
            raise ModelError(
                "a norm over all heads has no narrower levels",
                module=label,
                actual=self.widths,
                hint="give heads_widths=(1.0,)",
            )
        self.q_norm: RMSNorm | None = None
        self.k_norm: RMSNorm | None = None
        if qk_norm_eps is not None:
            kind = JoinedHeadsNorm if qk_norm_whole else RMSNorm
            queries, keys = (heads, groups) if qk_norm_whole else (1, 1)
            self.q_norm = kind(queries * self.head_dim, qk_norm_eps)
            self.k_norm = kind(keys * self.head_dim, qk_norm_eps)

    @property
    def query_width(self) -> int:
        """Elements of the query, and of the attention's result, for one unit."""
        return self.queries_per_group * self.head_dim

    @property
    def probe_repeat(self) -> int:  # type: ignore[override]
        """Elements of the probed activations for one unit."""
        return self.query_width

    @property
    def _scale(self) -> float:
        return 1.0 / math.sqrt(self.head_dim)

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the first groups. `h` and the result: (batch, positions, dim)."""
        width = self.width(level)
        q_rows, kv_rows = width * self.query_width, width * self.head_dim
        # The scale of the scores is multiplied into whatever makes the queries: no operator is left
        # of it in the exported graph, and this order keeps both bit-identical.
        scale = self._scale if self.q_norm is None else 1.0
        q = _prefix_linear(h, self.q, q_rows, scale)
        k = _prefix_linear(h, self.k, kv_rows)
        v = _prefix_linear(h, self.v, kv_rows)
        mask, cos, sin = split_context(context, self.masked, self.rotary)
        dropout = self.attention_dropout if self.training else None
        if self.q_norm is not None and self.k_norm is not None:
            q = self.q_norm(split_heads(q, self.head_dim), self._scale)
            k = self.k_norm(split_heads(k, self.head_dim))
        heads = self._observe(attend(q, k, v, width, self.head_dim, mask, cos, sin, dropout))
        return F.linear(heads, self.o.weight[:, :q_rows].contiguous(), self.o.bias)

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return plain attention with groups `first..last-1`."""
        q_rows = slice(first * self.query_width, last * self.query_width)
        kv_rows = slice(first * self.head_dim, last * self.head_dim)
        return Attention(
            q=linear_slice(self.q, q_rows, scale=self._scale if self.q_norm is None else 1.0),
            k=linear_slice(self.k, kv_rows),
            v=linear_slice(self.v, kv_rows),
            o=linear_slice(self.o, columns=q_rows, bias=first == 0),
            head_dim=self.head_dim,
            masked=self.masked,
            rotary=self.rotary,
            q_norm=None if self.q_norm is None else self.q_norm.scaled(self._scale),
            k_norm=None if self.k_norm is None else self.k_norm.scaled(1.0),
        )

    def magnitude(self) -> Tensor:
        """Return for each group |q| |k| + |v| |o| of its weights."""
        with torch.no_grad():
            q, k, v, o = (
                weight.reshape(self.units, -1).norm(dim=1)
                for weight in (self.q.weight, self.k.weight, self.v.weight, self.o.weight.t())
            )
            scores: Tensor = q * k * self._scale + v * o
        return scores

    def permute(self, order: Tensor) -> None:
        """Reorder the groups in place."""
        wide = _expand_order(order, self.query_width)
        narrow = _expand_order(order, self.head_dim)
        for linear, rows in ((self.q, wide), (self.k, narrow), (self.v, narrow)):
            permute_rows(linear.weight, rows)
            if linear.bias is not None:
                permute_rows(linear.bias, rows)
        permute_rows(self.o.weight, wide, axis=1)


class Attention(nn.Module):
    """Groups of an attention block as a plain module."""

    def __init__(
        self,
        q: nn.Linear,
        k: nn.Linear,
        v: nn.Linear,
        o: nn.Linear,
        head_dim: int,
        masked: bool,
        rotary: bool,
        q_norm: RMSNorm | None,
        k_norm: RMSNorm | None,
    ) -> None:
        super().__init__()
        self.q = q
        self.k = k
        self.v = v
        self.o = o
        self.head_dim = head_dim
        self.masked = masked
        self.rotary = rotary
        self.q_norm = q_norm
        self.k_norm = k_norm

    def forward(self, h: Tensor, *context: Tensor) -> Tensor:
        """Return the contribution of the groups, (batch, positions, dim)."""
        groups = self.k.out_features // self.head_dim
        mask, cos, sin = split_context(context, self.masked, self.rotary)
        q, k, v = self.q(h), self.k(h), self.v(h)
        if self.q_norm is not None and self.k_norm is not None:
            q = self.q_norm(split_heads(q, self.head_dim))
            k = self.k_norm(split_heads(k, self.head_dim))
        y = attend(q, k, v, groups, self.head_dim, mask, cos, sin)
        return self.o(y)  # type: ignore[no-any-return]


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    groups: int,
    head_dim: int,
    mask: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    dropout: float | None = None,
) -> Tensor:
    """Attend, in operators that XNNPACK takes; queries come scaled.

    Products are batched over one axis, because with two torch.matmul leaves copies behind that no
    backend takes.

    Args:
        q: (batch, positions, groups * queries per group * head_dim), or its heads already split.
        k: (batch, positions, groups * head_dim), or its heads already split.
        v: (batch, positions, groups * head_dim).
        groups: Key-value groups.
        head_dim: Width of one head.
        mask: Added to the scores: (1 or positions, positions), or (batch, 1, 1 or positions,
            positions).
        cos: First rotary table.
        sin: Second rotary table.
        dropout: Training only: probability of dropping weights. Selects torch's fused kernel.

    Returns:
        (batch, positions, groups * queries per group * head_dim).
    """
    batch, positions, _ = v.shape
    q, k, v = split_heads(q, head_dim), split_heads(k, head_dim), split_heads(v, head_dim)
    heads = q.shape[2]
    repeat = heads // groups
    if cos is not None and sin is not None:
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    if dropout is not None:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        y = F.scaled_dot_product_attention(
            q, k, v, mask, dropout_p=dropout, scale=1.0, enable_gqa=repeat > 1
        )
        return y.transpose(1, 2).reshape(batch, positions, heads * head_dim)
    # The queries of a group are rows of one product with the group's keys: nothing is repeated.
    q = q.transpose(1, 2).reshape(batch * groups, repeat * positions, head_dim)
    k = k.permute(0, 2, 3, 1).reshape(batch * groups, head_dim, positions)
    v = v.transpose(1, 2).reshape(batch * groups, positions, head_dim)
    scores = torch.bmm(q, k)
    if mask is not None:
        shape = scores.shape
        if mask.dim() > 2:
            scores = scores.reshape(batch, heads, positions, positions) + mask
        elif repeat > 1:
            scores = scores.reshape(batch * heads, positions, positions) + mask
        else:
            scores = scores + mask
        scores = scores.reshape(shape)
    y = torch.bmm(torch.softmax(scores, dim=-1), v)
    y = y.reshape(batch, heads, positions, head_dim).transpose(1, 2)
    return y.reshape(batch, positions, heads * head_dim)


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """Return (batch, positions, heads, head_dim) of (batch, positions, heads * head_dim)."""
    if x.dim() == 4:
        return x
    return x.reshape(x.shape[0], x.shape[1], x.shape[2] // head_dim, head_dim)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary position embedding to (batch, positions, heads, head_dim)."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((x[..., half:], x[..., :half]), dim=-1) * sin


def rotary_tables(inverse_frequencies: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tables that `rotate` takes, each (positions, 1, head_dim).

    The second half of the sine is positive and the first negative: that takes the place of the
    negation in the usual formula.

    Args:
        inverse_frequencies: (head_dim / 2,).
        positions: (positions,).
    """
    angles = positions.to(torch.float32)[:, None] * inverse_frequencies.to(torch.float32)[None]
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.cat((cos, cos), dim=-1)[:, None], torch.cat((-sin, sin), dim=-1)[:, None]


def split_context(
    context: Sequence[Tensor], masked: bool, rotary: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return mask, cos and sin, each None if attention does not use it."""
    mask = context[0] if masked else None
    if not rotary:
        return mask, None, None
    return mask, context[int(masked)], context[int(masked) + 1]


def _prefix_linear(x: Tensor, linear: nn.Linear, rows: int, scale: float = 1.0) -> Tensor:
    weight = linear.weight[:rows]
    bias = None if linear.bias is None else linear.bias[:rows]
    if scale != 1.0:
        weight = weight * scale
        bias = None if bias is None else bias * scale
    return F.linear(x, weight, bias)


def _expand_order(order: Tensor, repeat: int) -> Tensor:
    return (order[:, None] * repeat + torch.arange(repeat, device=order.device)[None]).flatten()
