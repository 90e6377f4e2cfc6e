"""ExecuTorch's own Python runtime: the oracle for what a lowered module computes."""

from __future__ import annotations

import torch
from executorch.runtime import Runtime
from torch import Tensor, nn

from nestling.targets.xnnpack.lower import lower_whole, trace


def run_plain(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Lower ``module`` with its weights inside and run it in ExecuTorch's own runtime."""
    program = Runtime.get().load_program(lower_whole(trace(module, inputs)))
    method = program.load_method("forward")
    assert method is not None
    output = method.execute(list(inputs))[0]
    assert isinstance(output, Tensor)
    return output


class Mlp(nn.Module):
    """A residual two-layer perceptron with a norm, the smallest thing worth lowering."""

    def __init__(self, width: int = 32, hidden: int = 64, *, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Bottleneck(nn.Module):
    """An inverted residual without batch norm: pointwise, depthwise, pointwise."""

    def __init__(self, width: int = 8, hidden: int = 16) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.relu6(self.expand(x))
        return x + self.project(nn.functional.relu6(self.depthwise(h)))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
