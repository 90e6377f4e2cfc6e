"""From a quantised stage to an ExecuTorch program of Cortex-M operators."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from executorch.backends.cortex_m.edge_compile_config import cortex_m_edge_compile_config
from executorch.backends.cortex_m.passes.activation_fusion_pass import ActivationFusionPass
from executorch.backends.cortex_m.passes.cortex_m_pass_manager import CortexMPassManager
from executorch.backends.cortex_m.target_config import CortexM, CortexMTargetConfig
from executorch.exir import ExecutorchBackendConfig, to_edge
from executorch.exir.passes import MemoryPlanningPass
from torch.export import ExportedProgram
from torch.fx import Node

from nestling.errors import ExportError
from nestling.targets.cortex_m.cores import Core
from nestling.targets.cortex_m.fuse_clamps import FuseClampsPass

_QUANTIZE = "cortex_m.quantize_per_tensor.default"
_DEQUANTIZE = "cortex_m.dequantize_per_tensor.default"


def lower_stage(
    program: ExportedProgram, core: Core, *, int8_input: bool, int8_output: bool
) -> bytes:
    """Lower a quantised stage.

    Args:
        program: from :func:`nestling.targets.cortex_m.quantize.quantize_stage`.
        core: the processor.
        int8_input: take the first input quantised, as it stands in a slot.
        int8_output: give the output quantised.

    Returns:
        A whole ``.pte`` with the single method ``forward``, its weights inside.

    Raises:
        ExportError: a border that should be int8 is not.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("executorch").setLevel(logging.ERROR)
        edge = to_edge(program, compile_config=cortex_m_edge_compile_config())
        config = CortexMTargetConfig(cpu=CortexM[core.cpu])
        lowered = CortexMPassManager(
            edge.exported_program(), _passes(), target_config=config
        ).transform()
        if int8_input:
            _strip_input(lowered)
        if int8_output:
            _strip_output(lowered)
        edge._edge_programs["forward"] = lowered
        planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
        # A view that is left out keeps its base's bytes; behind a channels-last image that would
        # be another tensor than torch computes. As calls, views cost nothing here.
        config_out = ExecutorchBackendConfig(memory_planning_pass=planning, remove_view_copy=False)
        executorch = edge.to_executorch(config_out)
        return bytes(executorch.buffer)


def _passes() -> list[type]:
    """ExecuTorch's passes for Cortex-M, with ours before its fusion of activations."""
    passes = list(CortexMPassManager.pass_list)
    passes.insert(passes.index(ActivationFusionPass), FuseClampsPass)
    return passes


def _strip_input(program: ExportedProgram) -> None:
    """Drop the quantise operators behind the first input."""
    graph = program.graph_module.graph
    name = program.graph_signature.user_inputs[0]
    first = next(node for node in graph.nodes if node.name == name)
    for user in list(first.users):
        if not _is(user, _QUANTIZE):
            raise ExportError("the stage reads its input without quantising it", actual=user.name)
        first.meta["val"] = user.meta["val"]
        user.replace_all_uses_with(first)
        graph.erase_node(user)
    program.graph_module.recompile()


def _strip_output(program: ExportedProgram) -> None:
    """Drop the dequantise operator in front of the output."""
    graph = program.graph_module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    (result,) = output.all_input_nodes
    if not _is(result, _DEQUANTIZE):
        raise ExportError("the stage computes its output in floating point", actual=str(result))
    source = result.all_input_nodes[0]
    output.replace_input_with(result, source)
    graph.erase_node(result)
    signature: Any = program.graph_signature
    for spec in signature.output_specs:
        if spec.arg.name == result.name:
            spec.arg.name = source.name
    program.graph_module.recompile()


def _is(node: Node, operator: str) -> bool:
    return node.op == "call_function" and operator in str(node.target)
