"""Whole paths: each named subnet in one piece of its own, sharing nothing by design.

What one exports without nested stages, and so what a target's bytes are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet
from nestling.partition.cut import (
    Cut,
    StageKey,
    StageMaker,
    model_ends,
    plain_supernet,
    start_wires,
)
from nestling.partition.wires import Position, Wires
from nestling.quantize.schemes import Scheme


@dataclass(frozen=True)
class WholeCut(Cut):
    """Subnets in one piece each; every path is one stage.

    Attributes:
        subnets: one a position.
    """

    subnets: tuple[Subnet, ...]

    def chain(self, subnet: Subnet, bits: int) -> list[StageKey]:
        """The one stage that computes ``subnet``."""
        return [StageKey(self.subnets.index(subnet), 1, bits)]

    def wires(self) -> Wires:
        """Slots of the model's own inputs and output."""
        wires, _ = start_wires(self.ends, {}, self.output)
        for key in self.stages:
            wires.connect(key, tuple(self.ends.inputs), (self.ends.output_name,))
        return wires


def cut_paths(supernet: Supernet, scheme: Scheme, subnets: Mapping[str, Subnet]) -> WholeCut:
    """Take subnets out of ``supernet``, dense and each with weights of its own.

    Args:
        supernet: trained; left unchanged.
        scheme: how to quantise.
        subnets: by the name that the stage will have.

    Raises:
        ModelError: the scheme finds nothing to quantise.
    """
    supernet = plain_supernet(supernet, scheme)
    inputs = tuple(supernet.example_inputs())
    maker = StageMaker(scheme)
    with torch.no_grad():
        for position, (name, subnet) in enumerate(subnets.items()):
            maker.add(position, 1, name, supernet.dense(subnet), inputs)
        output = supernet(*inputs)
    return WholeCut(
        maker.stages,
        (),
        {},
        output,
        tuple(Position(name, 0, False) for name in subnets),
        model_ends(supernet),
        tuple(subnets.values()),
    )
