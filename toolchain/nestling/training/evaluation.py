"""How good a subnet is, and what the subnets keep of the full net."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nestling.elastic import Subnet, SubnetSpace, Supernet
from nestling.training.threads import torch_threads

Metric = Callable[[Tensor, Tensor], float]
"""(outputs of all samples, targets) -> quality, larger is better."""


def top1(output: Tensor, target: Tensor) -> float:
    """Return the share of rows whose largest logit is at the target class."""
    return float((output.argmax(dim=-1) == target).double().mean())


@torch.inference_mode()
def predict(
    supernet: Supernet, subnet: Subnet, inputs: Sequence[Tensor], batch_size: int = 256
) -> Tensor:
    """Return the subnet's outputs for all samples, on the CPU; dropout off, saved statistics used.

    The supernet is left in the mode it was in, with `subnet` selected.
    """
    was_training = supernet.training
    supernet.eval()
    try:
        device = next(supernet.parameters()).device
        supernet.select(subnet)
        outputs = [
            supernet(*(part.to(device) for part in parts)).float().cpu()
            for parts in zip(*(torch.split(whole, batch_size) for whole in inputs), strict=True)
        ]
    finally:
        supernet.train(was_training)
    return torch.cat(outputs)


def accuracy(supernet: Supernet, subnet: Subnet, images: Tensor, labels: Tensor) -> float:
    """Return the subnet's top-1 accuracy in [0, 1].

    Args:
        supernet: With one input.
        subnet: What to run.
        images: All inputs, first dimension the sample.
        labels: int64 classes, shape (samples,).
    """
    return top1(predict(supernet, subnet, [images]), labels)


def sample_subnets(space: SubnetSpace, count: int, seed: int = 0) -> list[Subnet]:
    """Return at least `count` different subnets: the named, all uniform ones, then random ones.

    A space with fewer subnets than `count` gives as many as it has (or as were found in many
    draws).
    """
    chosen = dict.fromkeys([*space.named.values(), *space.enumerate_uniform()])
    rng = random.Random(f"nestling/evaluate/{seed}")
    for _ in range(100 * count):
        if len(chosen) >= min(count, space.count()):
            break
        chosen[space.sample(rng)] = None
    return list(chosen)


@dataclass(frozen=True)
class Retention:
    """What the subnets keep of the full net's quality.

    Attributes:
        full: The full net's quality.
        qualities: Quality of every subnet measured, the full one among them.
        worst: The subnet with the lowest quality.
        minimum: The worst quality over the full net's.
    """

    full: float
    qualities: dict[Subnet, float]
    worst: Subnet
    minimum: float


def measure_retention(
    supernet: Supernet,
    inputs: Sequence[Tensor],
    target: Tensor,
    metric: Metric = top1,
    *,
    count: int = 160,
    seed: int = 0,
    threads: int = 0,
) -> Retention:
    """Measure subnets on held-out samples.

    Args:
        supernet: Trained.
        inputs: Held-out inputs, one tensor for each input of the model.
        target: Held-out targets.
        metric: Quality, larger is better.
        count: At least how many subnets; see `sample_subnets`.
        seed: Which ones.
        threads: See `TrainConfig`.
    """
    with torch_threads(threads):
        qualities = {
            subnet: metric(predict(supernet, subnet, inputs), target)
            for subnet in sample_subnets(supernet.space, count, seed)
        }
    full = qualities[supernet.space.full()]
    worst = min(qualities, key=lambda subnet: qualities[subnet])
    return Retention(full, qualities, worst, qualities[worst] / full if full else 0.0)
