"""Executes stages in a process of its own, where a backend's libraries ask for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nestling.errors import EngineError
from nestling.targets.target import StageRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX = ".pte"
"""Of a stage's file in a reference folder: a program with its weights inside."""

_WORKER = Path(__file__).with_name("stage_worker.py")
_LOG_BYTES = 2000


class StageProcess:
    """Runs the programs of a reference folder, see :class:`nestling.targets.target.StageRunner`.

    Args:
        process: of `stage_worker`, started on the folder.
        log: what the process prints.
        where: what executes the programs, in words.
        timed: whether the time of a run means something.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], log: Path, where: str, *, timed: bool
    ) -> None:
        self.where = where
        self._timed = timed
        self._process = process
        self._log = log

    def run(self, stage: str, samples: Sequence[tuple[NDArray, ...]]) -> StageRun:  # type: ignore[type-arg]
        """Run a stage on each sample.

        Raises:
            EngineError: the stage cannot be loaded or run, or the process died; quotes its log.
        """
        arrays = {f"{s}.{i}": array for s, one in enumerate(samples) for i, array in enumerate(one)}
        answer = self._ask(stage, {"stage": np.array(stage), **arrays})
        if "error" in answer:
            raise EngineError(f"the stage cannot be run: {answer['error']}", stage=stage)
        run_us = float(answer.pop("run_us"))
        outputs: list[dict[int, NDArray]] = [{} for _ in samples]  # type: ignore[type-arg]
        for name, array in answer.items():
            sample, _, index = name.partition(".")
            outputs[int(sample)][int(index)] = array
        ordered = [tuple(one[i] for i in sorted(one)) for one in outputs]
        return StageRun(ordered, run_us if self._timed else None)

    def _ask(self, stage: str, request: Mapping[str, NDArray]) -> dict[str, NDArray]:  # type: ignore[type-arg]
        buffer = io.BytesIO()
        np.savez(buffer, **request)
        data = buffer.getvalue()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(len(data).to_bytes(8, "big") + data)
            self._process.stdin.flush()
            header = self._process.stdout.read(8)
        except BrokenPipeError:
            header = b""
        if len(header) < 8:
            tail = self._log.read_text(errors="replace")[-_LOG_BYTES:].strip().splitlines()
            raise EngineError(
                f"the process that executes {self.where} ended: {tail[-1] if tail else 'no word'}",
                stage=stage,
            )
        with np.load(
            io.BytesIO(self._process.stdout.read(int.from_bytes(header, "big")))
        ) as answer:
            return dict(answer.items())


@contextmanager
def open_stage_process(
    folder: Path,
    where: str,
    *,
    python: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timed: bool = True,
) -> Iterator[StageProcess]:
    """Start a process that executes the programs of a reference folder.

    Args:
        folder: with `<stage>.pte` files, weights inside.
        where: what executes them, in words.
        python: the interpreter; default this one. It needs numpy, torch and executorch alone.
        environment: variables to set; `LD_LIBRARY_PATH` goes before what there is.
        timed: whether the time of a run means something; it does not on a simulator.
    """
    variables = {**os.environ, **(environment or {})}
    if environment and "LD_LIBRARY_PATH" in environment and "LD_LIBRARY_PATH" in os.environ:
        variables["LD_LIBRARY_PATH"] += f":{os.environ['LD_LIBRARY_PATH']}"
    log = folder / "run.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            # Without -P, our folders would stand before the packages they are named after.
            [str(python or sys.executable), "-P", str(_WORKER), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=variables,
        )
    try:
        yield StageProcess(process, log, where, timed=timed)
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait()
