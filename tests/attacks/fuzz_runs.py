"""How the fuzzers are run: once in a test, or with ever new seeds by scripts/fuzz.sh."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.server import build


def run_fuzzer(program: str, inputs: Sequence[Path], folder: Path, runs: int, seed: int) -> Any:
    """Fuzz for a number of runs; the first finding raises, its input is folder/fuzz-last.bin.

    Returns:
        What the fuzzer says about its work: runs, edges, kept inputs.
    """
    done = subprocess.run(
        [build(program), str(runs), str(seed), *inputs],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode != 0:
        raise AssertionError(f"the fuzzer found something, {folder}/fuzz-last.bin:\n{done.stderr}")
    return json.loads(done.stdout)


def fuzz_for_long(fuzz: Callable[[Path, int, int], Any], runs: int) -> None:
    """Fuzz with ever new seeds until the time of the command line is over.

    Args:
        fuzz: Takes a folder, a number of runs and a seed.
        runs: For each seed.
    """
    parser = argparse.ArgumentParser(description="Fuzz with ever new seeds.")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="nestling-fuzz-"))
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        seed = random.randrange(2**31)
        try:
            print(f"seed {seed}: {fuzz(folder, runs, seed)}", flush=True)
        except AssertionError as finding:
            sys.exit(f"seed {seed}: {finding}")
