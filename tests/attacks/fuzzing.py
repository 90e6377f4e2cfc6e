"""Seeds for the fuzzer and a way to run it; scripts/fuzz.sh runs it for longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attacks.fuzz_runs import fuzz_for_long, run_fuzzer
from bundle.samples import tiny, two_targets

from nestling.bundle import BundleBuilder


def wide() -> BundleBuilder:
    """A bundle with every optional member, every type of note and several of everything."""
    builder = two_targets()
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
    """Fuzz from these seeds; see `run_fuzzer`."""
    bundles = []
    for name, builder in (("wide", wide()), ("tiny", tiny())):
        path = folder / f"{name}.nest"
        builder.write(path)
        bundles.append(path)
    return run_fuzzer("nestling_fuzz_bundle", bundles, folder, runs, seed)


if __name__ == "__main__":
    fuzz_for_long(fuzz, 200_000)
