"""Weights on a simulated device: what has to be read from flash, and what a budget makes go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from nestling_devices.profile import DeviceProfile
from nestling_devices.sim.work import Work
from nestling_runtime.bundle import Tables
from nestling_runtime.errors import BudgetError


class Residency:
    """Which weights of a bundle are in memory; a constant that stages share counts once.

    A device whose bundle slots lie in memory reads weights in place: everything is resident, and
    reading is part of a run. Other devices read a constant from storage before its first use.

    Args:
        profile: The device.
        tables: The opened bundle.
        budget_bytes: Limit for weights in memory; 0: none.
    """

    def __init__(self, profile: DeviceProfile, tables: Tables, budget_bytes: int = 0) -> None:
        self._tables = tables
        self._flash = profile.flash
        self.in_place = profile.flash is not None and profile.flash.region is not None
        self.budget_bytes = budget_bytes
        self.loads = 0
        self.evictions = 0
        self._sizes = [constant.size_bytes for constant in tables.constants]
        self._needs = [frozenset(c for _, c in stage.bindings) for stage in tables.stages]
        self._resident: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._selected: frozenset[int] = frozenset()

    def is_resident(self, stage: int) -> bool:
        """Whether a stage can run without a read from storage."""
        return self.in_place or stage in self._resident

    @property
    def stages_resident(self) -> int:
        """How many stages are."""
        return len(self._tables.stages) if self.in_place else len(self._resident)

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights in memory, or in place in flash, each once."""
        return self._bytes(range(len(self._needs)) if self.in_place else self._resident)

    def stage_bytes(self, stage: int) -> int:
        """Bytes of a stage's weights, those that it shares included."""
        return sum(self._sizes[constant] for constant in self._needs[stage])

    def select(self, stages: Sequence[int]) -> Work:
        """Make stages resident, evicting others where the budget asks for it.

        Returns:
            The reads from storage; nothing when all were resident.

        Raises:
            BudgetError: They do not fit even alone; nothing changes.
        """
        if self.in_place:
            return Work()
        wanted = frozenset(stages)
        self._check_budget(wanted, self.budget_bytes)
        present = self._constants(self._resident)
        read_bytes = sum(self._sizes[c] for c in self._constants(wanted) - present)
        for stage in stages:
            if stage not in self._resident:
                self.loads += 1
            self._resident[stage] = None
            self._resident.move_to_end(stage)
        self._selected = wanted
        self._evict()
        return self._read(read_bytes)

    def set_budget(self, budget_bytes: int) -> None:
        """Change the budget; 0 lifts it. Evicts what it must.

        Raises:
            BudgetError: What is selected is larger; nothing changes.
        """
        if not self.in_place:
            self._check_budget(self._selected, budget_bytes)
        self.budget_bytes = budget_bytes
        if not self.in_place:
            self._evict()

    def _check_budget(self, stages: frozenset[int], budget_bytes: int) -> None:
        needed = self._bytes(stages)
        if budget_bytes and needed > budget_bytes:
            raise BudgetError(
                "the selected stages do not fit into the memory budget",
                missing_bytes=needed - budget_bytes,
                expected=needed,
                actual=budget_bytes,
            )

    def _evict(self) -> None:
        for stage in list(self._resident):
            if not self.budget_bytes or self._bytes(self._resident) <= self.budget_bytes:
                return
            if stage not in self._selected:
                del self._resident[stage]
                self.evictions += 1

    def _constants(self, stages: Iterable[int]) -> set[int]:
        return {constant for stage in stages for constant in self._needs[stage]}

    def _bytes(self, stages: Iterable[int]) -> int:
        return sum(self._sizes[c] for c in self._constants(stages))

    def _read(self, size_bytes: int) -> Work:
        flash = self._flash
        if flash is None or not size_bytes:
            return Work()
        bandwidth = flash.bandwidth_bytes_per_s
        return Work(
            stall_s=size_bytes / bandwidth if bandwidth else 0.0,
            memory_j=size_bytes * flash.pj_per_byte * 1e-12,
        )
