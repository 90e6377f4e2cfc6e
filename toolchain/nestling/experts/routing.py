"""Who takes which token: the router, the choice, the losses that keep experts in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.activation import activation_module

if TYPE_CHECKING:
    from nestling.experts.layer import ExpertFeedForward


class Router(nn.Module):
    """Scores of all experts, by one product.

    It is no `nn.Linear`, so that it stays float32 whatever the scheme: a score that was rounded
    sends a token elsewhere.

    Args:
        dim: Width of the stream.
        experts: Number of experts.
    """

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, h: Tensor) -> Tensor:
        """(..., dim) to (..., experts)."""
        return F.linear(h, self.weight)


class RepresentativeRouter(nn.Module):
    """Scores an expert by how strong one of its neurons is (CMoE, arXiv:2502.04416).

    The scores are so small that a softmax of them is one over the number of experts, in float32:
    they decide who is chosen and say nothing of how much.

    Args:
        dim: Width of the stream.
        experts: Number of experts.
        activation: Of the neurons.
        gated: Whether neurons are gated.
        bias: Whether they have biases.
    """

    SCALE = 2.0**-32

    def __init__(self, dim: int, experts: int, *, activation: str, gated: bool, bias: bool) -> None:
        super().__init__()
        self.activation = activation_module(activation)
        self.up = nn.Parameter(torch.zeros(experts, dim))
        self.gate = nn.Parameter(torch.zeros(experts, dim)) if gated else None
        self.up_bias = nn.Parameter(torch.zeros(experts)) if bias else None
        self.gate_bias = nn.Parameter(torch.zeros(experts)) if bias and gated else None

    def load(self, up: nn.Linear, gate: nn.Linear | None, neurons: Tensor) -> None:
        """Take the neurons, int64 (experts,), of a feed-forward block."""
        with torch.no_grad():
            for name, linear in (("up", up), ("gate", gate)):
                if linear is not None:
                    getattr(self, name).copy_(linear.weight[neurons])
                    if linear.bias is not None:
                        getattr(self, f"{name}_bias").copy_(linear.bias[neurons])

    def forward(self, h: Tensor) -> Tensor:
        """(..., dim) to (..., experts)."""
        neurons = F.linear(h, self.up, self.up_bias)
        if self.gate is None:
            neurons = self.activation(neurons)
        else:
            neurons = self.activation(F.linear(h, self.gate, self.gate_bias)) * neurons
        scores: Tensor = neurons.abs() * self.SCALE
        return scores


def route(scores: Tensor, top_k: int, renormalise: bool) -> tuple[Tensor, Tensor]:
    """Choose experts and say what each counts.

    Args:
        scores: (tokens, experts).
        top_k: Experts for each token.
        renormalise: Whether the weights of the chosen sum to 1 (Mixtral); otherwise they are what
            a softmax over all experts gives them (OLMoE).

    Returns:
        Weights (tokens, top_k) and the experts' numbers, int64 (tokens, top_k), best first; of
        equal scores the lower number first.
    """
    chosen = torch.sort(scores, dim=-1, descending=True, stable=True).indices[:, :top_k]
    weights = torch.softmax(scores, dim=-1).gather(1, chosen)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, chosen


@dataclass(frozen=True)
class Routing:
    """What a layer did in one call.

    Attributes:
        layer: its name.
        task: whose router chose.
        hidden: (tokens, dim), the input of router and experts.
        scores: (tokens, experts).
        chosen: int64 (tokens, top_k).
    """

    layer: str
    task: str
    hidden: Tensor
    scores: Tensor
    chosen: Tensor


@contextmanager
def record_routing(model: nn.Module) -> Iterator[list[Routing]]:
    """Record every call of the expert layers of a model while the context lasts.

    Gives a list that grows, in the order of the calls; with gradients where the call had them, so
    that losses can be made of it.
    """
    found: list[Routing] = []
    layers = expert_layers(model)
    for layer in layers:
        layer.listener = found.append
    try:
        yield found
    finally:
        for layer in layers:
            layer.listener = None


def expert_layers(model: nn.Module) -> list[ExpertFeedForward]:
    """Return the expert layers of a model, in order."""
    from nestling.experts.layer import ExpertFeedForward

    return [module for module in model.modules() if isinstance(module, ExpertFeedForward)]


def load_balance_loss(scores: Tensor, chosen: Tensor) -> Tensor:
    """Return Switch Transformer's balance loss (arXiv:2101.03961, eq. 4), 1 when balanced.

    Args:
        scores: (tokens, experts).
        chosen: int64 (tokens, top_k).
    """
    experts = scores.shape[1]
    share = torch.bincount(chosen.flatten(), minlength=experts) / chosen.numel()
    probability = torch.softmax(scores, dim=-1).mean(dim=0)
    return experts * (share * probability).sum()


def router_z_loss(scores: Tensor) -> Tensor:
    """Return ST-MoE's loss on the size of scores (arXiv:2202.08906, eq. 5).

    Args:
        scores: (tokens, experts).
    """
    return torch.logsumexp(scores, dim=-1).square().mean()


def routing_loss(
    calls: Sequence[Routing], *, balance: float = 1e-2, z: float = 1e-3
) -> Tensor | float:
    """Return what to add to a training loss: both losses, averaged over the recorded calls."""
    losses = [
        balance * load_balance_loss(call.scores, call.chosen) + z * router_z_loss(call.scores)
        for call in calls
    ]
    return torch.stack(losses).mean() if losses else 0.0
