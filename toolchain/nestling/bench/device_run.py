"""One device, measured: the same bundle pushed, run on images along many chains, switched."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestling_devices import Device, open_device

Chains = Mapping[str, str | list[int]]
"""Name of a subnet -> name of its path, or its stages."""

_SWITCHES = 40


@dataclass
class DeviceRun:
    """What one device did with one bundle.

    Attributes:
        device: As `open_device` was told.
        scheme: Of the bundle.
        clock: What durations count.
        bundle_bytes: Of the file.
        line_bytes: What its push put on the line.
        push_s: Wall time of the push.
        arena_bytes: Activation memory that the bundle needs.
        resident_bytes: Weights in memory or in place.
        switch_cost: Median of switches between resident paths.
        outputs: Subnet -> outputs of all images, (images, classes).
        durations: Subnet -> median duration of a run.
    """

    device: str
    scheme: str
    clock: str
    bundle_bytes: int
    line_bytes: int
    push_s: float
    arena_bytes: int = 0
    resident_bytes: int = 0
    switch_cost: float = 0.0
    outputs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)

    def accuracy(self, subnet: str, labels: npt.NDArray[Any]) -> float:
        """Return the share of images with the right top-1."""
        return float((self.outputs[subnet].argmax(-1) == labels).mean())


def run_device(
    name: str, bundle: Path, scheme: str, chains: Chains, images: npt.NDArray[np.float32]
) -> DeviceRun:
    """Push a bundle to a new device and run it.

    Args:
        name: Of the device.
        bundle: The file.
        scheme: Its number format.
        chains: Subnets to run.
        images: Inputs, (images, ...), of a model with one input.

    Raises:
        NestlingError: The device refuses something, or does not answer.
    """
    with open_device(name, threads=1) as device:
        started = time.monotonic()
        report = device.push(bundle, confirm=True)
        run = DeviceRun(
            device=name,
            scheme=scheme,
            clock=device.info().clock,
            bundle_bytes=report.bundle_bytes,
            line_bytes=report.line_bytes,
            push_s=time.monotonic() - started,
        )
        _run_images(device, run, chains, images)
        run.switch_cost = _measure_switch(device)
        memory = device.residency()
        run.arena_bytes, run.resident_bytes = memory.arena, memory.resident
    return run


def _run_images(
    device: Device, run: DeviceRun, chains: Chains, images: npt.NDArray[np.float32]
) -> None:
    """Show each image to each subnet: every run is another subnet's than the one before."""
    (slot,) = [slot for slot in device.tensors() if slot.role == "input"]
    outputs: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in chains}
    durations: dict[str, list[int]] = {name: [] for name in chains}
    for image in images:
        # An input stays where it is: it crosses the line once for all subnets.
        inputs = {slot.name: image.reshape(slot.shape)}
        for subnet, chain in chains.items():
            device.select(chain)
            result = device.run(**inputs)
            inputs = {}
            outputs[subnet].append(next(iter(result.values())).reshape(-1))
            if device.last_run is not None:
                durations[subnet].append(device.last_run.duration)
    run.outputs = {name: np.stack(values) for name, values in outputs.items()}
    run.durations = {name: float(statistics.median(values)) for name, values in durations.items()}


def _measure_switch(device: Device) -> float:
    count = len(device.paths())
    costs: Sequence[int] = [device.select(turn % count).cost for turn in range(_SWITCHES + count)]
    return float(statistics.median(costs[count:]))
