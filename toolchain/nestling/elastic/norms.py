"""Root-mean-square norm in plain operators."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis by its root mean square and scale it.

    Written out, without the detour over float32 of other implementations: in an exported float32
    graph those conversions stay behind as operators that no backend takes.
    """
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, with a scale for each channel."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., dim)."""
        return rms_norm(x, self.weight, self.eps)
