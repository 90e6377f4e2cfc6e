"""MobileNetV2: convolutional networks of inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nestling.elastic.activation import activation_module
from nestling.elastic.batch_norm import ConvNorm
from nestling.elastic.block import ElasticBlock
from nestling.elastic.inverted_residual import ElasticInvertedResidual
from nestling.elastic.supernet import Supernet
from nestling.elastic.widths import DEFAULT_WIDTHS

# Output channels, expansion ratio, stride of each inverted residual after the stem.
MOBILENET_V2_BLOCKS: tuple[tuple[int, int, int], ...] = (
    *((24, 6, 2), (24, 6, 1)),
    *((32, 6, 2), (32, 6, 1), (32, 6, 1)),
    *((64, 6, 2), (64, 6, 1), (64, 6, 1), (64, 6, 1)),
    *((96, 6, 1), (96, 6, 1), (96, 6, 1)),
    *((160, 6, 2), (160, 6, 1), (160, 6, 1)),
    (320, 6, 1),
)


class ElasticMobileNet(Supernet):
    """A network of inverted residuals whose expansion channels and layers are elastic.

    Args:
        image_size: Height and width of the input.
        channels: Channels of the input.
        stem: Channels of the first convolution.
        stem_stride: Its stride.
        stem_out: Channels after the depthwise-separable pair that follows it, or None without one.
        blocks: (output channels, expansion ratio, stride[, dilation]) of each inverted residual.
        expansions: Expansion channels of each block, where a ratio does not say it.
        head: Channels of the 1x1 convolution before pooling, or None without one.
        classes: Number of classes; 0 for the pooled features instead of logits.
        widths: Levels of all blocks.
        depths: See `make_space`.
        activation: Name of the activation.
        same_padding: Pad as TensorFlow does.
        eps: Of batch norm.
        momentum: Of batch norm.
        dropout: Before the classifier.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 224,
        channels: int = 3,
        stem: int = 32,
        stem_stride: int = 2,
        stem_out: int | None = 16,
        blocks: Sequence[Sequence[int]] = MOBILENET_V2_BLOCKS,
        expansions: Sequence[int] | None = None,
        head: int | None = 1280,
        classes: int = 1000,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        depths: Sequence[float | int] | None = None,
        activation: str = "relu6",
        same_padding: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        chain: list[ElasticBlock] = []
        width = stem if stem_out is None else stem_out
        for layer, setting in enumerate(blocks):
            out, ratio, stride = setting[:3]
            chain.append(
                ElasticInvertedResidual(
                    width,
                    out,
                    width * ratio if expansions is None else expansions[layer],
                    widths=widths,
                    stride=stride,
                    dilation=setting[3] if len(setting) > 3 else 1,
                    activation=activation,
                    same_padding=same_padding,
                    name=f"layer{layer}",
                    layer=layer,
                    eps=eps,
                    momentum=momentum,
                )
            )
            width = out
        super().__init__(
            ConvStem(
                channels,
                stem,
                stem_stride,
                stem_out,
                activation,
                same_padding,
                eps=eps,
                momentum=momentum,
            ),
            chain,
            PoolHead(width, head, classes, activation, dropout, eps=eps, momentum=momentum),
            inputs={"pixels": torch.zeros(1, channels, *size)},
            output_name="logits" if classes else "features",
            family="mobilenet_v2",
            depths=depths,
            config={"family": "mobilenet_v2", **config},
        )
        self.apply(_initialise)


class ConvStem(nn.Module):
    """A 3x3 convolution, then perhaps a depthwise and a projecting one."""

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        out: int | None,
        activation: str,
        same_padding: bool,
        *,
        eps: float,
        momentum: float,
    ) -> None:
        super().__init__()
        act = activation_module(activation)
        padding = 0 if same_padding else 1
        first = nn.Conv2d(channels, width, 3, stride=stride, padding=padding, bias=False)
        self.first = ConvNorm(first, act, same_padding=same_padding, eps=eps, momentum=momentum)
        self.depthwise: nn.Module = nn.Identity()
        self.project: nn.Module = nn.Identity()
        if out is not None:
            depthwise = nn.Conv2d(width, width, 3, padding=padding, groups=width, bias=False)
            self.depthwise = ConvNorm(
                depthwise, act, same_padding=same_padding, eps=eps, momentum=momentum
            )
            project = nn.Conv2d(width, out, 1, bias=False)
            self.project = ConvNorm(project, eps=eps, momentum=momentum)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (batch, channels, height, width)."""
        return self.project(self.depthwise(self.first(pixels)))  # type: ignore[no-any-return]


class PoolHead(nn.Module):
    """Perhaps a 1x1 convolution, then pooling and perhaps a classifier."""

    def __init__(
        self,
        channels: int,
        width: int | None,
        classes: int,
        activation: str,
        dropout: float,
        *,
        eps: float,
        momentum: float,
    ) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Identity()
        if width is not None:
            conv = nn.Conv2d(channels, width, 1, bias=False)
            act = activation_module(activation)
            self.conv = ConvNorm(conv, act, eps=eps, momentum=momentum)
        self.dropout = nn.Dropout(dropout)
        features = channels if width is None else width
        self.classifier = nn.Linear(features, classes) if classes else nn.Identity()

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return (batch, classes)."""
        pooled = torch.mean(self.conv(x), dim=(2, 3), keepdim=True).flatten(1)
        return self.classifier(self.dropout(pooled))  # type: ignore[no-any-return]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)
