"""A device inside this process: nestlingd's protocol server as a library, behind a line.

`Pipe` is `firmware/boards/linux/server_pipe.h` for Python; `PipeLine` makes it look like a serial
port. The library is looked for beside libnestling; see `nestling_runtime.native`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import threading
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path

import serial

from nestling_devices.errors import ToolError
from nestling_runtime import abi, native

LIBRARY_NAME = "libnestlingd.so"
CUTS = ("before", "torn", "after")
"""What is left of the flash operation that the power fails in, by number."""

_READ_BYTES = 65_536
_READ_WAIT_MS = 10


class Sensors(Structure):
    """`nst_smp_sensors`."""

    _fields_ = [
        ("has_temperature", c_bool),
        ("has_battery", c_bool),
        ("temperature_c", c_float),
        ("battery", c_float),
    ]


Clock = CFUNCTYPE(c_uint64, c_void_p)
SensorReader = CFUNCTYPE(None, c_void_p, POINTER(Sensors))


class PipeOptions(Structure):
    """`nst_pipe_options`."""

    _fields_ = [
        ("struct_bytes", c_uint64),
        ("flash_path", c_char_p),
        ("slot_bytes", c_uint64),
        ("sector_bytes", c_uint32),
        ("page_bytes", c_uint32),
        ("message_bytes", c_uint32),
        ("device", c_char_p),
        ("targets", c_char_p),
        ("public_key", c_void_p),
        ("budget_bytes", c_uint64),
        ("threads", c_uint32),
        ("durable", c_uint8),
        ("faults", c_uint8),
        ("reserved", c_uint8 * 2),
        ("uptime_ms", Clock),
        ("now", Clock),
        ("sensors", SensorReader),
        ("user", c_void_p),
    ]


_err = POINTER(abi.Error)
_PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "nst_pipe_options_default": (None, (POINTER(PipeOptions),)),
    "nst_pipe_create": (c_int, (POINTER(PipeOptions), POINTER(c_void_p), _err)),
    "nst_pipe_create_with_engine": (
        c_int,
        (POINTER(PipeOptions), c_void_p, POINTER(c_void_p), _err),
    ),
    "nst_pipe_destroy": (None, (c_void_p,)),
    "nst_pipe_write": (c_int, (c_void_p, c_char_p, c_size_t, _err)),
    "nst_pipe_read": (c_size_t, (c_void_p, c_void_p, c_size_t, c_uint32)),
    "nst_pipe_pending": (c_size_t, (c_void_p,)),
    "nst_pipe_serve_meanwhile": (None, (c_void_p,)),
    "nst_pipe_restart": (c_int, (c_void_p, _err)),
    "nst_pipe_cut_after": (None, (c_void_p, c_uint64, c_int)),
}


def library_path() -> Path | None:
    """Return where the library is, beside libnestling; None when it is not built."""
    candidates = [path.with_name(LIBRARY_NAME) for path in native.library_candidates()]
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def library() -> ctypes.CDLL:
    """Return the library with all prototypes set.

    Raises:
        ToolError: It is not built, or of another version.
    """
    path = library_path()
    if path is None:
        raise ToolError(f"{LIBRARY_NAME} is not there", hint="build it with `make build`")
    native.library()  # brings executorch's libraries, wherever they are
    loaded = ctypes.CDLL(str(path))
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise ToolError(
                f"{path} is of another version", expected=name, hint="build it with `make build`"
            )
        function.restype = result
        function.argtypes = arguments
    options = PipeOptions()
    loaded.nst_pipe_options_default(byref(options))
    if options.struct_bytes != ctypes.sizeof(PipeOptions):
        raise ToolError(
            f"{path} is of another version",
            expected=ctypes.sizeof(PipeOptions),
            actual=options.struct_bytes,
            hint="build it with `make build`",
        )
    return loaded


class Pipe:
    """The server, and the flash file that it works on.

    Args:
        flash: The file that is the flash; made when it is not there.
        slot_bytes: Room for one bundle; 0 as the file has it, or the library's default.
        message_bytes: Largest message; 0 for the library's default.
        public_key: Only bundles signed with this Ed25519 key are opened; None for all.
        budget_bytes: Memory budget; 0 for none.
        threads: Of a run; 0 for all processors.
        faults: Clients may ask for power cuts.
        engine: Address of an `nst_engine` of the caller's, in place of ExecuTorch.
        configure: Changes the options before they are used (clocks and sensors of a simulator).

    Raises:
        ToolError: The library is not built.
        NestlingError: The file cannot be used.
    """

    def __init__(
        self,
        flash: str | os.PathLike[str],
        *,
        slot_bytes: int = 0,
        message_bytes: int = 0,
        public_key: bytes | None = None,
        budget_bytes: int = 0,
        threads: int = 0,
        faults: bool = False,
        engine: int | None = None,
        configure: Callable[[PipeOptions], None] | None = None,
    ) -> None:
        self._library = library()
        options = PipeOptions()
        self._library.nst_pipe_options_default(byref(options))
        options.flash_path = os.fsencode(flash)
        options.slot_bytes = slot_bytes
        options.message_bytes = message_bytes or options.message_bytes
        options.budget_bytes = budget_bytes
        options.threads = threads
        options.faults = faults
        key = ctypes.create_string_buffer(public_key, 32) if public_key is not None else None
        options.public_key = ctypes.cast(key, c_void_p) if key is not None else None
        if configure is not None:
            configure(options)
        self._keep = (options, key)  # callbacks live as long as the pipe
        handle = c_void_p()
        error = abi.Error()
        if engine is None:
            code = self._library.nst_pipe_create(byref(options), byref(handle), byref(error))
        else:
            code = self._library.nst_pipe_create_with_engine(
                byref(options), engine, byref(handle), byref(error)
            )
        native.check(code, error)
        self._handle: int | None = handle.value

    @property
    def handle(self) -> int:
        """The `nst_pipe *`.

        Raises:
            serial.SerialException: It is destroyed.
        """
        if self._handle is None:
            raise serial.SerialException("the device is off")
        return self._handle

    def write(self, data: bytes) -> None:
        """Give bytes to the device; returns when it has answered them.

        Raises:
            serial.SerialException: It has no power.
        """
        error = abi.Error()
        if self._library.nst_pipe_write(self.handle, data, len(data), byref(error)) != abi.OK:
            raise serial.SerialException(error.message.decode(errors="replace"))

    def read(self, size_bytes: int = _READ_BYTES, wait_ms: int = 0) -> bytes:
        """Take bytes that the device has sent; waits for the first one.

        Raises:
            serial.SerialException: It is destroyed.
        """
        buffer = ctypes.create_string_buffer(size_bytes)
        taken = self._library.nst_pipe_read(self.handle, buffer, size_bytes, wait_ms)
        return buffer.raw[:taken]

    @property
    def pending(self) -> int:
        """Bytes that `read` would give at once.

        Raises:
            serial.SerialException: It is destroyed.
        """
        return int(self._library.nst_pipe_pending(self.handle))

    def cut_after(self, operations: int, cut: str = "before") -> None:
        """Let the power fail in a flash operation from now on: 1 is the next one, 0 is never.

        Raises:
            ValueError: No such kind of cut.
        """
        self._library.nst_pipe_cut_after(self.handle, operations, CUTS.index(cut))

    def restart(self) -> None:
        """Power off and on.

        Raises:
            NestlingError: The flash cannot be used.
        """
        error = abi.Error()
        native.check(self._library.nst_pipe_restart(self.handle, byref(error)), error)

    def destroy(self) -> None:
        """Take the power away; the file stays. May be called twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.nst_pipe_destroy(handle)


