"""Lower the stages of a supernet to ONNX, and run them with onnxruntime."""

from __future__ import annotations

import hashlib
import pickle
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from nestling.errors import EngineError, TargetError, first_line
from nestling.partition.cut import StageKey
from nestling.targets.cache import LoweringCache, cache_key
from nestling.targets.lowered import LoweredProgram
from nestling.targets.onnx.convert import OPSET, lower
from nestling.targets.onnx.folder import write_models
from nestling.targets.pool import named, run_jobs
from nestling.targets.structure import content_digest
from nestling.targets.target import LoweredStages, StageRun, StageRunner, Target, Work
from nestling.targets.xnnpack.stages import quantize_stages

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET = "onnx"
CACHE_VERSION = 2
"""Raise when this package makes another model of the same graph."""

OUTPUT_SUFFIX = "_out"
"""Of the name of an output whose slot is also an input of the stage."""


@dataclass(frozen=True)
class OnnxJob:
    """One module to lower.

    Attributes:
        name: of the stage or path.
        module: in evaluation mode, on the CPU.
        example_inputs: its inputs, batch size 1.
        input_names: of the model's inputs.
        output_names: of the model's outputs.
    """

    name: str
    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


class OnnxTarget(Target):
    """Models for onnxruntime and whatever else reads ONNX.

    `int8-static` gives the common QDQ form: pairs of `QuantizeLinear` and `DequantizeLinear` around
    float operators, which onnxruntime turns into integer ones. Weights are those of the other
    targets, calibrated the same way, so the levels of a block stay equal bytes.
    """

    def lower(self, work: Work) -> LoweredStages:
        """Lower all stages, and the named paths in one piece where that is asked for."""
        jobs = _make_jobs(work, quantize_stages(work))
        programs = _lower_all(work, jobs)
        if work.reference_dir is not None:
            write_models(
                work.reference_dir,
                {f"{jobs[key].name}.onnx": program for key, program in programs.items()},
            )
        return LoweredStages(programs, work.pieces)

    def lower_paths(self, work: Work) -> dict[StageKey | str, LoweredProgram]:
        """Lower the named paths in one piece, and nothing else.

        Raises:
            ExportError: a path cannot be lowered; names it.
        """
        used = {key for chain in work.chains.values() for key in chain}
        stages = {key: stage for key, stage in work.pieces.stages.items() if key in used}
        work = replace(work, pieces=replace(work.pieces, stages=stages))
        jobs = _make_jobs(work, quantize_stages(work))
        return _lower_all(work, {key: job for key, job in jobs.items() if isinstance(key, str)})

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Run models with onnxruntime, one thread.

        Raises:
            TargetError: onnxruntime is not installed.
        """
        self.description.require("run")
        return _open(reference_dir)


class OnnxRunner:
    """Runs the models of a folder with onnxruntime.

    Args:
        folder: with the models and their weights.
        threads: that one run may use.
        exact: run operators as they stand in the model. onnxruntime otherwise merges some, which
            rounds int8 a step differently here and there.
    """

    def __init__(self, folder: Path, *, threads: int = 1, exact: bool = False) -> None:
        self.folder = folder
        self.where = f"onnxruntime {version('onnxruntime')}, this CPU"
        self._threads = threads
        self._exact = exact
        self._sessions: dict[str, Any] = {}

    def run(self, stage: str, samples: Sequence[tuple[NDArray, ...]]) -> StageRun:  # type: ignore[type-arg]
        """Run a stage, or a path in one piece, on each sample.

        Raises:
            EngineError: onnxruntime refuses the model or its inputs; names the stage.
        """
        outputs, times = [], []
        try:
            session = self._session(stage)
            names = [value.name for value in session.get_inputs()]
            for sample in samples:
                begin = time.perf_counter()
                result = session.run(None, dict(zip(names, sample, strict=True)))
                times.append((time.perf_counter() - begin) * 1e6)
                outputs.append(tuple(result))
        except Exception as error:  # onnxruntime's own errors have no common base
            raise EngineError(
                "onnxruntime cannot run the model", stage=stage, actual=first_line(error)
            ) from error
        return StageRun(outputs, statistics.median(times) if times else None)

    def _session(self, stage: str) -> Any:
        import onnxruntime

        if stage not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.log_severity_level = 3
            if self._exact:
                level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                options.graph_optimization_level = level
            self._sessions[stage] = onnxruntime.InferenceSession(
                self.folder / f"{stage}.onnx", options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[stage]


def _make_jobs(work: Work, modules: Mapping[StageKey, nn.Module]) -> dict[StageKey | str, OnnxJob]:
    wires = work.pieces.wires()
    jobs: dict[StageKey | str, OnnxJob] = {}
    for key, job in work.make_jobs(modules).items():
        if isinstance(key, str):
            name, reads = key, work.supernet.input_names
            writes: tuple[str, ...] = (work.supernet.output_name,)
        else:
            name, reads = job.name, wires.reads[key]
            # A model's outputs cannot have the names of inputs, as a stage's slots can.
            writes = tuple(slot + OUTPUT_SUFFIX * (slot in reads) for slot in wires.writes[key])
        jobs[key] = OnnxJob(name, job.module, job.example_inputs, reads, writes)
    return jobs


def _lower_all(
    work: Work, jobs: Mapping[StageKey | str, OnnxJob]
) -> dict[StageKey | str, LoweredProgram]:
    lowered = run_jobs(
        _lower, list(jobs.values()), str(work.cache_dir or ""), work.jobs, work.progress
    )
    return dict(zip(jobs, map(LoweredProgram.from_bytes, lowered), strict=True))


@contextmanager
def _open(folder: Path) -> Iterator[OnnxRunner]:
    if not folder.is_dir():
        raise TargetError("there are no ONNX models", actual=str(folder))
    yield OnnxRunner(folder)


def _lower(packed: bytes, cache_dir: str) -> bytes:
    job: OnnxJob = pickle.loads(packed)
    with named(job.name):
        with torch.no_grad():
            program = export(job.module, job.example_inputs)
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        key = cache_key("program", TARGET, _digest(job, program))
        lowered = cache.load(key, LoweredProgram.from_bytes)
        if lowered is None:
            lowered = lower(program, job.example_inputs, job.input_names, job.output_names)
            cache.store(key, lowered.to_bytes())
        return lowered.to_bytes()


def _digest(job: OnnxJob, program: ExportedProgram) -> bytes:
    about = [TARGET, CACHE_VERSION, OPSET, version("onnxscript"), job.input_names, job.output_names]
    return hashlib.sha256(repr(about).encode() + content_digest(program)).digest()
