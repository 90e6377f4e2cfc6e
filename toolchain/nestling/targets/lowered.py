"""What a target makes of one stage: a program without weights, and the weights it will ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cbor2

from nestling.bundle.manifest import DType

SYMBOL_PREFIX_LENGTH = 7
"""Characters of a symbol that tell it from the others: '@' and six digits."""


@dataclass(frozen=True)
class TensorLayout:
    """Shape of a constant that ExecuTorch's own kernels read, as it must be told when it is bound.

    Attributes:
        dtype: the bundle's name of the element type, for example ``"f32"``.
        shape: sizes of the dimensions, outermost first.
        dim_order: the dimensions as they follow each other in memory.
    """

    dtype: DType
    shape: tuple[int, ...]
    dim_order: tuple[int, ...]

    def to_list(self) -> list[Any]:
        """Plain values for CBOR."""
        return [self.dtype, list(self.shape), list(self.dim_order)]

    @staticmethod
    def from_list(values: list[Any]) -> TensorLayout:
        """Read what :meth:`to_list` gave."""
        return TensorLayout(values[0], tuple(values[1]), tuple(values[2]))


@dataclass(frozen=True)
class ExternalConstant:
    """Bytes that a program asks for by name when it is loaded.

    Attributes:
        data: the bytes, in the order the program expects.
        layout: set for a constant read by a kernel, ``None`` for one that a delegate packs.
    """

    data: bytes
    layout: TensorLayout | None


@dataclass(frozen=True)
class LoweredProgram:
    """One method lowered for a target, with its weights beside it.

    Attributes:
        program: a whole ``.pte`` with the single method ``forward``.
        constants: the name the program uses -> what it must find there. Names that a delegate
            uses are symbols, numbered in the order of their use (see :func:`symbol`); whoever
            packs the program replaces them by names that are unique in a process.
        arena_bytes: memory that ExecuTorch plans for the method, in bytes.
        delegated: number of graph operators that run inside delegates.
        portable: names of the operators that stayed outside, sorted, one entry a call.
        host_macs: multiply-accumulates of those operators, of one call of the method.
    """

    program: bytes
    constants: dict[str, ExternalConstant]
    arena_bytes: int
    delegated: int
    portable: tuple[str, ...]
    host_macs: int = 0

    def to_bytes(self) -> bytes:
        """Serialise to CBOR, for the export cache."""
        return cbor2.dumps(
            {
                "program": self.program,
                "constants": {
                    name: [c.data, None if c.layout is None else c.layout.to_list()]
                    for name, c in self.constants.items()
                },
                "arena_bytes": self.arena_bytes,
                "delegated": self.delegated,
                "portable": list(self.portable),
                "host_macs": self.host_macs,
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> LoweredProgram:
        """Read what :meth:`to_bytes` wrote."""
        raw: dict[str, Any] = cbor2.loads(data)
        constants = {
            name: ExternalConstant(
                payload, None if layout is None else TensorLayout.from_list(layout)
            )
            for name, (payload, layout) in raw["constants"].items()
        }
        return LoweredProgram(
            raw["program"],
            constants,
            raw["arena_bytes"],
            raw["delegated"],
            tuple(raw["portable"]),
            raw["host_macs"],
        )


def symbol(index: int, length: int) -> str:
    """Placeholder of the ``index``-th constant name, ``length`` characters long.

    Programs with the same structure are the same bytes once their names are placeholders, and a
    placeholder can be replaced in place because a name keeps its length.
    """
    return f"@{index:0{SYMBOL_PREFIX_LENGTH - 1}d}".ljust(length, "@")
