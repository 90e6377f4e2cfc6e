"""Decoders of the Llama kind whose feed-forward layers are experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nestling.elastic.families.llama import ElasticLlama
from nestling.elastic.norms import RMSNorm
from nestling.errors import ModelError
from nestling.experts.layer import ExpertFeedForward, make_expert_layer


class ExpertLlama(ElasticLlama):
    """An `ElasticLlama` some of whose layers have an `ExpertFeedForward`.

    Expert layers have one level; depth, heads and the other layers are elastic as ever.

    Args:
        experts: Routed experts of a layer.
        top_k: Experts that each token takes.
        expert_hidden: Hidden neurons of an expert.
        shared_hidden: Hidden neurons of the shared expert; 0 for none.
        shared_gate: Whether the shared expert is weighted by a sigmoid (Qwen2-MoE).
        renormalise: Whether the weights of the chosen experts sum to 1 (Mixtral).
        expert_layers: Numbers of the layers that have experts. Default: all behind the core.
        representatives: Whether routers score an expert by one neuron of it, as carved ones do
            (see `nestling.experts.carve`), and not by a product.
        **llama: What `ElasticLlama` takes.
    """

    def __init__(
        self,
        *,
        experts: int = 8,
        top_k: int = 2,
        expert_hidden: int = 256,
        shared_hidden: int = 0,
        shared_gate: bool = False,
        renormalise: bool = False,
        expert_layers: Sequence[int] | None = None,
        representatives: bool = False,
        **llama: Any,
    ) -> None:
        depth, core = llama.get("depth", 12), llama.get("core_layers", 0)
        chosen = tuple(range(core, depth)) if expert_layers is None else tuple(expert_layers)
        if not set(chosen) <= set(range(depth)):
            raise ModelError(
                "there are no such layers to have experts",
                expected=f"0..{depth - 1}",
                actual=chosen,
            )

        def make(layer: int, name: str) -> ExpertFeedForward | None:
            if layer not in chosen:
                return None
            dim = llama.get("dim", 768)
            return make_expert_layer(
                dim,
                expert_hidden,
                experts,
                top_k,
                shared_hidden=shared_hidden,
                shared_gate=shared_gate,
                renormalise=renormalise,
                activation=llama.get("activation", "silu"),
                bias=llama.get("ffn_bias", False),
                representatives=representatives,
                norm=RMSNorm(dim, llama.get("eps", 1e-6)),
                name=name,
                layer=layer,
                skippable=layer >= core,
                dropout=llama.get("dropout", 0.0),
            )

        super().__init__(**llama, feed_forwards=make)
        self.family = "expert_llama"
        self.config = {
            "family": self.family,
            "experts": experts,
            "top_k": top_k,
            "expert_hidden": expert_hidden,
            "shared_hidden": shared_hidden,
            "shared_gate": shared_gate,
            "renormalise": renormalise,
            "expert_layers": chosen,
            "representatives": representatives,
            **llama,
        }
