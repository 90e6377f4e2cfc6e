"""Muon: momentum whose direction is made orthogonal, for the matrices of hidden layers.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. torch's own
iterates in bfloat16, which processors without its instructions emulate, some twenty times slower;
here it is float32, and matrices of one shape go through the iteration together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic iteration's coefficients, and how often it runs: singular values end near 1.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """The optimiser.

    Args:
        parameters: Matrices alone, or stacks of them, (..., rows, columns).
        lr: Size of the update's singular values, before the factor for tall matrices.
        momentum: Of the Nesterov momentum.
        weight_decay: Share of a weight, times `lr`, that each step takes away.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        directions = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1.0 - group["momentum"])
            directions.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
        rows, columns = parameters[0].shape[-2:]
        lr = group["lr"]
        scale = lr * max(1.0, rows / columns) ** 0.5
        stacked = torch.stack(directions)
        updates = orthogonal(stacked.reshape(-1, rows, columns)).reshape(stacked.shape)
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1.0 - lr * group["weight_decay"]).add_(update, alpha=-scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1: (count, rows, columns), by a Newton-Schulz iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = x.mT if tall else x
    return result
