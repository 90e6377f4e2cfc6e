"""Runs ours and the peers in turns, in a process without torch. Started by `nestling.bench.peers`.

    python peers_worker.py JOB.json

It may run in another environment than nestling's, so it needs numpy and `nestling_runtime` only,
and takes onnxruntime and LiteRT as they are there. Prints one JSON object:

    {"paths": {path: {"nestling": [[ns, ...] a round, ...], peer: ...}}, "versions": {...},
    "missing": {...}}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import nestling_runtime

BURST_NS = 4_000_000
MOST_RUNS_IN_BURST = 24

_DTYPES = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "u8": np.uint8, "i8": np.int8}

Run = Callable[[], Any]


def read_inputs(session: Any, model: Any, files: list[str]) -> list[Any]:
    """Return the input arrays in the model's order."""
    slots = [slot for slot in model.bundle.slots if slot.role == "input"]
    return [
        np.frombuffer(Path(file).read_bytes(), _DTYPES[slot.dtype]).reshape(slot.shape).copy()
        for file, slot in zip(files, slots, strict=True)
    ]


def make_onnxruntime(file: str, inputs: list[Any], threads: int) -> Run:
    """Return a call that runs the model on bound inputs and outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for description, array in zip(session.get_inputs(), inputs, strict=True):
        binding.bind_cpu_input(description.name, array)
    for description in session.get_outputs():
        binding.bind_output(description.name)
    return lambda: session.run_with_iobinding(binding)


def make_litert(file: str, inputs: list[Any], threads: int) -> Run:
    """Return a call that runs the model on inputs that were set, and quantised, before."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=threads)
    interpreter.allocate_tensors()
    details = sorted(interpreter.get_input_details(), key=lambda d: str(d["name"]))
    for detail, array in zip(details, inputs, strict=True):
        scale, zero = detail["quantization"]
        if detail["dtype"] == np.int8 and scale:
            array = np.clip(np.round(array / scale) + zero, -128, 127)
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
    return interpreter.invoke  # type: ignore[no-any-return]


MAKERS = {"onnxruntime": make_onnxruntime, "litert": make_litert}


def burst(prepare: Run, run: Run) -> list[int]:
    """Return the times of some runs, after one that is not counted."""
    prepare()
    start = time.perf_counter_ns()
    run()
    settling = max(1, time.perf_counter_ns() - start)
    count = max(2, min(MOST_RUNS_IN_BURST, BURST_NS // settling))
    samples = []
    for _ in range(count):
        start = time.perf_counter_ns()
        run()
        samples.append(time.perf_counter_ns() - start)
    return samples


def measure_path(sides: dict[str, tuple[Run, Run]], rounds: int, seconds: float) -> dict[str, Any]:
    """Run all sides in turns; every second round the other way about."""
    samples: dict[str, list[list[int]]] = {name: [] for name in sides}
    end = time.monotonic() + seconds
    done = 0
    while done < rounds or time.monotonic() < end:
        order = list(sides) if done % 2 == 0 else list(reversed(sides))
        for name in order:
            samples[name].append(burst(*sides[name]))
        done += 1
    return samples


def version_of(peer: str) -> str:
    """Return the version of an installed peer."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version({"litert": "ai-edge-litert"}.get(peer, peer))
    except PackageNotFoundError:
        return ""


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job; see `nestling.bench.peers.run_worker`."""
    missing: dict[str, str] = {}
    paths: dict[str, Any] = {}
    with nestling_runtime.open(job["bundle"], threads=job["threads"]) as model:
        session = model.session()
        inputs = read_inputs(session, model, job["inputs"])
        for name, array in zip(session.input_names, inputs, strict=True):
            session.bind_input(name, array)
        for path, files in job["paths"].items():
            sides: dict[str, tuple[Run, Run]] = {
                "nestling": (partial(session.select, path), session.run_bound)
            }
            for peer, file in files.items():
                try:
                    run = MAKERS[peer](file, inputs, job["threads"])
                    run()
                    sides[peer] = (lambda: None, run)
                except Exception as error:  # a peer that cannot must not stop the others
                    missing[peer] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
            paths[path] = measure_path(sides, job["rounds"], job["seconds"])
    found = {peer for sides in paths.values() for peer in sides if peer in MAKERS}
    return {"paths": paths, "versions": {p: version_of(p) for p in found}, "missing": missing}


if __name__ == "__main__":
    print(json.dumps(work(json.loads(Path(sys.argv[1]).read_text()))))
