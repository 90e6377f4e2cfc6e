"""Decoders of the Llama kind (pre-norm, RMSNorm, rotary positions, gated feed-forward, GQA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nestling.elastic.attention import MASKED, ElasticAttention, rotary_tables
from nestling.elastic.block import ElasticBlock
from nestling.elastic.families.copying import copy_module
from nestling.elastic.families.language import choose_window, initialise
from nestling.elastic.families.vit import default_heads_widths
from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.elastic.norms import RMSNorm
from nestling.elastic.supernet import Supernet
from nestling.elastic.widths import DEFAULT_WIDTHS

_NOT_IN_CONFIG = ("self", "__class__", "feed_forwards")


class ElasticLlama(Supernet):
    """A decoder whose key-value groups, hidden neurons and layers are elastic.

    It computes the logits of all positions of one window of tokens; no state is kept.

    Args:
        vocabulary: Number of tokens.
        dim: Width of the residual stream.
        depth: Number of layers.
        heads: Query heads.
        groups: Key-value heads, the units of attention. Default: `heads`.
        head_dim: Width of one head. Default: `dim / heads`.
        hidden: Hidden neurons. Default: 8/3 of `dim`, rounded up to a multiple of 64.
        positions: Length of the window at export; shorter ones run in torch.
        widths: Levels of the feed-forward blocks.
        heads_widths: Levels of the attention blocks. Default: `widths` as fractions, rounded up.
        depths: See `make_space`.
        early_exit: Depths are exits: the first layers run, then the norm and head that all share
            (Sorted LLaMA, arXiv 2309.08968).
        core_layers: How many first layers all subnets have in common. They are never left out and
            their feed-forward has one level, so what they compute, their keys and values included,
            does not depend on the subnet: an exit behind them is a prefix of every subnet, and
            going on from it repeats nothing.
        core_hidden: Hidden neurons of the core's layers. Default: `hidden`.
        activation: Name of the activation.
        bias: Whether query, key and value have biases (Qwen2).
        output_bias: Whether the attention's output has one.
        ffn_bias: Whether the feed-forward projections have biases.
        qk_norm: Whether queries and keys are normed for each head (Qwen3).
        eps: Of the norms.
        rope_base: Base of the rotary frequencies.
        inverse_frequencies: The frequencies themselves, where a base does not say it.
        rope_scale: Factor of cosine and sine (1 except for some long-context variants).
        tied: Whether the embedding is also the output projection.
        last_only: Whether logits are computed for the last position alone.
        dropout: Of the results of blocks.
        attention_dropout: Of the attention weights.
        qk_norm_whole: Whether `qk_norm` is over all heads at once (OLMoE); attention then has one
            level.
        longest: Tokens that a conversation can have: the positions that the model was made for, or
            its sliding window, which is not implemented; None: not known.
        feed_forwards: Makes the feed-forward block of a layer, given its number and its name, or
            returns None for an elastic one. Such blocks are no part of `config`.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 32000,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        groups: int | None = None,
        head_dim: int | None = None,
        hidden: int | None = None,
        positions: int = 128,
        widths: Sequence[float | int] = DEFAULT_WIDTHS,
        heads_widths: Sequence[float | int] | None = None,
        depths: Sequence[float | int] | None = None,
        early_exit: bool = False,
        core_layers: int = 0,
        core_hidden: int | None = None,
        activation: str = "silu",
        bias: bool = False,
        output_bias: bool = False,
        ffn_bias: bool = False,
        qk_norm: bool = False,
        eps: float = 1e-6,
        rope_base: float = 10000.0,
        inverse_frequencies: Sequence[float] | None = None,
        rope_scale: float = 1.0,
        tied: bool = False,
        last_only: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        qk_norm_whole: bool = False,
        longest: int | None = None,
        feed_forwards: Callable[[int, str], ElasticBlock | None] | None = None,
    ) -> None:
        config = {key: value for key, value in locals().items() if key not in _NOT_IN_CONFIG}
        hidden = -(-dim * 8 // 3 // 64) * 64 if hidden is None else hidden
        head_dim = dim // heads if head_dim is None else head_dim
        frequencies = (
            rope_base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
            if inverse_frequencies is None
            else torch.tensor(inverse_frequencies, dtype=torch.float32)
        )
        blocks: list[ElasticBlock] = []
        for layer in range(depth):
            core = layer < core_layers
            blocks.append(
                ElasticAttention(
                    dim,
                    heads,
                    groups=groups,
                    head_dim=head_dim,
                    heads_widths=((1.0,) if core else default_heads_widths(widths, heads_widths)),
                    bias=bias,
                    output_bias=output_bias,
                    qk_norm_eps=eps if qk_norm else None,
                    qk_norm_whole=qk_norm_whole,
                    masked=True,
                    rotary=True,
                    norm=RMSNorm(dim, eps),
                    name=f"layer{layer}.attention",
                    layer=layer,
                    skippable=not core,
                    dropout=dropout,
                    attention_dropout=attention_dropout,
                )
            )
            name = f"layer{layer}.ffn"
            blocks.append(
                (None if feed_forwards is None else feed_forwards(layer, name))
                or ElasticFeedForward(
                    dim,
                    core_hidden if core and core_hidden is not None else hidden,
                    widths=(1.0,) if core else widths,
                    activation=activation,
                    gated=True,
                    bias=ffn_bias,
                    norm=RMSNorm(dim, eps),
                    name=name,
                    layer=layer,
                    skippable=not core,
                    dropout=dropout,
                )
            )
        stem = DecoderStem(vocabulary, dim, positions, frequencies, rope_scale)
        head = DecoderHead(dim, vocabulary, eps, last_only)
        stem.apply(initialise)
        head.apply(initialise)
        for block in blocks:
            block.apply(initialise)
        if tied:
            head.classifier.weight = stem.embedding.weight
        super().__init__(
            stem,
            blocks,
            head,
            inputs={"tokens": torch.zeros(1, positions, dtype=torch.int64)},
            context_names=("mask", "cos", "sin"),
            family="llama",
            depths=depths,
            early_exit=early_exit,
            config={"family": "llama", **config},
        )
        self.longest = longest
        self.vocabulary = vocabulary


class DecoderStem(nn.Module):
    """Token embedding; causal mask and rotary tables as context."""

    mask: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(
        self, vocabulary: int, dim: int, positions: int, frequencies: Tensor, scale: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self._frequencies = frequencies
        self._scale = scale
        cos, sin = self.rotary(torch.arange(positions))
        mask = torch.full((positions, positions), MASKED).triu(1)
        self.register_buffer("cos", cos[:, None], persistent=False)
        self.register_buffer("sin", sin[:, None], persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the stream (batch, positions, dim), mask, cos and sin for (batch, positions)."""
        length = tokens.shape[1]
        mask, cos, sin = self.mask, self.cos, self.sin
        if length != mask.shape[0]:
            mask, cos, sin = mask[:length, :length], cos[:length], sin[:length]
        # Cloned, because an exported program cannot hand out a constant itself.
        return self.embedding(tokens), mask.clone(), cos.clone(), sin.clone()

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rotary tables of (positions,), each (positions, head_dim)."""
        cos, sin = rotary_tables(self._frequencies, positions)
        return cos[:, 0] * self._scale, sin[:, 0] * self._scale


class DecoderHead(nn.Module):
    """Final norm and output projection."""

    def __init__(self, dim: int, vocabulary: int, eps: float, last_only: bool) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, eps)
        self.classifier = nn.Linear(dim, vocabulary, bias=False)
        self.last_only = last_only

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return (batch, positions, vocabulary), or one position if `last_only`."""
        if self.last_only:
            x = x[:, -1:]
        return self.classifier(self.norm(x))  # type: ignore[no-any-return]


def from_transformers(
    model: Any,
    *,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    heads_widths: Sequence[float | int] | None = None,
    depths: Sequence[float | int] | None = None,
    positions: int | None = None,
    last_only: bool = False,
    early_exit: bool = False,
) -> ElasticLlama:
    """Convert a `LlamaForCausalLM`, `Qwen2ForCausalLM` or `Qwen3ForCausalLM`.

    Args:
        model: The model.
        widths: See `ElasticLlama`.
        heads_widths: See `ElasticLlama`.
        depths: See `ElasticLlama`.
        positions: Length of the window at export, at most 128 by default.
        last_only: See `ElasticLlama`.
        early_exit: See `ElasticLlama`.

    Raises:
        ModelError: The window is longer than the model's positions or its sliding window.
    """
    supernet = ElasticLlama(
        hidden=model.config.intermediate_size,
        ffn_bias=model.model.layers[0].mlp.up_proj.bias is not None,
        widths=widths,
        heads_widths=heads_widths,
        depths=depths,
        last_only=last_only,
        early_exit=early_exit,
        **read_options(model, positions),
    )
    copy_all_but_feed_forwards(supernet, model)
    for layer, (_, ffn) in zip(model.model.layers, supernet.layers(), strict=True):
        copy_feed_forward(ffn, layer.mlp)
    return supernet.eval()


def read_options(model: Any, positions: int | None) -> dict[str, Any]:
    """Return the arguments of `ElasticLlama` that a Hugging Face decoder decides, but for its FFNs.

    Args:
        model: A decoder of the Llama kind.
        positions: Length of the window at export, at most 128 by default.

    Raises:
        ModelError: The window is longer than the model's positions or its sliding window.
    """
    base, config = model.model, model.config
    longest = config.max_position_embeddings
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        longest = min(longest, config.sliding_window)
    attention = base.layers[0].self_attn
    return {
        "vocabulary": config.vocab_size,
        "dim": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "groups": config.num_key_value_heads,
        "head_dim": attention.head_dim,
        "positions": choose_window(positions, longest, "positions or its sliding window"),
        "activation": config.hidden_act,
        "bias": attention.q_proj.bias is not None,
        "output_bias": attention.o_proj.bias is not None,
        "qk_norm": hasattr(attention, "q_norm"),
        "eps": config.rms_norm_eps,
        "inverse_frequencies": base.rotary_emb.inv_freq.tolist(),
        "rope_scale": float(base.rotary_emb.attention_scaling),
        "tied": model.lm_head.weight is base.embed_tokens.weight,
        "attention_dropout": config.attention_dropout,
        "longest": longest,
    }


def copy_all_but_feed_forwards(supernet: ElasticLlama, model: Any) -> None:
    """Copy a Hugging Face decoder's embedding, attention, norms and output projection."""
    base = model.model
    stem: Any = supernet.stem
    head: Any = supernet.head
    copy_module(stem.embedding, base.embed_tokens)
    for layer, (attention, ffn) in zip(base.layers, supernet.layers(), strict=True):
        source: Any = layer.self_attn
        into: Any = attention
        copy_module(into.norm, layer.input_layernorm)
        for name in ("q", "k", "v", "o"):
            copy_module(getattr(into, name), getattr(source, f"{name}_proj"))
        if into.q_norm is not None:
            copy_module(into.q_norm, source.q_norm)
            copy_module(into.k_norm, source.k_norm)
        copy_module(ffn.norm, layer.post_attention_layernorm)
    copy_module(head.norm, base.norm)
    copy_module(head.classifier, model.lm_head)


def copy_feed_forward(target: Any, source: Any) -> None:
    """Copy the projections of a gated feed-forward module of Hugging Face's."""
    for name in ("gate", "up", "down"):
        copy_module(getattr(target, name), getattr(source, f"{name}_proj"))
