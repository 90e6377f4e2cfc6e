"""An open bundle on a simulated device.

Time and energy are simulated; outputs are real where this computer can compute them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

import nestling_runtime
from nestling_devices.sim.residency import Residency
from nestling_devices.sim.virtual_device import VirtualDevice
from nestling_devices.sim.work import CostModel, Work
from nestling_runtime.bundle import Bundle
from nestling_runtime.errors import CancelledError, EngineError, NestlingError, TargetError
from nestling_runtime.session import Array, Session

COMPUTED_TARGETS = ("xnnpack",)
"""Bundle targets whose outputs are computed, by ExecuTorch's engine in this process."""

Factor = Callable[[], float]
"""By how much the next run takes longer than it should."""


class PowerError(NestlingError):
    """The simulated device is off: its battery is empty, or it is too hot."""


class SimulatedModel:
    """A bundle that is open on a simulated device.

    Args:
        data: The bundle; kept, not copied.
        device: What runs it; its time passes.
        threads: Of a run on the simulated device.
        measured_us: See `CostModel`; wins over the costs in the bundle under the profile's name.
        factor: See `Factor`.
        budget_bytes: For weights in memory; 0: no limit.

    Raises:
        BundleError: It is damaged.
        TargetError: The device does not run bundles of that target.
        NestlingError: The profile says too little to simulate it.
    """

    def __init__(
        self,
        data: bytes,
        device: VirtualDevice,
        *,
        threads: int,
        measured_us: Mapping[str, float],
        factor: Factor,
        budget_bytes: int,
    ) -> None:
        self._data = data
        self._device = device
        self._factor = factor
        self._model: nestling_runtime.Model | None = None
        self._session: Session | None = None
        self.tables = Bundle.open(data)
        try:
            self.tables.check_sections()
            profile = device.profile
            if self.tables.target not in profile.targets:
                raise TargetError(
                    f"{profile.name} does not run bundles for {self.tables.target}",
                    hint=f"export for {' or '.join(profile.targets)}",
                )
            in_bundle = {
                path.name: path.cost_us[profile.name]
                for path in self.tables.paths
                if profile.name in path.cost_us
            }
            self._costs = CostModel(
                profile, self.tables, threads=threads, measured_us={**in_bundle, **measured_us}
            )
            self._residency = Residency(profile, self.tables, budget_bytes)
            if self.tables.target in COMPUTED_TARGETS:
                self._model = nestling_runtime.open(data, threads=1, verify_all=True)
                self._session = self._model.session()
        except BaseException:
            self.close()
            raise
        self._memory = {
            index: np.zeros(slot.size_bytes, dtype=np.uint8)
            for index, slot in enumerate(self.tables.slots)
            if slot.role in ("input", "state")
        }
        stages = len(self.tables.stages)
        self.calls = [0] * stages
        self.total_ns = [0] * stages
        self.tracing = False
        self.cancelled = False
        self._selected: tuple[int, ...] = ()
        self._work = Work()
        if self.tables.paths:
            self.select(0)

    @property
    def residency(self) -> Residency:
        """Which weights are in memory."""
        return self._residency

    @property
    def arena_bytes(self) -> int:
        """Activation memory of the largest stage."""
        return max((stage.arena_bytes for stage in self.tables.stages), default=0)

    def select(self, path: int) -> None:
        """Select a named path; reading what is not resident takes time.

        Raises:
            PathError: No such path.
            BudgetError: It does not fit into the memory budget.
            PowerError: The device is off.
        """
        index = self.tables.path_index(path)
        entry = self.tables.paths[index]
        stages = entry.chain if entry.fused is None else (entry.fused,)
        self._load(stages)
        if self._session is not None:
            self._session.select(index)
        self._selected, self._work = tuple(stages), self._costs.path(index)

    def select_stages(self, stages: Sequence[int]) -> None:
        """Select any legal list of stages.

        Raises:
            PathError: It is not legal.
            BudgetError: It does not fit into the memory budget.
            PowerError: The device is off.
        """
        chain = self.tables.check_path(stages)
        self._load(chain)
        if self._session is not None:
            self._session.select_stages(chain)
        self._selected, self._work = chain, self._costs.stages(chain)

    def _load(self, stages: Sequence[int]) -> None:
        self._check_power()
        reads = self._residency.select(stages)
        if not self._device.run(reads):
            self._check_power()

    def _check_power(self) -> None:
        if not self._device.is_on:
            raise PowerError(
                "the simulated device is too hot and has switched itself off"
                if self._device.overheated
                else "the battery of the simulated device is empty"
            )

    def tensor(self, slot: int) -> npt.NDArray[np.uint8] | Array:
        """Return the memory of a slot.

        Raises:
            PathError: No such slot.
            EngineError: It is internal.
            TargetError: It is an output, and none are computed for this target.
        """
        slots = self.tables.slots
        if not 0 <= slot < len(slots):
            raise nestling_runtime.PathError(f"the bundle has no slot {slot}")
        entry = slots[slot]
        if self._session is not None:
            return self._session.tensor(entry.name)
        if slot in self._memory:
            return self._memory[slot]
        if entry.role == "output":
            raise TargetError(
                f"this simulator does not compute outputs for {self.tables.target}",
                hint="only time, energy and heat are simulated; run it on an emulator",
            )
        raise EngineError(f"slot {entry.name} is internal")

    def run(self) -> tuple[float, int]:
        """Run once; return the seconds that it took on the device, and the stages.

        Raises:
            EngineError: Nothing is selected, or ExecuTorch failed.
            CancelledError: It was cancelled.
            PowerError: The device is off, or went off in the midst of the run.
        """
        if self.cancelled:
            self.cancelled = False
            raise CancelledError("the run was cancelled")
        if not self._selected:
            raise EngineError("nothing is selected")
        self._check_power()
        if self._session is not None:
            self._session.run_bound()
        begun_s = self._device.time_s
        if not self._device.run(self._work.times(self._factor())):
            self._check_power()
        seconds = self._device.time_s - begun_s
        shares = [self._costs.stage(stage).seconds(1.0) for stage in self._selected]
        whole = sum(shares)
        for stage, share in zip(self._selected, shares, strict=True):
            self.calls[stage] += 1
            if self.tracing and whole:
                self.total_ns[stage] += round(seconds * 1e9 * share / whole)
        return seconds, len(self._selected)

    def close(self) -> None:
        """Let everything go; may be called twice."""
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._model is not None:
            self._model.close()
            self._model = None
        self.tables.close()
