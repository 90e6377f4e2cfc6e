"""The bytes between this computer and a device: a pyserial URL, counted.

`socket://127.0.0.1:4000`, `/dev/ttyACM0`, the name of a PTY, `sim://phone`, `host://`: whatever
`serial.serial_for_url` opens. Faults are injected by putting another line around one
(`nestling_devices.faults`).
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

import serial

from nestling_devices.errors import LinkError

BAUD = 115_200
_READ_WAIT_S = 0.01
_READ_BYTES = 4096


class Line(Protocol):
    """What the transport needs; a subset of pyserial's own interface."""

    port: str

    @property
    def sent_bytes(self) -> int:
        """Bytes written so far."""

    @property
    def received_bytes(self) -> int:
        """Bytes read so far."""

    @property
    def out_waiting(self) -> int:
        """Bytes that are not on their way yet."""

    def read_all(self) -> bytes:
        """Return what has come in; waits a few milliseconds for a first byte."""

    def write(self, data: bytes) -> int:
        """Send all of it, in one piece where several threads write."""

    def close(self) -> None:
        """Let the port go; may be called twice."""


class SerialLine:
    """A line over pyserial.

    Args:
        url: What `serial.serial_for_url` opens.
        baud: Of a real port.

    Attributes:
        port: The URL.

    Raises:
        serial.SerialException: The port cannot be opened.
    """

    def __init__(self, url: str, *, baud: int = BAUD) -> None:
        self.port = url
        self._sent_bytes = 0
        self._received_bytes = 0
        self._writing = threading.Lock()
        self._serial = serial.serial_for_url(url, baudrate=baud, timeout=_READ_WAIT_S)

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
        """Bytes in the port's buffer; sockets do not tell."""
        try:
            return int(getattr(self._serial, "out_waiting", 0))
        except OSError as error:
            raise serial.SerialException(str(error)) from error

    def read_all(self) -> bytes:
        """Return what has come in; waits a few milliseconds for a first byte.

        Raises:
            serial.SerialException: The other side is gone.
        """
        data: bytes = self._serial.read(1)
        while data and len(data) < _READ_BYTES and (waiting := self._serial.in_waiting):
            # A socket says 1 for any number of bytes, and returns as many as it has.
            more = self._serial.read(waiting)
            if not more:
                break
            data += more
        self._received_bytes += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Send all of it, in one piece where several threads write.

        Raises:
            serial.SerialException: The other side is gone.
        """
        with self._writing:
            self._serial.write(data)
        self._sent_bytes += len(data)
        return len(data)

    def close(self) -> None:
        """Let the port go; may be called twice."""
        self._serial.close()


def open_serial(url: str, *, wait_s: float = 10.0, baud: int = BAUD) -> SerialLine:
    """Open a port, trying again until somebody listens there.

    Args:
        url: See `SerialLine`.
        wait_s: How long to try; an emulator needs a moment to start.
        baud: See `SerialLine`.

    Raises:
        LinkError: It cannot be opened.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            return SerialLine(url, baud=baud)
        except (serial.SerialException, OSError, ValueError) as error:
            if time.monotonic() >= end:
                raise LinkError(f"cannot open {url}", actual=str(error)) from error
            time.sleep(0.05)
