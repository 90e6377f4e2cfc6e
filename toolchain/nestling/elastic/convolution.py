"""Elastic pairs of convolutions; a unit is one channel between the two.

The blocks of residual networks: `x + second(act(first(x)))`, batch norm folded. In a bottleneck the
convolution before the pair is the block's `norm`: it runs whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nestling.elastic.activation import activation_module
from nestling.elastic.batch_norm import conv_like, conv_module
from nestling.elastic.block import ElasticBlock, permute_rows
from nestling.elastic.widths import DEFAULT_WIDTHS, resolve_widths


class ElasticConvolution(ElasticBlock):
    """Two convolutions with an activation between them; the input is added.

    There is no batch norm: what was folded away stays away, so training starts from folded weights.

    Args:
        channels: Channels of the stream.
        hidden: Channels between the convolutions, the units.
        inputs: Channels that the first convolution reads; default: those of the stream.
        widths: Levels as fractions of `hidden` or as counts.
        kernel_size: Of the first convolution, odd.
        second_kernel_size: Of the second convolution, odd.
        activation: Name of the activation between them.
        norm: Applied before; a bottleneck's first convolution, say. Default: nothing.
        post: Applied after the residual sum.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
    """

    probe_axis = 1

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        inputs: int | None = None,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        kernel_size: int = 3,
        second_kernel_size: int = 3,
        activation: str = "relu",
        norm: nn.Module | None = None,
        post: nn.Module | None = None,
        name: str = "",
        layer: int = -1,
    ) -> None:
        super().__init__(
            units=hidden,
            widths=resolve_widths(widths, hidden, name or "convolution"),
            name=name,
            layer=layer,
            norm=norm,
            post=post,
        )
        self.activation = activation_module(activation)
        self.first, self.second = (
            nn.Conv2d(before, after, size, padding=size // 2)
            for before, after, size in (
                (channels if inputs is None else inputs, hidden, kernel_size),
                (hidden, channels, second_kernel_size),
            )
        )

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the first channels. (batch, channels, height, width) in and out."""
        width = self.width(level)
        hidden = conv_like(self.first, h, self.first.weight[:width], _head(self.first, width))
        hidden = self._observe(self.activation(hidden))
        weight = self.second.weight[:, :width].contiguous()
        return conv_like(self.second, hidden, weight, self.second.bias)

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return a plain module of channels `first..last-1`."""
        assert self.first.bias is not None
        inner = conv_module(self.first, self.first.weight[first:last], self.first.bias[first:last])
        bias = self.second.bias if first == 0 else None
        outer = conv_module(self.second, self.second.weight[:, first:last], bias)
        return ConvolutionPair(inner, self.activation, outer)

    def magnitude(self) -> Tensor:
        """Return the product of the norms of each channel's weights before and after it."""
        with torch.no_grad():
            before = self.first.weight.flatten(1).norm(dim=1)
            after = self.second.weight.transpose(0, 1).flatten(1).norm(dim=1)
            scores: Tensor = before * after
        return scores

    def permute(self, order: Tensor) -> None:
        """Reorder the channels in place."""
        assert self.first.bias is not None
        permute_rows(self.first.weight, order)
        permute_rows(self.first.bias, order)
        permute_rows(self.second.weight, order, axis=1)


class ConvolutionPair(nn.Module):
    """Channels of a pair of convolutions as a plain module."""

    def __init__(self, first: nn.Conv2d, activation: nn.Module, second: nn.Conv2d) -> None:
        super().__init__()
        self.first = first
        self.activation = activation
        self.second = second

    def forward(self, h: Tensor, *context: Tensor) -> Tensor:
        """Return the contribution of the channels."""
        return self.second(self.activation(self.first(h)))  # type: ignore[no-any-return]


def _head(conv: nn.Conv2d, width: int) -> Tensor | None:
    return None if conv.bias is None else conv.bias[:width]
