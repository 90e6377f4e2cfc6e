"""From a program of Cortex-M operators to a plan and its constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nestling.targets.cortex_m.cores import Isa
from nestling.targets.cortex_m.kernels import (
    KernelCall,
    Operand,
    select_kernel,
    unsupported,
)
from nestling.targets.cortex_m.operators import OPERATORS
from nestling.targets.cortex_m.plan import ALIGNMENT, Place, Plan, PlanOperator, PlanTensor
from nestling.targets.cortex_m.planner import Lifetime, place
from nestling.targets.cortex_m.program import (
    DTYPE_BYTES,
    Call,
    ProgramTensor,
    StaticProgram,
)
from nestling.targets.cortex_m.rewrite import rewrite
from nestling.targets.cortex_m.views import (
    Index,
    as_transposition,
    concatenated,
    dense,
    first_of_run,
    in_memory,
    rearrange,
)

_TRANSPOSE_RANK = 6


@dataclass(frozen=True)
class CompiledPlan:
    """A plan and what it reads.

    Attributes:
        plan: the plan.
        constants: bytes of each, in the plan's numbering.
        labels: what each operator is in the program, for messages and reports.
        input_shapes: dimensions of each input as they lie in memory.
        output_shapes: dimensions of each output as they lie in memory.
    """

    plan: Plan
    constants: tuple[bytes, ...]
    labels: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]


def compile_program(
    program: StaticProgram, isa: Isa, *, row_major_inputs: bool = False
) -> CompiledPlan:
    """Compile a method into a plan.

    Args:
        program: from :func:`nestling.targets.cortex_m.program.read_program`.
        isa: what constants are laid out for.
        row_major_inputs: take inputs with their dimensions in the order of their shapes, as numpy
            does, and rearrange them in the plan; otherwise inputs lie as the program wants them.

    Raises:
        ExportError: an operator has no kernel, or is used in a way that its kernel does not know;
            names it.
    """
    return _Compiler(program, isa, row_major_inputs).compile()


@dataclass(eq=False)
class _Buffer:
    """Bytes that tensors are views of."""

    kind: Literal["input", "output", "constant", "temporary"]
    bytes: int
    element_bytes: int
    number: int = 0
    data: NDArray[Any] | None = None
    inside: tuple[_Buffer, int] | None = None
    first: int = -1
    last: int = -1

    def root(self) -> tuple[_Buffer, int]:
        """The buffer that really has the bytes, and where in it they are."""
        buffer, offset = self, 0
        while buffer.inside is not None:
            buffer, more = buffer.inside
            offset += more
        return buffer, offset


@dataclass(frozen=True)
class _View:
    buffer: _Buffer
    index: Index


@dataclass(frozen=True)
class _Piece:
    """A dense tensor in a buffer; ``buffer`` is ``None`` for an absent constant."""

    buffer: _Buffer | None
    offset: int
    bytes: int


@dataclass
class _Step:
    kernel: KernelCall
    tensors: list[_Piece]
    scratch: _Piece | None = None


@dataclass
class _Compiler:
    program: StaticProgram
    isa: Isa
    row_major_inputs: bool
    views: dict[int, _View] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)
    constants: list[_Buffer] = field(default_factory=list)

    def compile(self) -> CompiledPlan:
        inputs = [self._add_input(n, tensor) for n, tensor in enumerate(self.program.inputs)]
        for call in rewrite(self.program):
            self._add(call)
        outputs = [self._add_output(n, tensor) for n, tensor in enumerate(self.program.outputs)]
        arena_bytes, offsets = self._place()
        operators = tuple(self._operator(step, offsets) for step in self.steps)
        plan = Plan(
            self.isa,
            arena_bytes,
            tuple(buffer.bytes for buffer in inputs),
            tuple(buffer.bytes for buffer in outputs),
            tuple(buffer.bytes for buffer in self.constants),
            operators,
        )
        return CompiledPlan(
            plan,
            tuple(buffer.data.tobytes() for buffer in self.constants if buffer.data is not None),
            tuple(step.kernel.label for step in self.steps),
            tuple(
                t.sizes if self.row_major_inputs else t.memory_shape for t in self.program.inputs
            ),
            tuple(t.memory_shape for t in self.program.outputs),
        )

    def _add_input(self, number: int, tensor: ProgramTensor) -> _Buffer:
        order = tuple(range(len(tensor.sizes))) if self.row_major_inputs else tensor.dim_order
        buffer = _Buffer("input", tensor.bytes, DTYPE_BYTES[tensor.dtype], number)
        self.views[tensor.number] = _View(buffer, dense(tensor.sizes, order))
        return buffer

    def _add(self, call: Call) -> None:
        pieces = concatenated(call)
        if pieces is not None:
            self._concatenate(call, *pieces)
            return
        if call.inputs:
            view = self._view(call.inputs[0], call)
            index = rearrange(call, view.index)
            if index is not None:
                self.views[call.output.number] = _View(view.buffer, index)
                return
        self._run(select_kernel(call, "mve" if self.isa is Isa.MVE else "dsp"), call)

    def _run(self, kernel: KernelCall, call: Call) -> None:
        tensors = [self._operand(operand, call) for operand in kernel.inputs]
        tensors += [self._constant(data) for data in kernel.constants]
        output = kernel.output.tensor
        buffer = _Buffer("temporary", output.bytes, DTYPE_BYTES[output.dtype])
        self.views[output.number] = _View(buffer, dense(output.sizes, kernel.output.order))
        tensors.append(_Piece(buffer, 0, output.bytes))
        self._step(kernel, tensors)

    def _step(self, kernel: KernelCall, tensors: list[_Piece]) -> None:
        scratch = None
        if kernel.scratch_bytes:
            memory = _Buffer("temporary", kernel.scratch_bytes, 1)
            scratch = _Piece(memory, 0, kernel.scratch_bytes)
        self.steps.append(_Step(kernel, tensors, scratch))

    def _view(self, tensor: ProgramTensor, call: Call) -> _View:
        if tensor.number in self.views:
            return self.views[tensor.number]
        if tensor.data is not None:
            values = np.frombuffer(tensor.data, np.uint8)
            buffer = self._constant_buffer(values, DTYPE_BYTES[tensor.dtype])
            view = _View(buffer, dense(tensor.sizes, tensor.dim_order))
        elif tensor.base in self.views and tensor.base != tensor.number:
            base = self.views[tensor.base]
            order = self.program.tensors[tensor.base].dim_order
            numbers = in_memory(base.index, order)[: tensor.elements]
            shaped = numbers.reshape(tensor.memory_shape)
            view = _View(base.buffer, shaped.transpose(np.argsort(tensor.dim_order)))
        else:
            raise unsupported(
                call, "it reads a tensor that nothing wrote (mutable state is not supported)"
            )
        self.views[tensor.number] = view
        return view

    def _operand(self, operand: Operand, call: Call) -> _Piece:
        """The operand's bytes in the order that a kernel wants, copied if they lie otherwise."""
        view = self._view(operand.tensor, call)
        numbers = in_memory(view.index, operand.order)
        first = first_of_run(numbers)
        if first is not None and first * view.buffer.element_bytes % ALIGNMENT == 0:
            return _Piece(view.buffer, first * view.buffer.element_bytes, operand.tensor.bytes)
        if view.buffer.kind == "constant" and view.buffer.data is not None:
            size = view.buffer.element_bytes
            values = view.buffer.data.reshape(-1, size)[numbers].reshape(-1)
            return _Piece(self._constant_buffer(values, size), 0, values.size)
        buffer = _Buffer("temporary", operand.tensor.bytes, view.buffer.element_bytes)
        self._copy(view.buffer, numbers, _Piece(buffer, 0, buffer.bytes), call)
        self.views[operand.tensor.number] = _View(
            buffer, dense(operand.tensor.sizes, operand.order)
        )
        return _Piece(buffer, 0, buffer.bytes)

    def _copy(self, source: _Buffer, numbers: Index, target: _Piece, call: Call) -> None:
        """Add a transposition that copies elements of a buffer."""
        moved = as_transposition(numbers)
        if moved is None or len(moved[1]) > _TRANSPOSE_RANK:
            raise unsupported(call, "this rearrangement of its operand has no kernel")
        first, shape, permutation = moved
        offset = first * source.element_bytes
        if offset % ALIGNMENT:
            raise unsupported(call, "its operand starts in the middle of 16 bytes of another")
        rest = _TRANSPOSE_RANK - len(shape)
        params = OPERATORS["transpose"].pack(
            rank=len(shape),
            element_bytes=source.element_bytes,
            input_shape=shape + [1] * rest,
            permutation=permutation + [0] * rest,
        )
        label = f"{call.place}, rearrange for {call.name}"
        nowhere = Operand(call.output, ())
        kernel = KernelCall("transpose", params, (), nowhere, label)
        self._step(kernel, [_Piece(source, offset, target.bytes), target])

    def _concatenate(self, call: Call, pieces: list[ProgramTensor], dim: int) -> None:
        output = call.output
        outer = output.dim_order[: output.dim_order.index(dim)]
        if any(output.sizes[d] != 1 for d in outer):
            raise unsupported(call, "only along the outermost dimension in memory")
        whole = _Buffer("temporary", output.bytes, DTYPE_BYTES[output.dtype])
        offset = 0
        for piece in pieces:
            if offset % ALIGNMENT:
                raise unsupported(call, f"{piece} would start in the middle of 16 bytes")
            self._put(whole, offset, piece, output.dim_order, call)
            offset += piece.bytes
        self.views[output.number] = _View(whole, dense(output.sizes, output.dim_order))

    def _put(
        self,
        whole: _Buffer,
        offset: int,
        piece: ProgramTensor,
        order: tuple[int, ...],
        call: Call,
    ) -> None:
        """Have a tensor computed right into its place in a larger one, or copy it there."""
        view = self._view(piece, call)
        numbers = in_memory(view.index, order)
        buffer = view.buffer
        entire = first_of_run(numbers) == 0 and piece.bytes == buffer.bytes
        if entire and buffer.kind == "temporary" and buffer.inside is None:
            buffer.inside = (whole, offset)
        else:
            self._copy(buffer, numbers, _Piece(whole, offset, piece.bytes), call)

    def _add_output(self, number: int, tensor: ProgramTensor) -> _Buffer:
        """Have an output computed right into its slot, or copied there at the end."""
        nothing = Call("output", "", (tensor,), (tensor,), f"output {number}")
        view = self._view(tensor, nothing)
        numbers = in_memory(view.index, tensor.dim_order)
        output = _Buffer("output", tensor.bytes, DTYPE_BYTES[tensor.dtype], number)
        buffer = view.buffer
        entire = first_of_run(numbers) == 0 and tensor.bytes == buffer.bytes
        if entire and buffer.kind == "temporary" and buffer.inside is None:
            buffer.inside = (output, 0)
        else:
            self._copy(buffer, numbers, _Piece(output, 0, tensor.bytes), nothing)
        return output

    def _constant(self, data: NDArray[Any] | None) -> _Piece:
        if data is None:
            return _Piece(None, 0, 0)
        buffer = self._constant_buffer(np.frombuffer(data.tobytes(), np.uint8), data.itemsize)
        return _Piece(buffer, 0, buffer.bytes)

    def _constant_buffer(self, values: NDArray[Any], element_bytes: int) -> _Buffer:
        """The constant with these bytes; equal ones are one."""
        for known in self.constants:
            if known.data is not None and np.array_equal(known.data, values):
                return known
        buffer = _Buffer("constant", values.size, element_bytes, len(self.constants), values)
        self.constants.append(buffer)
        return buffer

    def _place(self) -> tuple[int, dict[_Buffer, int]]:
        """Lifetimes of everything temporary, then offsets."""
        alive: dict[_Buffer, None] = {}
        for number, step in enumerate(self.steps):
            for piece in [*step.tensors, *([step.scratch] if step.scratch else [])]:
                if piece.buffer is None:
                    continue
                root, _ = piece.buffer.root()
                if root.kind != "temporary":
                    continue
                root.first = number if root not in alive else root.first
                root.last = number
                alive[root] = None
        buffers = list(alive)
        offsets, size = place([Lifetime(b.bytes, b.first, b.last) for b in buffers])
        return size, dict(zip(buffers, offsets, strict=True))

    def _operator(self, step: _Step, offsets: dict[_Buffer, int]) -> PlanOperator:
        tensors = tuple(_tensor(piece, offsets) for piece in step.tensors)
        scratch = _tensor(step.scratch, offsets) if step.scratch else PlanTensor(Place.ARENA)
        return PlanOperator(
            OPERATORS[step.kernel.kernel].number,
            step.kernel.params,
            tensors,
            scratch.offset,
            scratch.bytes,
        )


_PLACES = {"input": Place.INPUT, "output": Place.OUTPUT, "constant": Place.CONSTANT}


def _tensor(piece: _Piece, offsets: dict[_Buffer, int]) -> PlanTensor:
    if piece.buffer is None:
        return PlanTensor(Place.ABSENT)
    root, inside = piece.buffer.root()
    offset = piece.offset + inside
    if root.kind == "temporary":
        return PlanTensor(Place.ARENA, 0, offsets[root] + offset, piece.bytes)
    return PlanTensor(_PLACES[root.kind], root.number, offset, piece.bytes)
