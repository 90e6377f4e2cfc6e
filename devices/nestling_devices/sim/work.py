"""What computing costs a device: time that the clock scales, time that it does not, energy.

Costs are modelled from a stage's multiply-accumulates and weight bytes and the rates of a profile,
or taken from a measurement of the stage or path on that device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nestling_devices.errors import ProfileError
from nestling_devices.profile import ClockLevel, Compute, DeviceProfile, Power
from nestling_runtime.bundle import Stage, Tables
from nestling_runtime.errors import NestlingError


@dataclass(frozen=True)
class Work:
    """Something for a device to do.

    Attributes:
        compute_s: Time of arithmetic and dispatch at the first level's clock; grows as that falls.
        stall_s: Time on top of it in which the cores wait for memory, the same at any clock.
        compute_j: Energy of arithmetic at the first level's voltage.
        memory_j: Energy of memory traffic, at any voltage.
    """

    compute_s: float = 0.0
    stall_s: float = 0.0
    compute_j: float = 0.0
    memory_j: float = 0.0

    def seconds(self, slowdown: float) -> float:
        """Return how long it takes at a clock that is `slowdown` times slower than the first."""
        return self.compute_s * slowdown + self.stall_s

    def joules(self, level: ClockLevel) -> float:
        """Return the energy at a level, without what the device draws in any case."""
        return self.compute_j * level.energy_scale + self.memory_j

    def times(self, factor: float) -> Work:
        """Return the same work `factor` times over."""
        return Work(
            self.compute_s * factor,
            self.stall_s * factor,
            self.compute_j * factor,
            self.memory_j * factor,
        )

    def __add__(self, other: Work) -> Work:
        """Return both, one after the other."""
        return Work(
            self.compute_s + other.compute_s,
            self.stall_s + other.stall_s,
            self.compute_j + other.compute_j,
            self.memory_j + other.memory_j,
        )


def requirements(profile: DeviceProfile) -> tuple[Compute, Power]:
    """Return what every simulation needs of a profile.

    Raises:
        ProfileError: The profile says nothing of it.
    """
    if profile.compute is None or profile.power is None:
        missing = "compute" if profile.compute is None else "power"
        raise ProfileError(
            f"{profile.name} cannot be simulated",
            key=missing,
            expected="a table",
            hint=f"add [{missing}] to its profile, or simulate another device",
        )
    return profile.compute, profile.power


def check_threads(profile: DeviceProfile, threads: int) -> None:
    """Check that a device has that many cores.

    Raises:
        NestlingError: It does not.
    """
    if threads < 1 or (profile.cores and threads > profile.cores):
        raise NestlingError(
            f"{profile.name} cannot run that many threads",
            expected=f"1 to {profile.cores or 'any number'}",
            actual=threads,
        )


class CostModel:
    """Turns stages and paths of a bundle into work on a device.

    Args:
        profile: The device.
        tables: The opened bundle.
        threads: Cores that share a stage's arithmetic, evenly.
        measured_us: Microseconds of stages and paths by name, measured on this device at its first
            level with `threads` threads. A measurement wins over the model; a path's wins over its
            stages'.

    Raises:
        ProfileError: The profile lacks what a simulation needs.
        NestlingError: The device has no rate for the bundle's numbers, or has fewer cores, or a
            measurement is not a positive number.
    """

    def __init__(
        self,
        profile: DeviceProfile,
        tables: Tables,
        *,
        threads: int = 1,
        measured_us: Mapping[str, float] | None = None,
    ) -> None:
        self._compute, _ = requirements(profile)
        check_threads(profile, threads)
        self._profile = profile
        self._tables = tables
        self._threads = threads
        self._measured_us = dict(measured_us or {})
        for name, us in self._measured_us.items():
            if not 0.0 < us < float("inf"):
                raise NestlingError(f"the measured cost of {name} is no time", actual=us)
        self._constants = tables.constants
        self._stages: dict[int, Work] = {}

    def stage(self, index: int) -> Work:
        """Return the work of one run of a stage."""
        work = self._stages.get(index)
        if work is None:
            work = self._stages[index] = self._stage(self._tables.stages[index])
        return work

    def stages(self, indices: Sequence[int]) -> Work:
        """Return the work of one run of a list of stages."""
        return sum((self.stage(index) for index in indices), Work())

    def path(self, index: int) -> Work:
        """Return the work of one run of a named path, as one fused stage where it has one."""
        path = self._tables.paths[index]
        us = self._measured_us.get(path.name)
        if us is not None:
            return self._measured(us, self._is_int8(path.chain))
        if path.fused is not None:
            return self.stage(path.fused)
        return self.stages(path.chain)

    def _is_int8(self, chain: Sequence[int]) -> bool:
        return any(self._tables.stages[index].bits <= 8 for index in chain)

    def _rates(self, int8: bool) -> tuple[float, float]:
        """Return MACs per second and joules per MAC of the threads together."""
        compute = self._compute
        rate = compute.int8_macs_per_s if int8 else compute.fp32_macs_per_s
        energy = compute.int8_pj_per_mac if int8 else compute.fp32_pj_per_mac
        if not rate:
            kind = "int8" if int8 else "float32"
            raise NestlingError(
                f"{self._profile.name} has no rate for {kind}", hint="export another scheme for it"
            )
        return rate * self._threads, energy * 1e-12

    def _stage(self, stage: Stage) -> Work:
        int8 = stage.bits <= 8
        us = self._measured_us.get(stage.name)
        if us is not None:
            return self._measured(us, int8)
        rate, energy = self._rates(int8)
        used = {constant for _, constant in stage.bindings}
        weight_bytes = sum(self._constants[index].size_bytes for index in used)
        bandwidth, per_byte = self._weight_memory()
        dispatch_s = self._compute.stage_us * 1e-6
        compute_s = stage.macs / rate + dispatch_s
        memory_s = weight_bytes / bandwidth if bandwidth else 0.0
        return Work(
            compute_s=compute_s,
            # Arithmetic and memory traffic overlap: a roofline, at the first level's clock.
            stall_s=max(0.0, memory_s - compute_s),
            # A core that dispatches draws what it draws when it computes.
            compute_j=stage.macs * energy + dispatch_s * rate / self._threads * energy,
            memory_j=weight_bytes * per_byte,
        )

    def _measured(self, us: float, int8: bool) -> Work:
        rate, energy = self._rates(int8)
        seconds = us * 1e-6
        return Work(compute_s=seconds, compute_j=seconds * rate * energy)

    def _weight_memory(self) -> tuple[float, float]:
        """Return bandwidth and joules a byte of where weights are read from in a run."""
        flash = self._profile.flash
        if flash is not None and flash.region is not None:
            return flash.bandwidth_bytes_per_s, flash.pj_per_byte * 1e-12
        ram = [region for region in self._profile.memory if region.kind == "ram"]
        if not ram:
            return 0.0, 0.0
        return ram[-1].bandwidth_bytes_per_s, ram[-1].pj_per_byte * 1e-12


def read_measurements(file: Path) -> dict[str, float]:
    """Read measured costs: a JSON object, name of stage or path -> microseconds.

    Raises:
        NestlingError: The file cannot be read or is something else.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NestlingError(f"cannot read {file}", actual=error.strerror) from error
    except ValueError as error:
        raise NestlingError(f"{file} is not JSON", actual=str(error)) from error
    sound = isinstance(content, dict) and all(
        isinstance(us, int | float) and not isinstance(us, bool) for us in content.values()
    )
    if not sound:
        raise NestlingError(
            f"{file} holds no measurements", expected="an object of names and microseconds"
        )
    return {name: float(us) for name, us in content.items()}
