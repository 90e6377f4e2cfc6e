"""An opened model: its paths, its memory, its sessions."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from ctypes import byref, c_uint64, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nestling_runtime import abi, native
from nestling_runtime.bundle import Tables
from nestling_runtime.closing import Handle
from nestling_runtime.placement import (
    Fallback,
    Placement,
    TargetState,
    place,
    read_fallbacks,
    read_targets,
)

if TYPE_CHECKING:
    from nestling_runtime.decoder import Decoder
    from nestling_runtime.decoder_pool import DecoderPool
    from nestling_runtime.experts import ModelExperts
    from nestling_runtime.prefetch import Prefetch
    from nestling_runtime.session import Session

Mode = Literal["default", "fused", "chain"]
MODES: dict[str, int] = {"default": 0, "fused": 1, "chain": 2}

_LOGGER = logging.getLogger("nestling_runtime")


def _write_log(_user: object, line: bytes) -> None:
    """Pass on what the library says about stages that stand in for others."""
    _LOGGER.warning("%s", line.decode(errors="replace"))


_log = abi.Log(_write_log)


# Called with loaded bytes, total bytes and stages left; a true result cancels.
ProgressCallback = Callable[[int, int, int], object]


@dataclass(frozen=True)
class Memory:
    """What counts against the budget, and the budget; bytes, except for the last four."""

    resident_bytes: int
    constant_bytes: int
    stage_bytes: int
    peak_bytes: int
    budget_bytes: int
    arena_bytes: int
    stages_resident: int
    stages_pinned: int
    loads: int
    evictions: int


@dataclass(frozen=True)
class StageStats:
    """What a stage has done since the model was opened or `reset_stats`."""

    name: str
    calls: int
    total_ns: int
    min_ns: int
    last_ns: int
    loads: int
    load_ns: int
    resident_bytes: int
    resident: bool
    pins: int


def mode_number(mode: Mode | str) -> int:
    """Return the number of a mode.

    Raises:
        ValueError: It is not one of default, fused, chain.
    """
    if mode not in MODES:
        raise ValueError(f"mode is one of {', '.join(MODES)}, not {mode!r}")
    return MODES[mode]


class Model(Handle):
    """A bundle that is open to run. A context manager; make it with `nestling_runtime.open`.

    Any number of threads may use one model. Sessions and prefetches end with it.
    """

    _kind = "model"

    def __init__(self, handle: int, keep: object) -> None:
        self._handle = handle
        self._keep = keep  # what the native model points into
        self._children: weakref.WeakSet[Session | Prefetch | Decoder | DecoderPool] = (
            weakref.WeakSet()
        )
        self._lock = threading.RLock()
        self._alive = 0  # native sessions and prefetches, reachable or not
        self._abandoned = False
        pointer = native.library().nst_model_bundle(handle)
        self.bundle = Tables(pointer)
        self._experts: ModelExperts | None = None

    @property
    def experts(self) -> ModelExperts | None:
        """The mixture-of-experts layers' experts; None where the bundle has none.

        Raises:
            EngineError: The model is closed.
        """
        if self._experts is None:
            from nestling_runtime.experts import ModelExperts

            found = ModelExperts(self)
            self._experts = found if found.layers else None
        return self._experts

    @property
    def path_names(self) -> tuple[str, ...]:
        """Names of the paths, small to large."""
        return tuple(path.name for path in self.bundle.paths)

    def session(self) -> Session:
        """Create a session: one line of execution with a selection and buffers of its own.

        Raises:
            EngineError: There is no memory, or the model is closed.
        """
        from nestling_runtime.session import Session

        session = Session(self)
        self.adopt(session)
        return session

    def decoder(self, vocabulary: Sequence[bytes] | None = None) -> Decoder:
        """Create a decoder: one conversation, whose every token any path may make.

        Args:
            vocabulary: The text of every token, for stop texts; default: token n is byte n.

        Raises:
            PathError: The bundle holds no decoder.
            EngineError: There is no memory, or the model is closed.
        """
        from nestling_runtime.decoder import Decoder

        decoder = Decoder(self, vocabulary)
        self.adopt(decoder)
        return decoder

    def decoder_pool(
        self,
        budget_bytes: int,
        *,
        folder: str | os.PathLike[str] | None = None,
        share: bool = True,
    ) -> DecoderPool:
        """Create a pool: many conversations in a budget of memory, the others in files.

        Args:
            budget_bytes: For rows of all caches in memory; holds at every moment.
            folder: Where files of conversations go that are swapped out; default: the system's for
                temporary files.
            share: Whether beginnings that conversations have in common are kept once.

        Raises:
            PathError: The bundle holds no decoder.
            BudgetError: The budget holds less than two blocks.
            BundleError: There can be no folder.
            EngineError: There is no memory, or the model is closed.
        """
        from nestling_runtime.decoder_pool import DecoderPool

        pool = DecoderPool(self, budget_bytes, folder=folder, share=share)
        self.adopt(pool)
        return pool

    def prefetch(
        self,
        path: str | int,
        *,
        mode: Mode = "default",
        progress: ProgressCallback | None = None,
    ) -> Prefetch:
        """Start loading a path in a background thread.

        Args:
            path: Name or index.
            mode: As in `Session.select`.
            progress: Called on that thread, before the first stage and after each one.

        Raises:
            PathError: No such path, or it has no fused stage.
        """
        from nestling_runtime.prefetch import Prefetch

        prefetch = Prefetch(self, self.bundle.path_index(path), mode_number(mode), progress)
        self.adopt(prefetch)
        return prefetch

    def load(self, path: str | int, *, mode: Mode = "default") -> None:
        """Load all stages of a path and wait for it; they may be evicted again under a budget.

        Raises:
            PathError: No such path, or it has no fused stage.
            BudgetError: It does not fit.
            BundleError: A section is damaged.
            EngineError: ExecuTorch refuses a stage.
        """
        native.call("nst_model_load", self.handle, self.bundle.path_index(path), mode_number(mode))

    def missing_bytes(self, path: str | int) -> int:
        """Return the bytes that selecting a path would have to load now; 0 when it is resident.

        Raises:
            PathError: No such path.
        """
        view = abi.PathView()
        native.call("nst_model_path", self.handle, self.bundle.path_index(path), byref(view))
        return int(view.missing_bytes)

    def evict(self, stages: Iterable[str | int] | None = None) -> int:
        """Unload stages that no session has selected.

        Args:
            stages: Which; all that can go by default.

        Returns:
            Bytes that became free.

        Raises:
            EngineError: A session has one of the named stages selected.
        """
        if stages is None:
            freed = c_uint64()
            native.call("nst_model_evict_unused", self.handle, byref(freed))
            return freed.value
        before = self.memory().resident_bytes
        for stage in stages:
            native.call("nst_model_evict_stage", self.handle, self.bundle.stage_index(stage))
        return max(0, before - self.memory().resident_bytes)

    def memory(self) -> Memory:
        """Return what is resident."""
        raw = abi.Memory()
        native.call("nst_model_memory", self.handle, byref(raw))
        return Memory(*(int(getattr(raw, name)) for name, *_ in abi.Memory._fields_))

    def set_budget(self, budget_bytes: int) -> None:
        """Change the memory budget; 0 lifts it. Evicts what it must.

        Raises:
            BudgetError: What sessions have selected is larger; nothing changes.
        """
        native.call("nst_model_set_budget", self.handle, budget_bytes)

    def stage_stats(self, stage: str | int) -> StageStats:
        """Return the statistics of one stage.

        Raises:
            PathError: No such stage.
        """
        index = self.bundle.stage_index(stage)
        raw = abi.StageStats()
        native.call("nst_model_stage_stats", self.handle, index, byref(raw))
        return StageStats(
            name=self.bundle.stages[index].name,
            calls=raw.calls,
            total_ns=raw.total_ns,
            min_ns=raw.min_ns,
            last_ns=raw.last_ns,
            loads=raw.loads,
            load_ns=raw.load_ns,
            resident_bytes=raw.resident_bytes,
            resident=bool(raw.resident),
            pins=raw.pins,
        )

    def stats(self) -> tuple[StageStats, ...]:
        """Return the statistics of all stages, in the order of the bundle."""
        return tuple(self.stage_stats(index) for index in range(len(self.bundle.stages)))

    def targets(self) -> tuple[TargetState, ...]:
        """Return the bundle's targets, its own first, and which of them run here."""
        return read_targets(self)

    def fallbacks(self) -> tuple[Fallback, ...]:
        """Return which stages were replaced by others since the model was opened, and why."""
        return read_fallbacks(self)

    def place(
        self,
        path: str | int,
        *,
        inputs: dict[str, npt.NDArray[Any]] | None = None,
        repeat: int = 10,
        switch_us: float | None = None,
        us_per_byte: float = 0.0,
    ) -> Placement:
        """Find where each stage of a path runs best, by running it on every target.

        The shortest times of the stages count, and what a change of the target costs; the cheapest
        choice is found exactly, by dynamic programming.

        Args:
            path: Name or index.
            inputs: Arrays by input name; what is left out is zeros.
            repeat: Measured runs on each target, at least 3.
            switch_us: Cost of a change of the target; measured by default, with a run that changes
                it at every stage.
            us_per_byte: Cost of a byte that is alive across a change; what backends copy on each
                call is in the stages' times already.

        Raises:
            PathError: No such path.
            NestlingError: As `Session.select` and `Session.run`.
        """
        return place(
            self,
            path,
            inputs=inputs,
            repeat=repeat,
            switch_us=switch_us,
            us_per_byte=us_per_byte,
        )

    def reset_stats(self) -> None:
        """Zero the counters of all stages."""
        native.call("nst_model_reset_stats", self.handle)

    def adopt(self, child: Session | Prefetch | Decoder | DecoderPool) -> None:
        """Keep something that lives on the model: it is closed with it."""
        with self._lock:
            self._children.add(child)
            self._alive += 1

    def child_closed(self) -> None:
        """Hear from a session or a prefetch that it let go of the model."""
        with self._lock:
            self._alive -= 1
            if self._abandoned and self._alive == 0:
                self._close_native()

    def _close_native(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self.bundle.detach()
            native.call("nst_model_close", handle)
            self._keep = None

    def close(self) -> None:
        """End all sessions and prefetches, unload everything. Waits for runs; twice is fine."""
        if self._handle is None:
            return
        for child in list(self._children):
            child.close()
        with self._lock:
            self._close_native()

    def __del__(self) -> None:
        # Garbage that refers to itself is finalised in any order: the last one closes the model.
        if self._handle is not None:
            with self._lock:
                self._abandoned = True
                if self._alive == 0:
                    self._close_native()


def open_model(
    source: str | os.PathLike[str] | bytes | int,
    *,
    budget_bytes: int = 0,
    threads: int = 0,
    verify_all: bool = False,
    weight_cache: bool = True,
    keep_pages: bool = False,
    workspace_per_stage: bool = False,
    targets: Sequence[str] | None = None,
    offset_bytes: int = 0,
    length_bytes: int = 0,
) -> Model:
    """Open a bundle to run it. Loads no stage.

    Args:
        source: A file, the bundle's bytes (not copied), or a file descriptor.
        budget_bytes: Limit of `Memory.resident_bytes`; 0 for none.
        threads: Of one run: 0 all processors, 1 the calling thread alone, n a pool of n.
        verify_all: Check every section now, instead of each before its first use.
        weight_cache: Let stages share packed weights; False for measurements only.
        keep_pages: Keep the file's pages in memory after packing.
        workspace_per_stage: Give each stage scratch memory of its own; for measurements.
        targets: Of this device, best first; the bundle's other ones are not used. All of the
            bundle, its own first, by default.
        offset_bytes: Where the bundle starts in the file of a descriptor.
        length_bytes: How long it is there; 0 to the end of the file.

    Raises:
        BundleError: The file cannot be read, or is not a whole, legal bundle.
        TargetError: None of the bundle's targets runs here; names them.
        EngineError: Another open model uses a thread pool of another size, or there is no library.
    """
    library = native.library()
    options = abi.ModelOptions()
    library.nst_model_options_default(byref(options))
    options.budget_bytes = budget_bytes
    options.threads = threads
    options.verify_all = verify_all
    options.weight_cache = weight_cache
    options.keep_pages = keep_pages
    options.workspace = int(workspace_per_stage)
    options.targets = None if targets is None else ",".join(targets).encode()
    options.log = _log
    native.find_openvino()
    handle = c_void_p()
    keep: object = None
    if isinstance(source, bytes):
        data = np.frombuffer(source, dtype=np.uint8)
        keep = (source, data)
        native.call(
            "nst_model_open_memory",
            ctypes.c_void_p(data.ctypes.data),
            data.nbytes,
            byref(options),
            byref(handle),
        )
    elif isinstance(source, int):
        native.call(
            "nst_model_open_fd", source, offset_bytes, length_bytes, byref(options), byref(handle)
        )
    else:
        native.call("nst_model_open_path", os.fsencode(source), byref(options), byref(handle))
    assert handle.value is not None
    return Model(handle.value, keep)
