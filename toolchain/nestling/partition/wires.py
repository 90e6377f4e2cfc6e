"""What connects stages: positions in the chain, and slots that they read and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, dtype

from nestling.bundle.manifest import SlotRole
from nestling.errors import ModelError

if TYPE_CHECKING:
    from nestling.partition.cut import StageKey


@dataclass(frozen=True)
class Position:
    """A place in the chain, which a path covers or leaves out.

    Attributes:
        name: unique in the model.
        layer: the layer that depth drops it with.
        required: whether every path covers it; a part: every path that covers the block's first.
        part: whether it is part of the block that begins at the last position before it that is
            none, and goes only with that one.
    """

    name: str
    layer: int
    required: bool
    part: bool = False


@dataclass(frozen=True)
class Slot:
    """A tensor that stages hand each other.

    Attributes:
        tensor: an example.
        role: ``"input"`` and ``"output"`` are the model's, ``"internal"`` all others.
    """

    tensor: Tensor
    role: SlotRole


@dataclass(frozen=True)
class Wires:
    """Which slots there are, and who reads and writes them.

    Attributes:
        slots: by name, in the order in which a bundle lists them.
        reads: names of the slots that a stage takes, in the order of its inputs.
        writes: names of the slots that it gives, in the order of its outputs.
        shared: the slot of each kind of tensor between stages: purpose, element type, shape.
    """

    slots: dict[str, Slot] = field(default_factory=dict)
    reads: dict[StageKey, tuple[str, ...]] = field(default_factory=dict)
    writes: dict[StageKey, tuple[str, ...]] = field(default_factory=dict)
    shared: dict[tuple[str, dtype, tuple[int, ...]], str] = field(default_factory=dict)

    def add_slot(self, name: str, tensor: Tensor, role: SlotRole) -> str:
        """Add a slot; return its name.

        Raises:
            ModelError: two have the same name, as when a model calls an input ``x0``.
        """
        if name in self.slots:
            raise ModelError(
                f"two tensors of the model are called {name}",
                hint="rename the input, the output or the context tensor",
            )
        self.slots[name] = Slot(tensor, role)
        return name

    def share_slot(self, prefix: str, tensor: Tensor) -> str:
        """Return the internal slot for tensors of this kind: equal types and shapes share one."""
        kind = (prefix, tensor.dtype, tuple(tensor.shape))
        if kind not in self.shared:
            number = sum(other[0] == prefix for other in self.shared)
            self.shared[kind] = self.add_slot(f"{prefix}{number}", tensor, "internal")
        return self.shared[kind]

    def connect(self, key: StageKey, reads: Sequence[str], writes: Sequence[str]) -> None:
        """Say which slots a stage reads and writes."""
        self.reads[key] = tuple(reads)
        self.writes[key] = tuple(writes)
