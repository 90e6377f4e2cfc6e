"""Lower stages for ExecuTorch's Vulkan delegate, and keep the graph that it will run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

from executorch.backends.vulkan import vulkan_preprocess
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.backends.vulkan.patterns import fusable_patterns
from executorch.exir import EdgeCompileConfig, EdgeProgramManager, to_edge_transform_and_lower
from torch import nn
from torch.export import ExportedProgram

from nestling.partition.calibrate import Samples
from nestling.partition.cut import StageKey
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.eager import InHalf, TupleOf, flatten, open_eager, to_bytes, unlift
from nestling.targets.emit import emit
from nestling.targets.quiet import quiet
from nestling.targets.target import StageRunner, Work
from nestling.targets.vulkan.weights import quantize_weights_alone
from nestling.targets.xnnpack.lower import trace
from nestling.targets.xnnpack.stages import quantize_stages


class VulkanTarget(DelegateTarget):
    """Mobile GPUs.

    Half precision is the delegate's: programs take and give float32, constants are stored and
    everything is computed in 16 bits. Statically quantised stages are quantised as for XNNPACK,
    whose patterns the delegate fuses into operators of its own. It has no operator for 8-bit
    weights with activations quantised at run time, so `int8-dynamic` is not among its schemes; with
    `int4-group32` activations stay floating point.
    """

    fuses_paths = True

    def quantized_modules(self, work: Work) -> dict[StageKey, nn.Module]:
        """Static schemes are quantised here, the others were when cut."""
        modules = quantize_stages(work)
        if work.scheme.group_size is None:
            return modules
        return {key: quantize_weights_alone(module) for key, module in modules.items()}

    def stage_samples(self, work: Work) -> dict[StageKey, Samples]:
        """None: what needs them is done by :meth:`quantized_modules`."""
        return dict.fromkeys(work.pieces.stages, ())

    def compile(self, job: StageJob) -> CompiledStage:
        """Lower one stage."""
        half = job.scheme == "fp16"
        program = trace(job.module, job.example_inputs)
        with _recorded_graphs() as graphs:
            edge = _lower(program, half=half, largest_texture=int(job.options["textures"]))
        reference = b""
        if job.with_reference:
            executors = iter(_executor(graph, half=half) for graph in graphs)
            reference = to_bytes(flatten(edge, lambda _: next(executors)))
        return CompiledStage(emit(edge), reference)

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages in eager torch, in the delegate's own operators."""
        return open_eager(reference_dir, "the Vulkan delegate's graph in eager torch")


def _keep_patterns() -> None:
    """Trace the delegate's patterns once a process; it would do so twice a stage."""
    for entry in fusable_patterns.values():
        if entry.get_graphs_fn is not None and not hasattr(entry.get_graphs_fn, "cache_info"):
            entry.get_graphs_fn = cache(entry.get_graphs_fn)


def _lower(program: ExportedProgram, *, half: bool, largest_texture: int) -> EdgeProgramManager:
    _keep_patterns()
    options = {"force_fp16": half, "texture_limits": (largest_texture,) * 3}
    with quiet():
        return to_edge_transform_and_lower(
            program,
            partitioner=[VulkanPartitioner(options)],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )


@contextmanager
def _recorded_graphs() -> Iterator[list[ExportedProgram]]:
    """Collect what the delegate serialises, one program for each part of the stage it took."""
    graphs: list[ExportedProgram] = []

    class Recorder(vulkan_preprocess.VkGraphBuilder):  # type: ignore[misc]
        def __init__(self, program: ExportedProgram, *args: object, **kwargs: object) -> None:
            graphs.append(program)
            super().__init__(program, *args, **kwargs)

    with mock.patch.object(vulkan_preprocess, "VkGraphBuilder", Recorder):
        yield graphs


def _executor(graph: ExportedProgram, *, half: bool) -> nn.Module:
    module = TupleOf(unlift(graph))
    return InHalf(module) if half else module
