"""MobileNetV2: convolutional networks of inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nestling.elastic.activation import activation_module
from nestling.elastic.batch_norm import ConvNorm
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.copying import copy_batch_norm, copy_module
from nestling.elastic.inverted_residual import ElasticInvertedResidual
from nestling.elastic.supernet import Supernet
from nestling.elastic.widths import DEFAULT_WIDTHS, resolve_widths

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
        stem_expand: Whether a 1x1 convolution stands before that pair.
        stem_out: Channels after the depthwise-separable pair that follows it, or None without one.
        blocks: (output channels, expansion ratio, stride[, dilation]) of each inverted residual.
        expansions: Expansion channels of each block, where a ratio does not say it.
        head: Channels of the 1x1 convolution before pooling, or None without one.
        classes: Number of classes; 0 for the pooled features instead of logits.
        widths: Levels of all blocks.
        align: Round fractions in `widths` to a multiple of this many channels, fewer in narrow
            blocks; 1 demands that they divide. Kernels work on 8 to 16 channels at a time: four
            parts of 36 channels took 1.07 times as long as one of 144, with this 0.96 times.
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
        stem_expand: bool = False,
        blocks: Sequence[Sequence[int]] = MOBILENET_V2_BLOCKS,
        expansions: Sequence[int] | None = None,
        head: int | None = 1280,
        classes: int = 1000,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        align: int = 16,
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
            expansion = width * ratio if expansions is None else expansions[layer]
            chain.append(
                ElasticInvertedResidual(
                    width,
                    out,
                    expansion,
                    widths=resolve_widths(widths, expansion, f"layer{layer}", align=align),
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
                stem_expand,
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
        expand: bool,
        activation: str,
        same_padding: bool,
        *,
        eps: float,
        momentum: float,
    ) -> None:
        super().__init__()

        def conv_norm(conv: nn.Conv2d, act: nn.Module | None) -> ConvNorm:
            same = same_padding and conv.kernel_size != (1, 1)
            return ConvNorm(conv, act, same_padding=same, eps=eps, momentum=momentum)

        act = activation_module(activation)
        padding = 0 if same_padding else 1
        first = nn.Conv2d(channels, width, 3, stride=stride, padding=padding, bias=False)
        self.first = conv_norm(first, act)
        self.expand: nn.Module = nn.Identity()
        self.depthwise: nn.Module = nn.Identity()
        self.project: nn.Module = nn.Identity()
        if expand:
            self.expand = conv_norm(nn.Conv2d(width, width, 1, bias=False), act)
        if out is not None:
            depthwise = nn.Conv2d(width, width, 3, padding=padding, groups=width, bias=False)
            self.depthwise = conv_norm(depthwise, act)
            self.project = conv_norm(nn.Conv2d(width, out, 1, bias=False), None)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (batch, channels, height, width)."""
        return self.project(self.depthwise(self.expand(self.first(pixels))))  # type: ignore[no-any-return]


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


def from_transformers(
    model: Any,
    *,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    align: int = 16,
    depths: Sequence[float | int] | None = None,
) -> ElasticMobileNet:
    """Convert a `MobileNetV2ForImageClassification` or a `MobileNetV2Model` (pooled features).

    All levels start with the full model's statistics; recalibrate before using smaller ones.
    """
    base = getattr(model, "mobilenet_v2", model)
    config = model.config
    classifier = getattr(model, "classifier", None)
    first = base.conv_stem.first_conv.convolution
    settings = []
    for layer in base.layer:
        depthwise = layer.conv_3x3.convolution
        out = layer.reduce_1x1.convolution.out_channels
        # The ratio is not exact after rounding to multiples of 8: `expansions` says it.
        settings.append((out, 0, depthwise.stride[0], depthwise.dilation[0]))
    supernet = ElasticMobileNet(
        image_size=config.image_size,
        channels=config.num_channels,
        stem=first.out_channels,
        stem_stride=first.stride[0],
        stem_out=base.conv_stem.reduce_1x1.convolution.out_channels,
        stem_expand=base.conv_stem.expand_1x1 is not None,
        blocks=settings,
        expansions=[layer.expand_1x1.convolution.out_channels for layer in base.layer],
        head=base.conv_1x1.convolution.out_channels,
        classes=classifier.out_features if isinstance(classifier, nn.Linear) else 0,
        widths=widths,
        align=align,
        depths=depths,
        activation=config.hidden_act,
        same_padding=config.tf_padding,
        eps=config.layer_norm_eps,
        dropout=config.classifier_dropout_prob,
    )
    stem: Any = supernet.stem
    head: Any = supernet.head
    source = base.conv_stem
    _copy_conv_norm(stem.first, source.first_conv)
    if source.expand_1x1 is not None:
        _copy_conv_norm(stem.expand, source.expand_1x1)
    _copy_conv_norm(stem.depthwise, source.conv_3x3)
    _copy_conv_norm(stem.project, source.reduce_1x1)
    for layer, block in zip(base.layer, supernet.blocks, strict=True):
        for ours, theirs in (
            ("expand", layer.expand_1x1),
            ("depthwise", layer.conv_3x3),
            ("project", layer.reduce_1x1),
        ):
            copy_module(getattr(block, ours), theirs.convolution)
            copy_batch_norm(getattr(block, f"{ours}_norm"), theirs.normalization)
    _copy_conv_norm(head.conv, base.conv_1x1)
    if isinstance(classifier, nn.Linear):
        copy_module(head.classifier, classifier)
    return supernet.eval()


def _copy_conv_norm(target: Any, source: Any) -> None:
    copy_module(target.conv, source.convolution)
    copy_batch_norm(target.norm, source.normalization)
