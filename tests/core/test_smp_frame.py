"""The serial framing against that of the `smp` package, on clean and on noisy lines."""

from __future__ import annotations

import base64
import struct
from typing import cast

import cbor2
import pytest
from core.device import HEADER, OS, WRITE, Device
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smp.packet import crc16_func, decode, encode

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Log text: anything without the bytes that begin a line of SMP.
noise = st.binary(max_size=40).map(lambda data: data.replace(b"\x06", b"?").replace(b"\x04", b"?"))


def echo(text: str, sequence: int = 7) -> bytes:
    """An echo request."""
    body = cbor2.dumps({"d": text})
    return HEADER.pack(8 | WRITE, 0, len(body), OS, sequence, 0) + body


def unframe(data: bytes) -> bytes:
    """The message in what the device sent, decoded by the smp package."""
    decoder = decode()
    next(decoder)
    for line in data.splitlines(keepends=True):
        assert len(line) <= 128 and line.endswith(b"\n")
        try:
            decoder.send(line)
        except StopIteration as done:
            return bytes(done.value)
    raise AssertionError("no message")


def answered(device: Device, data: bytes) -> str | None:
    """What an echo on the line says; None if the device is silent."""
    got = device.line(data)
    return cast(str, cbor2.loads(unframe(got)[8:])["r"]) if got else None


@quick
@given(st.text(max_size=400), st.integers(8, 1000))
def test_any_message_passes_in_both_directions(device: Device, text: str, length: int) -> None:
    assert answered(device, b"".join(encode(echo(text), length))) == text


@quick
@given(st.text(max_size=300), st.lists(noise, min_size=12, max_size=12))
def test_log_text_between_lines_is_passed_over(
    device: Device, text: str, noises: list[bytes]
) -> None:
    lines = list(encode(echo(text)))
    mixed = b"".join(noises[i % 12] + line for i, line in enumerate(lines)) + noises[-1]
    assert answered(device, mixed) == text


@quick
@given(st.binary(max_size=600), st.text(max_size=100))
def test_the_next_message_is_understood_after_any_noise(
    device: Device, garbage: bytes, text: str
) -> None:
    device.line(garbage)
    assert answered(device, b"".join(encode(echo(text)))) == text


@quick
@given(st.text(min_size=100, max_size=300), st.data())
def test_a_damaged_message_is_not_answered(device: Device, text: str, data: st.DataObject) -> None:
    framed = b"".join(encode(echo(text)))
    at = data.draw(st.integers(0, len(framed) - 2))
    bit = 1 << data.draw(st.integers(0, 7))
    damaged = {
        "flip": framed[:at] + bytes([framed[at] ^ bit]) + framed[at + 1 :],
        "drop": framed[:at] + framed[at + 1 :],
        "double": framed[: at + 1] + framed[at:],
    }[data.draw(st.sampled_from(["flip", "drop", "double"]))]
    answer = answered(device, damaged)
    # Doubling the newline, or the first byte of a delimiter, changes nothing.
    assert answer is None or answer == text
    assert answered(device, b"".join(encode(echo("after")))) == "after"


def framed(message: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    """One long line."""
    size = len(message) + 2 if length is None else length
    check = crc16_func(message) if crc is None else crc
    raw = struct.pack("!H", size) + message + struct.pack("!H", check)
    return b"\x06\x09" + base64.b64encode(raw) + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        framed(echo("a"), length=0),
        framed(echo("a"), length=1),
        framed(echo("a"), length=2),
        framed(echo("a"), length=0xFFFF),
        framed(echo("a"), length=2051),
        framed(echo("a"), crc=0),
        framed(b""),
        framed(b"\0" * 7),
        framed(echo("a"))[:-2] + b"\n",
        framed(echo("a")).replace(b"=", b"A"),
        framed(echo("a")).replace(b"\n", b"====\n"),
        b"\x06\x09\n",
        b"\x06\x09" + b"A" * 5000 + b"\n",
        b"\x04\x14AAAA\n",
        b"\x06\x09====\n",
    ],
)
def test_a_frame_that_is_none_is_passed_over(device: Device, line: bytes) -> None:
    assert device.line(line) == b""
    assert answered(device, framed(echo("after"))) == "after"


def test_the_largest_message_fits_and_one_more_byte_does_not(device: Device) -> None:
    body = cbor2.dumps({"d": "x", "unknown": b"\0" * 2024})
    message = HEADER.pack(8 | WRITE, 0, len(body), OS, 1, 0) + body
    assert len(message) == 2048
    assert answered(device, b"".join(encode(message))) == "x"
    assert device.line(b"".join(encode(message + b"\0"))) == b""
