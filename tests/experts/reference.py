"""A second reader of the expert sections, and a second way to compute with experts, in numpy."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass
class Layer:
    dim: int
    hidden: int
    experts: int
    top_k: int
    first: int
    form: int
    group: int
    activation: int
    flags: int
    predicted: int
    predictor: int


class Sections:
    """Reads what `encode_experts` wrote, by the text of SPEC.md alone."""

    def __init__(self, sections: dict[str, bytes]) -> None:
        self.index = sections["experts"]
        head = struct.unpack_from("<IHHIIIIII", self.index)
        magic, version, self.slices, layers, self.experts = head[:5]
        self.slot_bytes, table, self.slice_table, total = head[5:]
        assert (magic, version, total) == (0x5854534E, 1, len(self.index))
        assert self.slot_bytes % 64 == 0
        assert not any(self.index[32:64])
        self.layers = [
            Layer(*struct.unpack_from("<11I", self.index, table + 64 * i)) for i in range(layers)
        ]
        self.data = [sections[f"experts.{number}"] for number in range(self.slices)]

    def slice(self, expert: int, number: int) -> bytes:
        at = self.slice_table + 16 * (expert * self.slices + number)
        offset, size, crc = struct.unpack_from("<QII", self.index, at)
        data = self.data[number][offset : offset + size]
        assert offset % 64 == 0
        assert len(data) == size <= self.slot_bytes
        assert zlib.crc32(data) == crc
        return data

    def predictor(self, layer: Layer) -> tuple[Array, Array]:
        assert layer.predictor % 16 == 0
        rows = self.layers[layer.predicted].experts
        values = np.frombuffer(self.index, "<f4", rows * (layer.dim + 1), layer.predictor)
        return values[:-rows].reshape(rows, layer.dim), values[-rows:]

    def matrices(self, layer: Layer, expert: int, bits: int) -> tuple[list[Array], list[Array]]:
        """Weights and biases of one expert of a layer, in the order of the slice."""
        shapes = [(layer.hidden, layer.dim)] * (1 + (layer.flags & 1))
        shapes.append((layer.dim, layer.hidden))
        first = _Cursor(self.slice(layer.first + expert, 0))
        second = _Cursor(self.slice(layer.first + expert, 1)) if layer.form else None
        weights = []
        for rows, columns in shapes:
            if second is None:
                weights.append(first.take("<f4", rows * columns).reshape(rows, columns))
                continue
            groups = columns // layer.group
            scale = first.take("<f2", rows * groups).astype(np.float32).reshape(rows, groups, 1)
            q = 16.0 * first.nibbles(rows, columns, layer.group)
            low = second.nibbles(rows, columns, layer.group)
            q = q + low if bits == 8 else q
            weights.append((q.astype(np.float32) * scale).reshape(rows, columns))
        biases = []
        if layer.flags & 4:
            biases = [first.take("<f4", rows) for rows, _ in shapes]
        return weights, biases


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, dtype: str, count: int) -> NDArray[np.generic]:
        self.at = -(-self.at // 16) * 16
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values

    def nibbles(self, rows: int, columns: int, group: int) -> NDArray[np.generic]:
        packed = self.take("u1", rows * columns // 2).reshape(rows, columns // group, group // 2)
        halves = (packed & 15, packed >> 4)
        return np.concatenate(halves, axis=2).astype(np.int32) - 8
