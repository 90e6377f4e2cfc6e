"""A device in memory (ram_device.c), in a process of its own built with AddressSanitizer and UBSan.

Any finding of a sanitizer ends the process; the next question then fails with what it printed.
"""

from __future__ import annotations

import itertools
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import pytest
from core.server import build

READ, WRITE = 0, 2
OS, IMAGE, STAT, NEST = 0, 1, 2, 64
HEADER = struct.Struct("!BBHHBB")

# nst_store_state
EMPTY, WRITING, COMPLETE, PENDING, TRYING, ACTIVE = range(6)
# nst_flash_cut
BEFORE, TORN, AFTER = range(3)
NONE = 0xFFFFFFFF


@dataclass(frozen=True)
class Geometry:
    """Of the flash, in bytes."""

    size: int = 512 << 10
    sector: int = 4096
    page: int = 256


@dataclass(frozen=True)
class Status:
    """What operation Q of device_server.c says."""

    operations: int
    dead: bool
    resets: int
    running: int | None
    states: tuple[int, int]
    offsets: tuple[int, int]  # where the bundles of the slots start


class SmpError(Exception):
    """The device answered with an error."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(body.get("rsn", ""))
        self.body = body
        self.rc: int = body["err"]["rc"] if "err" in body else body["rc"]


class PowerCutError(Exception):
    """The power failed before the answer came."""


class Device:
    """One device; its flash survives `start`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [build("nestling_device_server")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._sequence = itertools.cycle(range(256))

    def ask(self, operation: str, payload: bytes = b"") -> bytes:
        """Send one request to the process; return its answer."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        try:
            process.stdin.write(operation.encode() + struct.pack("<I", len(payload)) + payload)
            process.stdin.flush()
            head = process.stdout.read(4)
        except BrokenPipeError:
            head = b""
        if len(head) < 4:
            raise AssertionError(f"the device died:\n{process.stderr.read().decode()}")
        return process.stdout.read(struct.unpack("<I", head)[0])

    def make(self, geometry: Geometry) -> None:
        """A new device with erased flash."""
        self._check_start(
            self.ask("G", struct.pack("<QII", geometry.size, geometry.sector, geometry.page))
        )

    def start(self) -> None:
        """Switch the power on (again); a cut that happens meanwhile raises PowerCutError."""
        self._check_start(self.ask("I"))

    def _check_start(self, answer: bytes) -> None:
        code = struct.unpack("<i", answer[:4])[0]
        if code != 0 and self.status().dead:
            raise PowerCutError
        assert code == 0, answer[4:].decode()

    def message(self, message: bytes) -> bytes:
        """One SMP message; the answer, or nothing."""
        return self.ask("S", message)

    def line(self, data: bytes) -> bytes:
        """Bytes of the serial line; what the device sends."""
        return self.ask("L", data)

    def cut(self, operations: int, kind: int = BEFORE) -> None:
        """Let the power fail in the n-th flash operation from now."""
        self.ask("K", struct.pack("<QI", operations, kind))

    def status(self) -> Status:
        """Counters and states."""
        operations, dead, resets, running, *rest = struct.unpack("<QIIIIIQQ", self.ask("Q"))
        return Status(
            operations,
            bool(dead),
            resets,
            None if running == NONE else running,
            (rest[0], rest[1]),
            (rest[2], rest[3]),
        )

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the flash."""
        return self.ask("R", struct.pack("<QQ", offset, size))

    def write(self, offset: int, data: bytes) -> None:
        """Overwrite the flash, whatever its rules say."""
        self.ask("W", struct.pack("<Q", offset) + data)

    def request(
        self,
        op: int,
        group: int,
        command: int,
        body: dict[str, Any] | bytes | None = None,
        version: int = 1,
    ) -> dict[str, Any]:
        """A request and its answer.

        Raises:
            SmpError: The answer is an error.
            PowerCutError: The power failed meanwhile; nobody would have got the answer.
        """
        encoded = body if isinstance(body, bytes) else cbor2.dumps(body or {})
        sequence = next(self._sequence)
        head = HEADER.pack(version << 3 | op, 0, len(encoded), group, sequence, command)
        answer = self.message(head + encoded)
        got = HEADER.unpack(answer[: HEADER.size])
        size = len(answer) - HEADER.size
        assert got == (version << 3 | op + 1, 0, size, group, sequence, command)
        decoded: dict[str, Any] = cbor2.loads(answer[HEADER.size :])
        if "rc" in decoded or "err" in decoded:
            if self.status().dead:
                raise PowerCutError
            raise SmpError(decoded)
        return decoded

    def close(self) -> None:
        """End the process; leaks are reported here."""
        assert self._process.stdin and self._process.stderr
        self._process.stdin.close()
        code = self._process.wait(timeout=60)
        assert code == 0, self._process.stderr.read().decode()


@pytest.fixture
def device() -> Iterator[Device]:
    """A device with half a megabyte of erased flash; a process of its own."""
    made = Device()
    made.make(Geometry())
    yield made
    made.close()
