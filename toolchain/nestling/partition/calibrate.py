"""Record what each stage really sees, under a mixture of subnets."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from nestling.elastic.subnet import Subnet
from nestling.elastic.supernet import Supernet, split_stem
from nestling.partition.cut import Cut, StageKey
from nestling.partition.whole import WholeCut

Samples = tuple[tuple[Tensor, ...], ...]


def record_inputs(
    supernet: Supernet,
    batches: Sequence[tuple[Tensor, ...]],
    *,
    samples: int = 32,
    seed: int = 0,
) -> list[Samples]:
    """Run real inputs through random subnets and keep what enters each position.

    The first half of the samples runs the full subnet, so that its ranges are covered; each of the
    rest draws a subnet, because the stream behind a narrow block differs from the one behind a wide
    block and one set of ranges must serve both.

    Args:
        supernet: trained.
        batches: inputs of the model, each tensor ``[batch, ...]``; cut up into single examples.
        samples: how many examples to use at most.
        seed: of the subnets drawn.

    Returns:
        For positions 0 (stem) to n + 1 (head), the inputs of each recorded example; a position that
        a sampled subnet skips has fewer.
    """
    rng = random.Random(seed)
    examples = _single_examples(batches, samples)
    positions = len(supernet.blocks) + 2
    recorded: list[list[tuple[Tensor, ...]]] = [[] for _ in range(positions)]
    training = supernet.training
    supernet.eval()
    full = supernet.space.full()
    with torch.no_grad():
        for index, example in enumerate(examples):
            subnet = full if 2 * index < len(examples) else supernet.space.sample(rng)
            supernet.select(subnet)
            x, context = split_stem(supernet.stem(*example))
            recorded[0].append(example)
            for position, block in enumerate(supernet.chain, 1):
                if subnet.levels[position - 1]:
                    recorded[position].append((x, *context))
                x = block(x, *context)
            recorded[-1].append((x, *context))
    supernet.select(full)
    supernet.train(training)
    return [tuple(inputs) for inputs in recorded]


def record_stage_inputs(
    supernet: Supernet,
    pieces: Cut,
    batches: Sequence[tuple[Tensor, ...]],
    *,
    samples: int = 32,
    seed: int = 0,
) -> list[Samples]:
    """Record what enters each position of the pieces, whatever their grain.

    Whole layers see what :func:`record_inputs` records, whole paths the inputs of the model; other
    pieces are run themselves, for subnets drawn in the same way.

    Args:
        supernet: of the pieces.
        pieces: with float modules.
        batches: see :func:`record_inputs`.
        samples: how many examples to use at most.
        seed: of the subnets drawn.

    Returns:
        The inputs of each recorded example by position; a position that a sampled subnet skips has
        fewer.
    """
    if type(pieces) is Cut:
        return record_inputs(supernet, batches, samples=samples, seed=seed)
    examples = _single_examples(batches, samples)
    if isinstance(pieces, WholeCut):
        return [tuple(examples)] * len(pieces.positions)
    rng = random.Random(seed)
    recorded: list[list[tuple[Tensor, ...]]] = [[] for _ in pieces.positions]
    space = supernet.space
    with torch.no_grad():
        for index, example in enumerate(examples):
            full = 2 * index < len(examples)
            _record(pieces, space.full() if full else space.sample(rng), example, recorded)
        for subnet in space.enumerate_uniform() if examples else ():
            if not all(recorded[key.position] for key in _chain(pieces, subnet)):
                _record(pieces, subnet, examples[0], recorded)
    return [tuple(inputs) for inputs in recorded]


def _chain(pieces: Cut, subnet: Subnet) -> list[StageKey]:
    return pieces.chain(subnet, max(key.bits for key in pieces.stages))


def _record(
    pieces: Cut,
    subnet: Subnet,
    example: tuple[Tensor, ...],
    recorded: list[list[tuple[Tensor, ...]]],
) -> None:
    """Run a subnet's stages, and append what enters each."""
    wires = pieces.wires()
    held = dict(zip(pieces.ends.inputs, example, strict=True))
    for key in _chain(pieces, subnet):
        inputs = tuple(held[name] for name in wires.reads[key])
        recorded[key.position].append(inputs)
        outputs = pieces.stages[key].module(*inputs)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        held.update(zip(wires.writes[key], outputs, strict=True))


def _single_examples(
    batches: Sequence[tuple[Tensor, ...]], samples: int
) -> list[tuple[Tensor, ...]]:
    return [tuple(t[i : i + 1] for t in batch) for batch in batches for i in range(len(batch[0]))][
        :samples
    ]
