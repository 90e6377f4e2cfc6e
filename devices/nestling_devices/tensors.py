"""Inputs and outputs of a device: the slots of the open bundle, written and read piece by piece."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nestling_devices import messages
from nestling_devices.client import Client
from nestling_devices.errors import DeviceError
from nestling_devices.pieces import Pieces
from nestling_runtime.bundle import Slot
from nestling_runtime.errors import EngineError
from nestling_runtime.session import NUMPY_DTYPES, Array, check_array

_ENVELOPE_BYTES = 64  # of a message with a piece of a tensor, without the piece


class Tensors:
    """The slots of the bundle that is open on a device.

    Args:
        client: The connection.
        chunk_bytes: Most payload bytes in one message, as the device says.

    Attributes:
        slots: Inputs, outputs, state and what lies between stages, in the bundle's order.

    Raises:
        DeviceError: No bundle is open.
    """

    def __init__(self, client: Client, chunk_bytes: int) -> None:
        self._client = client
        self._pieces = Pieces(min(chunk_bytes, client.message_bytes - _ENVELOPE_BYTES))
        found: list[messages.SlotItem] = []
        while True:
            answer = client.request(messages.SlotsRead(start=len(found)))
            found.extend(answer.slots)
            if len(found) >= answer.total or not answer.slots:
                break
        self.slots = tuple(_slot_from(item) for item in found)

    @property
    def has_state(self) -> bool:
        """Whether a run depends on the runs before it."""
        return any(slot.role == "state" for slot in self.slots)

    def write(self, name: str, value: npt.ArrayLike) -> None:
        """Write an input or a state slot.

        Args:
            name: The slot's.
            value: An array of its shape; other dtypes are converted where nothing is lost.

        Raises:
            EngineError: The slot is unknown or takes another array.
            NestlingError: The device refuses, or does not answer.
        """
        index = self._index(name, ("input", "state"))
        slot = self.slots[index]
        dtype = NUMPY_DTYPES[slot.dtype]
        array = np.ascontiguousarray(value)
        if array.dtype != dtype and np.can_cast(array.dtype, dtype, "safe"):
            array = array.astype(dtype)
        check_array(slot, array)
        data, off = array.tobytes(), 0
        while off < len(data):

            def send(most: int, tries: int | None, off: int = off) -> messages.TensorWriteAnswer:
                message = messages.TensorWrite(slot=index, off=off, data=data[off : off + most])
                return self._client.request(message, tries=tries)

            answer = self._pieces.send(send)
            if answer.len != len(data) or not off < answer.off <= len(data):
                raise DeviceError(f"the device holds {name!r} in {answer.len} bytes")
            off = answer.off

    def read(self, name: str) -> Array:
        """Return what an input, output or state slot holds.

        Raises:
            EngineError: There is no such slot, or nothing is selected.
            NestlingError: The device refuses, or does not answer.
        """
        index = self._index(name, ("input", "output", "state"))
        slot = self.slots[index]
        data = bytearray()
        while len(data) < slot.size_bytes:

            def ask(
                most: int, tries: int | None, off: int = len(data)
            ) -> messages.TensorReadAnswer:
                message = messages.TensorRead(slot=index, off=off, len=most)
                return self._client.request(message, tries=tries)

            answer = self._pieces.send(ask)
            if answer.off != len(data) or answer.len != slot.size_bytes or not answer.data:
                raise DeviceError(f"the device holds {name!r} in {answer.len} bytes")
            data += answer.data
        return np.frombuffer(bytes(data), dtype=NUMPY_DTYPES[slot.dtype]).reshape(slot.shape).copy()

    def outputs(self) -> dict[str, Array]:
        """Return all outputs by name.

        Raises:
            NestlingError: See `read`.
        """
        return {slot.name: self.read(slot.name) for slot in self.slots if slot.role == "output"}

    def _index(self, name: str, roles: tuple[str, ...]) -> int:
        fitting = {slot.name: i for i, slot in enumerate(self.slots) if slot.role in roles}
        if name not in fitting:
            raise EngineError(
                f"the model has no {roles[0]} {name!r}", expected=", ".join(fitting) or "none"
            )
        return fitting[name]


def _slot_from(item: messages.SlotItem) -> Slot:
    dtype = NUMPY_DTYPES.get(item.dtype)
    if dtype is None:
        raise DeviceError(f"slot {item.name!r} has the unknown dtype {item.dtype!r}")
    size = dtype.itemsize * int(np.prod(item.shape, dtype=np.int64))
    return Slot(item.name, item.dtype, tuple(item.shape), item.role, size)
