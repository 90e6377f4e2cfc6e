"""Plans: what the small-device engine runs. SPEC.md, "Plans", describes every byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from nestling.errors import ExportError
from nestling.targets.cortex_m.cores import Isa
from nestling.targets.cortex_m.operators import OPERATOR_NAMES, OPERATORS

MAGIC = b"NSTP"
VERSION = 1
ALIGNMENT = 16
"""Of tensors, scratch memory and parameter records, in bytes."""

_HEADER = struct.Struct("<4s11I")
_OPERATOR = struct.Struct("<6I")
_TENSOR = struct.Struct("<4I")


class Place(IntEnum):
    """Where a tensor of an operator lies."""

    ABSENT = 0
    INPUT = 1
    OUTPUT = 2
    CONSTANT = 3
    ARENA = 4


@dataclass(frozen=True)
class PlanTensor:
    """A tensor as an operator sees it.

    Attributes:
        place: in what.
        number: which input, output or constant; 0 in the arena.
        offset: where in it, in bytes.
        bytes: size.
    """

    place: Place
    number: int = 0
    offset: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class PlanOperator:
    """A call of a kernel.

    Attributes:
        number: as in firmware/micro/operators.h.
        params: its parameter record.
        tensors: inputs, constants, the output last.
        scratch_offset: of its scratch memory in the arena.
        scratch_bytes: size of it.
    """

    number: int
    params: bytes
    tensors: tuple[PlanTensor, ...]
    scratch_offset: int
    scratch_bytes: int


@dataclass(frozen=True)
class Plan:
    """A stage, compiled.

    Attributes:
        isa: what its constants are laid out for.
        arena_bytes: memory for what lives inside of one run, scratch included.
        inputs: sizes in bytes.
        outputs: sizes in bytes.
        constants: sizes in bytes.
        operators: in the order in which they run.
    """

    isa: Isa
    arena_bytes: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[int, ...]
    operators: tuple[PlanOperator, ...]

    def to_bytes(self) -> bytes:
        """Write the plan down."""
        records, tensors = bytearray(), bytearray()
        sizes = [*self.inputs, *self.outputs, *self.constants]
        count = sum(len(operator.tensors) for operator in self.operators)
        fixed = _HEADER.size + 4 * len(sizes)
        fixed += _OPERATOR.size * len(self.operators) + _TENSOR.size * count
        start = align(fixed)
        table = bytearray()
        first = 0
        for operator in self.operators:
            records += bytes(align(len(records)) - len(records))
            table += _OPERATOR.pack(
                operator.number,
                start + len(records),
                first,
                len(operator.tensors),
                operator.scratch_offset,
                operator.scratch_bytes,
            )
            records += operator.params
            first += len(operator.tensors)
            for tensor in operator.tensors:
                tensors += _TENSOR.pack(tensor.place, tensor.number, tensor.offset, tensor.bytes)
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            start + len(records),
            self.isa,
            self.arena_bytes,
            len(self.inputs),
            len(self.outputs),
            len(self.constants),
            len(self.operators),
            count,
            0,
            0,
        )
        body = header + struct.pack(f"<{len(sizes)}I", *sizes) + table + tensors
        return bytes(body + bytes(start - fixed) + records)

    @staticmethod
    def from_bytes(data: bytes) -> Plan:
        """Read a plan that this program wrote; firmware/micro/plan.c is the reader that checks.

        Raises:
            ExportError: this is no plan, or one of another version.
        """
        try:
            return _read(data)
        except (struct.error, ValueError, KeyError) as error:
            raise ExportError(f"the plan is damaged: {error}") from error


def align(size: int) -> int:
    """Round up to a multiple of :data:`ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _read(data: bytes) -> Plan:
    magic, version, total, isa, arena, *counts = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or total != len(data):
        raise ExportError("this is not a plan of this version", expected=VERSION, actual=version)
    inputs, outputs, constants, operators, tensor_count = counts[:5]
    sizes = struct.unpack_from(f"<{inputs + outputs + constants}I", data, _HEADER.size)
    at = _HEADER.size + 4 * len(sizes)
    table = [_OPERATOR.unpack_from(data, at + _OPERATOR.size * i) for i in range(operators)]
    at += _OPERATOR.size * operators
    tensors = []
    for i in range(tensor_count):
        place, number, offset, size = _TENSOR.unpack_from(data, at + _TENSOR.size * i)
        tensors.append(PlanTensor(Place(place), number, offset, size))
    records = [
        data[entry[1] : entry[1] + OPERATORS[OPERATOR_NAMES[entry[0]]].params_bytes]
        for entry in table
    ]
    return Plan(
        Isa(isa),
        arena,
        sizes[:inputs],
        sizes[inputs : inputs + outputs],
        sizes[inputs + outputs :],
        tuple(
            PlanOperator(number, params, tuple(tensors[first : first + count]), offset, size)
            for (number, _, first, count, offset, size), params in zip(table, records, strict=True)
        ),
    )
