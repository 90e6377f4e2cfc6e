"""What a device must have for a bundle of plans: flash, and memory for activations.

Figures are known from the bundle alone, before anything is sent. The arena is laid out as
firmware/micro/placement.c does it; a test holds the two against each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nestling.errors import BundleError
from nestling.targets.cortex_m.operators import OPERATOR_NAMES
from nestling.targets.cortex_m.plan import Place, Plan, PlanOperator, PlanTensor, align

if TYPE_CHECKING:
    from nestling_devices import DeviceProfile
    from nestling_runtime.bundle import Bundle

_DTYPE_BYTES = {"f32": 4, "f16": 2, "i64": 8, "i32": 4, "u8": 1, "i8": 1, "bool": 1}
_ALWAYS = 1 << 32


@dataclass(frozen=True)
class PeakOperator:
    """The operator during which most activation memory holds something that is still needed.

    Attributes:
        stage: its stage.
        index: its number in the stage's plan.
        kernel: name of its kernel.
        bytes: activations alive while it runs, its scratch memory and the slots included.
    """

    stage: str
    index: int
    kernel: str
    bytes: int


@dataclass(frozen=True)
class Need:
    """What a bundle needs.

    Attributes:
        flash_bytes: the file.
        arena_bytes: activation memory, the same for one path and for all.
        largest_path_arena_bytes: what the neediest path alone would take.
        peak: the operator that decides.
    """

    flash_bytes: int
    arena_bytes: int
    largest_path_arena_bytes: int
    peak: PeakOperator


@dataclass(frozen=True)
class Fit:
    """A bundle's need against a device.

    Attributes:
        device: name of the profile.
        need: what is needed.
        flash_capacity: of one bundle slot, in bytes; ``None``: no limit.
        arena_capacity: of the memory that the arena would lie in; ``None``: no limit.
        arena_region: its name.
        runs: whether the device runs bundles of this target at all.
        targets: what it runs.
    """

    device: str
    need: Need
    flash_capacity: int | None
    arena_capacity: int | None
    arena_region: str | None
    runs: bool
    targets: tuple[str, ...]

    def problems(self) -> list[str]:
        """Why the bundle cannot run there; empty if it can."""
        found = []
        if not self.runs:
            found.append(f"it runs bundles for {', '.join(self.targets)} only")
        pieces = (
            ("flash", self.need.flash_bytes, self.flash_capacity),
            ("activation memory", self.need.arena_bytes, self.arena_capacity),
        )
        for what, need, capacity in pieces:
            if capacity is not None and need > capacity:
                found.append(
                    f"{need - capacity:,} bytes of {what} are missing: "
                    f"{need:,} are needed, there are {capacity:,}"
                )
        return found


@dataclass(frozen=True)
class _Buffer:
    first: int
    last: int
    offset: int
    bytes: int


def measure(bundle: Bundle, path: Path) -> Need:
    """Work out what a bundle of plans needs.

    Args:
        bundle: open.
        path: its file.

    Raises:
        BundleError: its programs are no plans.
    """
    data = path.read_bytes()
    plans = [_plan(bundle, data, stage.program) for stage in bundle.stages]
    everything = range(len(bundle.stages))
    paths = [_arena(bundle, plans, list(entry.chain)) for entry in bundle.paths]
    return Need(
        bundle.size_bytes,
        _arena(bundle, plans, list(everything)),
        max(paths),
        max(_peaks(bundle, plans), key=lambda peak: peak.bytes),
    )


def fit(bundle: Bundle, path: Path, profile: DeviceProfile) -> Fit:
    """Compare a bundle's need with a device."""
    need = measure(bundle, path)
    ram = [region for region in profile.memory if region.kind == "ram"]
    # The arena is one piece: in the fastest region that holds it, else in the largest.
    holding = [region for region in ram if region.size_bytes >= need.arena_bytes]
    region = holding[0] if holding else max(ram, key=lambda r: r.size_bytes, default=None)
    return Fit(
        profile.name,
        need,
        None if profile.flash is None else profile.flash.slot_bytes,
        None if region is None else region.size_bytes,
        None if region is None else region.name,
        bundle.target in profile.targets,
        tuple(profile.targets),
    )


