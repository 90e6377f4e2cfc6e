"""The supernet: a stem, a chain of elastic blocks, a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nestling.elastic.batch_norm import plain_copy
from nestling.elastic.block import ElasticBlock
from nestling.elastic.subnet import Subnet, make_space
from nestling.errors import ModelError


class Supernet(nn.Module):
    """One model, all its subnets.

    Args:
        stem: `(*inputs) -> x` or `(x, *context)`; the context goes unchanged to every block and to
            the head.
        blocks: The chain. A block without a name becomes `block<i>`; if no block has a layer, each
            is a layer of its own.
        head: `(x, *context) -> output`.
        inputs: Example inputs of batch 1 by name, in the stem's order; static shapes for export.
        context_names: Names of the context tensors.
        output_name: Name of the output.
        family: `vit`, `bert`, `mobilenet_v2`, `llama` or `custom`.
        depths: See `make_space`.
        named: See `make_space`.
        early_exit: See `make_space`.
        config: What `nestling.elastic.load` needs to build this supernet again, in plain values.

    Attributes:
        space: All subnets.
        active: The subnet that `forward` runs.
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Iterable[ElasticBlock],
        head: nn.Module,
        *,
        inputs: Mapping[str, Tensor],
        context_names: Sequence[str] = (),
        output_name: str = "logits",
        family: str = "custom",
        depths: Sequence[float | int] | None = None,
        named: Mapping[str, Subnet] | None = None,
        early_exit: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head
        chain = self.chain
        whole = all(block.layer < 0 for block in chain)
        for index, block in enumerate(chain):
            block.name = block.name or f"block{index}"
            block.layer = index if whole else block.layer
            if block.layer < 0:
                raise ModelError("give every block its layer, or none", module=block.name)
        specs = [block.spec for block in chain]
        self.space = make_space(specs, depths, named, early_exit=early_exit)
        self.input_names = tuple(inputs)
        self._example_inputs = tuple(value.detach().clone() for value in inputs.values())
        self.context_names = tuple(context_names)
        self.output_name = output_name
        self.family = family
        self.config = None if config is None else dict(config)
        self.active = self.space.full()
        self.select(self.active)

    @property
    def chain(self) -> list[ElasticBlock]:
        """The blocks, typed."""
        return list(self.blocks)  # type: ignore[arg-type]

    def layers(self) -> list[tuple[ElasticBlock, ...]]:
        """Return the blocks grouped by layer, in order."""
        grouped: dict[int, list[ElasticBlock]] = {}
        for block in self.chain:
            grouped.setdefault(block.layer, []).append(block)
        return [tuple(blocks) for blocks in grouped.values()]

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return CPU inputs of batch 1, in the order of `input_names`."""
        return tuple(value.clone() for value in self._example_inputs)

    def select(self, subnet: Subnet) -> None:
        """Make a subnet the one that `forward` runs.

        Raises:
            PathError: There is no such subnet.
        """
        self.space.check(subnet)
        self.active = subnet
        for block, level in zip(self.chain, subnet.levels, strict=True):
            block.level = level

    def forward(self, *inputs: Tensor, subnet: Subnet | None = None) -> Tensor:
        """Run the active subnet, or another one that then becomes the active one."""
        if subnet is not None:
            self.select(subnet)
        x, context = split_stem(self.stem(*inputs))
        for block in self.blocks:
            x = block(x, *context)
        return self.head(x, *context)  # type: ignore[no-any-return]

    def plain_stem(self) -> nn.Module:
        """Return the stem as deployed: a copy in evaluation mode, batch norm folded."""
        return plain_copy(self.stem)

    def plain_head(self) -> nn.Module:
        """Return the head as deployed: a copy in evaluation mode, batch norm folded."""
        return plain_copy(self.head)

    def dense(self, subnet: Subnet) -> nn.Module:
        """Return a subnet by hand: a plain module of its own sliced weights, nothing elastic in it.

        Raises:
            PathError: There is no such subnet.
        """
        self.space.check(subnet)
        blocks = [
            block.dense(level)
            for block, level in zip(self.chain, subnet.levels, strict=True)
            if level
        ]
        return DenseNet(self.plain_stem(), blocks, self.plain_head()).eval()

    def count_parameters(self, subnet: Subnet) -> int:
        """Return how many parameters a subnet has as deployed (batch norm folded)."""
        self.space.check(subnet)
        ends = (self.plain_stem(), self.plain_head())
        total = sum(p.numel() for end in ends for p in end.parameters())
        for block, level in zip(self.chain, subnet.levels, strict=True):
            if level:
                total += block.count_parameters(level)
        return total

    def macs(self, subnet: Subnet) -> int:
        """Return the multiply-accumulates of matrix products and convolutions for one example."""
        self.space.check(subnet)
        before, training = self.active, self.training
        device = next(self.parameters()).device
        self.eval()
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                self(*(value.to(device) for value in self._example_inputs), subnet=subnet)
        finally:
            self.select(before)
            self.train(training)
        return int(counter.get_total_flops()) // 2


class DenseNet(nn.Module):
    """A subnet by hand."""

    def __init__(self, stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run it."""
        x, context = split_stem(self.stem(*inputs))
        for block in self.blocks:
            x = block(x, *context)
        return self.head(x, *context)  # type: ignore[no-any-return]


def split_stem(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Split what a stem returns into the stream and the context."""
    if isinstance(output, Tensor):
        return output, ()
    return output[0], tuple(output[1:])
