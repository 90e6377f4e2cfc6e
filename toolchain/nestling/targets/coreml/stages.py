"""Lower stages for ExecuTorch's Core ML delegate."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

import coremltools  # type: ignore[import-untyped]
import torch
from coremltools.optimize.torch.quantization import (  # type: ignore[import-untyped]
    LinearQuantizerConfig,
)
from executorch.backends.apple.coreml.compiler import CoreMLBackend, coreml_preprocess
from executorch.backends.apple.coreml.partition import CoreMLPartitioner
from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor, nn
from torch.export import ExportedProgram, export

from nestling.quantize.observe import quantize_graph
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.eager import InHalf, flatten, open_eager, original_graph, to_bytes
from nestling.targets.emit import emit
from nestling.targets.quiet import quiet
from nestling.targets.structure import content_digest
from nestling.targets.target import StageRunner
from nestling.targets.xnnpack.lower import trace


class CoreMLTarget(DelegateTarget):
    """Apple's processors.

    Programs take and give float32. In half precision weights are stored, and everything is
    computed, in 16 bits; int8 has 8-bit weights and activations, the rest in 16 bits.
    """

    def compile(self, job: StageJob) -> CompiledStage:
        """Lower one stage."""
        if job.scheme == "int8-static":
            program = _quantize(job.module, job.samples)
        else:
            program = trace(job.module, job.example_inputs)
        half = job.scheme != "fp32"
        edge = _lower(program, half=half, ios=job.options["ios"], units=job.options["units"])
        reference = b""
        if job.with_reference:
            reference = to_bytes(
                flatten(edge, _in_half if job.scheme == "fp16" else original_graph)
            )
        return CompiledStage(emit(edge), reference)

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute in torch the graphs that packages were made from."""
        return open_eager(reference_dir, "the Core ML delegate's graph in eager torch")


def _quantize(module: nn.Module, samples: Sequence[tuple[Tensor, ...]]) -> ExportedProgram:
    config = LinearQuantizerConfig.from_dict(
        {
            "global_config": {
                "quantization_scheme": "symmetric",
                "activation_dtype": torch.qint8,
                "weight_dtype": torch.qint8,
                "weight_per_channel": True,
            }
        }
    )
    with quiet():
        graph = export(module, samples[0]).module(check_guards=False)
        quantized = quantize_graph(graph, CoreMLQuantizer(config), samples)
        return export(quantized, samples[0])


def _lower(program: ExportedProgram, *, half: bool, ios: str, units: str) -> EdgeProgramManager:
    precision = coremltools.precision
    specs = CoreMLBackend.generate_compile_specs(
        compute_unit=coremltools.ComputeUnit[units.upper()],
        minimum_deployment_target=coremltools.target[f"iOS{ios}"],
        compute_precision=precision.FLOAT16 if half else precision.FLOAT32,
    )
    with quiet(), _named_by_content(program):
        return to_edge_transform_and_lower(
            program, partitioner=[CoreMLPartitioner(compile_specs=specs)]
        )


@contextmanager
def _named_by_content(program: ExportedProgram) -> Iterator[None]:
    """Let the delegate draw identifiers from the stage's content instead of at random.

    Devices keep compiled packages by identifier: equal ones are then compiled once, and an export
    that is repeated gives the same bytes.
    """
    digest = content_digest(program)
    drawn = 0

    def draw() -> uuid.UUID:
        nonlocal drawn
        drawn += 1
        return uuid.UUID(bytes=hashlib.sha256(digest + bytes([drawn])).digest()[:16])

    with mock.patch.object(coreml_preprocess.uuid, "uuid4", draw):
        yield


def _in_half(delegate: LoweredBackendModule) -> nn.Module:
    return InHalf(original_graph(delegate))
