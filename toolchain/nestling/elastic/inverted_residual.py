"""Elastic inverted residual, as in MobileNetV2; a unit is one expansion channel.

Batch norm is folded when the block is cut into parts. All levels share one set of convolutions,
folded with the statistics of the highest level; what differs between levels is a scale and a shift
for each output channel, and that is `finish`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.activation import activation_module
from nestling.elastic.batch_norm import NestedBatchNorm2d, conv_like, conv_module, fold, pad_same
from nestling.elastic.block import ElasticBlock, permute_rows
from nestling.elastic.widths import DEFAULT_WIDTHS, resolve_widths


class ElasticInvertedResidual(ElasticBlock):
    """Expand with 1x1, convolve depthwise, project with 1x1; batch norm after each.

    The input is added where shapes allow it; only then can the block be left out.

    Args:
        channels: Input channels.
        out_channels: Output channels.
        expansion: Expansion channels, the units.
        widths: Levels as fractions of `expansion` or as counts.
        kernel_size: Of the depthwise convolution, odd.
        stride: Of the depthwise convolution.
        dilation: Of the depthwise convolution.
        activation: Name of the activation after the first two convolutions.
        same_padding: Pad as TensorFlow does (uneven with stride 2) instead of evenly.
        eps: Of batch norm.
        momentum: Of batch norm.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
    """

    probe_axis = 1

    def __init__(
        self,
        channels: int,
        out_channels: int,
        expansion: int,
        *,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        activation: str = "relu6",
        same_padding: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        name: str = "",
        layer: int = -1,
    ) -> None:
        residual = stride == 1 and channels == out_channels
        levels = resolve_widths(widths, expansion, name or "inverted_residual")
        super().__init__(
            units=expansion,
            widths=levels,
            name=name,
            layer=layer,
            skippable=residual,
            residual=residual,
        )
        self.same_padding = same_padding
        self.activation = activation_module(activation)
        self.expand = nn.Conv2d(channels, expansion, 1, bias=False)
        self.expand_norm = NestedBatchNorm2d(expansion, eps=eps, momentum=momentum)
        self.depthwise = nn.Conv2d(
            expansion,
            expansion,
            kernel_size,
            stride=stride,
            padding=0 if same_padding else dilation * (kernel_size // 2),
            dilation=dilation,
            groups=expansion,
            bias=False,
        )
        self.depthwise_norm = NestedBatchNorm2d(expansion, eps=eps, momentum=momentum)
        self.project = nn.Conv2d(expansion, out_channels, 1, bias=False)
        self.project_norm = NestedBatchNorm2d(out_channels, len(levels), eps=eps, momentum=momentum)

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the first channels. (batch, channels, height, width) in and out."""
        width = self.width(level)
        if self.project_norm.uses_batch:
            return self._transform_unfolded(h, level, width)
        weight, bias = self._folded_expand(0, width)
        hidden = self.activation(conv_like(self.expand, h, weight, bias))
        if self.same_padding:
            hidden = pad_same(hidden, self.depthwise)
        weight, bias = self._folded_depthwise(0, width)
        hidden = self.activation(conv_like(self.depthwise, hidden, weight, bias))
        hidden = self._observe(hidden)
        weight, bias = self._folded_project(0, width, level)
        return conv_like(self.project, hidden, weight, bias)

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return a plain module of channels `first..last-1`, norms folded in."""
        with torch.no_grad():
            expand = conv_module(self.expand, *self._folded_expand(first, last))
            depthwise = conv_module(self.depthwise, *self._folded_depthwise(first, last))
            weight, shift = self._folded_project(first, last, level)
            project = conv_module(self.project, weight, shift if first == 0 else None)
        return InvertedResidual(expand, depthwise, project, self.activation, self.same_padding)

    def finish(self, level: int) -> nn.Module:
        """Return a 1x1 depthwise convolution from the full level's statistics to this level's."""
        self.width(level)
        if level == len(self.widths):
            return nn.Identity()
        with torch.no_grad():
            scale, shift = self.project_norm.affine(level)
            full_scale, full_shift = self.project_norm.affine(len(self.widths))
            # A scale of zero (gamma is 0) is zero at every level.
            zero = full_scale == 0
            ratio = torch.where(zero, 1.0, scale / torch.where(zero, 1.0, full_scale))
            conv = nn.Conv2d(len(ratio), len(ratio), 1, groups=len(ratio))
            conv.weight.copy_(ratio[:, None, None, None])
            conv.bias = nn.Parameter(shift - ratio * full_shift)
        return conv.eval()

    def magnitude(self) -> Tensor:
        """Return for each channel its depthwise norm's scale times its projection's norm.

        Batch norm takes away the magnitude of the convolutions before it.
        """
        with torch.no_grad():
            scale: Tensor = self.depthwise_norm.weight.abs()
            scale = scale * self.project.weight.square().sum(dim=(0, 2, 3)).sqrt()
        return scale

    def permute(self, order: Tensor) -> None:
        """Reorder the expansion channels in place."""
        permute_rows(self.expand.weight, order)
        self.expand_norm.permute(order)
        permute_rows(self.depthwise.weight, order)
        self.depthwise_norm.permute(order)
        permute_rows(self.project.weight, order, axis=1)

    def _transform_unfolded(self, h: Tensor, level: int, width: int) -> Tensor:
        hidden = conv_like(self.expand, h, self.expand.weight[:width], None)
        hidden = self.activation(self.expand_norm(hidden))
        if self.same_padding:
            hidden = pad_same(hidden, self.depthwise)
        hidden = conv_like(self.depthwise, hidden, self.depthwise.weight[:width], None)
        hidden = self._observe(self.activation(self.depthwise_norm(hidden)))
        y = F.conv2d(hidden, self.project.weight[:, :width])
        return self.project_norm(y, level)  # type: ignore[no-any-return]

    def _folded_expand(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        scale, shift = self.expand_norm.affine(width=last)
        return fold(self.expand.weight[first:last], None, scale[first:], shift[first:])

    def _folded_depthwise(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        scale, shift = self.depthwise_norm.affine(width=last)
        return fold(self.depthwise.weight[first:last], None, scale[first:], shift[first:])

    def _folded_project(self, first: int, last: int, level: int) -> tuple[Tensor, Tensor]:
        scale, shift = self.project_norm.affine(level)
        weight, bias = fold(self.project.weight[:, first:last], None, scale, shift)
        return weight.contiguous(), bias


class InvertedResidual(nn.Module):
    """Channels of an inverted residual as a plain module, without batch norm."""

    def __init__(
        self,
        expand: nn.Conv2d,
        depthwise: nn.Conv2d,
        project: nn.Conv2d,
        activation: nn.Module,
        same_padding: bool,
    ) -> None:
        super().__init__()
        self.expand = expand
        self.depthwise = depthwise
        self.project = project
        self.activation = activation
        self.same_padding = same_padding

    def forward(self, h: Tensor, *context: Tensor) -> Tensor:
        """Return the contribution of the channels."""
        hidden = self.activation(self.expand(h))
        if self.same_padding:
            hidden = pad_same(hidden, self.depthwise)
        return self.project(self.activation(self.depthwise(hidden)))  # type: ignore[no-any-return]
