"""Whether the runtime computes what eager torch computes: every named path, and random subnets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nestling.bench.records import Record, missing_record
from nestling.bench.runner import Runner
from nestling.bench.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from nestling.elastic import Subnet, SubnetSpace, Supernet

PARITY_MAX = "parity_max"
AGREEMENT = "top-1 agreement"

RANDOM_SUBNETS = 50
_TRAINED_SAMPLES = 64
_UNTRAINED_SAMPLES = 2


@dataclass(frozen=True)
class Parity:
    """How far runtime and eager torch are apart, over all subnets and samples.

    Attributes:
        largest_difference: Of any output value.
        largest_output: Of any value of eager torch, for scale.
        agreement: The lowest share of samples, over the subnets, on which both have the same top-1.
        worst: The subnet with the largest difference.
        subnets: How many were compared.
    """

    largest_difference: float
    largest_output: float
    agreement: float
    worst: str
    subnets: int


def measure_parity(subject: Subject) -> list[Record]:
    """Measure `parity_max`: the runtime against eager torch in fp32.

    The value is the largest difference of any output for fp32 bundles, the lowest top-1 agreement
    of any subnet for quantised ones. Top-1 of an untrained network is decided by noise: quantised
    ones with random weights give the largest difference over the largest output instead, with no
    promise.
    """
    if subject.supernet is None:
        return [missing_record(PARITY_MAX, "1", subject.label, "no supernet beside the bundle")]
    from nestling.elastic import load

    supernet = load(subject.supernet).eval()
    inputs = _inputs(subject, supernet)
    with Runner.open(subject.bundle, threads=subject.threads) as runner:
        subnets = choose_subnets(supernet.space, RANDOM_SUBNETS)
        parity = compare(supernet, runner, subnets, inputs)
    value, unit = parity.largest_difference, "1"
    if subject.scheme != "fp32" and subject.recipe is not None:
        value, unit = parity.agreement, AGREEMENT
    elif subject.scheme != "fp32":
        value, unit = parity.largest_difference / parity.largest_output, "relative error"
    where = (
        f"{parity.subnets} subnets, {len(inputs)} samples; worst: {parity.worst}; "
        f"baseline: largest output; {subject.where}"
    )
    return [
        Record(PARITY_MAX, value, unit, parity.largest_output, None, None, subject.label, where)
    ]


def choose_subnets(space: SubnetSpace, count: int, seed: int = 0) -> dict[str, Subnet]:
    """Return the named subnets, and `count` random ones under names of their own."""
    rng = random.Random(seed)
    chosen = dict(space.named)
    seen = set(chosen.values())
    for _ in range(100 * count):
        if len(chosen) >= len(space.named) + count:
            break
        subnet = space.sample(rng)
        if subnet not in seen:
            seen.add(subnet)
            chosen[str(subnet)] = subnet
    return chosen


def compare(
    supernet: Supernet,
    runner: Runner,
    subnets: dict[str, Subnet],
    inputs: Sequence[tuple[Tensor, ...]],
) -> Parity:
    """Run every subnet on every input in both; the named ones fused and as a chain."""
    import torch

    largest = scale = 0.0
    agreement, worst = 1.0, ""
    for name, subnet in subnets.items():
        with torch.inference_mode():
            expected = [supernet(*sample, subnet=subnet).numpy() for sample in inputs]
        for mode in ("chain", "fused") if name in runner.paths else ("chain",):
            if mode == "fused":
                runner.select(name)
            else:
                runner.select_levels(subnet.levels)
            same = 0
            for sample, reference in zip(inputs, expected, strict=True):
                output = runner.run([tensor.numpy() for tensor in sample])
                difference = float(abs(output - reference).max())
                scale = max(scale, float(abs(reference).max()))
                if difference > largest:
                    largest, worst = difference, name
                same += int(output.reshape(-1).argmax() == reference.reshape(-1).argmax())
            agreement = min(agreement, same / len(inputs))
    return Parity(largest, scale, agreement, worst, len(subnets))


def _inputs(subject: Subject, supernet: Supernet) -> list[tuple[Tensor, ...]]:
    from nestling.bench.samples import noise_samples

    if subject.recipe is None:
        return noise_samples(supernet, _UNTRAINED_SAMPLES)
    from nestling.recipes import find_recipe

    data = find_recipe(subject.recipe).data()
    return [
        tuple(tensor[at : at + 1] for tensor in data.inputs)
        for at in range(min(_TRAINED_SAMPLES, len(data.target)))
    ]
