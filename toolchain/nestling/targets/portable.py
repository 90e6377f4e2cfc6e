"""ExecuTorch's own kernels, no delegate: what a device falls back to when nothing else is there."""

from __future__ import annotations

import pickle
from pathlib import Path

from executorch.exir import to_edge_transform_and_lower

from nestling.partition.cut import StageKey
from nestling.partition.modules import FusedPath
from nestling.targets.cache import LoweringCache, cache_key
from nestling.targets.emit import emit
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import Job, named, run_jobs
from nestling.targets.quiet import quiet
from nestling.targets.structure import content_digest
from nestling.targets.target import LoweredStages, Target, Work
from nestling.targets.xnnpack import trace

TARGET = "portable"


class PortableTarget(Target):
    """Any processor."""

    def lower(self, work: Work) -> LoweredStages:
        """Lower all stages, and the named paths in one piece where that is asked for."""
        stages = work.pieces.stages
        keys: list[StageKey | str] = []
        jobs: list[Job] = []
        # At block grain a path in one piece would be made of other blocks than its stages.
        fused_paths = work.chains if work.fused and work.grain == "layer" else {}
        for name, chain in fused_paths.items():
            stem, *blocks, head = (stages[key].module for key in chain)
            keys.append(name)
            jobs.append(
                Job(f"path {name}", FusedPath(stem, blocks, head), stages[chain[0]].example_inputs)
            )
        for key, stage in stages.items():
            keys.append(key)
            jobs.append(Job(stage.name, stage.module, stage.example_inputs))
        cache_dir = str(work.cache_dir or "")
        lowered = run_jobs(_lower, jobs, cache_dir, work.jobs, work.progress)
        programs = map(LoweredProgram.from_bytes, lowered)
        return LoweredStages(dict(zip(keys, programs, strict=True)), work.pieces)


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
