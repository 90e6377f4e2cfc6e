"""ExecuTorch's own kernels, no delegate: what a device falls back to when nothing else is there."""

from __future__ import annotations

import pickle
from pathlib import Path

from executorch.exir import to_edge_transform_and_lower

from nestling.targets.cache import LoweringCache, cache_key
from nestling.targets.emit import emit
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Job, named, run_jobs
from nestling.targets.quiet import quiet
from nestling.targets.structure import content_digest
from nestling.targets.target import LoweredStages, Target, Work
from nestling.targets.xnnpack.lower import trace

TARGET = "portable"


class PortableTarget(Target):
    """Any processor."""

    def lower(self, work: Work) -> LoweredStages:
        """Lower all stages, and the named paths in one piece where that is asked for."""
        jobs = work.make_jobs({key: stage.module for key, stage in work.pieces.stages.items()})
        lowered = run_jobs(
            _lower, list(jobs.values()), str(work.cache_dir or ""), work.jobs, work.progress
        )
        programs = map(LoweredProgram.from_bytes, lowered)
        return LoweredStages(dict(zip(jobs, programs, strict=True)), work.pieces)


def _lower(packed: bytes, cache_dir: str) -> bytes:
    job: Job = pickle.loads(packed)
    with named(job.name):
        program = trace(job.module, job.example_inputs)
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        key = cache_key("program", TARGET, content_digest(program))
        lowered = cache.load(key, LoweredProgram.from_bytes)
        if lowered is None:
            with quiet():
                lowered = emit(to_edge_transform_and_lower(program))
            cache.store(key, lowered.to_bytes())
        return lowered.to_bytes()
