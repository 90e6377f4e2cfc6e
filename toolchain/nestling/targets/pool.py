"""Quantise and lower many modules, in parallel processes and through the cache."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nestling.errors import ExportError
from nestling.quantize.static import ExportedStage, quantize_static, trace_float
from nestling.targets.cache import LoweringCache, cache_key
from nestling.targets.lean_torch import lean_torch
from nestling.targets.lowered import LoweredProgram
from nestling.targets.structure import (
    Template,
    calibrated_digest,
    content_digest,
    has_static_ranges,
    make_template,
    structure_digest,
)
from nestling.targets.xnnpack.lower import TARGET, lower_program, lower_whole, trace


class _NamedJob(Protocol):
    @property
    def name(self) -> str: ...


Progress = Callable[[int, int, str], None]
"""Called with (jobs done, jobs in all, name of the job that finished)."""


@dataclass(frozen=True)
class Job:
    """One module to lower.

    Attributes:
        name: shown in progress and errors.
        module: in evaluation mode, on the CPU.
        example_inputs: its inputs, batch size 1.
    """

    name: str
    module: nn.Module
    example_inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class StaticJob:
    """One module to quantise with calibration samples."""

    name: str
    module: nn.Module
    samples: tuple[tuple[Tensor, ...], ...]


def lower_all(
    jobs: Sequence[Job],
    *,
    processes: int = 2,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[LoweredProgram]:
    """Lower every job; results stand in the order of the jobs.

    Args:
        jobs: what to lower.
        processes: how many to run at once; 1 stays in this process.
        cache_dir: see :class:`~nestling.targets.cache.LoweringCache`.
        progress: told after each job.

    Raises:
        ExportError: a module cannot be traced or lowered; names it.
    """
    return [
        LoweredProgram.from_bytes(data)
        for data in run_jobs(_lower, jobs, str(cache_dir or ""), processes, progress)
    ]


def lower_whole_all(
    jobs: Sequence[Job],
    *,
    processes: int = 2,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[bytes]:
    """Lower every job to a plain ``.pte`` with its weights inside."""
    return run_jobs(_lower_whole, jobs, str(cache_dir or ""), processes, progress)


def quantize_all(
    jobs: Sequence[StaticJob],
    *,
    processes: int = 2,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> list[nn.Module]:
    """Quantise every job statically; results stand in the order of the jobs."""
    return [
        ExportedStage.from_bytes(data)
        for data in run_jobs(_quantize, jobs, str(cache_dir or ""), processes, progress)
    ]


def _lower(packed: bytes, cache_dir: str) -> bytes:
    job: Job = pickle.loads(packed)
    with named(job.name):
        program = trace(job.module, job.example_inputs)
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        return _lower_cached(program, cache).to_bytes()


def _lower_cached(program: ExportedProgram, cache: LoweringCache) -> LoweredProgram:
    """By structure where lowering only rearranges weights, else by content."""
    structure = structure_digest(program)
    template_key = cache_key("template", TARGET, structure)
    template = cache.load(template_key, Template.from_bytes)
    if template is not None:
        return template.fill(program)
    program_key = cache_key("program", TARGET, content_digest(program))
    lowered = cache.load(program_key, LoweredProgram.from_bytes)
    if lowered is not None:
        return lowered
    template = None if has_static_ranges(program) else make_template(program, lower_program)
    if template is not None:
        cache.store(template_key, template.to_bytes())
        return template.fill(program)
    lowered = lower_program(program)
    cache.store(program_key, lowered.to_bytes())
    return lowered


def _lower_whole(packed: bytes, cache_dir: str) -> bytes:
    job: Job = pickle.loads(packed)
    with named(job.name):
        program = trace(job.module, job.example_inputs)
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        key = cache_key("whole", TARGET, content_digest(program))
        whole = cache.load(key, bytes)
        if whole is None:
            whole = lower_whole(program)
            cache.store(key, whole)
    return whole


def _quantize(packed: bytes, cache_dir: str) -> bytes:
    job: StaticJob = pickle.loads(packed)
    with named(job.name):
        program = trace_float(job.module, job.samples)
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        key = cache_key("quantized", TARGET, calibrated_digest(program, job.samples))
        quantized = cache.load(key, bytes)
        if quantized is None:
            quantized = quantize_static(program, job.samples).to_bytes()
            cache.store(key, quantized)
        return quantized


@contextmanager
def named(stage: str) -> Iterator[None]:
    """Trace and lower with less; turn what the compiler raises into one error naming the stage."""
    try:
        with lean_torch():
            yield
    except ExportError as error:
        error.stage = error.stage or stage
        raise
    except Exception as error:
        raise ExportError(f"cannot lower: {type(error).__name__}: {error}", stage=stage) from error


def run_jobs(
    function: Callable[[bytes, str], bytes],
    jobs: Sequence[_NamedJob],
    cache_dir: str,
    processes: int,
    progress: Progress | None,
) -> list[bytes]:
    """Call ``function(pickled job, cache_dir)`` for every job; results stand in their order.

    Args:
        function: of a module, so that another process finds it.
        jobs: what to pickle; their names are shown.
        cache_dir: handed on.
        processes: how many to run at once; 1 stays in this process.
        progress: told after each job.
    """
    results: list[bytes] = [b""] * len(jobs)
    if processes <= 1 or len(jobs) <= 1:
        for index, job in enumerate(jobs):
            results[index] = function(pickle.dumps(job), cache_dir)
            if progress is not None:
                progress(index + 1, len(jobs), job.name)
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(processes, len(jobs)), mp_context=context, initializer=_use_one_thread
    ) as pool:
        futures = {
            pool.submit(function, pickle.dumps(job), cache_dir): index
            for index, job in enumerate(jobs)
        }
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                index = futures[future]
                results[index] = future.result()
                if progress is not None:
                    progress(done, len(jobs), jobs[index].name)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _use_one_thread() -> None:
    torch.set_num_threads(1)
