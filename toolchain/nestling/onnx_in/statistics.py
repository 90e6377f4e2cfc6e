"""Give batch norm back to convolutions that came without.

Exporters fold batch norm into the convolutions before it. A block with norms that do nothing
computes the same, but training it would normalise by every batch's own statistics and so begin
with another network. So statistics are measured on inputs, and scale and shift are chosen such
that the norm does nothing for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nestling.elastic.batch_norm import NestedBatchNorm2d, pad_same
from nestling.elastic.inverted_residual import ElasticInvertedResidual
from nestling.elastic.supernet import Supernet


@torch.no_grad()
def restore_batch_norm(supernet: Supernet, inputs: Sequence[Tensor]) -> None:
    """Measure statistics and fit scales and shifts to them; the network computes the same.

    Args:
        supernet: whose norms have done nothing so far but add their shifts.
        inputs: one tensor `[batch, ...]` for each input; the more real examples, the better.
    """
    blocks = [b for b in supernet.chain if isinstance(b, ElasticInvertedResidual)]
    hooks = [block.register_forward_pre_hook(_fit_block) for block in blocks]
    try:
        supernet.eval()(*inputs, subnet=supernet.space.full())
    finally:
        for hook in hooks:
            hook.remove()


def _fit_block(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(block, ElasticInvertedResidual)
    h = block.activation(_fit(block.expand_norm, block.expand(inputs[0])))
    if block.same_padding:
        h = pad_same(h, block.depthwise)
    h = block.activation(_fit(block.depthwise_norm, block.depthwise(h)))
    _fit(block.project_norm, block.project(h))


def _fit(norm: NestedBatchNorm2d, x: Tensor) -> Tensor:
    """Fit a norm that adds its shift alone, and return what it gives."""
    y = x + norm.bias[:, None, None]
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    norm.weight.copy_(torch.sqrt(var + norm.eps))
    norm.bias.add_(mean)
    norm.running_mean.copy_(mean.expand_as(norm.running_mean))
    norm.running_var.copy_(var.expand_as(norm.running_var))
    return y


def plain_norms(supernet: Supernet) -> None:
    """Let the norms of inverted residuals add their shifts and nothing else."""
    for block in supernet.chain:
        if isinstance(block, ElasticInvertedResidual):
            for norm in (block.expand_norm, block.depthwise_norm, block.project_norm):
                nn.init.ones_(norm.weight)
                norm.running_mean.zero_()
                norm.running_var.fill_(1.0 - norm.eps)
