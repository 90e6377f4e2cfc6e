"""Encoders of the BERT kind: post-norm, learned positions, padding mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nestling.elastic.attention import MASKED, ElasticAttention
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.copying import copy_module, copy_tensor
from nestling.elastic.families.language import choose_window, initialise
from nestling.elastic.families.vit import default_heads_widths
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.supernet import Supernet
from nestling.elastic.widths import DEFAULT_WIDTHS
from nestling.errors import ModelError


class ElasticBert(Supernet):
    """An encoder whose heads, hidden neurons and layers are elastic.

    Inputs: `tokens`, `attention_mask` (1 = real, 0 = padding) and `token_types`, each int64 of
    shape (batch, positions).

    Args:
        vocabulary: Number of tokens.
        dim: Width of the residual stream.
        depth: Number of layers.
        heads: Attention heads.
        hidden: Hidden neurons.
        positions: Length of the window at export; shorter ones run in torch.
        max_positions: Length of the position table.
        token_types: Number of token types.
        classes: Number of classes; 0 for the stream instead of logits.
        pooler: Whether there is a pooler before the classifier.
        widths: Levels of the feed-forward blocks.
        heads_widths: Levels of the attention blocks. Default: `widths` as fractions, rounded up.
        depths: See `make_space`.
        activation: Name of the activation.
        eps: Of the norms.
        dropout: Of the results of blocks and of the embeddings.
        attention_dropout: Of the attention weights.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 30522,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        positions: int = 128,
        max_positions: int = 512,
        token_types: int = 2,
        classes: int = 2,
        pooler: bool = True,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        heads_widths: Sequence[float | int] | None = None,
        depths: Sequence[float | int] | None = None,
        activation: str = "gelu",
        eps: float = 1e-12,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        blocks: list[ElasticBlock] = []
        for layer in range(depth):
            blocks.append(
                ElasticAttention(
                    dim,
                    heads,
                    heads_widths=default_heads_widths(widths, heads_widths),
                    masked=True,
                    post=nn.LayerNorm(dim, eps=eps),
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
                    post=nn.LayerNorm(dim, eps=eps),
                    name=f"layer{layer}.ffn",
                    layer=layer,
                    dropout=dropout,
                )
            )
        ids = torch.zeros(1, positions, dtype=torch.int64)
        super().__init__(
            TextStem(vocabulary, dim, max_positions, token_types, eps, dropout),
            blocks,
            PooledHead(dim, classes, pooler, dropout),
            inputs={"tokens": ids, "attention_mask": torch.ones_like(ids), "token_types": ids},
            context_names=("mask",),
            output_name="logits" if classes else "features",
            family="bert",
            depths=depths,
            config={"family": "bert", **config},
        )
        self.apply(initialise)


class TextStem(nn.Module):
    """Token, position and token type embeddings and their norm; padding mask as context."""

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        positions: int,
        token_types: int,
        eps: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        self.token_types = nn.Embedding(token_types, dim)
        self.positions = nn.Parameter(torch.zeros(positions, dim))
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, attention_mask: Tensor, token_types: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the stream (batch, positions, dim) and the mask (batch, 1, 1, positions)."""
        x = self.tokens(tokens) + self.token_types(token_types)
        x = self.dropout(self.norm(x + self.positions[: tokens.shape[1]]))
        mask = (1.0 - attention_mask.to(torch.float32)) * MASKED
        return x, mask.reshape(mask.shape[0], 1, 1, mask.shape[1])


class PooledHead(nn.Module):
    """Pooler and classifier on the first token, or the stream itself."""

    def __init__(self, dim: int, classes: int, pooler: bool, dropout: float) -> None:
        super().__init__()
        self.pooler = nn.Linear(dim, dim) if pooler else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, classes) if classes else None

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return (batch, classes), or (batch, positions, dim) without classes."""
        if self.classifier is None:
            return x
        first = x[:, 0]
        if self.pooler is not None:
            first = torch.tanh(self.pooler(first))
        return self.classifier(self.dropout(first))  # type: ignore[no-any-return]


def from_transformers(
    model: Any,
    *,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    heads_widths: Sequence[float | int] | None = None,
    depths: Sequence[float | int] | None = None,
    positions: int | None = None,
) -> ElasticBert:
    """Convert a `BertForSequenceClassification` or a `BertModel` (then without its pooler).

    Args:
        model: The model.
        widths: See `ElasticBert`.
        heads_widths: See `ElasticBert`.
        depths: See `ElasticBert`.
        positions: Length of the window at export, at most 128 by default.

    Raises:
        ModelError: The model is a decoder, or the window is longer than the position table.
    """
    base = getattr(model, "bert", model)
    config = model.config
    if config.is_decoder or config.add_cross_attention:
        raise ModelError("BERT as a decoder is not supported", module=type(model).__name__)
    positions = choose_window(positions, config.max_position_embeddings, "positions")
    classifier = getattr(model, "classifier", None)
    dropout = config.hidden_dropout_prob
    supernet = ElasticBert(
        vocabulary=config.vocab_size,
        dim=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        hidden=config.intermediate_size,
        positions=positions,
        max_positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        classes=0 if classifier is None else classifier.out_features,
        pooler=classifier is not None,
        widths=widths,
        heads_widths=heads_widths,
        depths=depths,
        activation=config.hidden_act,
        eps=config.layer_norm_eps,
        dropout=dropout,
        attention_dropout=config.attention_probs_dropout_prob,
    )
    stem: Any = supernet.stem
    head: Any = supernet.head
    embeddings = base.embeddings
    copy_module(stem.tokens, embeddings.word_embeddings)
    copy_module(stem.token_types, embeddings.token_type_embeddings)
    copy_tensor(stem.positions, embeddings.position_embeddings.weight)
    copy_module(stem.norm, embeddings.LayerNorm)
    for layer, (attention, ffn) in zip(base.encoder.layer, supernet.layers(), strict=True):
        source = layer.attention
        copy_module(attention.q, source.self.query)
        copy_module(attention.k, source.self.key)
        copy_module(attention.v, source.self.value)
        copy_module(attention.o, source.output.dense)
        copy_module(attention.post, source.output.LayerNorm)
        copy_module(ffn.up, layer.intermediate.dense)
        copy_module(ffn.down, layer.output.dense)
        copy_module(ffn.post, layer.output.LayerNorm)
    if head.classifier is not None:
        copy_module(head.pooler, base.pooler.dense)
        copy_module(head.classifier, classifier)
    return supernet.eval()
