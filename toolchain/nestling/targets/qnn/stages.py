"""Quantise stages and compile them for Hexagon NPUs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from executorch.backends.qualcomm.quantizer.quantizer import QnnQuantizer, QuantDtype
from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
from executorch.backends.qualcomm.utils.utils import (
    generate_htp_compiler_spec,
    generate_qnn_executorch_compiler_spec,
    get_qnn_context_binary_alignment,
    to_edge_transform_and_lower_to_qnn,
)
from executorch.exir import EdgeProgramManager, ExecutorchBackendConfig
from torch import Tensor, nn
from torch.export import export
from torchao.quantization.pt2e import MinMaxObserver

from nestling.partition.calibrate import Samples
from nestling.quantize.observe import quantize_graph
from nestling.targets.delegate_target import CompiledStage, DelegateTarget, StageJob
from nestling.targets.emit import emit
from nestling.targets.qnn import host
from nestling.targets.quiet import quiet, quiet_library
from nestling.targets.stage_process import SUFFIX, open_stage_process
from nestling.targets.standalone import standalone
from nestling.targets.target import StageRunner

DTYPES = {
    "int8-static": QuantDtype.use_8a8w,
    "w8a16": QuantDtype.use_16a8w,
    "w4a16": QuantDtype.use_16a4w,
}
"""Scheme -> ExecuTorch's name for it; half precision needs no quantiser."""


class QnnTarget(DelegateTarget):
    """Hexagon NPUs.

    The delegate's binary is one context with weights inside. Contexts of several graphs can share
    equal weights, but the simulator refuses those, and only pieces that the compiler splits
    alike are shared at all; at block grain there is nothing to share.
    """

    reference_suffix = SUFFIX

    def compile(self, job: StageJob) -> CompiledStage:
        """Quantise and compile one stage."""
        chip = QcomChipset[self.name.rpartition("-")[2].upper()]
        host.load_libraries()
        with quiet(), quiet_library():
            module = job.module
            if job.scheme in DTYPES:
                module = quantize(module, job.samples, DTYPES[job.scheme], chip)
            edge = lower(module, job.example_inputs, chip, half=job.scheme == "fp16")
            reference = b""
            if job.with_reference:
                alignment = get_qnn_context_binary_alignment()
                config = ExecutorchBackendConfig(segment_alignment=alignment)
                reference = standalone(edge, config)
            return CompiledStage(emit(edge), reference)

    def open(self, reference_dir: Path) -> AbstractContextManager[StageRunner]:
        """Execute stages by ExecuTorch's QNN backend on the simulator, in a process of its own."""
        self.description.require("run")
        where = f"simulator of {self.description.processor}"
        return open_stage_process(reference_dir, where, environment=host.environment(), timed=False)


def quantize(
    module: nn.Module, samples: Samples, dtype: QuantDtype, chip: QcomChipset
) -> nn.Module:
    """Quantise a stage per output channel, with activation ranges seen on ``samples``."""
    quantizer = QnnQuantizer(soc_model=chip)
    quantizer.set_default_quant_config(
        dtype,
        is_conv_per_channel=True,
        is_linear_per_channel=True,
        # The default one moves its range by a hundredth with each sample: it keeps the first's.
        act_observer=MinMaxObserver,
    )
    graph = export(module, samples[0]).module(check_guards=False)
    return quantize_graph(graph, quantizer, samples)


def lower(
    module: nn.Module, example_inputs: tuple[Tensor, ...], chip: QcomChipset, *, half: bool
) -> EdgeProgramManager:
    """Compile a stage for one chip."""
    specs = generate_qnn_executorch_compiler_spec(
        soc_model=chip, backend_options=generate_htp_compiler_spec(use_fp16=half)
    )
    return to_edge_transform_and_lower_to_qnn(module, example_inputs, specs)
