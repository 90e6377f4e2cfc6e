"""SMP over any line: `smpclient`'s serial transport, opened by URL and stricter.

The framing is smpclient's. Three things are added: the bytes go over a `Line`; a frame that is
damaged in any way (base64, length, checksum) is an error at once instead of a wait; and answers to
earlier requests, which a slow device may still send, are left out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
from collections.abc import Callable

from smp import header, packet
from smp.exceptions import SMPException
from smpclient.transport import SMPTransportDisconnected
from smpclient.transport.serial import SMPSerialTransport

from nestling_devices.line import Line

_QUIET_S = 0.03  # a line that is silent this long has nothing left of a damaged frame


class DamagedFrameError(Exception):
    """Bytes came in that are no frame; asking again is all that can be done."""


class LineTransport(SMPSerialTransport):
    """smpclient's serial transport over a line.

    Args:
        open_line: Opens the line, within a number of seconds.
    """

    def __init__(self, open_line: Callable[[float], Line]) -> None:
        super().__init__()
        self._open_line = open_line
        self._awaited: header.Header | None = None

    @property
    def line(self) -> Line:
        """The line, once connected."""
        line: Line = self._conn
        return line

    async def connect(self, address: str, timeout_s: float) -> None:
        """Open the line.

        Raises:
            LinkError: It cannot be opened.
        """
        del address
        self.forget()
        # The base class says that a subclass may put another pipe here.
        self._conn = await asyncio.to_thread(self._open_line, timeout_s)  # type: ignore[misc]

    def forget(self) -> None:
        """Drop what has come in so far."""
        self._buffer.clear()
        self._serial_buffer.clear()
        self._buffer_state = self.BufferState.SERIAL
        while not self._smp_packet_queue.empty():
            self._smp_packet_queue.get_nowait()

    async def send(self, data: bytes) -> None:
        """Send one message and remember which answer it wants.

        Raises:
            ValueError: It is larger than what the device takes.
            SMPTransportDisconnected: The other side is gone.
        """
        if len(data) > self.max_unencoded_size:
            raise ValueError(f"{len(data)} bytes; the device takes {self.max_unencoded_size}")
        self._awaited = header.Header.loads(data[: header.Header.SIZE])
        self.forget()
        self.interject(data)
        with self._serial_exception_to_disconnected():
            await self._drain_tx()

    def interject(self, data: bytes) -> None:
        """Write one message, whole, from any thread; no answer is waited for.

        Raises:
            SMPTransportDisconnected: The other side is gone.
        """
        with self._serial_exception_to_disconnected():
            self._conn.write(b"".join(packet.encode(data, line_length=self._line_length)))

    async def receive(self) -> bytes:
        """Wait for the answer to the message that was sent last.

        Raises:
            DamagedFrameError: A damaged frame came in; it may have been the answer.
            SMPTransportDisconnected: The other side is gone.
        """
        while True:
            try:
                frame = await self._receive_frame()
                found = header.Header.loads(frame[: header.Header.SIZE])
            except (SMPException, ValueError, AssertionError, struct.error) as error:
                await self._drain()
                raise DamagedFrameError(str(error)) from error
            if self._is_awaited(found):
                return frame

    async def _receive_frame(self) -> bytes:
        decoder = packet.decode()
        next(decoder)
        while True:
            line = await self._read_one_smp_packet()
            _check_base64(line)
            try:
                decoder.send(line)
            except StopIteration as end:
                frame = bytes(end.value)
                break
        size = header.Header.SIZE
        if len(frame) < size or header.Header.loads(frame[:size]).length != len(frame) - size:
            raise ValueError("the frame's length is not that of its header")
        return frame

    def _is_awaited(self, found: header.Header) -> bool:
        wanted = self._awaited
        return (
            wanted is not None
            and found.sequence == wanted.sequence
            and int(found.group_id) == int(wanted.group_id)
            and int(found.command_id) == int(wanted.command_id)
            and int(found.op) == int(wanted.op) + 1
        )

    async def _drain(self) -> None:
        """Wait until the line is quiet, then drop everything."""
        quiet_since = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - quiet_since < _QUIET_S:
            try:
                data = self._conn.read_all()
            except OSError as error:
                raise SMPTransportDisconnected(str(error)) from error
            if data:
                quiet_since = asyncio.get_running_loop().time()
            await asyncio.sleep(0)
        self.forget()


def _check_base64(line: bytes) -> None:
    """Refuse what Python's lenient decoder would repair by leaving characters out.

    Raises:
        ValueError: The line is not whole base64.
    """
    try:
        base64.b64decode(line[packet.DELIMITER_SIZE : -len(packet.END_DELIMITER)], validate=True)
    except binascii.Error as error:
        raise ValueError(f"damaged base64: {error}") from error
