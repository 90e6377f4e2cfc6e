"""Vision transformers (pre-norm, class token)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nestling.elastic.attention import ElasticAttention
from nestling.elastic.batch_norm import ConvNorm
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.copying import copy_module, copy_tensor
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.supernet import Supernet
from nestling.elastic.widths import DEFAULT_WIDTHS
from nestling.errors import ModelError


class ElasticViT(Supernet):
    """A vision transformer whose heads, hidden neurons and layers are elastic.

    Args:
        image_size: Height and width of the input.
        patch: Height and width of a patch.
        dim: Width of the residual stream.
        depth: Number of layers.
        heads: Attention heads.
        mlp_ratio: Hidden neurons for each channel of the stream; ignored if `hidden` is given.
        hidden: Hidden neurons.
        classes: Number of classes; 0 for the normalised stream instead of logits.
        channels: Channels of the input.
        stem: Channels of a 3x3 convolution with batch norm and ReLU before the patches, or None
            without one. With it the patches are normalised, too, and small models on small data
            learn several times faster (Xiao et al., arXiv 2106.14881).
        widths: Levels of the feed-forward blocks.
        heads_widths: Levels of the attention blocks. Default: `widths` if those are fractions,
            rounded up to whole heads.
        depths: See `make_space`.
        activation: Name of the activation.
        bias: Whether query, key and value have biases.
        eps: Of the norms.
        dropout: Of the results of blocks and of the embeddings.
        attention_dropout: Of the attention weights.
    """

    def __init__(
        self,
        *,
        image_size: int | tuple[int, int] = 224,
        patch: int | tuple[int, int] = 16,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        hidden: int | None = None,
        classes: int = 1000,
        channels: int = 3,
        stem: int | None = None,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        heads_widths: Sequence[float | int] | None = None,
        depths: Sequence[float | int] | None = None,
        activation: str = "gelu",
        bias: bool = True,
        eps: float = 1e-6,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        height, width = pair(image_size)
        patch_height, patch_width = pair(patch)
        if height % patch_height or width % patch_width:
            raise ModelError(
                "the image does not divide into patches", expected=(height, width), actual=patch
            )
        hidden = round(dim * mlp_ratio) if hidden is None else hidden
        patches = (height // patch_height) * (width // patch_width)
        patch_stem = PatchStem(channels, dim, (patch_height, patch_width), patches, dropout, stem)
        blocks: list[ElasticBlock] = []
        for layer in range(depth):
            blocks.append(
                ElasticAttention(
                    dim,
                    heads,
                    heads_widths=default_heads_widths(widths, heads_widths),
                    bias=bias,
                    output_bias=True,
                    norm=nn.LayerNorm(dim, eps=eps),
                    name=f"layer{layer}.attention",
                    layer=layer,
                    dropout=dropout,
                    attention_dropout=attention_dropout,
                )
            )
            blocks.append(
                ElasticFeedForward(
                    dim,
                    hidden,
                    widths=widths,
                    activation=activation,
                    norm=nn.LayerNorm(dim, eps=eps),
                    name=f"layer{layer}.ffn",
                    layer=layer,
                    dropout=dropout,
                )
            )
        super().__init__(
            patch_stem,
            blocks,
            ClassTokenHead(dim, classes, eps),
            inputs={"pixels": torch.zeros(1, channels, height, width)},
            output_name="logits" if classes else "features",
            family="vit",
            depths=depths,
            config={"family": "vit", **config},
        )
        self.apply(_initialise)


class PatchStem(nn.Module):
    """Perhaps a convolution; patch embedding, class token, position embedding."""

    def __init__(
        self,
        channels: int,
        dim: int,
        patch: tuple[int, int],
        patches: int,
        dropout: float = 0.0,
        convolution: int | None = None,
    ) -> None:
        super().__init__()
        self.projection: nn.Module
        if convolution is None:
            self.projection = nn.Conv2d(channels, dim, patch, stride=patch)
        else:
            early = nn.Conv2d(channels, convolution, 3, padding=1, bias=False)
            project = nn.Conv2d(convolution, dim, patch, stride=patch, bias=False)
            self.projection = nn.Sequential(ConvNorm(early, nn.ReLU()), ConvNorm(project))
        self.class_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, patches + 1, dim) * 0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (batch, patches + 1, dim) of (batch, channels, height, width)."""
        patches = self.projection(pixels).flatten(2).transpose(1, 2)
        token: Tensor = self.class_token
        if pixels.shape[0] != 1:
            token = token.expand(pixels.shape[0], -1, -1)
        x = torch.cat((token, patches), dim=1) + self.positions
        return self.dropout(x)  # type: ignore[no-any-return]


class ClassTokenHead(nn.Module):
    """Final norm and classifier on the class token, or the norm alone."""

    def __init__(self, dim: int, classes: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.classifier = nn.Linear(dim, classes) if classes else None

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return (batch, classes), or (batch, positions, dim) without classes."""
        if self.classifier is None:
            return self.norm(x)  # type: ignore[no-any-return]
        # Only the class token is needed: norm works on each position for itself.
        return self.classifier(self.norm(x[:, 0]))  # type: ignore[no-any-return]


def default_heads_widths(
    widths: Sequence[float | int], heads_widths: Sequence[float | int] | None
) -> Sequence[float | int]:
    """Return the levels of the heads: as given, else those of the hidden neurons as fractions."""
    if heads_widths is not None:
        return heads_widths
    if any(isinstance(width, int) for width in widths):
        return [width / widths[-1] for width in widths]
    return widths


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of a size that may be one number."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def from_transformers(
    model: Any,
    *,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    heads_widths: Sequence[float | int] | None = None,
    depths: Sequence[float | int] | None = None,
) -> ElasticViT:
    """Convert a `ViTForImageClassification` or a `ViTModel` (then without its pooler)."""
    base = getattr(model, "vit", model)
    config = model.config
    classifier = getattr(model, "classifier", None)
    supernet = ElasticViT(
        image_size=pair(config.image_size),
        patch=pair(config.patch_size),
        dim=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        classes=classifier.out_features if isinstance(classifier, nn.Linear) else 0,
        channels=config.num_channels,
        widths=widths,
        heads_widths=heads_widths,
        depths=depths,
        activation=config.hidden_act,
        bias=config.qkv_bias,
        eps=config.layer_norm_eps,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
    )
    stem: Any = supernet.stem
    head: Any = supernet.head
    embeddings = base.embeddings
    copy_tensor(stem.class_token, embeddings.cls_token)
    copy_tensor(stem.positions, embeddings.position_embeddings)
    copy_module(stem.projection, embeddings.patch_embeddings.projection)
    for layer, (attention, ffn) in zip(base.layers, supernet.layers(), strict=True):
        copy_module(attention.norm, layer.layernorm_before)
        for name in ("q", "k", "v", "o"):
            copy_module(getattr(attention, name), getattr(layer.attention, f"{name}_proj"))
        copy_module(ffn.norm, layer.layernorm_after)
        copy_module(ffn.up, layer.mlp.fc1)
        copy_module(ffn.down, layer.mlp.fc2)
    copy_module(head.norm, base.layernorm)
    if head.classifier is not None:
        copy_module(head.classifier, classifier)
    return supernet.eval()
