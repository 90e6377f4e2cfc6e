"""From a partitioned edge program to what a bundle stores, whatever the delegate.

Constants leave the program by name: those that a delegate named, and those that kernels read. Names
that a delegate chose are replaced by numbered symbols of the same length, so that equal graphs give
equal programs whatever their weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from executorch.exir import (
    EdgeProgramManager,
    ExecutorchBackendConfig,
    ExecutorchProgramManager,
)
from executorch.exir._serialize._named_data_store import NamedDataStore
from executorch.exir.dialects.edge._ops import EdgeOpOverload
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.schema import DelegateCall, KernelCall, Tensor, TensorDataLocation
from torch.fx import Node
from torch.utils.flop_counter import flop_registry

from nestling.errors import ExportError
from nestling.targets.dtypes import EXECUTORCH_DTYPES
from nestling.targets.lowered import ExternalConstant, LoweredProgram, TensorLayout, symbol

DELEGATE_ALIGNMENT = 16
"""Alignment of a delegate's serialised graph inside the program, in bytes."""


def emit(edge: EdgeProgramManager) -> LoweredProgram:
    """Serialise a program of one method; every constant leaves the ``.pte``.

    Args:
        edge: partitioned, its delegates lowered.

    Raises:
        ExportError: a delegate exports a constant that its program does not name.
    """
    host_macs = count_host_macs(edge)
    data = _named_data(edge)
    edge._named_data_store = NamedDataStore()
    lowered = edge.to_executorch(backend_config(external_constants=True))
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
        host_macs=host_macs,
    )


def emit_whole(edge: EdgeProgramManager) -> bytes:
    """Serialise a program the ordinary way, its weights inside."""
    return bytes(edge.to_executorch(backend_config(external_constants=False)).buffer)


def backend_config(*, external_constants: bool) -> ExecutorchBackendConfig:
    """How programs are written: inputs and outputs unplanned, constants inside or outside."""
    return ExecutorchBackendConfig(
        memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False),
        external_constants=external_constants,
        extract_delegate_segments=not external_constants,
        delegate_alignment=DELEGATE_ALIGNMENT,
    )


def count_host_macs(edge: EdgeProgramManager) -> int:
    """Multiply-accumulates of the operators that no delegate took, for one call."""
    graph = edge.exported_program().graph
    return sum(_macs(node) for node in graph.nodes if node.op == "call_function")


def _macs(node: Node) -> int:
    """Of one call; only products of matrices and convolutions count, as when a model is cut."""
    operator: Any = node.target._op if isinstance(node.target, EdgeOpOverload) else node.target
    packet = getattr(operator, "overloadpacket", None)
    value = node.meta.get("val")
    if packet is torch.ops.aten.linear and isinstance(value, torch.Tensor):
        (source, *_) = _values(node)
        return value.numel() * int(source.shape[-1])
    if packet not in flop_registry:
        return 0
    return int(flop_registry[packet](*_values(node), out_val=value)) // 2


def _values(node: Node) -> Iterator[Any]:
    for argument in node.args:
        yield argument.meta["val"] if isinstance(argument, Node) else argument


def _named_data(edge: EdgeProgramManager) -> dict[str, bytes]:
    """What delegates keep beside the program, inside the file or outside of it."""
    store = edge._named_data_store.get_named_data_store_output()
    entries = [store.pte_data, *store.external_data.values()]
    return {
        name: bytes(store.buffers[entry.buffer_index])
        for by_name in entries
        for name, entry in by_name.items()
    }


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
