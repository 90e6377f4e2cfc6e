"""Cut a supernet into stages: the stem, every block at every width and precision, the head."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nestling.elastic.block import ElasticBlock
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet, split_stem
from nestling.errors import ModelError
from nestling.partition.modules import BlockStage
from nestling.partition.wires import Position, Wires
from nestling.quantize.dynamic import quantize_linears, require_linears
from nestling.quantize.schemes import Scheme

_Supernet = TypeVar("_Supernet", bound=Supernet)


@dataclass(frozen=True)
class StageKey:
    """Which stage: a position of the chain at a nesting level and a precision.

    Attributes:
        position: 0 is the stem, the last one the head, blocks between.
        level: 1 for stem and head.
        bits: weight precision, one of the scheme's levels.
    """

    position: int
    level: int
    bits: int


@dataclass(frozen=True)
class StageCut:
    """One stage before it is lowered.

    Attributes:
        key: which stage.
        name: unique in the bundle: ``stem``, ``<block>.w2``, ``<block>.w2.q4``, ``head``.
        module: in evaluation mode; quantised unless the scheme is static.
        example_inputs: real activations of the right shapes, batch size 1.
        macs: multiply-accumulates of one call.
    """

    key: StageKey
    name: str
    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    macs: int


@dataclass(frozen=True)
class Ends:
    """What goes into a model and comes out of it.

    Attributes:
        inputs: by name, in the stem's order, batch size 1.
        output_name: of what the head gives.
    """

    inputs: dict[str, Tensor]
    output_name: str


@dataclass(frozen=True)
class Cut:
    """A supernet in pieces, each position of the chain a whole block: layer grain.

    Attributes:
        stages: by key, in the order of the chain, narrow before wide.
        streams: the stream that enters the first block, the second, ..., the head.
        context: the tensors that the stem hands to everyone, by name.
        output: an example of what the head gives.
        positions: the chain, one entry for each ``StageKey.position``.
        ends: the model's own inputs and output.
    """

    stages: dict[StageKey, StageCut]
    streams: tuple[Tensor, ...]
    context: dict[str, Tensor]
    output: Tensor
    positions: tuple[Position, ...]
    ends: Ends

    def chain(self, subnet: Subnet, bits: int) -> list[StageKey]:
        """Keys of the stages that compute ``subnet`` one after the other."""
        head = len(subnet.levels) + 1
        blocks = [StageKey(i, level, bits) for i, level in enumerate(subnet.levels, 1) if level]
        return [StageKey(0, 1, bits), *blocks, StageKey(head, 1, bits)]

    def wires(self) -> Wires:
        """Slots between the stages; streams of one type and shape share one."""
        wires, context = start_wires(self.ends, self.context, self.output)
        streams = [wires.share_slot("x", stream) for stream in self.streams]
        before = [tuple(self.ends.inputs), *((name, *context) for name in streams)]
        after = [(streams[0], *context), *((name,) for name in streams[1:])]
        after.append((self.ends.output_name,))
        for key in self.stages:
            wires.connect(key, before[key.position], after[key.position])
        return wires


def start_wires(
    ends: Ends, context: dict[str, Tensor], output: Tensor
) -> tuple[Wires, tuple[str, ...]]:
    """Return wires with the slots that any grain has, and the names of the context's."""
    wires = Wires()
    for name, tensor in ends.inputs.items():
        wires.add_slot(name, tensor, "input")
    names = tuple(wires.add_slot(name, t, "internal") for name, t in context.items())
    wires.add_slot(ends.output_name, output, "output")
    return wires, names


class StageMaker:
    """Makes stages of modules: quantised where the scheme says so, named and weighed.

    Args:
        scheme: how to quantise. Dynamic schemes are quantised here; static ones are by the
            target, which has the data that this needs.
    """

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.stages: dict[StageKey, StageCut] = {}

    def add(
        self, position: int, level: int, name: str, module: nn.Module, example: tuple[Tensor, ...]
    ) -> None:
        """Add a stage at every precision of the scheme."""
        macs = _count_macs(module, example)
        for bits in self.scheme.levels:
            key = StageKey(position, level, bits)
            dynamic = self.scheme.activations == "dynamic"
            quantized = quantize_linears(module, self.scheme, bits) if dynamic else module
            full = bits == self.scheme.full_bits or len(self.scheme.levels) == 1
            label = name if full else f"{name}.q{bits}"
            self.stages[key] = StageCut(key, label, quantized.eval(), example, macs)


def cut(supernet: Supernet, scheme: Scheme) -> Cut:
    """Cut ``supernet`` into the stages of ``scheme``.

    Raises:
        ModelError: a block cannot be cut, or the scheme finds nothing to quantise; names it.
    """
    supernet = plain_supernet(supernet, scheme)
    inputs = tuple(supernet.example_inputs())
    maker = StageMaker(scheme)
    with torch.no_grad():
        maker.add(0, 1, "stem", supernet.plain_stem(), inputs)
        x, context = split_stem(supernet.stem(*inputs))
        streams = [x]
        for position, block in enumerate(supernet.chain, 1):
            for level in range(1, len(block.widths) + 1):
                module = block_stage(block, level)
                maker.add(position, level, f"{block.name}.w{level}", module, (x, *context))
            block.level = len(block.widths)
            x = block(x, *context)
            streams.append(x)
        maker.add(len(streams), 1, "head", supernet.plain_head(), (x, *context))
        output = supernet.head(x, *context)
    chain = [Position(b.name, b.layer, not b.skippable) for b in supernet.chain]
    return Cut(
        maker.stages,
        tuple(streams),
        dict(zip(supernet.context_names, context, strict=True)),
        output,
        end_positions(chain),
        model_ends(supernet),
    )


def plain_supernet(supernet: _Supernet, scheme: Scheme) -> _Supernet:
    """Return a copy to cut up.

    Raises:
        ModelError: the scheme finds nothing to quantise.
    """
    supernet = copy.deepcopy(supernet).eval().requires_grad_(False)
    if scheme.activations == "dynamic":
        require_linears(supernet.blocks, scheme)
    return supernet


def model_ends(supernet: Supernet) -> Ends:
    """Return what goes into the model and comes out of it."""
    inputs = dict(zip(supernet.input_names, supernet.example_inputs(), strict=True))
    return Ends(inputs, supernet.output_name)


def end_positions(blocks: list[Position]) -> tuple[Position, ...]:
    """Return the chain with stem and head, which every path needs."""
    last = max(block.layer for block in blocks)
    return (Position("stem", 0, True), *blocks, Position("head", last, True))


def no_levels(block: ElasticBlock, error: NotImplementedError) -> ModelError:
    """Return the error for a block that is not made of levels."""
    return ModelError(
        f"a {type(block).__name__} cannot be cut into levels: {error}", module=block.name
    )


def block_stage(block: ElasticBlock, level: int) -> BlockStage:
    """Return a block at a level as a module of its own.

    Raises:
        ModelError: the block is not made of levels; names it.
    """
    try:
        return BlockStage(
            block.prepare(),
            [block.part(k) for k in range(1, level + 1)],
            block.finish(level),
            copy.deepcopy(block.post).eval(),
            residual=block.residual,
        )
    except NotImplementedError as error:
        raise no_levels(block, error) from error


def _count_macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*example)
    return int(counter.get_total_flops()) // 2
