#!/usr/bin/env python
"""Writes the worked example of SPEC.md: a real, small bundle, byte by byte.

    scripts/spec_dump.py            print the example
    scripts/spec_dump.py --write    put it into SPEC.md, between its two marks

A test compares SPEC.md with what this prints, so the example stays true.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "toolchain"), str(ROOT / "runtime_py")]

from nestling.bundle import BundleBuilder  # noqa: E402
from nestling.bundle.manifest import PREFIX_BYTES  # noqa: E402

SPEC = ROOT / "SPEC.md"
BEGIN = "<!-- begin of the example, written by scripts/spec_dump.py -->\n"
END = "<!-- end of the example -->\n"
ROW_BYTES = 16


def example() -> bytes:
    """Return the bundle: one stage that reads `x`, multiplies it by a weight and writes `y`."""
    builder = BundleBuilder(name="example", producer="nestling", meta={"note": "SPEC.md"})
    x = builder.add_slot("x", "f32", (1, 4), "input")
    y = builder.add_slot("y", "f32", (1, 1), "output")
    program = builder.add_program(b"a .pte file would be here")
    weight = builder.add_constant("core", "w", b"\x00\x00\x80\x3f" * 4, level=1)
    builder.add_position("all", layer=0, required=True)
    stage = builder.add_stage(
        "all@1",
        program=program,
        first=0,
        inputs=[x],
        outputs=[y],
        bindings=[("w", weight)],
        level=1,
        macs=4,
    )
    builder.add_path("full", [stage], parameters=4, macs=4, weight_bytes=16, quality={"top1": 0.5})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.nest"
        builder.write(path)
        return path.read_bytes()


def _sequence(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the major type, the argument and the end of the CBOR head at `at`."""
    major, short = data[at] >> 5, data[at] & 31
    if short < 24:
        return major, short, at + 1
    size = 1 << (short - 24)
    return major, int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size


def manifest_lines(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, meaning) of each CBOR value of a manifest, containers by their heads."""
    open_items: list[int] = []  # values left in each container around
    keys: list[bool] = []  # whether the container is a map
    while at < end:
        depth = len(open_items)
        major, argument, after = _sequence(data, at)
        is_key = bool(keys) and keys[-1] and open_items[-1] % 2 == 0
        if major == 3:
            text, after = data[after : after + argument].decode(), after + argument
            meaning = f"{text}:" if is_key else f'"{text}"'
        elif major == 2:
            after += argument
            meaning = f"{argument} bytes"
        elif major == 4:
            meaning = f"list of {argument}"
        elif major == 5:
            meaning = f"map of {argument}"
        elif major == 7:
            meaning = {0xF4: "false", 0xF5: "true", 0xF6: "null"}.get(data[at], "float")
        else:
            meaning = str(argument if major == 0 else -1 - argument)
        yield at, after, "  " * depth + meaning
        if open_items:
            open_items[-1] -= 1
        if major in (4, 5) and argument:
            open_items.append(argument * (2 if major == 5 else 1))
            keys.append(major == 5)
        while open_items and open_items[-1] == 0:
            open_items.pop()
            keys.pop()
        at = after


def joined(values: Iterator[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Put each key of a map and a plain value behind it into one line."""
    key: tuple[int, int, str] | None = None
    for start, end, meaning in values:
        container = meaning.lstrip().startswith(("map of", "list of"))
        if key is not None and not container:
            yield key[0], end, f"{key[2]} {meaning.lstrip()}"
            key = None
            continue
        if key is not None:
            yield key
            key = None
        if meaning.endswith(":"):
            key = (start, end, meaning)
        else:
            yield start, end, meaning


def rows(data: bytes, start: int, end: int, meaning: str) -> Iterator[str]:
    """Yield lines of a hex dump of data[start:end], the meaning beside the first."""
    for at in range(start, end, ROW_BYTES):
        row = data[at : min(at + ROW_BYTES, end)].hex(" ")
        yield f"{at:06x}  {row:<{3 * ROW_BYTES}} {meaning if at == start else ''}".rstrip()


def zeros(start: int, end: int) -> str:
    """Return the line for a run of zero bytes."""
    return f"{start:06x}  00 ... {f'{end - start} zero bytes, up to {end:06x}':>52}"


def dump() -> str:
    """Return the example as it stands in SPEC.md."""
    data = example()
    manifest_end = PREFIX_BYTES + int.from_bytes(data[16:24], "little")
    lines: list[str] = []
    for start, end, meaning in (
        (0, 8, "magic"),
        (8, 12, "format_version"),
        (12, 16, "signature_bytes: not signed"),
        (16, 24, "manifest_bytes"),
        (24, 32, "total_bytes"),
        (32, 64, "SHA-256 of the manifest"),
    ):
        lines += rows(data, start, end, meaning)
    lines.append("")
    for start, end, meaning in joined(manifest_lines(data, PREFIX_BYTES, manifest_end)):
        lines += rows(data, start, end, meaning)
    at = manifest_end
    for name, start in (("programs", 16384), ("core", 32768)):
        end = start + (25 if name == "programs" else 16)
        lines += ["", zeros(at, start), "", *rows(data, start, end, f"section {name}")]
        at = end
    if at != len(data):
        raise AssertionError("the example has another layout than this script knows")
    return f"```text\n{chr(10).join(lines)}\n```\n"


def main() -> None:
    """Print the example, or write it into SPEC.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write into SPEC.md")
    if not parser.parse_args().write:
        sys.stdout.write(dump())
        return
    before, rest = SPEC.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    SPEC.write_text(before + BEGIN + dump() + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
