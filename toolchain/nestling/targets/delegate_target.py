"""What targets have in common whose stages are programs around one of ExecuTorch's delegates.

A subclass says how a stage is quantised and lowered (:meth:`DelegateTarget.compile`); jobs,
processes, the cache, figures and reference files are dealt with here.
"""

from __future__ import annotations

import hashlib
import pickle
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import torch
from torch import Tensor, nn
from torch.export import export

from nestling.bundle.manifest import Note
from nestling.errors import ExportError
from nestling.partition.calibrate import Samples, record_stage_inputs
from nestling.partition.cut import StageKey
from nestling.targets.cache import LoweringCache, cache_key, source_digest
from nestling.targets.eager import SUFFIX
from nestling.targets.lowered import LoweredProgram
from nestling.targets.pool import named, run_jobs
from nestling.targets.structure import calibrated_digest
from nestling.targets.target import LoweredStages, Target, Work


@dataclass(frozen=True)
class StageJob:
    """One stage to quantise and lower, in this process or another.

    Attributes:
        name: shown in progress and errors.
        module: in evaluation mode, on the CPU.
        example_inputs: its inputs, batch size 1.
        samples: recorded inputs, for static schemes; else empty.
        target: name of the target.
        scheme: name of the scheme.
        options: a value for each option of the target.
        with_reference: whether to make a reference file as well.
    """

    name: str
    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    samples: Samples
    target: str
    scheme: str
    options: Mapping[str, str]
    with_reference: bool


@dataclass(frozen=True)
class CompiledStage:
    """One stage as the target's compiler left it.

    Attributes:
        lowered: what goes into the bundle.
        reference: what :meth:`~nestling.targets.target.Target.open` executes it from; empty where
            none was asked for.
        figures: what the compiler says of it, with units in the names.
    """

    lowered: LoweredProgram
    reference: bytes = b""
    figures: Mapping[str, Note] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Serialise to CBOR, for the cache."""
        raw = {
            "lowered": self.lowered.to_bytes(),
            "reference": self.reference,
            "figures": dict(self.figures),
        }
        return cbor2.dumps(raw)

    @staticmethod
    def from_bytes(data: bytes) -> CompiledStage:
        """Read what :meth:`to_bytes` wrote."""
        raw: dict[str, Any] = cbor2.loads(data)
        return CompiledStage(
            LoweredProgram.from_bytes(raw["lowered"]), raw["reference"], raw["figures"]
        )


class DelegateTarget(Target):
    """A target whose stages are ordinary ExecuTorch programs that call a delegate."""

    reference_suffix = SUFFIX
    """Of the files that :meth:`lower` leaves in ``Work.reference_dir``."""

    fuses_paths = False
    """Whether named paths are also lowered in one piece: only where constants are outside, since a
    delegate that buries them would store a second copy."""

    @abstractmethod
    def compile(self, job: StageJob) -> CompiledStage:
        """Quantise and lower one stage.

        Raises:
            ExportError: it cannot be lowered.
        """

    def quantized_modules(self, work: Work) -> dict[StageKey, nn.Module]:
        """Modules of all stages, as far as they are quantised before :meth:`compile`."""
        return {key: stage.module for key, stage in work.pieces.stages.items()}

    def stage_samples(self, work: Work) -> dict[StageKey, Samples]:
        """Recorded inputs of all stages, for :meth:`compile`; none for schemes that need none.

        Raises:
            ExportError: there are none where some are needed; names the stage.
        """
        if not work.scheme.needs_calibration:
            return dict.fromkeys(work.pieces.stages, ())
        recorded = record_stage_inputs(work.supernet, work.pieces, work.calibration)
        for key, stage in work.pieces.stages.items():
            if not recorded[key.position]:
                raise ExportError(
                    "static quantisation needs calibration data",
                    stage=stage.name,
                    hint="pass real inputs as calibration",
                )
        return {key: recorded[key.position] for key in work.pieces.stages}

    def lower(self, work: Work) -> LoweredStages:
        """Lower all stages, and the named paths in one piece where that costs no second copy."""
        jobs = self._jobs(work)
        results = run_jobs(
            _compile, list(jobs.values()), str(work.cache_dir or ""), work.jobs, work.progress
        )
        compiled = {
            key: CompiledStage.from_bytes(data) for key, data in zip(jobs, results, strict=True)
        }
        if work.reference_dir is not None:
            self._keep_references(work.reference_dir, jobs, compiled)
        return LoweredStages(
            {key: stage.lowered for key, stage in compiled.items()},
            work.pieces,
            meta=_notes(jobs, compiled),
        )

    def _jobs(self, work: Work) -> dict[StageKey | str, StageJob]:
        samples = self.stage_samples(work)
        jobs = work.make_jobs(self.quantized_modules(work), fused=self.fuses_paths)
        return {
            key: StageJob(
                job.name,
                job.module,
                job.example_inputs,
                samples[work.chains[key][0] if isinstance(key, str) else key],
                self.name,
                work.scheme.name,
                dict(work.options),
                work.reference_dir is not None,
            )
            for key, job in jobs.items()
        }

    def _keep_references(
        self,
        folder: Path,
        jobs: Mapping[StageKey | str, StageJob],
        compiled: Mapping[StageKey | str, CompiledStage],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for key, stage in compiled.items():
            (folder / f"{jobs[key].name}{self.reference_suffix}").write_bytes(stage.reference)


def _notes(
    jobs: Mapping[StageKey | str, StageJob], compiled: Mapping[StageKey | str, CompiledStage]
) -> dict[str, Note]:
    return {
        f"{jobs[key].name}.{figure}": value
        for key, stage in compiled.items()
        for figure, value in stage.figures.items()
    }


def _compile(packed: bytes, cache_dir: str) -> bytes:
    """Compile a pickled :class:`StageJob`, or take it from the cache; a :class:`CompiledStage`."""
    from nestling.targets.registry import get_target

    job: StageJob = pickle.loads(packed)
    with named(job.name):
        target = get_target(job.target)
        assert isinstance(target, DelegateTarget)
        cache = LoweringCache(Path(cache_dir) if cache_dir else None)
        key = cache_key("stage", job.target, _digest(job, target))
        data = cache.load(key, _readable)
        if data is None:
            data = target.compile(job).to_bytes()
            cache.store(key, data)
        return data


def _readable(data: bytes) -> bytes:
    CompiledStage.from_bytes(data)
    return data


def _digest(job: StageJob, target: Target) -> bytes:
    """Of everything that the result depends on."""
    with torch.no_grad():
        content = calibrated_digest(export(job.module, job.example_inputs), job.samples)
    needs = [need for need in target.description.requirements if need.purpose == "export"]
    about = [
        source_digest(type(target).__module__),
        job.scheme,
        sorted(job.options.items()),
        job.with_reference,
        [(need.what, need.found()) for need in needs],
    ]
    return hashlib.sha256(content + repr(about).encode()).digest()
