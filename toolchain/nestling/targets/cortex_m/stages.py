"""Lower the stages of a supernet for a Cortex-M, and compile them into plans."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import export

from nestling.bundle.manifest import Note
from nestling.errors import ExportError
from nestling.partition.calibrate import Samples, record_inputs
from nestling.partition.cut import Cut, StageKey
from nestling.targets.cache import LoweringCache, cache_key
from nestling.targets.cortex_m.compiler import CompiledPlan, compile_program
from nestling.targets.cortex_m.cores import Isa, get_core, representative
from nestling.targets.cortex_m.grids import Grid, stream_grids
from nestling.targets.cortex_m.program import read_program
from nestling.targets.description import TargetDescription
from nestling.targets.lowered import (
    SYMBOL_PREFIX_LENGTH,
    ExternalConstant,
    LoweredProgram,
    symbol,
)
from nestling.targets.pool import named, run_jobs
from nestling.targets.structure import calibrated_digest
from nestling.targets.target import LoweredStages, Target, Work

SAMPLES = 64
"""Recorded inputs that ranges are taken from."""

METHOD = "plan"
"""Of programs that are plans."""


@dataclass(frozen=True)
class StageJob:
    """One stage to quantise and lower.

    Attributes:
        name: shown in progress and errors.
        module: in evaluation mode, on the CPU.
        samples: recorded inputs.
        input_grid: of the slot it reads; ``None``: it reads the model's own input.
        output_grid: of the slot it writes; ``None``: it writes the model's output.
        target: a core with the instructions that are compiled for.
    """

    name: str
    module: nn.Module
    samples: Samples
    input_grid: Grid | None
    output_grid: Grid | None
    target: str


class CortexMTarget(Target):
    """Cortex-M cores; static int8 alone, since kernels for small cores have no other arithmetic."""

    def __init__(self, description: TargetDescription) -> None:
        super().__init__(description)
        self._core = get_core(description.name)

    def lower(self, work: Work) -> LoweredStages:
        """Lower all stages; fused paths would only store more plans and are not made."""
        pieces = work.pieces
        if pieces.context:
            raise ExportError(
                "models whose stem hands a context to all blocks cannot be lowered for Cortex-M",
                actual=", ".join(pieces.context),
            )
        samples = record_inputs(work.supernet, work.calibration, samples=SAMPLES)
        grids = stream_grids(pieces.streams, samples)
        jobs = [self._job(pieces, key, samples, grids) for key in pieces.stages]
        programs = run_jobs(lower_job, jobs, str(work.cache_dir or ""), work.jobs, work.progress)
        if work.reference_dir is not None:
            _keep_references(work.reference_dir, pieces, programs)
        lowered: dict[StageKey | str, LoweredProgram] = {
            key: _as_lowered(compile_stage(program, self._core.isa, job))
            for key, program, job in zip(pieces.stages, programs, jobs, strict=True)
        }
        return LoweredStages(
            lowered, _with_int8_streams(pieces), METHOD, False, _notes(pieces, grids)
        )

    def _job(
        self, pieces: Cut, key: StageKey, samples: list[Samples], grids: list[Grid]
    ) -> StageJob:
        stage = pieces.stages[key]
        before, after = key.position - 1, key.position
        return StageJob(
            stage.name,
            stage.module,
            samples[key.position],
            grids[before] if before >= 0 else None,
            grids[after] if after < len(grids) else None,
            representative(self._core).target,
        )


def lower_job(packed: bytes, cache_dir: str) -> bytes:
    """Quantise and lower a pickled :class:`StageJob`, or take it from the cache; a ``.pte``."""
    from nestling.targets.cortex_m.lower import lower_stage
    from nestling.targets.cortex_m.quantize import quantize_stage

    job: StageJob = pickle.loads(packed)
    with named(job.name):
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        key = cache_key("stage", job.target, _digest(job))
        program = cache.load(key, bytes)
        if program is None:
            quantized = quantize_stage(job.module, job.samples, job.input_grid, job.output_grid)
            program = lower_stage(
                quantized,
                get_core(job.target),
                int8_input=job.input_grid is not None,
                int8_output=job.output_grid is not None,
            )
            cache.store(key, program)
        return program


def compile_stage(program: bytes, isa: Isa, job: StageJob) -> CompiledPlan:
    """Compile a stage's ``.pte``; the model's own input comes as numpy lays it out.

    Raises:
        ExportError: something has no kernel; names the stage and the operator.
    """
    try:
        return compile_program(read_program(program), isa, row_major_inputs=job.input_grid is None)
    except ExportError as error:
        place = f", {error.stage}" if error.stage else ""
        error.stage = f"{job.name}{place}"
        raise


def _digest(job: StageJob) -> bytes:
    if not job.samples:
        raise ExportError("int8 stages need calibration data", hint="pass real inputs")
    with torch.no_grad():
        content = calibrated_digest(export(job.module, job.samples[0]), job.samples)
    grids = repr((job.input_grid, job.output_grid)).encode()
    return hashlib.sha256(content + grids).digest()


def _as_lowered(compiled: CompiledPlan) -> LoweredProgram:
    constants = {
        symbol(number, SYMBOL_PREFIX_LENGTH): ExternalConstant(data, None)
        for number, data in enumerate(compiled.constants)
    }
    arena = compiled.plan.arena_bytes
    return LoweredProgram(compiled.plan.to_bytes(), constants, arena, 0, ())


def _with_int8_streams(pieces: Cut) -> Cut:
    """The pieces with streams as they stand in slots: int8, images with channels last."""
    return dataclasses.replace(pieces, streams=tuple(_in_slot(s) for s in pieces.streams))


def _in_slot(stream: Tensor) -> Tensor:
    laid = stream.permute(0, 2, 3, 1) if stream.dim() == 4 else stream
    return torch.zeros(laid.shape, dtype=torch.int8)


def _notes(pieces: Cut, grids: list[Grid]) -> dict[str, Note]:
    """Scale and zero point of every stream, so that its bytes can be read."""
    notes: dict[str, Note] = {}
    shapes = list(dict.fromkeys(tuple(stream.shape) for stream in pieces.streams))
    for stream, grid in zip(pieces.streams, grids, strict=True):
        slot = f"x{shapes.index(tuple(stream.shape))}"
        notes[f"{slot}.scale"] = grid.scale
        notes[f"{slot}.zero_point"] = grid.zero_point
    return notes


def _keep_references(folder: Path, pieces: Cut, programs: list[bytes]) -> None:
    """Write each stage's ``.pte`` beside the bundle, for :mod:`.reference`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage, program in zip(pieces.stages.values(), programs, strict=True):
        (folder / f"{stage.name}.pte").write_bytes(program)
