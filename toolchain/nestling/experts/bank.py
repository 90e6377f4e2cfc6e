"""The experts of one layer, in torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestling.elastic.activation import activation_module
from nestling.errors import ModelError
from nestling.experts.routing import route


@dataclass(frozen=True)
class ExpertMatrices:
    """Weights of all experts of a layer, stacked.

    Attributes:
        up: (experts, hidden, dim).
        down: (experts, dim, hidden).
        gate: as `up`, for gated experts.
        up_bias: (experts, hidden).
        down_bias: (experts, dim).
        gate_bias: as `up_bias`. Biases are all there, or none.
    """

    up: Tensor
    down: Tensor
    gate: Tensor | None = None
    up_bias: Tensor | None = None
    down_bias: Tensor | None = None
    gate_bias: Tensor | None = None

    def expert(self, number: int) -> ExpertMatrices:
        """Return the matrices of one expert, without the axis of experts."""
        return self.each()[number]

    def each(self) -> list[ExpertMatrices]:
        """Return the matrices of every expert.

        Unbound, not indexed: the gradient of one index is as large as all experts together.
        """
        stacks: list[Tensor | None] = [getattr(self, field.name) for field in fields(self)]
        count = len(self.up)
        columns: list[Any] = [[None] * count if s is None else s.unbind(0) for s in stacks]
        return [ExpertMatrices(*column) for column in zip(*columns, strict=True)]


@dataclass(frozen=True)
class ExpertShape:
    """What the experts of a layer have in common.

    Attributes:
        dim: Width of the stream.
        hidden: Hidden neurons of one expert.
        experts: Number of experts.
        top_k: Experts that each token takes.
        renormalise: See `route`.
        activation: Name of the activation, see `nestling.elastic.activation`.
        gated: Whether experts are gated (SwiGLU and its like).
        bias: Whether the projections have biases.
    """

    dim: int
    hidden: int
    experts: int
    top_k: int
    renormalise: bool = False
    activation: str = "silu"
    gated: bool = True
    bias: bool = False


class ExpertBank(nn.Module, ABC):
    """Experts of one layer: it computes what the operator `nestling::experts` stands for.

    Args:
        shape: Of the experts; its fields are attributes, the activation's as `activation_name`.
        name: For errors.
    """

    def __init__(self, shape: ExpertShape, name: str = "experts") -> None:
        super().__init__()
        if not 1 <= shape.top_k <= shape.experts:
            raise ModelError(
                "a token takes one expert at least and all at most",
                module=name,
                expected=f"1..{shape.experts}",
                actual=shape.top_k,
            )
        self.dim = shape.dim
        self.hidden = shape.hidden
        self.experts = shape.experts
        self.top_k = shape.top_k
        self.renormalise = shape.renormalise
        self.activation_name = shape.activation
        self.activation = activation_module(shape.activation)
        self.gated = shape.gated
        self.bias = shape.bias

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one token."""
        return self.top_k * self.dim * self.hidden * (3 if self.gated else 2)

    @abstractmethod
    def matrices(self) -> ExpertMatrices:
        """Return the weights, stacked."""

    def forward(self, hidden: Tensor, scores: Tensor) -> Tensor:
        """Take (tokens, dim) and (tokens, experts), return (tokens, dim); see `operator.experts`.

        Tokens are grouped by expert, so that each expert is one product over its tokens, forwards
        and backwards, whatever the number of experts.
        """
        weights, chosen = route(scores, self.top_k, self.renormalise)
        run = [self._runner(expert) for expert in self.matrices().each()]
        return combine(hidden, weights, chosen, run)

    def _runner(self, expert: ExpertMatrices) -> Callable[[Tensor], Tensor]:
        return lambda x: run_expert(expert, x, self.activation)


class StackedExperts(ExpertBank):
    """Experts with weights of their own; arguments as for `ExpertBank`."""

    def __init__(self, shape: ExpertShape, name: str = "experts") -> None:
        super().__init__(shape, name)
        experts, hidden, dim = shape.experts, shape.hidden, shape.dim
        gated, bias = shape.gated, shape.bias
        self.gate = _stack(experts, hidden, dim) if gated else None
        self.up = _stack(experts, hidden, dim)
        self.down = _stack(experts, dim, hidden)
        self.gate_bias = nn.Parameter(torch.zeros(experts, hidden)) if gated and bias else None
        self.up_bias = nn.Parameter(torch.zeros(experts, hidden)) if bias else None
        self.down_bias = nn.Parameter(torch.zeros(experts, dim)) if bias else None

    def matrices(self) -> ExpertMatrices:
        """Return the parameters themselves."""
        return ExpertMatrices(
            self.up, self.down, self.gate, self.up_bias, self.down_bias, self.gate_bias
        )


def run_expert(expert: ExpertMatrices, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Run one expert: (tokens, dim) to (tokens, dim)."""
    hidden = F.linear(x, expert.up, expert.up_bias)
    if expert.gate is None:
        hidden = activation(hidden)
    else:
        hidden = activation(F.linear(x, expert.gate, expert.gate_bias)) * hidden
    return F.linear(hidden, expert.down, expert.down_bias)


def combine(
    hidden: Tensor,
    weights: Tensor,
    chosen: Tensor,
    experts: Sequence[Callable[[Tensor], Tensor]],
) -> Tensor:
    """Send tokens to their experts and sum the results.

    Args:
        hidden: (tokens, dim).
        weights: (tokens, top_k).
        chosen: int64 (tokens, top_k).
        experts: each (some tokens, dim) to the same; called once at most.

    Returns:
        (tokens, dim).
    """
    tokens, top_k = chosen.shape
    flat = chosen.flatten()
    order = torch.argsort(flat, stable=True)
    counts = torch.bincount(flat, minlength=len(experts)).tolist()
    groups = torch.split(hidden.index_select(0, order // top_k), counts)
    parts = [run(x) for run, x in zip(experts, groups, strict=True) if len(x)]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    y = torch.cat(parts).index_select(0, back).reshape(tokens, top_k, -1)
    return (y * weights[..., None]).sum(dim=1)


def _stack(experts: int, rows: int, columns: int) -> nn.Parameter:
    """Return random matrices with the variance of `nn.Linear`'s."""
    bound = columns**-0.5
    return nn.Parameter(torch.empty(experts, rows, columns).uniform_(-bound, bound))
