"""Lower stages to operators of Cadence's DSPs, and execute them with the reference operators."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from executorch.exir import EdgeProgramManager
from executorch.exir.passes.constant_prop_pass import constant_prop_pass
from torch.export import ExportedProgram

from nestling.errors import ExportError
from nestling.targets.cadence.compiler import import_cadence
from nestling.targets.cadence.quantize import make_quantizer, quantize_stage
from nestling.targets.cadence.reference import load_reference
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.eager import flatten, open_eager, to_bytes
from nestling.targets.emit import emit
from nestling.targets.quiet import quiet
from nestling.targets.target import StageRunner


class CadenceTarget(DelegateTarget):
    """HiFi DSPs.

    Constants are outside of programs, named by content, so widths share them at layer grain.
    """

    def compile(self, job: StageJob) -> CompiledStage:
        """Lower one stage."""
        quantizer = make_quantizer()
        edge = _lower(quantize_stage(job.module, job.samples, quantizer), quantizer)
        reference = b""
        if job.with_reference:
            reference = to_bytes(flatten(edge, _no_delegate))
        return CompiledStage(emit(edge), reference)

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages with the backend's reference operators."""
        load_reference()
        return open_eager(reference_dir, "Cadence's reference operators")


def _lower(program: ExportedProgram, quantizer: Any) -> EdgeProgramManager:
    compiler = import_cadence("compiler")
    load_reference()
    passes = import_cadence("passes")
    mode = import_cadence("pass_utils").CompileMode.DEFAULT
    with quiet():
        fused = compiler.apply_pre_edge_transform_passes(program, quantizer)
        edge = compiler._lower_ep_to_edge(fused)
        lowered: EdgeProgramManager = passes.apply_exir_ops_passes(mode, edge)
        # The passes leave weights to be rearranged in every run.
        programs = lowered._edge_programs
        programs["forward"] = constant_prop_pass(programs["forward"])
        return lowered


def _no_delegate(_: object) -> Any:
    raise ExportError("a program for Cadence's DSPs has no delegates")
