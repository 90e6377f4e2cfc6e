"""Lower stages for neural accelerators in Arm GPUs: VGF files, which Vulkan's ML extensions run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

from executorch.backends.arm.quantizer import VgfQuantizer
from executorch.backends.arm.vgf import VgfCompileSpec, VgfPartitioner
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from torch.export import ExportedProgram

from nestling.targets.arm.quantize import quantize_stage
from nestling.targets.arm.vgf_host import open_vgf
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.emit import emit
from nestling.targets.quiet import quiet
from nestling.targets.stage_process import SUFFIX
from nestling.targets.standalone import standalone
from nestling.targets.target import StageRunner
from nestling.targets.xnnpack.lower import trace

CONVERTER = "model-converter"
"""Program that makes VGF of TOSA; a Python package brings it."""


class VgfTarget(DelegateTarget):
    """Neural accelerators in Arm GPUs."""

    reference_suffix = SUFFIX

    def compile(self, job: StageJob) -> CompiledStage:
        """Lower one stage."""
        spec = VgfCompileSpec()
        if job.scheme == "fp32":
            program = trace(job.module, job.example_inputs)
        else:
            program = quantize_stage(job.module, job.samples, VgfQuantizer(spec))
        edge = _lower(program, spec)
        reference = standalone(edge) if job.with_reference else b""
        return CompiledStage(emit(edge), reference)

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages on a software Vulkan, in the side environment that has the runtime.

        Raises:
            TargetError: the environment is missing.
        """
        self.description.require("run")
        return open_vgf(reference_dir)


def _lower(program: ExportedProgram, spec: VgfCompileSpec) -> EdgeProgramManager:
    with quiet(), _converter_of_this_interpreter():
        return to_edge_transform_and_lower(program, partitioner=[VgfPartitioner(spec)])


@contextmanager
def _converter_of_this_interpreter() -> Iterator[None]:
    """Let the backend find the converter also where the environment was not activated."""
    beside = Path(sys.executable).with_name(CONVERTER)
    found = {"MODEL_CONVERTER_PATH": str(beside)} if beside.exists() else {}
    with mock.patch.dict(os.environ, {**found, **os.environ}):
        yield
