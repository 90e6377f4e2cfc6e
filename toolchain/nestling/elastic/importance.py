"""Importance of units, and sorting by it, so that prefixes hold what matters most.

Three measures: `magnitude` looks at the weights alone; `activation` is the mean size of what a unit
hands on; `taylor` is the first-order change of the loss if the unit were removed, summed over
batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from nestling.elastic.block import ElasticBlock, Method
from nestling.elastic.recalibrate import Batch, as_inputs
from nestling.elastic.supernet import Supernet
from nestling.errors import ModelError

Loss = Callable[[Tensor, Batch], Tensor]


def sort_units(
    supernet: Supernet,
    method: Method = "magnitude",
    batches: Iterable[Batch] | None = None,
    loss: Loss | None = None,
) -> None:
    """Reorder the units of every block, most important first; the full net computes the same.

    Args:
        supernet: Reordered in place.
        method: See the module's text.
        batches: Needed for `activation` and `taylor`: what the stem takes, or more (labels, say),
            of which the stem gets as much as it has inputs.
        loss: Needed for `taylor`: `(output, batch) -> scalar`.

    Raises:
        ModelError: Unknown method, or batches or loss are missing.
    """
    if method not in ("magnitude", "activation", "taylor"):
        raise ModelError(
            "unknown importance", expected="magnitude, activation, taylor", actual=method
        )
    if method != "magnitude":
        collect(supernet, method, batches if batches is not None else (), loss)
    for block in supernet.chain:
        scores = block.importance(method)
        block.permute(torch.argsort(scores, descending=True, stable=True))
        block.statistics.clear()


def collect(
    supernet: Supernet, method: Method, batches: Iterable[Batch], loss: Loss | None = None
) -> None:
    """Gather statistics on the full net for `ElasticBlock.importance`.

    Raises:
        ModelError: There are no batches, or no loss for `taylor`.
    """
    if method == "taylor" and loss is None:
        raise ModelError("importance by taylor needs a loss")
    device = next(supernet.parameters()).device
    before, training, seen = supernet.active, supernet.training, 0
    probes = [_Probe(block, method == "taylor", device) for block in supernet.chain]
    supernet.eval()
    try:
        for batch in batches:
            inputs = as_inputs(batch, device)[: len(supernet.input_names)]
            with torch.set_grad_enabled(method == "taylor"):
                output = supernet(*inputs, subnet=supernet.space.full())
                if loss is not None and method == "taylor":
                    gates = [probe.gate for probe in probes]
                    for probe, gradient in zip(
                        probes, torch.autograd.grad(loss(output, batch), gates), strict=True
                    ):
                        probe.total += gradient.abs()
            seen += 1
    finally:
        for probe in probes:
            probe.block.probe = None
        supernet.train(training)
        supernet.select(before)
    if not seen:
        raise ModelError(f"importance by {method} needs batches")
    for probe in probes:
        probe.block.statistics[method] = probe.total / seen


class _Probe:
    """Stands in the hidden activations of one block: sums sizes, or holds a gate for gradients."""

    def __init__(self, block: ElasticBlock, gated: bool, device: torch.device) -> None:
        self.block = block
        self.gated = gated
        self.gate = torch.ones(block.units, device=device, requires_grad=gated)
        self.total = torch.zeros(block.units, device=device)
        block.probe = self

    def __call__(self, hidden: Tensor) -> Tensor:
        axis = self.block.probe_axis % hidden.dim()
        if self.gated:
            gate = self.gate.repeat_interleave(self.block.probe_repeat)
            return hidden * gate.reshape([-1 if i == axis else 1 for i in range(hidden.dim())])
        size = hidden.abs().mean([i for i in range(hidden.dim()) if i != axis])
        self.total += size.reshape(self.block.units, -1).mean(1)
        return hidden
