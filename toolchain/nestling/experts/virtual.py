"""Virtual experts: slices of one feed-forward block (VersatileFFN, arXiv:2512.14531).

The width-wise part of it: expert e owns the neurons e, e + experts, e + 2 experts, ... of one
block. Experts then cost no weights, and a token that takes k of them pays for k / experts of it.
Training goes through the block's own weights; on the device the slices are experts like any.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from nestling.elastic.feed_forward import ElasticFeedForward
from nestling.errors import ModelError
from nestling.experts.bank import ExpertBank, ExpertMatrices, ExpertShape
from nestling.experts.layer import ONLY_TASK, ExpertFeedForward
from nestling.experts.routing import Router


class VirtualExperts(ExpertBank):
    """Experts that are disjoint, strided slices of one feed-forward block.

    Chosen experts weigh one on average: with equal scores, all of them together are the block.

    Args:
        up: (hidden neurons, dim); taken, not copied.
        down: (dim, hidden neurons); biases as `up`.
        gate: as `up`, or None.
        activation: Its name.
        experts: Number of experts; divides the neurons.
        top_k: Experts that each token takes.
        name: For errors.
    """

    def __init__(
        self,
        up: nn.Linear,
        down: nn.Linear,
        gate: nn.Linear | None,
        *,
        activation: str,
        experts: int,
        top_k: int,
        name: str = "experts",
    ) -> None:
        neurons = up.out_features
        if neurons % experts:
            raise ModelError(
                "the neurons do not divide into experts",
                module=name,
                expected=f"a divisor of {neurons}",
                actual=experts,
            )
        shape = ExpertShape(
            up.in_features,
            neurons // experts,
            experts,
            top_k,
            renormalise=True,
            activation=activation,
            gated=gate is not None,
            bias=up.bias is not None,
        )
        super().__init__(shape, name)
        self.up = up
        self.gate = gate
        self.down = down

    def matrices(self) -> ExpertMatrices:
        """Return the slices; gradients reach the block."""
        down = self.down.weight.reshape(self.dim, self.hidden, self.experts).permute(2, 0, 1)
        # The weights of the chosen sum to one: their neurons are to count as in the block, and so
        # does an output bias that each of them has.
        down_bias = None if self.down.bias is None else self.down.bias.expand(self.experts, -1)
        return ExpertMatrices(
            self._rows(self.up.weight),
            down * self.experts,
            None if self.gate is None else self._rows(self.gate.weight),
            None if self.up.bias is None else self._rows(self.up.bias),
            down_bias,
            None if self.gate is None or self.gate.bias is None else self._rows(self.gate.bias),
        )

    def _rows(self, tensor: Tensor) -> Tensor:
        """(neurons, ...) to (experts, neurons of one, ...), strided."""
        return tensor.reshape(self.hidden, self.experts, *tensor.shape[1:]).transpose(0, 1)


def virtual_experts(block: ElasticFeedForward, experts: int, top_k: int) -> ExpertFeedForward:
    """Make an expert layer of slices of a feed-forward block, to be trained on.

    Its router scores all experts equally before training, so with all of them active it computes
    what the block does.

    Args:
        block: at full width, with all biases or none; its weights are copied.
        experts: number of slices.
        top_k: slices that each token takes.

    Raises:
        ModelError: the neurons do not divide.
    """
    bank = VirtualExperts(
        copy.deepcopy(block.up),
        copy.deepcopy(block.down),
        copy.deepcopy(block.gate),
        activation=block.activation_name,
        experts=experts,
        top_k=top_k,
        name=block.name,
    )
    layer = ExpertFeedForward(
        bank,
        norm=copy.deepcopy(block.norm),
        name=block.name,
        layer=block.layer,
        skippable=block.skippable,
        dropout=block.dropout,
    )
    router = layer.routers[ONLY_TASK]
    assert isinstance(router, Router)
    nn.init.zeros_(router.weight)
    return layer
