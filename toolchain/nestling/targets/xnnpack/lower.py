"""The mobile CPU through XNNPACK, on x86 and arm64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from executorch.backends.xnnpack._passes.remove_noop_expand_copy_pass import (
    RemoveNoopExpandCopyPass,
)
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeProgramManager, to_edge_transform_and_lower
from torch import nn
from torch.export import ExportedProgram, export
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from nestling.errors import ExportError
from nestling.targets.emit import emit, emit_whole
from nestling.targets.lowered import LoweredProgram
from nestling.targets.quiet import quiet

TARGET = "xnnpack"
"""Name of this target in bundles and cache keys."""


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

    XNNPACK names a constant by the hash of its bytes.
    """
    return emit(_to_edge(program))


def lower_whole(program: ExportedProgram) -> bytes:
    """Lower one exported program the ordinary way, weights inside: the baseline we compare with."""
    return emit_whole(_to_edge(program))


def _to_edge(program: ExportedProgram) -> EdgeProgramManager:
    with quiet():
        return to_edge_transform_and_lower(
            program,
            # A batched matrix product decomposes into expansions that change nothing. Left in place
            # they would split the delegate and copy every operand.
            transform_passes=[RemoveNoopExpandCopyPass()],
            partitioner=[XnnpackPartitioner()],
        )
