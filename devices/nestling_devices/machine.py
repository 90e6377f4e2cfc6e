"""What stands behind a device: something that starts, has a line, and can lose its power."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from nestling_devices.errors import DeviceError, LinkError
from nestling_devices.line import Line, open_serial

_END_WAIT_S = 5.0
_START_TRIES = 3
_START_WAIT_S = 20.0


@dataclass(frozen=True)
class Need:
    """Something that a device cannot do without.

    Attributes:
        what: A program or file, for people.
        found: Where it is; None when it is missing.
        remedy: What brings it: "apt-get install ..." or "make ...".
    """

    what: str
    found: str | None
    remedy: str


@dataclass(frozen=True)
class MachineOptions:
    """What `open_device` asks of a machine; see there."""

    folder: Path | None = None
    slot_bytes: int = 0
    public_key: Path | None = None
    budget_bytes: int = 0
    threads: int = 0
    faults: bool = False


class Machine(Protocol):
    """A device without the protocol: power and a line."""

    def start(self) -> None:
        """Switch it on; does nothing while it is on."""

    def open_line(self, wait_s: float) -> Line:
        """Open a line to it, trying for some seconds."""

    def power_cut(self) -> None:
        """Take its power away, at once; what is in flash stays."""

    def close(self) -> None:
        """Switch it off for good, and remove what it left; may be called twice."""


class RemoteMachine:
    """A board that is somebody else's to power, reached by URL.

    Args:
        url: What `serial.serial_for_url` opens.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def start(self) -> None:
        """It runs, or it does not."""

    def open_line(self, wait_s: float) -> Line:
        """Open the port.

        Raises:
            LinkError: It cannot be opened.
        """
        return open_serial(self._url, wait_s=wait_s)

    def power_cut(self) -> None:
        """Refuse.

        Raises:
            DeviceError: Always.
        """
        raise DeviceError("nobody here can cut the power of this device", hint="pull its plug")

    def close(self) -> None:
        """Leave it as it is."""


class ProcessMachine:
    """A machine that is a process of its own with a TCP port: an emulator, or a daemon under one.

    Subclasses say what to run and when it is ready. The process is ended by its handle, never by
    name.

    Args:
        folder: Keeps its flash and its log; a temporary one by default, removed on `close`.
    """

    name = "machine"

    def __init__(self, folder: Path | None = None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"nestling-{self.name}-")
            folder = Path(self._temporary.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._url: str | None = None
        self._log_start = 0

    def command(self) -> Sequence[str]:
        """Return the command line of a new process.

        Raises:
            ToolError: Something that it needs is missing.
        """
        raise NotImplementedError

    def ready_url(self) -> str | None:
        """Return the URL of its line once it is ready; it is asked again and again."""
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it is ready; does nothing while it runs.

        Raises:
            ToolError: Something that it needs is missing.
            LinkError: It ended at once.
        """
        if self.is_running:
            return
        for _ in range(_START_TRIES):
            self._end()
            self._log = (self.folder / "console.log").open("ab")
            self._log_start = self._log.tell()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt from the keyboard is for us to handle
            )
            end = time.monotonic() + _START_WAIT_S
            while time.monotonic() < end and self.is_running:
                self._url = self.ready_url()
                if self._url is not None:
                    return
                time.sleep(0.02)
        self._end()
        raise LinkError(f"{self.name} does not start", actual=self.console()[-200:] or None)

    def open_line(self, wait_s: float) -> Line:
        """Connect to its port.

        Raises:
            LinkError: Nobody listens.
        """
        if not self.is_running or self._url is None:
            raise LinkError(f"{self.name} is not running", actual=self.console()[-200:] or None)
        return open_serial(self._url, wait_s=wait_s)

    def power_cut(self) -> None:
        """Kill the process between two of its instructions."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the process and remove a temporary folder; may be called twice."""
        self._end()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_WAIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def console(self) -> str:
        """Return what the process has printed since it was started."""
        try:
            with (self.folder / "console.log").open("rb") as log:
                log.seek(self._log_start)
                return " ".join(log.read().decode(errors="replace").split())
        except OSError:
            return ""


def free_port() -> int:
    """Return a TCP port of the loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether a process of this computer listens on a TCP port, by the kernel's own table."""
    wanted = f":{port:04X}"
    try:
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    except OSError:
        time.sleep(0.3)  # a system without /proc: connecting tries again until it works
        return True
    return any((f := row.split())[1].endswith(wanted) and f[3] == "0A" for row in rows)
