"""Quantise stages with NNCF and lower them for OpenVINO."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from executorch.backends.openvino import preprocess
from executorch.backends.openvino.partitioner import OpenvinoPartitioner
from executorch.backends.openvino.quantizer import quantize_model
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from executorch.exir.backend.compile_spec_schema import CompileSpec
from torch import nn
from torch.export import ExportedProgram, export

from nestling.partition.calibrate import Samples
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.emit import emit
from nestling.targets.quiet import quiet
from nestling.targets.stage_process import SUFFIX, open_stage_process
from nestling.targets.standalone import standalone
from nestling.targets.target import StageRunner
from nestling.targets.xnnpack.lower import trace

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""What the plug-in is told: left alone it computes in bfloat16 where the processor can."""


class OpenvinoTarget(DelegateTarget):
    """Intel's processors.

    The delegate takes whole stages, layer norms and softmax included. Static int8 is NNCF's:
    symmetric, per channel, with its bias correction.
    """

    reference_suffix = SUFFIX

    def compile(self, job: StageJob) -> CompiledStage:
        """Quantise and lower one stage."""
        with quiet():
            program = (
                quantize(job.module, job.samples)
                if job.samples
                else trace(job.module, job.example_inputs)
            )
            edge = lower(program, job.options["device"])
            reference = standalone(edge) if job.with_reference else b""
            return CompiledStage(emit(edge), reference)

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages by ExecuTorch's OpenVINO backend, on this machine's processor."""
        self.description.require("run")
        return open_stage_process(reference_dir, "OpenVINO 2025.4 on this CPU")


def quantize(module: nn.Module, samples: Samples) -> ExportedProgram:
    """Quantise a stage to int8, with activation ranges seen on ``samples``."""
    graph = export(module, samples[0]).module(check_guards=False)
    quantized = quantize_model(graph, list(samples), subset_size=len(samples))
    return export(quantized, samples[0])


def lower(program: ExportedProgram, device: str) -> EdgeProgramManager:
    """Partition a program and let OpenVINO compile what its delegate takes."""
    original = preprocess.openvino_compile

    def compile_exactly(module: Any, *inputs: Any, options: dict[str, Any]) -> Any:
        # Compile specs are texts, and the plug-in's settings a dictionary.
        return original(module, *inputs, options={**options, "config": EXACT})

    specs = [CompileSpec("device", device.encode())]
    with mock.patch.object(preprocess, "openvino_compile", compile_exactly):
        return to_edge_transform_and_lower(program, partitioner=[OpenvinoPartitioner(specs)])
