"""Lower stages for Ethos-U NPUs, keep Vela's estimates, and execute their TOSA graphs."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from executorch.backends.arm.arm_vela import VelaCompileResult, vela_compile
from executorch.backends.arm.ethosu import EthosUCompileSpec, EthosUPartitioner
from executorch.backends.arm.ethosu import backend as ethosu_backend
from executorch.backends.arm.quantizer import EthosUQuantizer
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import nn
from torch.export import ExportedProgram

from nestling.bundle.manifest import Note
from nestling.targets.arm.description import CHIPS
from nestling.targets.arm.quantize import quantize_stage
from nestling.targets.arm.tosa import TosaGraph
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.eager import flatten, open_eager, to_bytes
from nestling.targets.emit import emit
from nestling.targets.quiet import quiet
from nestling.targets.target import StageRunner

FIGURES = {
    "cycles": ("cycles_total", 1),
    "sram_bytes": ("sram_memory_used", 1024),
    "flash_bytes": ("off_chip_flash_memory_used", 1024),
    "dram_bytes": ("dram_memory_used", 1024),
}
"""Figure of a stage -> column of Vela's report and what one unit of it is; a stage's parts add."""


@dataclass(frozen=True)
class Compilation:
    """What Vela was given, and what it says of the result.

    Attributes:
        tosa: the graph, a flatbuffer.
        report: Vela's summary, column -> value.
    """

    tosa: bytes
    report: dict[str, str]


class EthosUTarget(DelegateTarget):
    """Ethos-U55, U65 and U85, each in one usual size.

    The stream between stages is float32: a stage quantises what it reads and dequantises what it
    writes on the processor beside the NPU. Everything else of a stage runs inside the delegate.
    """

    def compile(self, job: StageJob) -> CompiledStage:
        """Lower one stage."""
        spec = EthosUCompileSpec(CHIPS[self.name])
        quantized = quantize_stage(job.module, job.samples, EthosUQuantizer(spec))
        with _recorded_compilations() as compilations:
            edge = _lower(quantized, spec)
        reference = b""
        if job.with_reference:
            parts = iter(compilations)
            reference = to_bytes(flatten(edge, lambda call: _executor(call, next(parts))))
        return CompiledStage(emit(edge), reference, _figures(compilations))

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages in the TOSA reference model, and in torch what stayed on the processor."""
        return open_eager(reference_dir, "TOSA reference model")


def _lower(program: ExportedProgram, spec: EthosUCompileSpec) -> EdgeProgramManager:
    with quiet():
        return to_edge_transform_and_lower(program, partitioner=[EthosUPartitioner(spec)])


@contextmanager
def _recorded_compilations() -> Iterator[list[Compilation]]:
    """Collect what Vela compiles, one entry for each part of the stage that the delegate took."""
    compilations: list[Compilation] = []

    def compile_and_keep(
        tosa_flatbuffer: bytes, args: Sequence[str], **options: object
    ) -> VelaCompileResult:
        with tempfile.TemporaryDirectory() as folder:
            options["intermediate_path"] = folder
            result = vela_compile(tosa_flatbuffer, list(args), **options)
            (summary,) = Path(folder).glob("output/*_summary_*.csv")
            with summary.open(newline="") as file:
                (report,) = csv.DictReader(file)
        compilations.append(Compilation(tosa_flatbuffer, report))
        return result

    with mock.patch.object(ethosu_backend, "vela_compile", compile_and_keep):
        yield compilations


def _executor(call: LoweredBackendModule, part: Compilation) -> nn.Module:
    return TosaGraph(part.tosa, output_shapes(call))


def output_shapes(call: LoweredBackendModule) -> list[tuple[int, ...]]:
    """Shapes of what a delegate gives back."""
    graph = call.original_module.graph
    return [tuple(node.meta["val"].shape) for node in graph.output_node().args[0]]


def _figures(compilations: Sequence[Compilation]) -> dict[str, Note]:
    figures: dict[str, Note] = {}
    for name, (column, unit) in FIGURES.items():
        values = [float(c.report[column]) * unit for c in compilations if column in c.report]
        if values:
            # Parts run one after the other, in the same memory.
            total = sum(values) if name in ("cycles", "flash_bytes") else max(values)
            figures[name] = round(total)
    return figures
