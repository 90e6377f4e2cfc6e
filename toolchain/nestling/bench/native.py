"""Drives `nestling-bench` and `nestling-open`, the C++ and C programs that take the raw samples.

They are built beside libnestling (`make build`) and stay out of the wheel; the environment variable
`NESTLING_BENCH_BIN` names their folder when it is not `build/native/bin` of the checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nestling.errors import NestlingError

_REPO_BIN = Path(__file__).parents[3] / "build" / "native" / "bin"


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: For each measurement of each path, at least.
        rounds: Interleaved passes over the contestants, at least.
    """

    seconds: float = 2.0
    rounds: int = 5


def find_program(name: str) -> Path:
    """Return the program's path.

    Raises:
        NestlingError: It was not built.
    """
    folder = Path(os.environ.get("NESTLING_BENCH_BIN", _REPO_BIN))
    program = folder / name
    if not program.is_file():
        raise NestlingError(f"the program {name} was not found", hint="run `make build` first")
    return program


def run_program(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Run one of the programs in a fresh process and return the JSON object that it prints.

    Raises:
        NestlingError: It was not built, or it failed; with its own sentence.
    """
    # ExecuTorch logs to the error stream as well; what matters is the last line.
    done = subprocess.run([str(find_program(name)), *words], capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise NestlingError(f"{name} failed", actual=reason.removeprefix(f"{name}: "))
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure_speed(
    bundle: Path,
    paths: Sequence[str],
    *,
    plain: Mapping[str, Path],
    inputs: Sequence[Path],
    threads: int,
    effort: Effort,
) -> dict[str, Any]:
    """Take every sample of `nestling-bench speed`, as `firmware/bench/*.cpp` describes them.

    Args:
        bundle: The `.nest` file.
        paths: Named paths, small to large.
        plain: For each path, the dense program of the same subnet; may be empty.
        inputs: Files of raw bytes, one an input, in the model's order.
        threads: For both sides.
        effort: How long to measure.
    """
    return run_program(
        "nestling-bench",
        [
            "speed",
            *_common_words(bundle, inputs, threads),
            *("--seconds", str(effort.seconds), "--rounds", str(effort.rounds)),
            *_repeat("--fused", paths),
            *_repeat("--plain", [f"{path}={plain[path]}" for path in paths if path in plain]),
        ],
    )


def measure_nested_memory(
    bundle: Path,
    *,
    fused: Sequence[str] = (),
    chain: Sequence[str] = (),
    inputs: Sequence[Path] = (),
    threads: int = 1,
) -> dict[str, Any]:
    """Return the memory of a fresh process before and after it loaded and ran paths, bytes."""
    return run_program(
        "nestling-bench",
        [
            "memory",
            *_common_words(bundle, inputs, threads),
            *_repeat("--fused", fused),
            *_repeat("--chain", chain),
        ],
    )


def measure_plain_memory(
    plain: Mapping[str, Path], *, inputs: Sequence[Path] = (), threads: int = 1
) -> dict[str, Any]:
    """Return the memory of a fresh process before and after it ran plain programs, bytes."""
    words = _repeat("--plain", [f"{name}={file}" for name, file in plain.items()])
    return run_program("nestling-bench", ["memory", *_common_words(None, inputs, threads), *words])


def measure_open_memory(bundle: Path, path: str | None = None) -> dict[str, Any]:
    """Return the memory of a C program that opened the bundle, and ran a path if named; bytes."""
    return run_program("nestling-open", [str(bundle), *([path] if path else [])])


def _common_words(bundle: Path | None, inputs: Sequence[Path], threads: int) -> list[str]:
    words = ["--threads", str(threads)]
    if bundle is not None:
        words += ["--bundle", str(bundle.resolve())]
    return words + _repeat("--input", [str(file) for file in inputs])


def _repeat(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
