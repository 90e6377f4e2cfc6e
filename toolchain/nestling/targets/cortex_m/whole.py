"""A bundle from any ExecuTorch program of Cortex-M operators: one stage, one path."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nestling.bundle.writer import BundleBuilder
from nestling.targets.cortex_m.compiler import CompiledPlan, compile_program
from nestling.targets.cortex_m.cores import get_core
from nestling.targets.cortex_m.program import StaticProgram, read_program
from nestling.targets.lowered import SYMBOL_PREFIX_LENGTH, symbol

PATH = "full"
"""Name of the one path."""


@dataclass(frozen=True)
class WholeReport:
    """What was compiled.

    Attributes:
        path: the bundle.
        operators: kernel calls.
        plan_bytes: size of the plan.
        weight_bytes: size of its constants.
        arena_bytes: activations inside of the stage, without inputs and outputs.
    """

    path: Path
    operators: int
    plan_bytes: int
    weight_bytes: int
    arena_bytes: int


def bundle_program(
    program: Path,
    out_path: Path,
    *,
    target: str = "cortex-m55",
    method: str | None = None,
    name: str | None = None,
) -> WholeReport:
    """Compile a ``.pte`` into a bundle with one stage.

    Inputs and outputs keep their types; an image that the program takes with channels last has its
    dimensions in that order in the bundle's slot, as they lie in memory.

    Args:
        program: the ``.pte``, lowered with ExecuTorch's Cortex-M passes.
        out_path: written through a temporary file and a rename.
        target: the core.
        method: which one; the only one by default.
        name: of the model; default the program's file name.

    Raises:
        ExportError: the program cannot be a plan; names the operator that stands in the way.
    """
    core = get_core(target)
    read = read_program(program.read_bytes(), method)
    compiled = compile_program(read, core.isa)
    builder = BundleBuilder(name=name or program.stem, target=target, scheme="int8-static")
    _fill(builder, read, compiled)
    builder.write(out_path)
    return WholeReport(
        out_path,
        len(compiled.plan.operators),
        len(compiled.plan.to_bytes()),
        sum(map(len, compiled.constants)),
        compiled.plan.arena_bytes,
    )


def _fill(builder: BundleBuilder, read: StaticProgram, compiled: CompiledPlan) -> None:
    inputs = [
        builder.add_slot(_slot("input", n, len(read.inputs)), tensor.dtype, shape, "input")
        for n, (tensor, shape) in enumerate(zip(read.inputs, compiled.input_shapes, strict=True))
    ]
    outputs = [
        builder.add_slot(_slot("output", n, len(read.outputs)), tensor.dtype, shape, "output")
        for n, (tensor, shape) in enumerate(zip(read.outputs, compiled.output_shapes, strict=True))
    ]
    bindings = [
        (
            symbol(number, SYMBOL_PREFIX_LENGTH),
            builder.add_constant("core", hashlib.sha256(data).hexdigest()[:32], data, level=1),
        )
        for number, data in enumerate(compiled.constants)
    ]
    builder.add_position("model", layer=0, required=True)
    stage = builder.add_stage(
        "model",
        program=builder.add_program(compiled.plan.to_bytes(), "plan"),
        first=0,
        inputs=inputs,
        outputs=outputs,
        bindings=bindings,
        level=1,
        bits=8,
        arena_bytes=compiled.plan.arena_bytes,
    )
    builder.add_path(
        PATH, chain=[stage], weight_bytes=sum(len(data) for data in set(compiled.constants))
    )


def _slot(kind: str, number: int, count: int) -> str:
    return kind if count == 1 else f"{kind}{number}"
