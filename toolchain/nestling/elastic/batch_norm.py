"""Batch norm whose channels are nested, and its folding into convolutions.

Statistics are what makes nesting hard for batch norm. Those of an inner channel do not depend on
how many channels stand beside it, so a prefix of them serves every level. Those of a projection's
output do: fewer units make a smaller sum, so there is one set for each level.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NestedBatchNorm2d(nn.Module):
    """Batch norm over a prefix of its channels, or with statistics for each level.

    Args:
        channels: All channels.
        levels: Number of sets of running statistics; scale and shift are shared.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics.

    Attributes:
        collecting: While True, statistics of every batch are averaged into the running ones with
            equal weight, and the batch's own are used, in evaluation mode too; see
            `nestling.elastic.recalibrate`.
    """

    running_mean: Tensor
    running_var: Tensor
    batches_seen: Tensor

    def __init__(
        self, channels: int, levels: int = 1, *, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.collecting = False
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(levels, channels))
        self.register_buffer("running_var", torch.ones(levels, channels))
        self.register_buffer("batches_seen", torch.zeros(levels, channels), persistent=False)

    @property
    def uses_batch(self) -> bool:
        """Whether the batch's own statistics are used: then nothing can be folded."""
        return self.training or self.collecting

    def forward(self, x: Tensor, level: int = 1) -> Tensor:
        """Normalise (batch, channels' prefix, height, width)."""
        width = x.shape[1]
        weight, bias = self.weight[:width], self.bias[:width]
        mean = self.running_mean[level - 1, :width]
        var = self.running_var[level - 1, :width]
        if self.collecting:
            return self._collect(x, level - 1, weight, bias, mean, var)
        return F.batch_norm(x, mean, var, weight, bias, self.training, self.momentum, self.eps)

    def start_collecting(self) -> None:
        """Forget which batches were seen; running statistics are replaced as batches arrive."""
        self.collecting = True
        self.batches_seen.zero_()

    def affine(self, level: int = 1, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Return scale and shift that norm comes down to in evaluation, each (width,)."""
        scale = self.weight[:width] * torch.rsqrt(self.running_var[level - 1, :width] + self.eps)
        return scale, self.bias[:width] - scale * self.running_mean[level - 1, :width]

    def permute(self, order: Tensor) -> None:
        """Reorder the channels in place."""
        with torch.no_grad():
            for parameter in (self.weight, self.bias):
                parameter.copy_(parameter[order])
            for statistics in (self.running_mean, self.running_var):
                statistics.copy_(statistics[:, order])

    @torch.no_grad()
    def _collect(
        self, x: Tensor, row: int, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor
    ) -> Tensor:
        # Each channel counts for itself: the first ones run in more subnets than the last ones.
        batch_var, batch_mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        elements = x.numel() // x.shape[1]
        unbiased = batch_var * (elements / max(elements - 1, 1))
        seen = self.batches_seen[row, : x.shape[1]]
        seen += 1
        mean += (batch_mean - mean) / seen
        var += (unbiased - var) / seen
        return F.batch_norm(x, batch_mean, batch_var, weight, bias, False, 0.0, self.eps)


class ConvNorm(nn.Module):
    """Convolution, batch norm and perhaps an activation, of fixed width; for stems and heads.

    Folds itself in evaluation, so that it computes what its folded form (see `plain_copy`) does.

    Args:
        conv: The convolution.
        activation: Applied last.
        same_padding: Pad as TensorFlow does, see `pad_same`; the convolution itself must not pad.
        eps: See `NestedBatchNorm2d`.
        momentum: See `NestedBatchNorm2d`.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        activation: nn.Module | None = None,
        *,
        same_padding: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = NestedBatchNorm2d(conv.out_channels, eps=eps, momentum=momentum)
        self.activation = activation if activation is not None else nn.Identity()
        self.same_padding = same_padding

    def forward(self, x: Tensor) -> Tensor:
        """Run on (batch, channels, height, width)."""
        if self.same_padding:
            x = pad_same(x, self.conv)
        if self.norm.uses_batch:
            y = self.norm(self.conv(x))
        else:
            weight, bias = fold(self.conv.weight, self.conv.bias, *self.norm.affine())
            y = conv_like(self.conv, x, weight, bias)
        return self.activation(y)  # type: ignore[no-any-return]

    def folded(self) -> nn.Module:
        """Return the same in evaluation, as a plain module with the norm folded away."""
        with torch.no_grad():
            weight, bias = fold(self.conv.weight, self.conv.bias, *self.norm.affine())
        conv = conv_module(self.conv, weight, bias)
        return ConvActivation(conv, self.activation, self.same_padding)


class ConvActivation(nn.Module):
    """A convolution and an activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module, same_padding: bool) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation
        self.same_padding = same_padding

    def forward(self, x: Tensor) -> Tensor:
        """Run on (batch, channels, height, width)."""
        if self.same_padding:
            x = pad_same(x, self.conv)
        return self.activation(self.conv(x))  # type: ignore[no-any-return]


def fold(
    weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Fold a scale and a shift for each output channel into a convolution's weight and bias."""
    folded = weight * scale[:, None, None, None]
    return folded, shift if bias is None else shift + scale * bias


def conv_like(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve with other weights; a depthwise convolution takes as many groups as weights."""
    groups = weight.shape[0] if conv.groups > 1 else 1
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, groups)


def conv_module(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return a convolution of its own with other weights, cloned."""
    groups = weight.shape[0] if conv.groups > 1 else 1
    size = (weight.shape[2], weight.shape[3])
    inputs = weight.shape[1] * groups
    new = nn.Conv2d(
        inputs,
        weight.shape[0],
        size,
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        groups,
        bias is not None,
        device="meta",
    )
    new.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        new.bias = nn.Parameter(bias.detach().clone())
    return new


def pad_same(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Pad so that the output is the input divided by the stride, more after than before."""
    pads: list[int] = []
    for axis in (1, 0):
        size, stride, kernel = int(x.shape[axis - 2]), conv.stride[axis], conv.kernel_size[axis]
        total = max(kernel - (size % stride or stride), 0)
        before = total // 2
        pads += [before * conv.dilation[axis], (total - before) * conv.dilation[axis]]
    return F.pad(x, pads) if any(pads) else x


def plain_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy in evaluation mode with every `ConvNorm` in it folded."""
    if isinstance(module, ConvNorm):
        return copy.deepcopy(module.folded()).eval()
    clone = copy.deepcopy(module).eval()
    for name, child in list(clone.named_modules()):
        if isinstance(child, ConvNorm):
            parent, _, leaf = name.rpartition(".")
            setattr(clone.get_submodule(parent), leaf, child.folded().eval())
    return clone
