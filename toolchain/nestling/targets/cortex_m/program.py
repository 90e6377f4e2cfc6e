"""An ExecuTorch program as plain calls and tensors.

A ``.pte`` says nothing of views: ExecuTorch gives the view the memory of its base and leaves the
call out. Whoever reads the calls needs to know whose bytes a tensor has, so reading a program
follows the planned memory and resolves that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.scalar_type import ScalarType
from executorch.exir.schema import Bool as BoolValue
from executorch.exir.schema import (
    BoolList,
    DelegateCall,
    Double,
    DoubleList,
    ExecutionPlan,
    FreeCall,
    Int,
    IntList,
    JumpFalseCall,
    KernelCall,
    MoveCall,
    OptionalTensorList,
    Program,
    String,
    TensorList,
)
from executorch.exir.schema import Tensor as TensorRecord

from nestling.bundle.manifest import DType
from nestling.errors import ExportError
from nestling.targets.dtypes import EXECUTORCH_DTYPES

DTYPE_BYTES: dict[DType, int] = {
    "f32": 4,
    "f16": 2,
    "i64": 8,
    "i32": 4,
    "u8": 1,
    "i8": 1,
    "bool": 1,
}


@dataclass(frozen=True)
class ProgramTensor:
    """A tensor of a program.

    Attributes:
        number: its value's number.
        dtype: the bundle's name of the element type.
        sizes: logical dimensions.
        dim_order: the dimensions as they follow each other in memory, outermost first.
        data: bytes of a constant, in memory order; ``None``: computed or an input.
        base: number of the earlier tensor whose bytes this one has; its own where it has its own.
    """

    number: int
    dtype: DType
    sizes: tuple[int, ...]
    dim_order: tuple[int, ...]
    data: bytes | None
    base: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.elements * DTYPE_BYTES[self.dtype]

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """Dimensions in the order of memory, outermost first."""
        return tuple(self.sizes[d] for d in self.dim_order)

    def __str__(self) -> str:
        """Such as ``i8[1, 24, 4, 4]``."""
        return f"{self.dtype}{list(self.sizes)}"


Argument = ProgramTensor | int | float | bool | str | bytes | list[Any] | None
"""What a call is given; lists hold any of the others, bytes are tables made by ``rewrite``."""


@dataclass(frozen=True)
class Call:
    """An operator that a program runs.

    Attributes:
        name: such as ``"cortex_m::quantized_add"``.
        overload: such as ``"out"``.
        args: in the order of the operator's schema, outputs left out.
        outputs: the tensors that are written, the main one first.
        place: where in the program, for messages: ``"operator 3"``.
    """

    name: str
    overload: str
    args: tuple[Argument, ...]
    outputs: tuple[ProgramTensor, ...]
    place: str

    @property
    def output(self) -> ProgramTensor:
        """The main output."""
        return self.outputs[0]

    @property
    def inputs(self) -> list[ProgramTensor]:
        """Tensors that are read, those in lists included."""
        flat = [x for a in self.args for x in (a if isinstance(a, list) else [a])]
        return [a for a in flat if isinstance(a, ProgramTensor)]

    def __str__(self) -> str:
        """Such as ``operator 3, cortex_m::quantized_add (i8[1, 16, 8, 8])``."""
        return f"{self.place}, {self.name} ({self.output})"


@dataclass(frozen=True)
class StaticProgram:
    """One method: straight-line calls on tensors of fixed shapes.

    Attributes:
        method: its name.
        calls: in order.
        inputs: in the order of the method's arguments.
        outputs: in the order of the method's results.
        tensors: by number.
    """

    method: str
    calls: tuple[Call, ...]
    inputs: tuple[ProgramTensor, ...]
    outputs: tuple[ProgramTensor, ...]
    tensors: dict[int, ProgramTensor]


def read_program(data: bytes, method: str | None = None) -> StaticProgram:
    """Read a ``.pte``.

    Args:
        data: the whole file.
        method: which one; the only one by default.

    Raises:
        ExportError: not a program, no such method, or one that cannot be a plan: delegates, control
            flow, shapes that change, constants outside the file.
    """
    if data[4:6] != b"ET":
        raise ExportError("this is not an ExecuTorch program", expected="a .pte file")
    try:
        program = deserialize_pte_binary(data).program
    except Exception as error:
        raise ExportError(
            f"the ExecuTorch program cannot be read: {type(error).__name__}: {error}"
        ) from error
    names = [plan.name for plan in program.execution_plan]
    if method is None and len(names) == 1:
        method = names[0]
    if method not in names:
        raise ExportError(
            "choose a method of the program", expected=" or ".join(names), actual=method
        )
    return _Reader(program, program.execution_plan[names.index(method)]).read()


class _Reader:
    """Reads one method."""

    def __init__(self, program: Program, plan: ExecutionPlan) -> None:
        self._program = program
        self._plan = plan
        self._tensors: dict[int, ProgramTensor] = {}
        self._written: set[int] = set(plan.inputs)
        self._owners: dict[tuple[int, int] | None, int] = {}

    def read(self) -> StaticProgram:
        inputs = tuple(self._tensor(number) for number in self._plan.inputs)
        if len(self._plan.chains) != 1:
            raise ExportError("a program with several chains cannot be a plan")
        calls = []
        for index, instruction in enumerate(self._plan.chains[0].instructions):
            place = f"operator {index}"
            arguments = instruction.instr_args
            if isinstance(arguments, FreeCall):
                continue
            if isinstance(arguments, DelegateCall):
                delegate = self._plan.delegates[arguments.delegate_index].id
                raise ExportError(
                    f"the program hands a part to the delegate {delegate}, which this target has "
                    "not",
                    stage=place,
                    hint="lower it for Cortex-M without a partitioner",
                )
            if not isinstance(arguments, KernelCall):
                kind = "a branch" if isinstance(arguments, JumpFalseCall) else "a move"
                kind = kind if isinstance(arguments, JumpFalseCall | MoveCall) else "control flow"
                raise ExportError(f"the program contains {kind}", stage=place)
            calls.append(self._call(arguments, place))
        outputs = tuple(self._tensor(number) for number in self._plan.outputs)
        return StaticProgram(self._plan.name, tuple(calls), inputs, outputs, self._tensors)

    def _call(self, call: KernelCall, place: str) -> Call:
        operator = self._plan.operators[call.op_index]
        numbers = list(call.args)
        last = self._plan.values[numbers[-1]].val
        # Out variants end with what they write, and once more with what they return.
        if isinstance(last, TensorList) and set(last.items) <= set(numbers[:-1]):
            written = list(last.items)
            numbers = numbers[: -1 - len(written)]
        else:
            written = [numbers.pop()]
            if numbers and numbers[-1] == written[0]:
                numbers.pop()
        args = tuple(self._value(number) for number in numbers)
        for number in written:
            self._written.add(number)
            location = self._location(number)
            if location is not None:
                self._owners[location] = number
        outputs = tuple(self._tensor(number) for number in written)
        return Call(operator.name, operator.overload, args, outputs, place)

    def _value(self, number: int) -> Argument:
        value = self._plan.values[number].val
        match value:
            case TensorRecord():
                return self._tensor(number)
            case Int():
                return int(value.int_val)
            case Double():
                return float(value.double_val)
            case BoolValue():
                return bool(value.bool_val)
            case String():
                return str(value.string_val)
            case IntList():
                return [self._value(item) for item in value.items]
            case TensorList() | OptionalTensorList():
                return [None if item < 0 else self._value(item) for item in value.items]
            case DoubleList() | BoolList():
                return list(value.items)
        return None

    def _tensor(self, number: int) -> ProgramTensor:
        if number in self._tensors:
            return self._tensors[number]
        record = self._plan.values[number].val
        if not isinstance(record, TensorRecord):
            raise ExportError("inputs and outputs of a plan are tensors", actual=str(record))
        if record.scalar_type not in EXECUTORCH_DTYPES:
            raise ExportError(f"tensors of {ScalarType(record.scalar_type).name} have no kernel")
        data = None
        if record.data_buffer_idx > 0 and record.allocation_info is None:
            data = bytes(self._program.constant_buffer[record.data_buffer_idx].storage)
        base = number
        if number not in self._written and data is None:
            # No owner: scratch memory, or something from outside of the file, see Compiler.
            base = self._owners.get(self._location(number), number)
        dtype = EXECUTORCH_DTYPES[record.scalar_type]
        sizes, order = tuple(record.sizes), tuple(int(d) for d in record.dim_order)
        tensor = ProgramTensor(number, dtype, sizes, order, data, base)
        if data is not None:
            if len(data) < tensor.bytes:
                raise ExportError("a constant is shorter than its shape says", actual=str(tensor))
            tensor = ProgramTensor(number, dtype, sizes, order, data[: tensor.bytes], base)
        self._tensors[number] = tensor
        return tensor

    def _location(self, number: int) -> tuple[int, int] | None:
        record = self._plan.values[number].val
        if not isinstance(record, TensorRecord) or record.allocation_info is None:
            return None
        info = record.allocation_info
        return info.memory_id, info.memory_offset_low | info.memory_offset_high << 32
