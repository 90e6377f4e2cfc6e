"""Records that nobody would write: whatever a check accepts must stay within its memory."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from micro.kernels.library import BUILD, compile_sources, operator_numbers, sources

# A good record and the sizes in bytes of its tensors.
GoodCase = tuple[bytes, Sequence[int]]


def attack(name: str, cases: Sequence[GoodCase], seed: int = 1, rounds: int = 20_000) -> int:
    """Change `cases` at random, run what the check accepts under ASan and UBSan.

    Returns:
        How many changed cases were accepted and run.

    Raises:
        AssertionError: A sanitizer found something; the message is its report.
    """
    driver = Path(__file__).with_name("hostile.c")
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
    program = compile_sources(BUILD / "hostile", [driver, *sources()], flags)
    stdin = b"".join(
        record + struct.pack("<8I", *sizes, *[0] * (8 - len(sizes))) for record, sizes in cases
    )
    command = [str(program), str(operator_numbers()[name]), str(seed), str(rounds)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return int(done.stdout)


def swap_bounds(params: bytes) -> bytes:
    """The record with its bounds, -128 and 127, the wrong way round."""
    bounds, swapped = struct.pack("<2i", -128, 127), struct.pack("<2i", 127, -128)
    assert params.count(bounds) == 1
    return params.replace(bounds, swapped)
