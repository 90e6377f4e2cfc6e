"""Ten thousand frames over a line that flips, drops and doubles bytes: slow, but never wrong."""

from __future__ import annotations

import hashlib
import random
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from core.device import HEADER, IMAGE, NEST, OS, WRITE, Device, Geometry
from core.updates import running, version
from smp.exceptions import SMPException
from smp.packet import decode, encode


@dataclass
class NoisyLine:
    """A client that sends again until it hears an answer to what it asked."""

    device: Device
    rate: float  # of damaged bytes
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    sequence: int = 0
    frames: int = 0

    def damage(self, data: bytes) -> bytes:
        """Flip, drop or double bytes."""
        out = bytearray()
        for byte in data:
            if self.chance.random() >= self.rate:
                out.append(byte)
                continue
            what = self.chance.randrange(3)
            if what == 0:
                out.append(byte ^ 1 << self.chance.randrange(8))
            elif what == 1:
                out += bytes([byte, byte])
        return bytes(out)

    def hear(self, data: bytes) -> dict[str, Any] | None:
        """The answer to the last request in what came back, if it came through."""
        start = data.find(b"\x06\x09")
        decoder = decode()
        next(decoder)
        for line in data[max(start, 0) :].splitlines(keepends=True):
            try:
                decoder.send(line)
            except StopIteration as done:
                message = bytes(done.value)
                head = HEADER.unpack(message[: HEADER.size])
                body = message[HEADER.size :]
                if head[2] == len(body) and head[4] == self.sequence:
                    return dict(cbor2.loads(body))
                return None
            except (SMPException, ValueError, struct.error):
                return None
        return None

    def request(self, op: int, group: int, command: int, body: dict[str, Any]) -> dict[str, Any]:
        """Ask until the answer comes."""
        encoded = cbor2.dumps(body)
        self.sequence = (self.sequence + 1) % 256
        message = HEADER.pack(8 | op, 0, len(encoded), group, self.sequence, command) + encoded
        for _ in range(200):
            self.frames += 1
            got = self.device.line(self.damage(b"".join(encode(message))))
            answer = self.hear(self.damage(got))
            if answer is not None:
                assert "rc" not in answer and "err" not in answer, answer
                return answer
        raise AssertionError("no answer in 200 tries")


def upload(line: NoisyLine, data: bytes) -> None:
    """Upload a bundle in small pieces, and run it."""
    first = {"len": len(data), "sha": hashlib.sha256(data).digest()}
    off = 0
    while off < len(data):
        body = {"off": off, "data": data[off : off + 600], **(first if off == 0 else {})}
        off = line.request(WRITE, IMAGE, 1, body)["off"]
    line.request(WRITE, NEST, 14, {"confirm": True})


def test_ten_thousand_frames_with_noise_and_no_wrong_result(device: Device) -> None:
    frames = refused = 0
    for round_number in range(200):
        line = NoisyLine(device, rate=0.0006, chance=random.Random(round_number))
        device.make(Geometry())
        upload(line, version(1))
        assert running(device) == version(1)
        for number in range(20):
            text = f"{number}" * 30
            assert line.request(WRITE, OS, 0, {"d": text}) == {"r": text}
        counters = cbor2.loads(
            device.message(HEADER.pack(8, 0, 6 + 5, 2, 0, 0) + cbor2.dumps({"name": "line"}))[8:]
        )["fields"]
        refused += counters["bad_frames"]
        frames += line.frames
        if frames >= 10_000:
            break
    assert frames >= 10_000
    assert refused > 500
