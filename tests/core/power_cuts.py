"""Updates that are cut after every flash operation, one by one, and then in random pairs.

`python -m core.power_cuts` prints the counts as JSON; `failures` is the metric power_cut_failures.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from core.device import AFTER, BEFORE, TORN, Device, Geometry, PowerCutError
from core.updates import UPDATES, Update, push_and_confirm, running, version

KINDS = (BEFORE, TORN, AFTER)


@dataclass
class Counts:
    """What came of the cuts."""

    operations: int = 0  # of one update
    updates: int = 0  # tried
    cuts: int = 0
    failures: int = 0  # devices without a valid model, or with one that is neither old nor new


@contextmanager
def a_device(geometry: Geometry) -> Iterator[Device]:
    """A device that runs version 1."""
    device = Device()
    device.make(geometry)
    try:
        push_and_confirm(device, version(1))
        yield device
    finally:
        device.close()


def is_sound(device: Device, allowed: Sequence[bytes]) -> bool:
    """Whether the device runs one of these bundles, byte for byte."""
    return running(device) in allowed


def cut_update(
    device: Device, geometry: Geometry, update: Update, cuts: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """One update from version 1 to 2, with cuts at (operations from the start, kind).

    Returns:
        How often the power failed, and how many of the checks failed.
    """
    old, new = version(1), version(2)
    device.make(geometry)
    push_and_confirm(device, old)
    happened = failures = 0
    for operations, kind in cuts:
        device.cut(operations, kind)
        try:
            update(device, new)
        except PowerCutError:
            happened += 1
        happened += power_on(device)
        failures += not is_sound(device, (old, new))
    device.cut(0)
    if not is_confirmed(device, new):
        update(device, new)
    device.start()
    failures += not is_sound(device, (new,))
    return happened, failures


def power_on(device: Device) -> int:
    """Switch on until it stays on; return how often the power failed meanwhile."""
    for failed in range(3):
        try:
            device.start()
            return failed
        except PowerCutError:
            continue
    raise AssertionError("a cut happens once")


def is_confirmed(device: Device, data: bytes) -> bool:
    """Whether the update came through already."""
    device.start()
    return running(device) == data


def sweep(
    update: Update, geometry: Geometry | None = None, stride: int = 1, pairs: int = 100
) -> Counts:
    """Cut at every `stride`-th operation of an update, in each way, and then at random pairs."""
    geometry = geometry or Geometry()
    counts = Counts()
    with a_device(geometry) as device:
        before = device.status().operations
        update(device, version(2))
        counts.operations = device.status().operations - before
        every = [
            [(operation, kind)]
            for operation in range(1, counts.operations + 1, stride)
            for kind in KINDS
        ]
        chance = random.Random(1)
        some = [
            [(chance.randint(1, counts.operations), chance.choice(KINDS)) for _ in range(2)]
            for _ in range(pairs)
        ]
        for cuts in every + some:
            happened, failures = cut_update(device, geometry, update, cuts)
            counts.updates += 1
            counts.cuts += happened
            counts.failures += failures
    return counts


def main() -> None:
    """Sweep over every kind of update."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--stride", type=int, default=1, help="cut at every n-th operation only")
    parser.add_argument("--pairs", type=int, default=100, help="random pairs of cuts")
    arguments = parser.parse_args()
    counts = {
        name: asdict(sweep(update, stride=arguments.stride, pairs=arguments.pairs))
        for name, update in UPDATES.items()
    }
    print(json.dumps(counts, indent=2))


if __name__ == "__main__":
    main()
