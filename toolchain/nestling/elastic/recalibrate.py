"""Batch-norm statistics that fit the subnets.

Training leaves running statistics behind that mix what all sampled subnets produced with weights
from long ago. Using a subnet without measuring them again is the classic failure of elastic
training: the loss was fine, the deployed network is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from nestling.elastic.batch_norm import NestedBatchNorm2d
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet
from nestling.errors import ModelError

Batch = Tensor | Sequence[Tensor]


def has_batch_norm(supernet: Supernet) -> bool:
    """Return whether the supernet has statistics to recalibrate."""
    return any(isinstance(m, NestedBatchNorm2d | _BatchNorm) for m in supernet.modules())


@torch.no_grad()
def recalibrate(
    supernet: Supernet, batches: Iterable[Batch], subnets: Iterable[Subnet] | None = None
) -> None:
    """Measure all batch-norm statistics anew: the equal-weight mean over batches and subnets.

    Statistics after a projection are kept for each level of its block, all others are shared by
    the subnets, so give those that will be used: several for a network that switches, one to
    specialise. Statistics that no subnet reaches keep their old values. Does nothing without
    batch norm.

    Args:
        supernet: Whose statistics are replaced. Mode and active subnet stay what they were.
        batches: Inputs, a tensor or a sequence with one tensor for each input of the stem; at least
            a few hundred examples in all.
        subnets: Each sees every batch. Default: every level at every depth.

    Raises:
        ModelError: There are no batches or no subnets.
    """
    if not has_batch_norm(supernet):
        return
    chosen = list(supernet.space.enumerate_uniform() if subnets is None else subnets)
    if not chosen:
        raise ModelError("recalibration needs at least one subnet")
    device = next(supernet.parameters()).device
    before, seen = supernet.active, 0
    with _collecting(supernet):
        for batch in batches:
            inputs = as_inputs(batch, device)
            for subnet in chosen:
                supernet(*inputs, subnet=subnet)
            seen += 1
    supernet.select(before)
    if seen == 0:
        raise ModelError("recalibration needs at least one batch")


def as_inputs(batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
    """Return a batch as a tuple of tensors on a device."""
    tensors = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    return tuple(tensor.to(device) for tensor in tensors)


@contextmanager
def _collecting(supernet: Supernet) -> Iterator[None]:
    nested = [m for m in supernet.modules() if isinstance(m, NestedBatchNorm2d)]
    plain = [m for m in supernet.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in plain]
    training = supernet.training
    supernet.eval()
    for norm in nested:
        norm.start_collecting()
    for module in plain:
        # Without momentum, torch averages with equal weights since the last reset.
        module.reset_running_stats()
        module.momentum = None
        module.train()
    try:
        yield
    finally:
        for norm in nested:
            norm.collecting = False
        for module, momentum in zip(plain, momenta, strict=True):
            module.momentum = momentum
        supernet.train(training)
