"""The engine of a simulated device, as the protocol server calls it: `nst_engine_ops` in Python.

No exception may leave a callback, so each one is turned into a code and a filled `nst_error`.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Mapping
from ctypes import pointer
from pathlib import Path
from typing import Any

from nestling_devices.sim import engine_abi as engine
from nestling_devices.sim.simulated_model import Factor, PowerError, SimulatedModel
from nestling_devices.sim.virtual_device import VirtualDevice
from nestling_runtime import abi
from nestling_runtime.errors import (
    BudgetError,
    BundleError,
    CancelledError,
    EngineError,
    NestlingError,
    PathError,
    SignatureError,
    TargetError,
)

_CODES: tuple[tuple[type[NestlingError], int], ...] = (
    (SignatureError, abi.E_SIGNATURE),
    (BundleError, abi.E_CORRUPT),
    (PathError, abi.E_PATH),
    (BudgetError, abi.E_BUDGET),
    (TargetError, abi.E_TARGET),
    (CancelledError, abi.E_CANCELLED),
    (PowerError, abi.E_STATE),
    (EngineError, abi.E_ENGINE),
)


class SimulatedEngine:
    """Opens bundles of a flash file and runs them on a virtual device.

    Args:
        device: Runs them.
        flash: The file; bundles are read from it.
        threads: Of a run on the simulated device.
        measured_us: See `CostModel`.
        factor: By how much each run takes longer than it should.
        period_s: Runs begin on multiples of it; 0: one after the other.
        budget_bytes: For weights in memory at the start; 0: no limit.
    """

    def __init__(
        self,
        device: VirtualDevice,
        flash: Path,
        *,
        threads: int = 1,
        measured_us: Mapping[str, float] | None = None,
        factor: Factor = lambda: 1.0,
        period_s: float = 0.0,
        budget_bytes: int = 0,
    ) -> None:
        self._device = device
        self._flash = flash
        self._threads = threads
        self._measured_us = dict(measured_us or {})
        self._factor = factor
        self._budget_bytes = budget_bytes
        self._period_s = period_s
        self._model: SimulatedModel | None = None
        self._tracing = False
        self._closing = threading.Lock()
        self._ops = engine.EngineOps(
            b"sim",
            engine.CLOCK_NS,
            engine.Open(self._open),
            engine.Close(self._close),
            engine.GetBundle(self._bundle),
            engine.Select(self._select),
            engine.SelectStages(self._select_stages),
            engine.GetTensor(self._tensor),
            engine.Run(self._run),
            engine.GetStageReport(self._stage_report),
            engine.GetMemory(self._memory),
            engine.SetBudget(self._set_budget),
            engine.SetTrace(self._set_trace),
            engine.Cancel(self._cancel),
        )
        self._engine = engine.Engine(pointer(self._ops), None)

    @property
    def address(self) -> int:
        """Of the `nst_engine`; valid as long as the object."""
        return ctypes.addressof(self._engine)

    @property
    def _open_model(self) -> SimulatedModel:
        if self._model is None:
            raise EngineError("no bundle is open")
        return self._model

    # ---- callbacks; the first argument is nst_engine.self, which is not needed

    def _open(self, _: int, offset: int, size: int, error: Any) -> int:
        def work() -> None:
            with self._flash.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
            model = SimulatedModel(
                data,
                self._device,
                threads=self._threads,
                measured_us=self._measured_us,
                factor=self._factor,
                budget_bytes=self._budget_bytes,
            )
            self._close(0)
            model.tracing = self._tracing
            self._model = model

        return _guarded(work, error)

    def _close(self, _: int) -> None:
        with self._closing:
            model, self._model = self._model, None
        if model is not None:
            model.close()

    def _bundle(self, _: int) -> int | None:
        model = self._model
        return None if model is None else ctypes.addressof(model.tables.handle.contents)

    def _select(self, _: int, path: int, error: Any) -> int:
        return _guarded(lambda: self._open_model.select(path), error)

    def _select_stages(self, _: int, stages: Any, count: int, error: Any) -> int:
        return _guarded(lambda: self._open_model.select_stages(list(stages[:count])), error)

    def _tensor(self, _: int, slot: int, out_data: Any, out_bytes: Any, error: Any) -> int:
        def work() -> None:
            memory = self._open_model.tensor(slot)
            out_data[0] = memory.ctypes.data
            out_bytes[0] = memory.nbytes

        return _guarded(work, error)

    def _run(self, _: int, out: Any, error: Any) -> int:
        def work() -> None:
            model = self._open_model
            if self._period_s:
                requests = math.ceil(self._device.time_s / self._period_s)
                self._device.idle_until(requests * self._period_s)
            seconds, stages = model.run()
            out[0] = engine.RunReport(round(seconds * 1e9), stages)

        return _guarded(work, error)

    def _stage_report(self, _: int, stage: int, out: Any, error: Any) -> int:
        def work() -> None:
            model = self._open_model
            index = model.tables.stage_index(stage)
            resident = model.residency.is_resident(index)
            out[0] = engine.StageReport(
                model.calls[index],
                model.total_ns[index],
                model.residency.stage_bytes(index) if resident else 0,
            )

        return _guarded(work, error)

    def _memory(self, _: int, out: Any, error: Any) -> int:
        def work() -> None:
            memory = engine.EngineMemory(
                arena_capacity=self._device.profile.total_bytes("ram") or 0,
                budget_bytes=self._budget_bytes,
            )
            model = self._model
            if model is not None:
                memory.arena_bytes = model.arena_bytes
                memory.resident_bytes = model.residency.resident_bytes
                memory.stages_resident = model.residency.stages_resident
                memory.loads = model.residency.loads
                memory.evictions = model.residency.evictions
            out[0] = memory

        return _guarded(work, error)

    def _set_budget(self, _: int, budget_bytes: int, error: Any) -> int:
        def work() -> None:
            if self._model is not None:
                self._model.residency.set_budget(budget_bytes)
            self._budget_bytes = budget_bytes

        return _guarded(work, error)

    def _set_trace(self, _: int, on: bool) -> None:
        self._tracing = on
        if self._model is not None:
            self._model.tracing = on

    def _cancel(self, _: int) -> None:
        if self._model is not None:
            self._model.cancelled = True


def _guarded(work: Callable[[], None], error: Any) -> int:
    """Do something; return its code, with the error filled where there is one."""
    try:
        work()
    except NestlingError as failure:
        code = next((code for kind, code in _CODES if isinstance(failure, kind)), abi.E_ENGINE)
        missing = getattr(failure, "missing_bytes", 0)
        numbers = (failure.expected, failure.actual) if missing else (0, 0)
        text = failure.message if not failure.hint else f"{failure.message}; {failure.hint}"
        return _fail(error, code, text, failure.section, failure.stage, numbers)
    except OSError as failure:
        return _fail(error, abi.E_IO, failure.strerror or str(failure))
    except Exception as failure:  # it cannot be raised through C
        return _fail(error, abi.E_ENGINE, f"{type(failure).__name__}: {failure}")
    return abi.OK


def _fail(
    error: Any,
    code: int,
    message: str,
    section: str | None = None,
    stage: str | None = None,
    numbers: tuple[object, object] = (0, 0),
) -> int:
    if error:
        filled: abi.Error = error[0]
        filled.code = code
        filled.message = _cut(message, 192)
        filled.section = _cut(section or "", 128)
        filled.stage = _cut(stage or "", 128)
        filled.expected, filled.actual = (n if isinstance(n, int) else 0 for n in numbers)
    return code


def _cut(text: str, room_bytes: int) -> bytes:
    """Return a text as UTF-8 that leaves room for a zero, cut between two characters."""
    return text.encode()[: room_bytes - 1].decode(errors="ignore").encode()
