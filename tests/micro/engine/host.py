"""The small-device engine in this process: built by CMake, called by ctypes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nestling_runtime.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]
STATE_BYTES = 1 << 20
ARENA_BYTES = 1 << 20
TARGETS = {"cortex-m55": 2, "cortex-m4": 1, "cortex-m7": 1, "cortex-m33": 1}
"""Target -> the number of its instructions in plans."""


class MicroError(Exception):
    """An error record of the core."""

    def __init__(self, record: Any) -> None:
        self.code = int(record.code)
        self.section = record.section.decode()
        self.stage = record.stage.decode()
        self.expected = int(record.expected)
        self.actual = int(record.actual)
        self.message = record.message.decode()
        super().__init__(f"{self.message} (stage {self.stage}, {self.expected}, {self.actual})")


class _Error(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_int),
        ("section", ctypes.c_char * 128),
        ("stage", ctypes.c_char * 128),
        ("expected", ctypes.c_uint64),
        ("actual", ctypes.c_uint64),
        ("message", ctypes.c_char * 192),
    )


class StageReport(ctypes.Structure):
    """`nst_stage_report`."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("calls", "total", "resident_bytes"))


class Memory(ctypes.Structure):
    """`nst_engine_memory`."""

    _fields_ = (
        *((n, ctypes.c_uint64) for n in ("arena_bytes", "arena_capacity", "resident_bytes")),
        ("budget_bytes", ctypes.c_uint64),
        *((n, ctypes.c_uint32) for n in ("stages_resident", "loads", "evictions")),
    )


@cache
def build(target: str, *, sanitize: bool) -> Path:
    """Build `micro_host` (a library) or `fuzz_plan` (a program). Workers take turns."""
    folder = ROOT / "build" / ("micro-host-sanitize" if sanitize else "micro-host-engine")
    folder.mkdir(parents=True, exist_ok=True)
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configure = [
            *("cmake", "-S", str(Path(__file__).parent), "-B", str(folder), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_BUILD_TYPE={'None' if sanitize else 'Release'}",
            f"-DCMAKE_C_FLAGS={'-O1' if sanitize else ''}",
            f"-DNESTLING_SANITIZE={'ON' if sanitize else 'OFF'}",
        ]
        for command in (configure, ["cmake", "--build", str(folder), "-j2", "--target", target]):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin" / target if sanitize else folder / f"lib{target}.so"


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build("micro_host", sanitize=False)))
    library.host_new.restype = ctypes.c_void_p
    library.host_state_bytes.restype = ctypes.c_uint64
    library.host_feeds.restype = ctypes.c_uint64
    return library


class MicroEngine:
    """An engine with a bundle open.

    Args:
        bundle: a file.
        target: which core it plays; by default the bundle's own.
        isa: whose plans it runs; 0 for all.
        state_bytes: its memory for tables.
        arena_bytes: its memory for activations.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        target: str | None = None,
        isa: int | None = None,
        state_bytes: int = STATE_BYTES,
        arena_bytes: int = ARENA_BYTES,
    ) -> None:
        with Bundle.open(bundle) as opened:
            self.slots = [(s.name, s.role, s.dtype, tuple(s.shape)) for s in opened.slots]
            self.paths = {path.name: i for i, path in enumerate(opened.paths)}
            self.chains = [list(path.chain) for path in opened.paths]
            target = target or opened.target
        data = bundle.read_bytes()
        self._library = _library()
        self._error = _Error()
        self._targets = (ctypes.c_char_p * 1)(target.encode())
        flash = 2 * (len(data) + 65536)
        handle = self._library.host_new(
            ctypes.c_uint64(flash),
            ctypes.c_uint64(state_bytes),
            ctypes.c_uint64(arena_bytes),
            ctypes.c_uint32(TARGETS[target] if isa is None else isa),
            self._targets,
            ctypes.byref(self._error),
        )
        assert handle, self._error.message
        self._self = ctypes.c_void_p(handle)
        self.half = flash // 2 // 64 * 64
        self.open(data)

    def close(self) -> None:
        """Free everything."""
        self._library.host_free(self._self)

    def call(self, name: str, *args: Any) -> None:
        """Call `host_NAME`.

        Raises:
            MicroError: the engine said no.
        """
        function = getattr(self._library, f"host_{name}")
        if function(self._self, *args, ctypes.byref(self._error)) != 0:
            raise MicroError(self._error)

    def open(self, data: bytes, *, second: bool = False) -> None:
        """Write a bundle into one half of the flash and open it there."""
        offset = ctypes.c_uint64(self.half if second else 0)
        self._library.host_flash(self._self, offset, data, ctypes.c_uint64(len(data)))
        self.call("open", offset, ctypes.c_uint64(len(data)))

    def select(self, path: str | Sequence[int]) -> None:
        """Select a named path or a list of stages."""
        if isinstance(path, str):
            self.call("select", ctypes.c_uint32(self.paths[path]))
        else:
            numbers = (ctypes.c_uint32 * max(len(path), 1))(*path)
            self.call("select_stages", numbers, ctypes.c_uint32(len(path)))

    def write(self, slot: int, array: NDArray[Any]) -> None:
        """Fill an input slot."""
        data = np.ascontiguousarray(array).tobytes()
        self.call("write", ctypes.c_uint32(slot), data, ctypes.c_uint64(len(data)))

    def read(self, slot: int) -> bytes:
        """Bytes of an output slot."""
        _, _, dtype, shape = self.slots[slot]
        size = int(np.prod(shape)) * {"f32": 4, "i8": 1}[dtype]
        data = ctypes.create_string_buffer(size)
        self.call("read", ctypes.c_uint32(slot), data, ctypes.c_uint64(size))
        return data.raw

    def run(self, *inputs: NDArray[Any]) -> bytes:
        """Write inputs, if any, run the selected path, return the bytes of the output."""
        roles = [role for _, role, _, _ in self.slots]
        places = [i for i, role in enumerate(roles) if role == "input"]
        for slot, array in zip(places[: len(inputs)], inputs, strict=True):
            self.write(slot, array)
        duration, stages = ctypes.c_uint64(), ctypes.c_uint32()
        self.call("run", ctypes.byref(duration), ctypes.byref(stages))
        return self.read(roles.index("output"))

    def cancel(self) -> None:
        """Cancel the next run."""
        self._library.host_cancel(self._self)

    def trace(self, on: bool) -> None:
        """Count each stage, or not."""
        self._library.host_trace(self._self, int(on))

    def scribble(self, size: int, value: int) -> None:
        """Fill the start of the arena."""
        self._library.host_scribble(self._self, ctypes.c_uint64(size), ctypes.c_uint8(value))

    def stage(self, index: int) -> StageReport:
        """What a stage did."""
        report = StageReport()
        self.call("stage", ctypes.c_uint32(index), ctypes.byref(report))
        return report

    def memory(self) -> Memory:
        """Arena and weights."""
        memory = Memory()
        self.call("memory", ctypes.byref(memory))
        return memory

    def close_bundle(self) -> None:
        """Let the bundle go; the engine stays."""
        self._library.host_close_bundle(self._self)

    @property
    def feeds(self) -> int:
        """How often the watchdog was fed."""
        return int(self._library.host_feeds(self._self))

    @property
    def state_bytes(self) -> int:
        """State memory that the open bundle needs, for two of its kind."""
        return int(self._library.host_state_bytes(self._self))
