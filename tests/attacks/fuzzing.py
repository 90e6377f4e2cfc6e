"""Seeds for the fuzzer and a way to run it; scripts/fuzz.sh runs it for longer."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bundle.samples import tiny
from core.server import build

from nestling.bundle import BundleBuilder


def wide() -> BundleBuilder:
    """The tiny bundle with every optional member, every type of note and several of everything."""
    builder = tiny()
    builder.meta.update(yes=True, no=False, big=2**64 - 1, least=-(2**63), half=0.5, pi=3.14159)
    builder.add_slot("cache", "i64", (2, 3, 4), "state")
    builder.add_slot("mask", "bool", ())
    for number in range(4):
        builder.add_constant("core", f"k{number}", bytes([number]) * 8, "f16", (2, 2), (1, 0))
        builder.add_constant("level2", f"j{number}", b"\x07" * 40)
    builder.add_program(b"packed " * 9, packed=True)
    builder.add_data("labels", b"zero\none\n")
    builder.add_path("middle", [0, 2], macs=11, quality={"top1": 0.1, "top5": 1e30})
    return builder


def fuzz(folder: Path, runs: int, seed: int) -> Any:
    """Fuzz for a number of runs; the first finding raises, its input is folder/fuzz-last.bin.

    Returns:
        What the fuzzer says about its work: runs, edges, kept inputs.
    """
    bundles = []
    for name, builder in (("wide", wide()), ("tiny", tiny())):
        path = folder / f"{name}.nest"
        builder.write(path)
        bundles.append(path)
    done = subprocess.run(
        [build("nestling_fuzz_bundle"), str(runs), str(seed), *bundles],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode != 0:
        raise AssertionError(f"the fuzzer found something, {folder}/fuzz-last.bin:\n{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    """Fuzz with ever new seeds until the time is over."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nestling-fuzz-"))
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        seed = random.randrange(2**31)
        try:
            print(f"seed {seed}: {fuzz(folder, 200_000, seed)}", flush=True)
        except AssertionError as finding:
            sys.exit(f"seed {seed}: {finding}")


if __name__ == "__main__":
    main()
