"""Cut a supernet into stages: the stem, every block at every width and precision, the head."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nestling.elastic.block import ElasticBlock
from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet, split_stem
from nestling.errors import ModelError
from nestling.partition.modules import BlockStage
from nestling.quantize.dynamic import quantize_linears, require_linears
from nestling.quantize.schemes import Scheme


@dataclass(frozen=True)
class StageKey:
    """Which stage: a position of the chain at a nesting level and a precision.

    Attributes:
        position: 0 is the stem, 1..n the blocks, n + 1 the head.
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
class Cut:
    """A supernet in pieces.

    Attributes:
        stages: by key, in the order of the chain, narrow before wide.
        streams: shape of the stream that enters position 1, 2, ..., n + 1.
        context: the tensors that the stem hands to everyone, by name.
        output: an example of what the head gives.
    """

    stages: dict[StageKey, StageCut]
    streams: tuple[Tensor, ...]
    context: dict[str, Tensor]
    output: Tensor

    def chain(self, subnet: Subnet, bits: int) -> list[StageKey]:
        """Keys of the stages that compute ``subnet`` one after the other."""
        head = len(subnet.levels) + 1
        blocks = [StageKey(i, level, bits) for i, level in enumerate(subnet.levels, 1) if level]
        return [StageKey(0, 1, bits), *blocks, StageKey(head, 1, bits)]


def cut(supernet: Supernet, scheme: Scheme) -> Cut:
    """Cut ``supernet`` into the stages of ``scheme``.

    With dynamic schemes the linears of each stage are quantised here; static ones are quantised by
    :func:`nestling.quantize.static.quantize_static`, which needs data.

    Raises:
        ModelError: a block cannot be cut, or the scheme finds nothing to quantise; names it.
    """
    supernet = copy.deepcopy(supernet).eval().requires_grad_(False)
    if scheme.activations == "dynamic":
        require_linears(supernet.blocks, scheme)
    inputs = tuple(supernet.example_inputs())
    stages: dict[StageKey, StageCut] = {}

    def add(key: StageKey, name: str, module: nn.Module, example: tuple[Tensor, ...]) -> None:
        macs = _count_macs(module, example)
        if scheme.activations == "dynamic":
            module = quantize_linears(module, scheme, key.bits)
        if len(scheme.levels) > 1 and key.bits != scheme.full_bits:
            name = f"{name}.q{key.bits}"
        stages[key] = StageCut(key, name, module.eval(), example, macs)

    with torch.no_grad():
        for bits in scheme.levels:
            add(StageKey(0, 1, bits), "stem", supernet.plain_stem(), inputs)
        x, context = split_stem(supernet.stem(*inputs))
        streams = [x]
        for position, block in enumerate(supernet.chain, 1):
            for bits in scheme.levels:
                for level in range(1, len(block.widths) + 1):
                    module = _block_stage(block, level)
                    key = StageKey(position, level, bits)
                    add(key, f"{block.name}.w{level}", module, (x, *context))
            block.level = len(block.widths)
            x = block(x, *context)
            streams.append(x)
        for bits in scheme.levels:
            key = StageKey(len(streams), 1, bits)
            add(key, "head", supernet.plain_head(), (x, *context))
        output = supernet.head(x, *context)
    names = dict(zip(supernet.context_names, context, strict=True))
    return Cut(stages, tuple(streams), names, output)


def _block_stage(block: ElasticBlock, level: int) -> BlockStage:
    try:
        return BlockStage(
            block.prepare(),
            [block.part(k) for k in range(1, level + 1)],
            block.finish(level),
            copy.deepcopy(block.post).eval(),
            residual=block.residual,
        )
    except NotImplementedError as error:
        raise ModelError(
            f"a {type(block).__name__} cannot be cut into levels: {error}", module=block.name
        ) from error


def _count_macs(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        module(*example)
    return int(counter.get_total_flops()) // 2
