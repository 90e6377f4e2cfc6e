"""nestlingd as a process, and smpclient as it comes from PyPI."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import serial
from smpclient import SMPClient
from smpclient.generics import SMPRequest, TEr1, TEr2, TRep, error, success
from smpclient.requests.image_management import ImageStatesRead
from smpclient.transport.serial import SMPSerialTransport

from nestling_devices import messages
from nestling_runtime.closing import Closing

ROOT = Path(__file__).resolve().parents[2]
SLOT_BYTES = 1 << 20
# The processor of a Raspberry Pi 5. QEMU's own choice, `max`, has SME, with whose emulation in
# QEMU 7.2 XNNPACK's int8 kernels give wrong results.
QEMU = ("qemu-aarch64", "-cpu", "cortex-a76", "-L", "/usr/aarch64-linux-gnu")

Array = npt.NDArray[np.float32]
_Result = TypeVar("_Result")


@cache
def sanitized_daemon() -> Path:
    """Build nestlingd with AddressSanitizer and UBSan; return it. Test processes take turns.

    The core and the daemon, which read what others send, have sanitizers; the engine has them too
    if NESTLING_SANITIZE_ENGINE is set, and takes minutes to compile then.
    """
    whole = "NESTLING_SANITIZE_ENGINE" in os.environ
    build = ROOT / "build" / ("sanitize-engine" if whole else "sanitize-linux")
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    build.mkdir(parents=True, exist_ok=True)
    with open(build / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = ROOT / "firmware" if whole else Path(__file__).parent
        options = (
            ("NESTLING_SANITIZE=ON", "NESTLING_BUILD_BENCH=OFF", "NESTLING_BUILD_EXAMPLES=OFF")
            if whole
            else (f"NESTLING_LIBRARY={ROOT / 'build' / 'native' / 'libnestling.so'}",)
        )
        configure = [
            *("cmake", "-S", str(sources), "-B", str(build), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            *("-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O1", "-DCMAKE_CXX_FLAGS=-O1"),
            *(f"-D{option}" for option in options),
        ]
        for command in (
            configure,
            ["cmake", "--build", str(build), "-j2", "--target", "nestlingd"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
    return build / "bin" / "nestlingd"


@cache
def arm64_build() -> Path:
    """Cross-build for aarch64; return the folder."""
    done = subprocess.run([ROOT / "scripts" / "build_arm64.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "arm64"


class Daemon:
    """A running nestlingd. A context manager that ends it and looks at how it ended.

    Args:
        program: Command line up to the program itself.
        flash: The flash file.
        port: What to listen on: "--pty", or "--tcp" for a port of the loopback.
        options: More options.

    Attributes:
        url: Where it listens.
    """

    def __init__(
        self, program: Sequence[str | Path], flash: Path, port: str = "--tcp", *options: str
    ) -> None:
        where = [port, "127.0.0.1:0"] if port == "--tcp" else [port]
        self._process = subprocess.Popen(
            [*program, *where, "--flash", flash, "--threads", "1", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if len(words) != 2 or words[0] != "ready":
            raise AssertionError(f"nestlingd does not start: {self._process.communicate()[1]}")
        self.url = words[1]

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Cut its power."""
        self._process.kill()
        self._process.communicate()

    def wait(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        self._process.communicate(timeout=120)
        return self._process.returncode

    def end(self) -> None:
        """Ask it to end; it must do so cleanly, and with nothing to complain about."""
        self._process.terminate()
        _, complaints = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, complaints
        assert complaints == ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            if kind is None:
                self.end()
            else:
                self.kill()


class _UrlTransport(SMPSerialTransport):
    """smpclient's serial transport on another pipe than a serial port, as it asks to be used."""

    async def connect(self, address: str, timeout_s: float) -> None:
        self._reset_state()
        self._conn = serial.serial_for_url(address, timeout=0)  # type: ignore[misc]
        self._conn.out_waiting = 0  # pyserial's sockets do not have it, and smpclient asks


class Stock(Closing):
    """smpclient, unchanged, without its asynchrony. A context manager.

    Args:
        url: A device file, or what pyserial opens.
    """

    def __init__(self, url: str) -> None:
        transport = _UrlTransport() if "://" in url else SMPSerialTransport()
        self._loop = asyncio.new_event_loop()
        self._client = SMPClient(transport, url, timeout_s=60)
        self.wait(self._client.connect(60))

    def wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run something to its end."""
        return self._loop.run_until_complete(work)

    def ask(self, request: SMPRequest[TRep, TEr1, TEr2]) -> TRep:
        """Send a request that must succeed."""
        answer = self.wait(self._client.request(request, timeout_s=120))
        assert success(answer), answer
        return answer

    def refused(self, request: SMPRequest[TRep, TEr1, TEr2]) -> str:
        """Send a request that must be refused; return the reason."""
        answer = self.wait(self._client.request(request, timeout_s=120))
        assert error(answer), answer
        return str(getattr(answer, "rsn", None))

    def upload(self, data: bytes, seen: Callable[[int], None] | None = None) -> int:
        """Upload a bundle; return the offset that the device expected after the first piece.

        Args:
            data: The bundle.
            seen: Called with each offset that the device expects next.
        """
        offsets: list[int] = []

        async def send() -> None:
            async for offset in self._client.upload(data, first_timeout_s=60):
                offsets.append(offset)
                if seen is not None:
                    seen(offset)

        self.wait(send())
        assert offsets[-1] == len(data)
        return offsets[0]

    def hash_of_upload(self) -> bytes:
        """Hash of the bundle that does not run."""
        (image,) = (i for i in self.ask(ImageStatesRead()).images if not i.active)
        assert image.hash is not None
        return bytes(image.hash)

    def write(self, slot: int, array: Array) -> None:
        """Fill a slot, in as many pieces as it takes."""
        data, chunk = array.tobytes(), self.ask(messages.InfoRead()).chunk_bytes - 64
        for offset in range(0, len(data), chunk):
            piece = messages.TensorWrite(slot=slot, off=offset, data=data[offset : offset + chunk])
            assert self.ask(piece).off == min(offset + chunk, len(data))

    def read(self, slot: int) -> Array:
        """Read a slot's floats."""
        data = b""
        while True:
            answer = self.ask(messages.TensorRead(slot=slot, off=len(data)))
            data += answer.data
            if len(data) == answer.len:
                return np.frombuffer(data, np.float32)

    def infer(self, path: str, image: Array) -> Array:
        """Select a path and run it, from the only input to the only output."""
        roles = [slot.role for slot in self.slots()]
        self.ask(messages.SelectWrite(name=path))
        self.write(roles.index("input"), image)
        self.ask(messages.RunWrite())
        return self.read(roles.index("output"))

    def slots(self) -> list[messages.SlotItem]:
        """Every slot of the open bundle."""
        found: list[messages.SlotItem] = []
        while True:
            answer = self.ask(messages.SlotsRead(start=len(found)))
            found += answer.slots
            if len(found) == answer.total:
                return found

    def close(self) -> None:
        """Hang up."""
        self.wait(self._client.disconnect())
        self._loop.close()
