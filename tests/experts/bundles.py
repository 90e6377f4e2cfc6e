"""Tiny networks with expert layers, exported: what the tests of the engine run.

`make_net` is two expert layers between two projections, `make_decoder` a decoder with them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nestling.chain_export import export_chain
from nestling.decoder_export import export_decoder
from nestling.experts.decoder import ExpertLlama
from nestling.experts.layer import ExpertFeedForward, make_expert_layer
from nestling.experts.predictor import fit_predictors
from nestling.experts.routing import record_routing
from nestling.experts.slices import F32, ExpertFormat
from nestling.partition.chain import Chain
from nestling.partition.decoder import DecoderShape

DIM, HIDDEN, EXPERTS, TOP_K, CLASSES = 32, 48, 8, 2, 5
TOKENS = 12
NIBBLES = ExpertFormat(16)
VOCABULARY, CONTEXT = 61, 40
DECODER_SHAPE = DecoderShape(context=CONTEXT, chunks=(4,), verify=4)
CACHE = Path(__file__).resolve().parents[2] / "build" / "cache" / "lowering"


class TinyExperts(nn.Module):
    """`(1, tokens, DIM) -> (1, tokens, CLASSES)`; one layer gated, one with biases; two tasks."""

    def __init__(self, *, experts: int = EXPERTS, top_k: int = TOP_K) -> None:
        super().__init__()
        self.stem = nn.Linear(DIM, DIM)
        self.first = make_expert_layer(
            DIM,
            HIDDEN,
            experts,
            top_k,
            renormalise=True,
            shared_hidden=16,
            tasks=("even", "odd"),
            name="first",
        )
        self.second = make_expert_layer(
            DIM,
            HIDDEN,
            experts,
            top_k,
            activation="gelu",
            gated=False,
            bias=True,
            tasks=("even", "odd"),
            name="second",
        )
        self.head = nn.Linear(DIM, CLASSES)

    @property
    def layers(self) -> tuple[ExpertFeedForward, ExpertFeedForward]:
        return self.first, self.second

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.second(self.first(self.stem(x))))
        return y


def make_net(*, experts: int = EXPERTS, top_k: int = TOP_K) -> TinyExperts:
    """Weights large enough that scores, and so experts, differ between tokens."""
    torch.manual_seed(0)
    net = TinyExperts(experts=experts, top_k=top_k).eval().requires_grad_(False)
    for layer in net.layers:
        for router in layer.routers.values():
            router.weight.mul_(20.0)  # type: ignore[operator]
        for bias in (layer.bank.up_bias, layer.bank.down_bias):
            if isinstance(bias, Tensor):
                bias.normal_(std=0.2)
    return net


def make_chain(net: TinyExperts, tokens: int = 1) -> Chain:
    """Cut the net; a path for each task, and `short`, which leaves the second layer out."""
    chain = Chain()
    chain.add_slot("hidden", torch.randn(1, tokens, DIM), "input")
    chain.add_slot("x", torch.randn(1, tokens, DIM))
    chain.add_slot("logits", torch.randn(1, tokens, CLASSES), "output")
    for position in ("stem", "first", "second", "head"):
        chain.add_position(position, required=position != "second")
    chain.add_stage("stem", net.stem, ["hidden"], ["x"], "stem")
    for layer in net.layers:
        for task in layer.tasks:
            chain.add_expert_stage(f"{layer.name}.{task}", layer, "x", layer.name, task=task)
    chain.add_stage("head", net.head, ["x"], ["logits"], "head")
    for task in net.first.tasks:
        chain.add_path(task, ["stem", f"first.{task}", f"second.{task}", "head"])
    chain.add_path("short", ["stem", "first.even", "head"])
    return chain


def export_net(
    net: TinyExperts, path: Path, *, tokens: int = 1, experts: ExpertFormat = F32
) -> Path:
    """Export the net with predictors that were fitted on random tokens."""
    chain = make_chain(net, tokens)
    with torch.no_grad(), record_routing(net) as calls:
        net(torch.randn(1, 256, DIM))
    export_chain(
        chain,
        path,
        experts=experts,
        predictors=fit_predictors(chain.experts, calls),
        jobs=1,
        cache_dir=CACHE,
    )
    return path


def make_decoder() -> ExpertLlama:
    """Three layers, the second and third with experts; one path."""
    torch.manual_seed(2)
    net = ExpertLlama(
        vocabulary=VOCABULARY,
        dim=DIM,
        depth=3,
        heads=4,
        groups=2,
        hidden=HIDDEN,
        positions=CONTEXT,
        widths=(1.0,),
        heads_widths=(1.0,),
        depths=(3,),
        core_layers=1,
        core_hidden=HIDDEN,
        experts=EXPERTS,
        top_k=TOP_K,
        expert_hidden=HIDDEN,
        shared_hidden=16,
        renormalise=True,
    ).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(10.0)
            if "routers" in name:
                parameter.mul_(2.0)
    return net.requires_grad_(False)


def export_decoder_net(net: ExpertLlama, path: Path, *, experts: ExpertFormat = F32) -> Path:
    """Export the decoder with predictors that were fitted on random text."""
    export_decoder(
        net,
        path,
        shape=DECODER_SHAPE,
        experts=experts,
        calibration=torch.randint(VOCABULARY, (8, CONTEXT)),
        jobs=1,
        cache_dir=CACHE,
    )
    return path
