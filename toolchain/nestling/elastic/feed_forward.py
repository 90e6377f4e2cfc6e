"""Elastic feed-forward blocks; a unit is one hidden neuron."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.activation import activation_module
from nestling.elastic.block import ElasticBlock, linear_slice, permute_rows
from nestling.elastic.widths import DEFAULT_WIDTHS, resolve_widths


class ElasticFeedForward(ElasticBlock):
    """`down(act(up(h)))`, or gated (SwiGLU and its like) `down(act(gate(h)) * up(h))`.

    Args:
        dim: Width of the residual stream.
        hidden: Number of hidden neurons, the units.
        widths: Levels as fractions of `hidden` or as counts.
        activation: Name of the activation, see `nestling.elastic.activation`.
        gated: Whether there is a gate projection.
        bias: Whether the projections have biases.
        norm: Applied before, as in pre-norm networks. Default: a LayerNorm, unless `post` is given.
        post: Applied after the residual sum, as in post-norm networks.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
        skippable: See `ElasticBlock`.
        dropout: See `ElasticBlock`.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        activation: str = "gelu",
        gated: bool = False,
        bias: bool = True,
        norm: nn.Module | None = None,
        post: nn.Module | None = None,
        name: str = "",
        layer: int = -1,
        skippable: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            units=hidden,
            widths=resolve_widths(widths, hidden, name or "feed_forward"),
            name=name,
            layer=layer,
            skippable=skippable,
            norm=nn.LayerNorm(dim) if norm is None and post is None else norm,
            post=post,
            dropout=dropout,
        )
        self.activation_name = activation
        self.activation = activation_module(activation)
        self.gate = nn.Linear(dim, hidden, bias=bias) if gated else None
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the first neurons. `h` and the result: (batch, ..., dim)."""
        width = self.width(level)
        hidden = _prefix_linear(h, self.up, width)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(_prefix_linear(h, self.gate, width)) * hidden
        hidden = self._observe(hidden)
        # Contiguous, so that the product is the one that the sliced network computes, bit for bit.
        return F.linear(hidden, self.down.weight[:, :width].contiguous(), self.down.bias)

    def transform_each(self, h: Tensor, levels: Tensor) -> Tensor:
        """Run every position at a level of its own, all in one product.

        Args:
            h: (batch, positions, dim).
            levels: Integers, (batch, positions). Level 0 gives zeros: the block is left out.

        Returns:
            (batch, positions, dim): at each position what `transform` gives at its level, up to the
            order of sums.
        """
        widths = torch.tensor((0, *self.widths), device=levels.device)
        kept = torch.arange(self.units, device=levels.device) < widths[levels][..., None]
        hidden = self.up(h)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(self.gate(h)) * hidden
        y = F.linear(hidden * kept, self.down.weight, self.down.bias)
        return y if self.down.bias is None else y * (levels > 0)[..., None]

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return a plain feed-forward module of neurons `first..last-1`."""
        rows = slice(first, last)
        return FeedForward(
            up=linear_slice(self.up, rows),
            down=linear_slice(self.down, columns=rows, bias=first == 0),
            activation=self.activation,
            gate=None if self.gate is None else linear_slice(self.gate, rows),
        )

    def magnitude(self) -> Tensor:
        """Return the product of the norms of each neuron's weights before and after it."""
        with torch.no_grad():
            norm: Tensor = self.up.weight.norm(dim=1) * self.down.weight.norm(dim=0)
            if self.gate is not None:
                norm = norm * self.gate.weight.norm(dim=1)
        return norm

    def permute(self, order: Tensor) -> None:
        """Reorder the neurons in place."""
        for linear in (self.up, self.gate):
            if linear is not None:
                permute_rows(linear.weight, order)
                if linear.bias is not None:
                    permute_rows(linear.bias, order)
        permute_rows(self.down.weight, order, axis=1)


class FeedForward(nn.Module):
    """Neurons of a feed-forward block as a plain module; ignores the context."""

    def __init__(
        self, up: nn.Linear, down: nn.Linear, activation: nn.Module, gate: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.gate = gate
        self.up = up
        self.activation = activation
        self.down = down

    def forward(self, h: Tensor, *context: Tensor) -> Tensor:
        """Return the contribution of the neurons, (batch, ..., dim)."""
        hidden = self.up(h)
        if self.gate is None:
            hidden = self.activation(hidden)
        else:
            hidden = self.activation(self.gate(h)) * hidden
        return self.down(hidden)  # type: ignore[no-any-return]


def _prefix_linear(x: Tensor, linear: nn.Linear, rows: int) -> Tensor:
    bias = None if linear.bias is None else linear.bias[:rows]
    return F.linear(x, linear.weight[:rows], bias)
