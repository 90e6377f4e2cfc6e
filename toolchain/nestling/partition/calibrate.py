"""Record what each stage really sees, under a mixture of subnets."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from nestling.elastic.supernet import Supernet, split_stem

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
    examples = [
        tuple(t[i : i + 1] for t in batch) for batch in batches for i in range(len(batch[0]))
    ][:samples]
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
