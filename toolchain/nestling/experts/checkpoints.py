"""Decoders with experts from Hugging Face: Mixtral, OLMoE, Qwen2-MoE and Qwen3-MoE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nestling.elastic.families.copying import copy_tensor
from nestling.elastic.families.language import choose_window
from nestling.elastic.families.llama import (
    copy_all_but_feed_forwards,
    copy_feed_forward,
    read_options,
)
from nestling.elastic.widths import DEFAULT_WIDTHS
from nestling.errors import ModelError
from nestling.experts.bank import StackedExperts
from nestling.experts.decoder import ExpertLlama
from nestling.experts.layer import ONLY_TASK, ExpertFeedForward


def from_transformers(
    model: Any,
    *,
    widths: Sequence[float | int] = DEFAULT_WIDTHS,
    heads_widths: Sequence[float | int] = (1.0,),
    depths: Sequence[float | int] | None = None,
    positions: int | None = None,
    last_only: bool = False,
    early_exit: bool = False,
) -> ExpertLlama:
    """Convert a `MixtralForCausalLM`, or the same of OLMoE, Qwen2-MoE or Qwen3-MoE.

    Args:
        model: The model; its weights are copied as float32.
        widths: Levels of layers that have no experts.
        heads_widths: See `ElasticLlama`; one level by default.
        depths: See `ElasticLlama`.
        positions: Length of the window at export, at most 128 by default.
        last_only: See `ElasticLlama`.
        early_exit: See `ElasticLlama`.

    Raises:
        ModelError: The window is longer than the model's positions or its sliding window, queries
            are clipped, or no layer has experts.
    """
    config = model.config
    if getattr(config, "clip_qkv", None) is not None:
        raise ModelError("queries and keys that are clipped are not known", actual="clip_qkv")
    window = _sliding_window(config)
    if window is not None:
        positions = choose_window(positions, window, "sliding window")
    mlps = [layer.mlp for layer in model.model.layers]
    expert_layers = [number for number, mlp in enumerate(mlps) if hasattr(mlp, "experts")]
    if not expert_layers:
        raise ModelError("no layer of the model has experts", module=type(model).__name__)
    first = mlps[expert_layers[0]]
    shared = getattr(first, "shared_expert", None)
    options = read_options(model, positions)
    if window is not None:
        options["longest"] = min(options["longest"], window)
    supernet = ExpertLlama(
        experts=first.experts.num_experts,
        top_k=config.num_experts_per_tok,
        expert_hidden=first.experts.intermediate_dim,
        shared_hidden=0 if shared is None else shared.up_proj.out_features,
        shared_gate=shared is not None,
        # Mixtral always does, and has no such option.
        renormalise=bool(getattr(config, "norm_topk_prob", True)),
        expert_layers=expert_layers,
        hidden=config.intermediate_size,
        widths=widths,
        heads_widths=heads_widths,
        depths=depths,
        last_only=last_only,
        early_exit=early_exit,
        qk_norm_whole=_norms_all_heads(model),
        **options,
    )
    copy_all_but_feed_forwards(supernet, model)
    for mlp, (_, block) in zip(mlps, supernet.layers(), strict=True):
        if isinstance(block, ExpertFeedForward):
            _copy_experts(block, mlp)
        else:
            copy_feed_forward(block, mlp)
    return supernet.eval()


def _sliding_window(config: Any) -> int | None:
    """Return the tokens that attention sees, if they are fewer than all."""
    types = getattr(config, "layer_types", None)
    slides = types is None or "sliding_attention" in types
    return getattr(config, "sliding_window", None) if slides else None


def _norms_all_heads(model: Any) -> bool:
    attention = model.model.layers[0].self_attn
    norm = getattr(attention, "q_norm", None)
    return norm is not None and len(norm.weight) != attention.head_dim


def _copy_experts(block: ExpertFeedForward, source: Any) -> None:
    bank = block.bank
    assert isinstance(bank, StackedExperts)
    with torch.no_grad():
        gate, up = source.experts.gate_up_proj.chunk(2, dim=1)
        copy_tensor(bank.gate, gate)
        copy_tensor(bank.up, up)
        copy_tensor(bank.down, source.experts.down_proj)
        copy_tensor(block.routers[ONLY_TASK].weight, source.gate.weight)
    if block.shared is not None:
        copy_feed_forward(block.shared, source.shared_expert)
    if block.shared_gate is not None:
        copy_tensor(block.shared_gate.weight, source.shared_expert_gate.weight)
