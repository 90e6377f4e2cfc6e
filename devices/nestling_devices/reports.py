"""What a device tells, as plain values; durations and costs are in units of `DeviceInfo.clock`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is and what is open on it.

    Attributes:
        device: Board or machine, e.g. "mps3-an547".
        engine: "micro", "executorch" or "sim".
        firmware: Its version.
        targets: Bundle targets that run there, best first.
        clock: What durations count: "ns" or "instructions".
        slot_bytes: Capacity of one bundle slot.
        arena_bytes: Capacity for activations; 0 for no limit.
        chunk_bytes: Most payload bytes in one message.
        bundle: Name of the open bundle; None for none.
        target: Its target.
        hash: SHA-256 of its manifest.
    """

    device: str
    engine: str
    firmware: str
    targets: tuple[str, ...]
    clock: str
    slot_bytes: int
    arena_bytes: int
    chunk_bytes: int
    bundle: str | None
    target: str | None
    hash: bytes | None


@dataclass(frozen=True)
class Selection:
    """What a switch did.

    Attributes:
        path: Number of the path; None for a list of stages of one's own.
        stages: How many stages a run has.
        cost: What the switch took.
        loaded: Stages that had to be loaded for it.
    """

    path: int | None
    stages: int
    cost: int
    loaded: int


@dataclass(frozen=True)
class RunReport:
    """One run.

    Attributes:
        duration: How long it took; 0 where the device does not count, or its answer was lost.
        stages: How many were executed.
        path: The path's number; None for a list of stages.
    """

    duration: int
    stages: int
    path: int | None


@dataclass(frozen=True)
class Residency:
    """Memory of a device, in bytes but for the last three, which count since the bundle was opened.

    Attributes:
        arena: Activation memory that the open bundle needs, all paths.
        arena_capacity: That there is; 0 for no limit.
        resident: Weights in memory, or in place in flash, each byte once.
        budget: Limit of `resident`; 0 for none.
        stages: Stages resident.
        loaded: Stages loaded.
        evictions: Stages evicted.
    """

    arena: int
    arena_capacity: int
    resident: int
    budget: int
    stages: int
    loaded: int
    evictions: int


@dataclass(frozen=True)
class Telemetry:
    """Counters since the device started, and the sensors that it has (None: it has none)."""

    uptime_ms: int
    runs: int
    switches: int
    errors: int
    cancels: int
    frames: int
    bad_frames: int
    flash_erases: int
    flash_programs: int
    temperature_c: float | None
    battery: float | None


@dataclass(frozen=True)
class SlotState:
    """A bundle slot of the device.

    Attributes:
        slot: 0 or 1.
        version: The bundle's name, as the device gives it.
        hash: Of the bundle's manifest; None for an empty slot.
        active: It is open now.
        confirmed: It is the one that is kept.
        pending: It is tried at the next start.
    """

    slot: int
    version: str
    hash: bytes | None
    active: bool
    confirmed: bool
    pending: bool


_Report = TypeVar("_Report", DeviceInfo, Residency, Telemetry)


def report_from(kind: type[_Report], answer: Any) -> _Report:
    """Return a report with the fields of an answer that have its names."""
    return kind(**{field.name: getattr(answer, field.name) for field in dataclasses.fields(kind)})