def _plan(bundle: Bundle, data: bytes, program: int) -> Plan:
    entry = bundle.programs[program]
    if entry.method != "plan":
        raise BundleError(
            "this bundle holds no plans, so what it needs on a small device is not known",
            actual=bundle.target,
        )
    start = bundle.sections[entry.section].offset_bytes + entry.offset_bytes
    return Plan.from_bytes(data[start : start + entry.size_bytes])


def _buffers(bundle: Bundle, stages: list[int]) -> list[_Buffer]:
    """Slots with their places, as long as a position needs them."""
    placed: list[_Buffer] = []
    for number, slot in enumerate(bundle.slots):
        readers = [s for s in stages if number in bundle.stages[s].inputs]
        writers = [s for s in stages if number in bundle.stages[s].outputs]
        kept = slot.role in ("input", "state")
        first = 0 if kept else min((bundle.stages[s].first for s in writers), default=_ALWAYS)
        last = max((bundle.stages[s].last for s in readers), default=0)
        if kept or slot.role == "output":
            last = _ALWAYS
        size = math.prod(slot.shape) * _DTYPE_BYTES[slot.dtype]
        for _ in range(2 if set(readers) & set(writers) else 1):
            placed.append(_Buffer(first, last, _lowest(placed, size, first, last), size))
    return placed


def _lowest(placed: list[_Buffer], size: int, first: int, last: int) -> int:
    offset = 0
    while size:
        ends = [
            b.offset + b.bytes
            for b in placed
            if b.first <= last
            and first <= b.last
            and b.offset < offset + size
            and offset < b.offset + b.bytes
        ]
        if not ends:
            break
        offset = align(ends[0])
    return offset


def _arena(bundle: Bundle, plans: list[Plan], stages: list[int]) -> int:
    placed = _buffers(bundle, stages)
    most = max((b.offset + b.bytes for b in placed), default=0)
    for number in stages:
        stage, size = bundle.stages[number], plans[number].arena_bytes
        most = max(most, _lowest(placed, size, stage.first, stage.last) + size)
    return align(most)


def _peaks(bundle: Bundle, plans: list[Plan]) -> Iterator[PeakOperator]:
    """For every operator, what is alive."""
    placed = _buffers(bundle, list(range(len(bundle.stages))))
    for stage, plan in zip(bundle.stages, plans, strict=True):
        slots = sum(b.bytes for b in placed if b.first <= stage.last and stage.first <= b.last)
        for index, operator in enumerate(plan.operators):
            alive = _alive(plan.operators, index) + operator.scratch_bytes
            kernel = OPERATOR_NAMES[operator.number]
            yield PeakOperator(stage.name, index, kernel, slots + alive)


def _alive(operators: tuple[PlanOperator, ...], index: int) -> int:
    """Bytes of the arena that were written by now and are read by this operator or later."""
    needed: dict[int, int] = {}
    for later in range(index, len(operators)):
        for tensor in operators[later].tensors[:-1]:
            writer = _last_writer(operators, later, tensor)
            if writer is not None and writer <= index:
                needed[tensor.offset] = max(needed.get(tensor.offset, 0), tensor.bytes)
    output = operators[index].tensors[-1]
    if output.place is Place.ARENA:
        needed[output.offset] = max(needed.get(output.offset, 0), output.bytes)
    return sum(needed.values())


def _last_writer(
    operators: tuple[PlanOperator, ...], before: int, tensor: PlanTensor
) -> int | None:
    """The operator that last wrote where a tensor in the arena starts."""
    if tensor.place is not Place.ARENA:
        return None
    for index in range(before - 1, -1, -1):
        output = operators[index].tensors[-1]
        inside = output.offset <= tensor.offset < output.offset + output.bytes
        if output.place is Place.ARENA and inside:
            return index
    return None
