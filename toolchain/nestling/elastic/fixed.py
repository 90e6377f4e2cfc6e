"""A place in the chain that is not elastic, such as a convolution between two stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nestling.elastic.batch_norm import plain_copy
from nestling.elastic.block import ElasticBlock, WithContext


class FixedBlock(ElasticBlock):
    """A module that always runs whole: one unit, one level, no residual.

    Args:
        module: Of one input and one output.
        name: See `ElasticBlock`.
        layer: See `ElasticBlock`.
    """

    def __init__(self, module: nn.Module, *, name: str = "", layer: int = -1) -> None:
        super().__init__(
            units=1, widths=(1,), name=name, layer=layer, skippable=False, residual=False
        )
        self.module = module

    def transform(self, h: Tensor, level: int, *context: Tensor) -> Tensor:
        """Run the module."""
        return self.module(h)  # type: ignore[no-any-return]

    def cut(self, first: int, last: int, *, level: int) -> nn.Module:
        """Return a copy of the module."""
        return WithContext(plain_copy(self.module))

    def magnitude(self) -> Tensor:
        """Return one: there is nothing to compare with."""
        return torch.ones(1)

    def permute(self, order: Tensor) -> None:
        """Do nothing: there is one unit."""
