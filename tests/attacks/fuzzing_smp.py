"""Seeds for the fuzzer of the protocol server, and a way to run it.

`python -m attacks.fuzzing_smp --seconds 600` runs it with ever new seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
from attacks.fuzz_runs import fuzz_for_long, run_fuzzer
from bundle.samples import manifest_end
from core.device import IMAGE, NEST, OS, READ, STAT, WRITE
from core.updates import bundle_hash, sections_of, version
from smp.packet import encode

Request = tuple[int, int, int, dict[str, Any]]


def requests() -> Iterator[Request]:
    """One good request of every kind."""
    yield WRITE, OS, 0, {"d": "hello", "x": [1, {"y": 2.5}]}
    yield WRITE, OS, 5, {"force": 1}
    yield READ, OS, 6, {}
    yield READ, OS, 7, {"format": "snrvmpio"}
    yield READ, IMAGE, 0, {}
    yield WRITE, IMAGE, 0, {"hash": bundle_hash(version(1)), "confirm": True}
    yield WRITE, IMAGE, 5, {"slot": 1}
    for name in ("nestling", "line", "flash"):
        yield READ, STAT, 0, {"name": name}
    yield READ, STAT, 1, {}
    for command in (0, 6, 7):
        yield READ, NEST, command, {}
    for command in (1, 5, 8):
        yield READ, NEST, command, {"from": 1}
    yield WRITE, NEST, 2, {"name": "full"}
    yield WRITE, NEST, 2, {"stages": [0, 1, 2]}
    yield WRITE, NEST, 2, {"path": 1}
    yield WRITE, NEST, 3, {}
    yield WRITE, NEST, 4, {"slot": 0, "off": 3, "data": b"abc"}
    yield READ, NEST, 4, {"slot": 0, "off": 3, "len": 5}
    yield WRITE, NEST, 6, {"budget": 1 << 20}
    yield WRITE, NEST, 8, {"on": True}
    yield WRITE, NEST, 9, {"deadline": 1000}
    yield WRITE, NEST, 10, {}
    yield WRITE, NEST, 15, {"operations": 3, "cut": 1}


def upload() -> Iterator[Request]:
    """The beginning of an upload."""
    data = version(2)
    yield (
        *(WRITE, IMAGE, 1),
        {"off": 0, "data": data[:900], "len": len(data), "sha": hashlib.sha256(data).digest()},
    )
    yield WRITE, IMAGE, 1, {"off": 900, "data": data[900:1000]}


def push() -> Iterator[Request]:
    """A whole push: the sections that both versions share are copied."""
    data = version(2)
    end = manifest_end(data) + 84
    head = {"len": end, "total": len(data), "sha": bundle_hash(data)}
    yield WRITE, NEST, 11, {"off": 0, "data": data[:end], **head}
    yield READ, NEST, 12, {"from": 0}
    number = len(sections_of(data)) - 1
    start, size = sections_of(data)[number]
    yield WRITE, NEST, 13, {"section": number, "off": 0, "data": data[start : start + size]}
    yield WRITE, NEST, 14, {"confirm": False}
    yield WRITE, IMAGE, 0, {"hash": bundle_hash(version(1)), "confirm": False}


def plain(sequence: Iterator[Request]) -> bytes:
    """An input of fuzz_smp.c: requests, whose headers the fuzzer makes."""
    parts = [b"\1"]
    for op, group, command, body in sequence:
        encoded = cbor2.dumps(body)
        parts.append(bytes([op, group, command]) + len(encoded).to_bytes(2, "little") + encoded)
    return b"".join(parts)


def framed(sequence: Iterator[Request]) -> bytes:
    """An input of fuzz_smp.c: the bytes of a serial line."""
    parts = [b"\0"]
    for number, (op, group, command, body) in enumerate(sequence):
        encoded = cbor2.dumps(body)
        head = bytes([8 | op, 0, *len(encoded).to_bytes(2, "big"), 0, group, number, command])
        parts += encode(head + encoded)
    return b"".join(parts)


def fuzz(folder: Path, runs: int, seed: int) -> Any:
    """Fuzz from these seeds; see `run_fuzzer`."""
    inputs = [version(1), framed(requests()), framed(upload()), plain(upload()), plain(push())]
    inputs += [plain(iter([request])) for request in requests()]
    files = [folder / f"{number}.bin" for number in range(len(inputs))]
    for path, content in zip(files, inputs, strict=True):
        path.write_bytes(content)
    return run_fuzzer("nestling_fuzz_smp", files, folder, runs, seed)


if __name__ == "__main__":
    fuzz_for_long(fuzz, 20_000)
