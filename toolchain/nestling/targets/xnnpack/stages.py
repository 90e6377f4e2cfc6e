"""Lower the stages of a supernet for XNNPACK."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from nestling.partition.calibrate import record_stage_inputs
from nestling.partition.cut import StageKey
from nestling.targets.half_precision import in_half_precision
from nestling.targets.memory_order import keep_channels_innermost
from nestling.targets.pool import StaticJob, lower_all, quantize_all
from nestling.targets.target import LoweredStages, Target, Work


class XnnpackTarget(Target):
    """The mobile CPU."""

    def lower(self, work: Work) -> LoweredStages:
        """Lower all stages, and the named paths in one piece where that is asked for."""
        pieces = keep_channels_innermost(work.pieces)
        if work.scheme.name == "fp16":
            pieces = in_half_precision(pieces)
        work = replace(work, pieces=pieces)
        modules = quantize_stages(work)
        jobs = work.make_jobs(modules)
        lowered = lower_all(
            list(jobs.values()),
            processes=work.jobs,
            cache_dir=work.cache_dir,
            progress=work.progress,
        )
        return LoweredStages(dict(zip(jobs, lowered, strict=True)), work.pieces)


def quantize_stages(work: Work) -> dict[StageKey, nn.Module]:
    """Return the modules of all stages; static schemes are quantised here, others were when cut.

    Raises:
        ExportError: a stage cannot be traced or quantised; names it.
    """
    stages = work.pieces.stages
    modules: dict[StageKey, nn.Module] = {key: stage.module for key, stage in stages.items()}
    if work.scheme.activations != "static":
        return modules
    samples = record_stage_inputs(work.supernet, work.pieces, work.calibration)
    static = [StaticJob(s.name, s.module, samples[k.position]) for k, s in stages.items()]
    quantized = quantize_all(
        static, processes=work.jobs, cache_dir=work.cache_dir, progress=work.progress
    )
    return dict(zip(modules, quantized, strict=True))
