"""Updates of the device in memory, as a client makes them; each goes on where it was cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise

from bundle.samples import manifest_end, tiny, written
from core.device import IMAGE, NEST, OS, READ, WRITE, Device

from nestling.bundle import BundleBuilder, Manifest

CHUNK = 1900
Update = Callable[[Device, bytes], None]


@cache
def version(number: int) -> bytes:
    """A small bundle; versions share all sections but one."""
    return written(_builder(number))[0]


@cache
def manifest(number: int) -> Manifest:
    """The manifest of a version."""
    return written(_builder(number))[1]


def _builder(number: int) -> BundleBuilder:
    builder = tiny()
    builder.name = f"version {number}"
    builder.add_constant("own", "w.own", bytes([number]) * 5000)
    return builder


def bundle_hash(data: bytes) -> bytes:
    """What names a bundle: the SHA-256 of its manifest."""
    return data[32:64]


def send_file(device: Device, data: bytes) -> None:
    """Upload a whole bundle (group 1)."""
    first = {"len": len(data), "sha": hashlib.sha256(data).digest()}
    off, answer = 0, {"match": False}
    while off < len(data):
        body = {"off": off, "data": data[off : off + CHUNK], **(first if off == 0 else {})}
        answer = device.request(WRITE, IMAGE, 1, body)
        off = answer["off"]
    assert answer["match"] is True


def send_sections(device: Device, data: bytes) -> dict[int, int]:
    """Push a bundle (group 64); return the bytes that were sent of each section, -1 the head's."""
    end = manifest_end(data) + 84
    first = {"len": end, "total": len(data), "sha": bundle_hash(data)}
    sent = {-1: 0}
    off = 0
    while off < end:
        piece = data[off : min(off + CHUNK, end)]
        body = {"off": off, "data": piece, **(first if off == 0 else {})}
        off = device.request(WRITE, NEST, 11, body)["off"]
        sent[-1] += len(piece)
    answer = device.request(READ, NEST, 12)
    while answer["copying"]:
        answer = device.request(READ, NEST, 12)
    assert len(answer["sections"]) == answer["total"]
    sections = sections_of(data)
    for entry in answer["sections"]:
        number, off = entry["section"], entry["off"]
        start, size = sections[number]
        sent[number] = 0
        while off < size:
            piece = data[start + off : start + min(off + CHUNK, size)]
            body = {"section": number, "off": off, "data": piece}
            off = device.request(WRITE, NEST, 13, body)["off"]
            sent[number] += len(piece)
    return sent


@cache
def sections_of(data: bytes) -> list[tuple[int, int]]:
    """Offset and size of each section."""
    for number in range(100):
        if version(number) == data:
            return [(section.offset, section.size) for section in manifest(number).sections]
    raise AssertionError("not a version")


def upload(device: Device, data: bytes) -> None:
    """Upload, try at the next reset, confirm."""
    send_file(device, data)
    device.request(WRITE, IMAGE, 0, {"hash": bundle_hash(data), "confirm": False})
    device.request(WRITE, OS, 5)
    device.start()
    device.request(WRITE, IMAGE, 0, {"confirm": True})


def push(device: Device, data: bytes) -> None:
    """Push, try at once, confirm."""
    send_sections(device, data)
    device.request(WRITE, NEST, 14)
    device.request(WRITE, IMAGE, 0, {"confirm": True})


def push_and_confirm(device: Device, data: bytes) -> None:
    """Push, and confirm with the commit."""
    send_sections(device, data)
    device.request(WRITE, NEST, 14, {"confirm": True})


UPDATES: dict[str, Update] = {
    "upload": upload,
    "push": push,
    "push_and_confirm": push_and_confirm,
}


def running(device: Device) -> bytes | None:
    """The bytes of the bundle that runs, from the flash; None if the device runs none."""
    status = device.status()
    info = device.request(READ, NEST, 0)
    if status.running is None or "hash" not in info:
        return None
    offset = status.offsets[status.running]
    head = device.read(offset, 64)
    return device.read(offset, int.from_bytes(head[24:32], "little"))


assert all(a != b for a, b in pairwise([version(1), version(2), version(3)]))
