"""Runs stages' programs through stock ExecuTorch, as a process of its own.

Started by :mod:`nestling.targets.stage_process` with this file's path, never imported: the
interpreter may be a side environment's, which knows torch and ExecuTorch but not nestling. Request
and answer are `.npz` archives behind their length, eight bytes. A request names a stage and holds
its inputs as `<sample>.<input>`; an answer holds outputs the same way and `run_us`, or `error`.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from executorch.runtime import Method, Program, Runtime

SUFFIX = ".pte"


def main(folder: Path) -> None:
    """Answer requests from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # backends print to standard output, which is for answers
    requests = sys.stdin.buffer
    torch.set_num_threads(1)
    loaded: dict[str, tuple[Program, Method]] = {}
    while header := requests.read(8):
        with np.load(io.BytesIO(requests.read(int.from_bytes(header, "big")))) as request:
            arrays = dict(request.items())
        try:
            answer = _run(folder, loaded, str(arrays.pop("stage")), arrays)
        except Exception as error:
            answer = {"error": np.array(f"{type(error).__name__}: {error}")}
        _send(answers, answer)


def _run(
    folder: Path,
    loaded: dict[str, tuple[Program, Method]],
    stage: str,
    arrays: dict[str, np.ndarray],  # type: ignore[type-arg]
) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    if stage not in loaded:
        program = Runtime.get().load_program(folder / f"{stage}{SUFFIX}")
        # A method does not keep its program alive.
        loaded[stage] = (program, program.load_method("forward"))
    method = loaded[stage][1]
    answer: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
    times_us = []
    for sample, inputs in enumerate(_by_sample(arrays)):
        start = time.perf_counter()
        outputs = method.execute(inputs)
        times_us.append((time.perf_counter() - start) * 1e6)
        for index, output in enumerate(outputs):
            answer[f"{sample}.{index}"] = np.array(output.numpy())
    answer["run_us"] = np.array(statistics.median(times_us))
    return answer


def _by_sample(arrays: dict[str, np.ndarray]) -> list[list[torch.Tensor]]:  # type: ignore[type-arg]
    samples: dict[int, dict[int, torch.Tensor]] = {}
    for name, array in arrays.items():
        sample, _, index = name.partition(".")
        samples.setdefault(int(sample), {})[int(index)] = torch.from_numpy(array)
    return [[samples[s][i] for i in sorted(samples[s])] for s in sorted(samples)]


def _send(answers: BinaryIO, arrays: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    answers.write(len(data).to_bytes(8, "big") + data)
    answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