class PipeLine:
    """A line to a pipe. The device works in a thread of the line's.

    Args:
        pipe: The device; the line does not own it, and must be closed before it is destroyed.
    """

    def __init__(self, pipe: Pipe) -> None:
        self.port = "host://"
        self._pipe = pipe
        self._sent_bytes = 0
        self._received_bytes = 0
        self._inside = threading.Event()  # the worker is in nst_pipe_write
        self._closed = False
        self._failure: serial.SerialException | None = None
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="nestling-device", daemon=True)
        self._worker.start()

    @property
    def sent_bytes(self) -> int:
        """Bytes written so far."""
        return self._sent_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes read so far."""
        return self._received_bytes

    @property
    def out_waiting(self) -> int:
        """Nothing waits: there is no wire."""
        return 0

    def read_all(self) -> bytes:
        """Return what has come in; waits a few milliseconds for a first byte.

        Raises:
            serial.SerialException: The device has no power.
        """
        data = self._pipe.read(wait_ms=_READ_WAIT_MS)
        if not data and self._failure is not None:
            raise self._failure
        self._received_bytes += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Give bytes to the device, without waiting for its answer.

        Raises:
            serial.SerialException: The device has no power, or the line is closed.
        """
        if self._closed:
            raise serial.SerialException("the line is closed")
        if self._failure is not None:
            raise self._failure
        self._sent_bytes += len(data)
        if self._inside.is_set():
            # A run is in progress; whoever is inside answers this too, so it returns at once.
            self._pipe.write(data)
        else:
            self._requests.put(data)
        return len(data)

    def close(self) -> None:
        """Wait for the device to finish what it is doing; may be called twice."""
        if not self._closed:
            self._closed = True
            self._requests.put(None)
            if threading.current_thread() is not self._worker:
                self._worker.join()

    def _work(self) -> None:
        while (data := self._requests.get()) is not None:
            self._inside.set()
            try:
                self._pipe.write(data)
            except serial.SerialException as error:
                self._failure = error
            finally:
                self._inside.clear()
