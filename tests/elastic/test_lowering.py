"""What blocks export to: XNNPACK delegates with nothing left outside."""

from __future__ import annotations

import pytest
import torch
from elastic.samples import blocks, supernets
from torch import Tensor, nn

from nestling.elastic.norms import RMSNorm

pytest.importorskip("executorch.exir")


def lower(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, set[str]]:
    """Return how many delegates there are, and the operators outside of them."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = to_edge_transform_and_lower(
        torch.export.export(module, inputs), partitioner=[XnnpackPartitioner()]
    ).exported_program()
    calls = [n.target for n in program.graph.nodes if n.op == "call_function"]
    names = [str(getattr(target, "_name", target)) for target in calls]
    outside = [name for name in names if "getitem" not in name and "delegate" not in name]
    delegates = sum("delegate" in name for name in names)
    return delegates, {name.split("::")[-1].split(".")[0] for name in outside}


class SideBySide(nn.Module):
    """Several modules with inputs of their own: lowering one program is faster than many."""

    def __init__(self, cases: list[tuple[nn.Module, tuple[Tensor, ...]]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(module for module, _ in cases)
        self.counts = [len(inputs) for _, inputs in cases]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for module, count in zip(self.parts, self.counts, strict=True):
            outputs.append(module(*inputs[:count]))
            inputs = inputs[count:]
        return tuple(outputs)


@pytest.mark.slow
def test_nothing_of_a_part_stays_outside() -> None:
    cases: list[tuple[nn.Module, tuple[Tensor, ...]]] = []
    for block, inputs in blocks().values():
        x, context = inputs[0][:1], tuple(c[:1] if c.dim() == 4 else c for c in inputs[1:])
        with torch.no_grad():
            h = block.prepare()(x, *context)
            y = block.part(1)(h, *context)
        cases.append((block.part(len(block.widths)), (h, *context)))
        cases.append((block.finish(1), (y,)))
        if isinstance(block.norm, RMSNorm):
            cases.append((block.prepare(), (x,)))
    inputs = tuple(value.clone() for _, values in cases for value in values)
    assert lower(SideBySide(cases).eval(), inputs) == (1, set())


@pytest.mark.slow
def test_nothing_of_a_decoder_stays_outside_but_the_embedding() -> None:
    supernet, _ = supernets()["llama"]
    dense = supernet.dense(supernet.space.smallest())
    assert lower(dense, supernet.example_inputs()) == (1, {"embedding"})
