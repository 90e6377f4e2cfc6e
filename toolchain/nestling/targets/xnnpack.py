"""The mobile CPU through XNNPACK, on x86 and arm64."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import torch
from executorch.backends.xnnpack._passes.remove_noop_expand_copy_pass import (
    RemoveNoopExpandCopyPass,
)
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (
    EdgeProgramManager,
    ExecutorchBackendConfig,
    ExecutorchProgramManager,
    to_edge_transform_and_lower,
)
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.schema import DelegateCall, KernelCall, Tensor, TensorDataLocation
from torch import nn
from torch.export import ExportedProgram, export
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from nestling.errors import ExportError
from nestling.targets.dtypes import EXECUTORCH_DTYPES
from nestling.targets.lowered import ExternalConstant, LoweredProgram, TensorLayout, symbol

TARGET = "xnnpack"
"""Name of this target in bundles and cache keys."""

DELEGATE_ALIGNMENT = 16
"""Alignment of XNNPACK's serialised graph inside the program, in bytes."""


def trace(module: nn.Module, example_inputs: Sequence[torch.Tensor]) -> ExportedProgram:
    """Export ``module``, quantising each tensor once however many layers read it.

    Args:
        module: in evaluation mode, static shapes.
        example_inputs: one CPU tensor an input.

    Raises:
        ExportError: torch cannot trace the module; names it.
    """
    inputs = tuple(example_inputs)
    try:
        with torch.no_grad():
            program = export(module, inputs)
            if not any("choose_qparams" in str(node.target) for node in program.graph.nodes):
                return program
            # The blocks of a layer read one input, and each of their linears quantises it. In a
            # statically quantised graph nothing may merge: XNNPACK wants a dequantise per reader.
            merged = CSEPass()(program.module(check_guards=False))
            return program if merged is None else export(merged.graph_module, inputs)
    except Exception as error:
        raise ExportError(
            f"torch.export cannot trace {type(module).__name__}: {error}",
            stage=type(module).__name__,
            hint="keep shapes static and avoid data-dependent control flow inside a block",
        ) from error


def lower_program(program: ExportedProgram) -> LoweredProgram:
    """Lower one exported program; every constant leaves the ``.pte``.

    XNNPACK names a constant by the hash of its bytes. The names are replaced by numbered symbols of
    the same length, so that equal graphs give equal programs whatever their weights.
    """
    edge = _to_edge(program)
    store = edge._named_data_store.get_named_data_store_output()
    data = {name: bytes(store.buffers[e.buffer_index]) for name, e in store.pte_data.items()}
    edge._named_data_store = NamedDataStore()
    lowered = edge.to_executorch(_backend_config(external_constants=True))
    emitted = lowered._emitter_output
    plan = emitted.program.execution_plan[0]
    layouts = _external_layouts(lowered)
    whole, constants = _number_symbols(bytes(lowered.buffer), data)
    for by_name in (emitted.external_constant_map or {}).values():
        for name, index in by_name.items():
            value = bytes(emitted.external_constant_buffer[index])
            constants[name] = ExternalConstant(value, layouts[name])
    calls = [i.instr_args for chain in plan.chains for i in chain.instructions]
    portable = sorted(plan.operators[c.op_index].name for c in calls if isinstance(c, KernelCall))
    return LoweredProgram(
        program=whole,
        constants=constants,
        arena_bytes=sum(plan.non_const_buffer_sizes),
        delegated=sum(isinstance(c, DelegateCall) for c in calls),
        portable=tuple(portable),
    )


def lower_whole(program: ExportedProgram) -> bytes:
    """Lower one exported program the ordinary way, weights inside: the baseline we compare with."""
    return bytes(_to_edge(program).to_executorch(_backend_config(external_constants=False)).buffer)


def _to_edge(program: ExportedProgram) -> EdgeProgramManager:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("executorch").setLevel(logging.ERROR)
        return to_edge_transform_and_lower(
            program,
            # A batched matrix product decomposes into expansions that change nothing. Left in place
            # they would split the delegate and copy every operand.
            transform_passes=[RemoveNoopExpandCopyPass()],
            partitioner=[XnnpackPartitioner()],
        )


def _backend_config(*, external_constants: bool) -> ExecutorchBackendConfig:
    return ExecutorchBackendConfig(
        memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False),
        external_constants=external_constants,
        extract_delegate_segments=not external_constants,
        delegate_alignment=DELEGATE_ALIGNMENT,
    )


def _external_layouts(lowered: ExecutorchProgramManager) -> dict[str, TensorLayout]:
    """Layouts of the constants that kernels, not delegates, will ask for."""
    layouts: dict[str, TensorLayout] = {}
    for evalue in lowered._emitter_output.program.execution_plan[0].values:
        tensor = evalue.val
        if not isinstance(tensor, Tensor) or tensor.extra_tensor_info is None:
            continue
        info = tensor.extra_tensor_info
        if info.location == TensorDataLocation.EXTERNAL and info.fully_qualified_name:
            layouts[info.fully_qualified_name] = TensorLayout(
                EXECUTORCH_DTYPES[tensor.scalar_type],
                tuple(tensor.sizes),
                tuple(int(d) for d in tensor.dim_order),
            )
    return layouts


def _number_symbols(
    program: bytes, data: dict[str, bytes]
) -> tuple[bytes, dict[str, ExternalConstant]]:
    """Replace every delegate's constant name by a symbol, numbered by first use."""
    first_use = {name: program.find(name.encode()) for name in data}
    constants = {}
    for index, name in enumerate(sorted(data, key=first_use.__getitem__)):
        if first_use[name] < 0:
            raise ExportError("the program does not name a constant it exports", stage=name)
        stand_in = symbol(index, len(name))
        program = program.replace(name.encode(), stand_in.encode())
        constants[stand_in] = ExternalConstant(data[name], None)
    return program, constants
