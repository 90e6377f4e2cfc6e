"""`sim://PROFILE?option=value&...`: a simulated device as a serial port; see `sim.board`.

    port = serial.serial_for_url("sim://phone-mid?bundle=digits.nest&seed=0", timeout=1)

Line settings are taken and ignored: there is no wire. The device works while it is written to, on
virtual time, so an answer is there when `write` returns.
"""

from __future__ import annotations

import time
from typing import Any

import serial
from serial.serialutil import PortNotOpenError, SerialBase, to_bytes

from nestling_devices.sim.board import SimulatedBoard, parse_url

_WAIT_MS = 20


class Serial(SerialBase):  # type: ignore[misc]
    """The port. Opening it switches the device on, closing it switches it off."""

    is_open: bool

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.board: SimulatedBoard | None = None
        super().__init__(*args, **settings)

    def open(self) -> None:
        """Switch the device on.

        Raises:
            serial.SerialException: It is open.
            NestlingError: The URL, or what it names, is wrong: to try again is of no use.
        """
        if self._port is None:
            raise serial.SerialException("a port must be set before it is opened")
        if self.is_open:
            raise serial.SerialException("the port is open")
        self.board = SimulatedBoard(*parse_url(self.port))
        self.is_open = True

    def close(self) -> None:
        """Switch it off; may be called twice."""
        board, self.board = self.board, None
        self.is_open = False
        if board is not None:
            board.close()

    def _on(self) -> SimulatedBoard:
        if self.board is None:
            raise PortNotOpenError()
        return self.board

    def _reconfigure_port(self) -> None:
        """Take new line settings: there is no line."""

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""
        return self._on().pipe.pending

    @property
    def out_waiting(self) -> int:
        """Nothing waits."""
        self._on()
        return 0

    def read(self, size: int = 1) -> bytes:
        """Read up to `size` bytes; fewer when the timeout is over."""
        end = None if self._timeout is None else time.monotonic() + self._timeout
        data = b""
        while len(data) < size:
            left_ms = _WAIT_MS if end is None else max(0, int((end - time.monotonic()) * 1e3))
            more = self._on().pipe.read(size - len(data), min(left_ms, _WAIT_MS))
            data += more
            if not more and end is not None and time.monotonic() >= end:
                break
        return data

    def write(self, data: Any) -> int:
        """Give bytes to the device; it answers before this returns."""
        content: bytes = to_bytes(data)
        self._on().pipe.write(content)
        return len(content)

    def flush(self) -> None:
        """Everything is written already."""
        self._on()

    def reset_input_buffer(self) -> None:
        """Drop what the device has sent."""
        pipe = self._on().pipe
        while pipe.read():
            pass

    def reset_output_buffer(self) -> None:
        """Nothing is under way."""
        self._on()
