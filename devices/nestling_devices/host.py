"""The `host` device: nestlingd's server and ExecuTorch's engine inside this process."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from nestling_devices.errors import LinkError
from nestling_devices.keys import read_public_key
from nestling_devices.machine import MachineOptions, Need
from nestling_devices.pipe import LIBRARY_NAME, Pipe, PipeLine, library_path


class HostMachine:
    """A device inside this process; its flash is a file.

    Args:
        options: Folder of the flash, slot size, key, budget.
    """

    def __init__(self, options: MachineOptions) -> None:
        self._options = options
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        folder = options.folder
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="nestling-host-")
            folder = Path(self._temporary.name)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.pipe: Pipe | None = None
        self._line: PipeLine | None = None

    @staticmethod
    def needs() -> list[Need]:
        """Return what it cannot do without."""
        found = library_path()
        return [Need(LIBRARY_NAME, str(found) if found else None, "make build")]

    def start(self) -> None:
        """Open the flash and the bundle in it; does nothing while it is on.

        Raises:
            ToolError: The library is not built.
            SignatureError: The key cannot be read.
            NestlingError: The flash cannot be used.
        """
        if self.pipe is None:
            key = self._options.public_key
            self.pipe = Pipe(
                self.folder / "flash.bin",
                slot_bytes=self._options.slot_bytes,
                public_key=None if key is None else read_public_key(key),
                budget_bytes=self._options.budget_bytes,
                threads=self._options.threads,
                faults=self._options.faults,
            )

    def open_line(self, wait_s: float) -> PipeLine:
        """Return a line to it.

        Raises:
            LinkError: It is off.
        """
        del wait_s
        if self.pipe is None:
            raise LinkError("the device is off")
        self._line = PipeLine(self.pipe)
        return self._line

    def power_cut(self) -> None:
        """Take its power away between two messages; see `Pipe.cut_after` for other moments."""
        line, self._line = self._line, None
        if line is not None:
            line.close()
        if self.pipe is not None:
            self.pipe.destroy()
            self.pipe = None

    def close(self) -> None:
        """Switch it off, and remove a temporary flash; may be called twice."""
        self.power_cut()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.cleanup()
            self._temporary = None
