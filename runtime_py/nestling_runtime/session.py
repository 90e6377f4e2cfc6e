"""Running a model: select a path, give inputs, take outputs."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from ctypes import byref, c_uint32, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, native
from nestling_runtime.bundle import Slot
from nestling_runtime.closing import Handle
from nestling_runtime.engine import Mode, mode_number
from nestling_runtime.errors import EngineError, PathError
from nestling_runtime.placement import read_stages

if TYPE_CHECKING:
    from nestling_runtime.engine import Model

Array = npt.NDArray[Any]

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "u8": np.dtype(np.uint8),
    "i8": np.dtype(np.int8),
    "bool": np.dtype(np.bool_),
}


class Session(Handle):
    """One line of execution; made by `Model.session`. A context manager.

    Calls from several threads take turns. `cancel` may be called from any thread at any time.
    """

    _kind = "session"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.RLock()
        handle = c_void_p()
        native.call("nst_session_create", model.handle, byref(handle))
        self._handle = handle.value
        self._slots: dict[str, tuple[int, Slot]] = {
            slot.name: (index, slot) for index, slot in enumerate(model.bundle.slots)
        }
        self._inputs = tuple(slot.name for slot in model.bundle.slots if slot.role == "input")
        self._outputs = tuple(slot.name for slot in model.bundle.slots if slot.role == "output")
        self._bound: dict[str, Array] = {}  # keeps bound arrays alive
        self._views: dict[str, Array] = {}  # of the session's own memory
        self._run = native.library().nst_session_run
        self._error = abi.Error()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the input slots."""
        return self._inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the output slots."""
        return self._outputs

    def select(self, path: str | int, *, mode: Mode = "default") -> None:
        """Select a named path; loads what is not resident.

        Args:
            path: Name or index.
            mode: "fused" one stage for the whole path, "chain" stage by stage, "default" fused if
                the path has such a stage.

        Raises:
            PathError: No such path, or it has no fused stage.
            TargetError: A stage's target is not here, and nothing stands in for it.
            BudgetError: It does not fit into the memory budget.
            BundleError: A section is damaged.
            EngineError: ExecuTorch refuses a stage that nothing stands in for.
        """
        index = self._model.bundle.path_index(path)
        with self._lock:
            native.call("nst_session_select", self.handle, index, mode_number(mode))

    def select_stages(self, stages: Sequence[str | int]) -> None:
        """Select any legal list of stages.

        A stage whose target is not here, or that does not load, is replaced by one that does the
        same on another target; `stages` tells what runs.

        Raises:
            PathError: It is not legal; the message says which rule it breaks.
            TargetError: A stage's target is not here, and nothing stands in for it.
            BudgetError: See `select`.
            BundleError: See `select`.
            EngineError: See `select`.
        """
        indices = [self._model.bundle.stage_index(stage) for stage in stages]
        array = (c_uint32 * max(1, len(indices)))(*indices)
        with self._lock:
            native.call("nst_session_select_stages", self.handle, array, len(indices))

    def _slot(self, name: str, role: str) -> tuple[int, Slot]:
        found = self._slots.get(name)
        if found is None or found[1].role != role:
            names = self._inputs if role == "input" else self._outputs
            raise PathError(f"the model has no {role} {name!r}", hint=f"it has {', '.join(names)}")
        return found

    def bind_input(self, name: str, array: Array | None) -> None:
        """Let an input read an array's memory from now on; changes of the array are seen by runs.

        Args:
            name: Of the slot.
            array: C-contiguous, of the slot's dtype and shape; None goes back to own memory.

        Raises:
            EngineError: The array does not fit.
            PathError: No such input.
        """
        index, slot = self._slot(name, "input")
        with self._lock:
            if array is None:
                native.call("nst_session_bind_input", self.handle, index, None, 0)
                self._bound.pop(name, None)
                return
            check_array(slot, array)
            native.call(
                "nst_session_bind_input", self.handle, index, array.ctypes.data, array.nbytes
            )
            self._bound[name] = array

    def bind_output(self, name: str, array: Array | None) -> None:
        """Let an output be written into an array's memory from now on.

        Raises:
            EngineError: The array does not fit, is read-only or not aligned to 16 bytes.
            PathError: No such output.
        """
        index, slot = self._slot(name, "output")
        with self._lock:
            if array is None:
                native.call("nst_session_bind_output", self.handle, index, None, 0)
                self._bound.pop(name, None)
            else:
                check_array(slot, array)
                if not array.flags.writeable:
                    raise EngineError(f"the array for {name!r} is read-only")
                native.call(
                    "nst_session_bind_output", self.handle, index, array.ctypes.data, array.nbytes
                )
                self._bound[name] = array
            self._views.pop(name, None)

    def tensor(self, name: str) -> Array:
        """Return a view of a slot's memory: write inputs there, read outputs and state there.

        The view is valid until the session is closed, and for state until the next run.

        Raises:
            EngineError: The slot is internal.
            PathError: No such slot.
        """
        found = self._slots.get(name)
        if found is None:
            raise PathError(
                f"the model has no slot {name!r}", hint=f"it has {', '.join(self._slots)}"
            )
        index, slot = found
        if name in self._bound:
            return self._bound[name]
        raw = abi.Tensor()
        with self._lock:
            native.call("nst_session_tensor", self.handle, index, byref(raw))
        buffer = (ctypes.c_uint8 * raw.bytes).from_address(raw.data)
        # The array must not outlive the memory: it keeps the session, and so the model, alive.
        buffer._session = self
        return np.frombuffer(buffer, dtype=NUMPY_DTYPES[slot.dtype]).reshape(slot.shape)

    def run(self, **inputs: npt.ArrayLike) -> dict[str, Array]:
        """Run the selected path once.

        Args:
            **inputs: Arrays by slot name; what is not given keeps its binding or content. An
                array of the right dtype that is contiguous is read in place.

        Returns:
            Every output slot by name, as new arrays.

        Raises:
            EngineError: Nothing is selected, an input does not fit, or ExecuTorch failed.
            PathError: No input of that name.
            CancelledError: `cancel` was called.
        """
        with self._lock:
            for name, value in inputs.items():
                _, slot = self._slot(name, "input")
                array = np.ascontiguousarray(value)
                if self._bound.get(name) is not array:
                    self.bind_input(name, array.reshape(slot.shape) if array.ndim == 0 else array)
            self.run_bound()
            return {name: self._output_view(name).copy() for name in self._outputs}

    def run_bound(self) -> None:
        """Run on what is bound and leave the outputs in place: nothing is allocated or copied.

        Raises:
            EngineError: Nothing is selected, or ExecuTorch failed.
            CancelledError: `cancel` was called.
        """
        with self._lock:
            code = self._run(self.handle, byref(self._error))
            if code != abi.OK:
                native.check(code, self._error)

    def _output_view(self, name: str) -> Array:
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = self._own_view(name)
        return view

    def _own_view(self, name: str) -> Array:
        """As `tensor`, without the reference back to the session, which would be a cycle here."""
        if name in self._bound:
            return self._bound[name]
        index, slot = self._slots[name]
        raw = abi.Tensor()
        native.call("nst_session_tensor", self.handle, index, byref(raw))
        buffer = (ctypes.c_uint8 * raw.bytes).from_address(raw.data)
        return np.frombuffer(buffer, dtype=NUMPY_DTYPES[slot.dtype]).reshape(slot.shape)

    def cancel(self) -> None:
        """Cancel the run in progress at the next stage, or the next run when there is none."""
        handle = self._handle
        if handle is not None:
            native.library().nst_session_cancel(handle)

    def reset_state(self) -> None:
        """Fill state slots with zeros."""
        with self._lock:
            native.call("nst_session_reset_state", self.handle)

    def selection(self) -> tuple[str | None, str, int]:
        """Return the path's name (None for a list of one's own), the mode, and how many stages."""
        raw = self._selection()
        name = None if raw.path == abi.NONE else self._model.bundle.paths[raw.path].name
        return name, "fused" if raw.mode == 1 else "chain", int(raw.stages)

    @property
    def stages(self) -> tuple[str, ...]:
        """What a run executes, in order: stages that stand in for others by their own names."""
        bundle = self._model.bundle
        with self._lock:
            indices = read_stages(self.handle, len(bundle.positions))
        return tuple(bundle.stages[index].name for index in indices)

    @property
    def last_run_ns(self) -> int:
        """Wall time of the last finished run."""
        return int(self._selection().last_run_ns)

    @property
    def runs(self) -> int:
        """Finished runs."""
        return int(self._selection().runs)

    def _selection(self) -> abi.Selection:
        raw = abi.Selection()
        native.call("nst_session_selection", self.handle, byref(raw))
        return raw

    def close(self) -> None:
        """Release memory and pins. Waits for a run of another thread; may be called twice."""
        with self._lock:
            if self._handle is not None:
                handle, self._handle = self._handle, None
                self._views.clear()
                self._bound.clear()
                native.library().nst_session_destroy(handle)
                self._model.child_closed()


def check_array(slot: Slot, array: Array) -> None:
    """Refuse an array that is not the slot's.

    Raises:
        EngineError: Its dtype or shape differ, or it is not contiguous.
    """
    expected = NUMPY_DTYPES[slot.dtype]
    if array.dtype != expected:
        raise EngineError(
            f"{slot.name!r} takes another dtype", expected=expected.name, actual=array.dtype.name
        )
    if array.shape != slot.shape:
        raise EngineError(
            f"{slot.name!r} takes another shape", expected=slot.shape, actual=array.shape
        )
    if not array.flags.c_contiguous:
        raise EngineError(f"the array for {slot.name!r} is not contiguous")
