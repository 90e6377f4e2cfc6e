"""Sending a bundle: its head, then only the sections that the device does not have.

The device names the offset that it expects next in every answer, and keeps what it has over a
reset. So a push that was broken off, by a bad line or by a power cut, goes on where it stopped when
it is called again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nestling_devices import messages
from nestling_devices.client import Client
from nestling_devices.errors import DeviceError
from nestling_devices.pieces import Pieces
from nestling_runtime.bundle import Bundle, Section
from nestling_runtime.errors import BundleError, CancelledError

PREFIX_BYTES = 64
SIGNATURE_BYTES = 84
# A message of tens of bytes, without its data: a head's first piece is the largest, with its hash.
_ENVELOPE_BYTES = 128
_COPY_PATIENCE_S = 60.0  # the device copies and hashes what it has
_MOST_STALLS = 8  # answers in a row that ask for the same bytes or earlier ones

_SendPiece = Callable[[int, bytes, int | None], int]

Progress = Callable[[int, int], object]
"""Called with the bytes that are on the device, and all of them; a true result cancels."""


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes:
        slot: Where the bundle lies.
        hash: Of its manifest.
        bundle_bytes: Of the whole file.
        payload_bytes: Of the bundle that were sent; pieces that had to be cut smaller count again.
        sections_sent: How many sections had to be sent, at least in part.
        sections: How many it has.
        line_bytes: What went over the line to the device, framing and repetitions included.
    """

    slot: int
    hash: bytes
    bundle_bytes: int
    payload_bytes: int
    sections_sent: int
    sections: int
    line_bytes: int


class BundleFile:
    """A bundle as it is sent: checked, then read piece by piece.

    Args:
        path: The file.

    Raises:
        BundleError: It is not a whole, legal bundle.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        with Bundle.open(self._path) as bundle:
            bundle.check_sections()
            self.name = bundle.name
            self.target = bundle.target
            self.size_bytes = bundle.size_bytes
            self.sections: tuple[Section, ...] = bundle.sections
            # Zeros at the end of the head are the device's to fill in.
            signature = SIGNATURE_BYTES if bundle.is_signed else 0
            self.head_bytes = PREFIX_BYTES + bundle.manifest_bytes + signature
        self.hash = self.read(32, 32)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return a stretch of the file.

        Raises:
            BundleError: The file is shorter by now.
        """
        with self._path.open("rb") as file:
            file.seek(offset_bytes)
            data = file.read(size_bytes)
        if len(data) != size_bytes:
            raise BundleError("the bundle changed while it was sent", actual=str(self._path))
        return data


class Push:
    """One update of a device.

    Args:
        client: The connection.
        bundle: What to send.
        chunk_bytes: Most payload bytes in one message, as the device says.
        progress: See `Progress`.
    """

    def __init__(
        self,
        client: Client,
        bundle: BundleFile,
        *,
        chunk_bytes: int,
        progress: Progress | None = None,
    ) -> None:
        self._client = client
        self._bundle = bundle
        self._pieces = Pieces(min(chunk_bytes, client.message_bytes - _ENVELOPE_BYTES))
        self._progress = progress
        self.payload_bytes = 0
        self._done_bytes = 0

    def send_head(self) -> None:
        """Send what precedes the sections.

        Raises:
            NestlingError: The device refuses it, or the line is gone.
        """
        bundle = self._bundle

        def send(off: int, data: bytes, tries: int | None) -> int:
            first = off == 0
            message = messages.PushHeadWrite(
                off=off,
                data=data,
                len=bundle.head_bytes if first else None,
                total=bundle.size_bytes if first else None,
                sha=bundle.hash if first else None,
            )
            return self._client.request(message, tries=tries).off

        self._transfer(0, 0, bundle.head_bytes, send)

    def missing(self) -> Iterator[messages.MissingItem]:
        """Give the sections that have to be sent, once the device has copied what it has.

        Raises:
            NestlingError: The device refuses, or the line is gone.
        """
        answer = self._client.request(messages.PushMissingRead(), patience_s=_COPY_PATIENCE_S)
        while answer.copying:
            answer = self._client.request(messages.PushMissingRead(), patience_s=_COPY_PATIENCE_S)
        while answer.sections:
            yield from answer.sections
            # "from" is a section's number: it means the same when one has arrived meanwhile.
            start = answer.sections[-1].section + 1
            if start >= len(self._bundle.sections):
                return
            answer = self._client.request(messages.PushMissingRead(start=start))

    def send_sections(self) -> int:
        """Send what is missing; return how many sections that were.

        Raises:
            NestlingError: The device refuses, or the line is gone.
        """
        wanted = list(self.missing())
        sections = self._bundle.sections
        for item in wanted:
            if item.section >= len(sections) or item.off > sections[item.section].size_bytes:
                raise DeviceError(f"the device asks for section {item.section}, which is not there")
        missing = sum(sections[item.section].size_bytes - item.off for item in wanted)
        self._done_bytes = self._bundle.size_bytes - missing
        for item in wanted:
            section = sections[item.section]

            def send(off: int, data: bytes, tries: int | None, number: int = item.section) -> int:
                message = messages.PushDataWrite(section=number, off=off, data=data)
                return self._client.request(message, tries=tries).off

            self._transfer(section.offset_bytes, item.off, section.size_bytes, send)
        self._report()
        return len(wanted)

    def _transfer(self, base: int, off: int, end: int, send: _SendPiece) -> None:
        """Send the bytes `off` to `end` of what starts at `base`, as the device asks for them.

        Raises:
            DeviceError: The device asks for the same bytes again and again, or for others.
        """
        stalled = 0
        while off < end:
            self._report()

            def send_piece(most_bytes: int, tries: int | None, off: int = off) -> int:
                data = self._bundle.read(base + off, min(most_bytes, end - off))
                self.payload_bytes += len(data)
                return send(off, data, tries)

            expected = self._pieces.send(send_piece)
            stalled = stalled + 1 if expected <= off else 0
            if expected > end or stalled > _MOST_STALLS:
                raise DeviceError(f"the device expects offset {expected} of {end} after {off}")
            self._done_bytes += expected - off
            off = expected

    def _report(self) -> None:
        total = self._bundle.size_bytes
        if self._progress is not None and self._progress(self._done_bytes, total):
            raise CancelledError("the push was cancelled", hint="push again to go on")
